//! The policies `gdb` and `console+gdb`: the protocol machine of [`crate::rsp`] behind the engine's [`Mediator`].

use crate::bridge::event::{Event, KernelState};
use crate::bridge::mediator::{Input, Lag, Mediator, Output};
use crate::rsp::{self, BreakResult, Config, Freed, Machine, Planted, PortKind, WhenGdbDies};
use std::fmt;
use std::time::Instant;

/// A gdb that shares its port with consoles may have this much waiting: it asks for one packet at a time.
const DEBUGGER_BEHIND: usize = 64 << 10;

/// Writes down what gdb has planted, before it can matter: what frees the kernel if this process is killed.
pub type KeepPlanted = Box<dyn FnMut(&Planted) + Send>;

/// How the policy is set up.
pub struct GdbPolicySpec {
    /// Whose port it is.
    pub port: PortKind,
    /// The way BREAK goes, for the `break` event; `None` if there is none.
    pub break_way: Option<String>,
    /// Whether a dead gdb's kernel is freed at once or at the end of the bridge.
    pub when_gdb_dies: WhenGdbDies,
    /// `--leave-stopped`.
    pub leave_stopped: bool,
    /// What was written down by an earlier bridge on this port.
    pub planted: Planted,
    /// Where it is written down; without it nothing is.
    pub keep: Option<KeepPlanted>,
}

impl GdbPolicySpec {
    /// Makes the policy of a port that kgdb has for itself, as `vmserial bridge` uses it.
    pub fn own_port() -> Self {
        Self::of(PortKind::Own)
    }

    /// Makes the policy of a port that kgdb shares with the console, as `vmserial bridge` uses it.
    pub fn shared_port() -> Self {
        Self::of(PortKind::Shared)
    }

    fn of(port: PortKind) -> Self {
        Self {
            port,
            break_way: None,
            when_gdb_dies: WhenGdbDies::Report,
            leave_stopped: false,
            planted: Planted::default(),
            keep: None,
        }
    }
}

/// See the module.
pub struct GdbPolicy {
    machine: Machine,
    shared: bool,
    leave_stopped: bool,
    break_way: String,
    keep: Option<KeepPlanted>,
    outputs: Vec<rsp::Output>,
}

impl GdbPolicy {
    /// Makes the policy for a target that is not up yet.
    pub fn new(spec: GdbPolicySpec) -> Self {
        Self {
            shared: spec.port == PortKind::Shared,
            machine: Machine::new(Config {
                port: spec.port,
                can_break: spec.break_way.is_some(),
                when_gdb_dies: spec.when_gdb_dies,
                planted: spec.planted,
            }),
            leave_stopped: spec.leave_stopped,
            break_way: spec.break_way.unwrap_or_else(|| "none".into()),
            keep: spec.keep,
            outputs: Vec::new(),
        }
    }

    fn translate(&mut self, output: rsp::Output) -> Option<Output> {
        Some(match output {
            rsp::Output::ToTarget(bytes) => Output::ToTarget(bytes),
            rsp::Output::ToGdb(bytes) => Output::ToDebugger(bytes),
            rsp::Output::SendBreak => Output::SendBreak,
            rsp::Output::SendBreakKey => Output::SendSysRq(b'g'),
            rsp::Output::BreakInDone => Output::BreakInDone,
            rsp::Output::CloseGdb { reason } => Output::CloseDebugger { reason },
            rsp::Output::Planted(planted) => {
                if let Some(keep) = &mut self.keep {
                    keep(&planted);
                }
                return None;
            }
            rsp::Output::Event(rsp::Event::Break(result)) => self.broke_in(result),
            rsp::Output::Event(event) => Output::Event(event_told(event)?),
            rsp::Output::Released(freed) => Output::Released(told(freed)),
            rsp::Output::Dropped(count) => Output::Dropped(count),
            rsp::Output::ToConsole(bytes) => Output::ToConsole(bytes),
            // Whose port a break-in uses holds its keys itself.
            rsp::Output::HoldConsole(_) | rsp::Output::ForgetKeys if !self.shared => return None,
            rsp::Output::HoldConsole(hold) => Output::HoldConsole(hold),
            rsp::Output::ForgetKeys => Output::ForgetKeys,
        })
    }

    fn broke_in(&self, result: BreakResult) -> Output {
        Output::BrokeIn {
            way: self.break_way.clone(),
            result: match result {
                BreakResult::Stopped => Ok("stopped"),
                BreakResult::AlreadyStopped => Ok("already stopped"),
                BreakResult::NoStop => Ok("no stop seen"),
                BreakResult::Failed(reason) => Err(reason),
            },
        }
    }
}

fn event_told(event: rsp::Event) -> Option<Event> {
    Some(match event {
        rsp::Event::Kernel(state) => Event::Kernel {
            state: state_told(state),
        },
        rsp::Event::KernelGone { reason } => Event::KernelGone { reason },
        rsp::Event::KernelLeftStopped => Event::KernelLeftStopped,
        rsp::Event::GdbRefused { reason } => Event::GdbRefused { reason },
        rsp::Event::GdbHeld { reason } => Event::GdbHeld { reason },
        rsp::Event::Break(_) => return None,
    })
}

fn state_told(state: rsp::KernelState) -> KernelState {
    match state {
        rsp::KernelState::Unknown => KernelState::Unknown,
        rsp::KernelState::Running => KernelState::Running,
        rsp::KernelState::Stopped => KernelState::Stopped,
        rsp::KernelState::Kdb => KernelState::Kdb,
    }
}

fn told(freed: Freed) -> Result<String, String> {
    match freed {
        Freed::Freed => Ok("the kernel was freed and runs".into()),
        Freed::LeftAlone => Ok("the kernel was not stopped as far as is known, and was left alone".into()),
        Freed::LeftStopped => Ok("the kernel was left stopped, as asked for".into()),
        Freed::TargetAway => Ok("the target is away: there was nothing to free".into()),
        Freed::Failed { reason } => Err(format!("the kernel could not be freed: {reason}")),
    }
}

impl Mediator for GdbPolicy {
    fn handle(&mut self, now: Instant, input: Input<'_>, outputs: &mut Vec<Output>) {
        let input = match input {
            Input::TargetUp => rsp::Input::TargetUp,
            Input::TargetDown { reason } => rsp::Input::TargetGone { reason },
            Input::TargetReset => rsp::Input::TargetReset,
            Input::TargetPaused(paused) => rsp::Input::VmPaused(paused),
            Input::FromTarget(bytes) => rsp::Input::TargetBytes(bytes),
            Input::DebuggerAttached => rsp::Input::GdbAttached,
            Input::DebuggerDetached => rsp::Input::GdbDetached,
            Input::FromDebugger(bytes) => rsp::Input::GdbBytes(bytes),
            Input::ConsoleText(text) => rsp::Input::ConsoleText(text),
            Input::BreakIn => rsp::Input::BreakRequested,
            Input::BreakSent(result) => {
                rsp::Input::BreakSent(result.map(|_way| ()).map_err(|reason| reason.to_owned()))
            }
            Input::Release => rsp::Input::Resume,
            Input::End => rsp::Input::Release {
                leave_stopped: self.leave_stopped,
            },
            Input::Tick => rsp::Input::Tick,
        };
        let mut from_machine = std::mem::take(&mut self.outputs);
        self.machine.handle(now, input, &mut from_machine);
        for output in from_machine.drain(..) {
            outputs.extend(self.translate(output));
        }
        self.outputs = from_machine;
    }

    fn deadline(&self) -> Option<Instant> {
        self.machine.deadline()
    }

    fn kernel(&self) -> KernelState {
        if self.machine.kernel_is_gone() {
            KernelState::Gone
        } else {
            state_told(self.machine.kernel())
        }
    }

    fn has_consoles(&self) -> bool {
        self.shared
    }

    fn lag(&self) -> Lag {
        if self.shared {
            // Holding the target back would stop the consoles too.
            Lag::Disconnect(DEBUGGER_BEHIND)
        } else {
            Lag::HoldTarget
        }
    }

    fn is_transparent(&self) -> bool {
        self.machine.is_transparent()
    }
}

impl fmt::Debug for GdbPolicy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("GdbPolicy")
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}
