//! The policy `kd`: one debugger, its bytes unchanged, and a target that is never held back.
//!
//! KD sends again what is lost, and stands still where a full pipe stops it across a reset: so what a debugger does not take
//! in time is dropped. The packets are watched, to know whether the kernel is stopped; they are never made. So a kernel
//! whose debugger is gone is reported, and not freed.

use crate::bridge::event::{Event, KernelState};
use crate::bridge::kd_wire::{KdWatch, Told};
use crate::bridge::mediator::{Input, Lag, Mediator, Output};
use std::time::Instant;

/// What may wait for a debugger that does not read.
const BEHIND: usize = 64 << 10;

/// What a user can do for a kernel that stands still.
const ADVICE: &str = "the kernel is stopped in KD, and this version cannot let it go on: attach the debugger again and continue (`g`), or reset the VM";

/// See the module.
#[derive(Debug)]
pub struct KdPolicy {
    from_target: KdWatch,
    from_debugger: KdWatch,
    kernel: KernelState,
    attached: bool,
    up: bool,
}

impl Default for KdPolicy {
    fn default() -> Self {
        Self {
            from_target: KdWatch::default(),
            from_debugger: KdWatch::default(),
            kernel: KernelState::Unknown,
            attached: false,
            up: false,
        }
    }
}

impl KdPolicy {
    fn set(&mut self, kernel: KernelState, outputs: &mut Vec<Output>) {
        if self.kernel != kernel {
            self.kernel = kernel;
            outputs.push(Output::Event(Event::Kernel { state: kernel }));
        }
    }

    fn new_boot(&mut self, outputs: &mut Vec<Output>) {
        self.from_target.reset();
        self.from_debugger.reset();
        self.set(KernelState::Unknown, outputs);
    }

    fn released(&self) -> Output {
        Output::Released(if self.kernel == KernelState::Stopped {
            Err(ADVICE.to_owned())
        } else {
            Ok("the kernel is not stopped in KD as far as is known, and was left alone".to_owned())
        })
    }
}

impl Mediator for KdPolicy {
    fn handle(&mut self, _now: Instant, input: Input<'_>, outputs: &mut Vec<Output>) {
        match input {
            Input::TargetUp => self.up = true,
            Input::TargetDown { .. } => {
                self.up = false;
                self.new_boot(outputs);
            }
            Input::TargetReset => self.new_boot(outputs),
            Input::FromTarget(bytes) => {
                if self.from_target.feed(bytes) == Some(Told::Stopped) {
                    self.set(KernelState::Stopped, outputs);
                }
                outputs.push(if self.attached {
                    Output::ToDebugger(bytes.to_vec())
                } else {
                    Output::Dropped(bytes.len())
                });
            }
            Input::DebuggerAttached => self.attached = true,
            Input::DebuggerDetached => {
                self.attached = false;
                self.from_debugger.reset();
                if self.kernel == KernelState::Stopped {
                    outputs.push(Output::Event(Event::KernelLeftStopped));
                }
            }
            Input::FromDebugger(bytes) => {
                if self.up && self.from_debugger.feed(bytes) == Some(Told::Continued) {
                    self.set(KernelState::Running, outputs);
                }
                outputs.push(Output::ToTarget(bytes.to_vec()));
            }
            Input::BreakIn => outputs.push(Output::BrokeIn {
                way: "kd".to_owned(),
                result: Err("a KD port is broken into by its debugger (Ctrl-Break in WinDbg)".to_owned()),
            }),
            Input::Release => outputs.push(self.released()),
            Input::End => {
                if self.kernel == KernelState::Stopped && self.attached {
                    outputs.push(Output::Event(Event::KernelLeftStopped));
                }
                outputs.push(self.released());
            }
            Input::TargetPaused(_) | Input::ConsoleText(_) | Input::BreakSent(_) | Input::Tick => {}
        }
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn kernel(&self) -> KernelState {
        self.kernel
    }

    fn lag(&self) -> Lag {
        Lag::DropNewest(BEHIND)
    }
}
