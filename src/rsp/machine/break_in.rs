//! Breaking in: BREAK, 100 ms, `g`, and nothing between.

use super::state::{BreakIn, BreakStep, Errand, Goal, Step};
use super::{Machine, OURS};
use crate::rsp::interface::{BreakResult, Output};
use crate::rsp::kernel::KernelState;
use std::time::Duration;

/// The kernel must have seen the BREAK before the key comes; its window is 5 s (drivers/tty/serial/serial_core.c).
const PAUSE: Duration = Duration::from_millis(100);

/// After this nobody waits for the stop any more: 1.6 s after the BREAK.
const STOP: Duration = Duration::from_millis(1500);

/// The ways to BREAK have their own deadlines of 500 ms; this one is for whoever forgets to tell.
const SENT: Duration = Duration::from_secs(3);

impl Machine {
    pub(super) fn break_requested(&mut self) {
        if self.kernel == KernelState::Stopped {
            self.broke_in(BreakResult::AlreadyStopped);
        } else if !self.target_up {
            self.broke_in(BreakResult::Failed("the target is away".into()));
        } else {
            self.begin_break_in();
        }
    }

    /// Starts a break-in unless one is on its way.
    pub(super) fn begin_break_in(&mut self) {
        if self.break_in.is_some() {
            return;
        }
        if !self.config.can_break {
            self.broke_in(BreakResult::Failed(
                "there is no way to send BREAK (`--break-with`)".into(),
            ));
            return;
        }
        self.break_in = Some(BreakIn {
            step: BreakStep::Sending,
            until: self.after(SENT),
        });
        // Keys are held before the BREAK goes out: the one that follows it is taken as SysRq.
        self.tell_consoles();
        self.out.push(Output::SendBreak);
    }

    pub(super) fn break_sent(&mut self, result: Result<(), String>) {
        let until = self.after(PAUSE);
        let Some(break_in) = self
            .break_in
            .as_mut()
            .filter(|break_in| break_in.step == BreakStep::Sending)
        else {
            return;
        };
        match result {
            Ok(()) => {
                break_in.step = BreakStep::Pausing;
                break_in.until = until;
            }
            Err(reason) => self.break_in_failed(reason),
        }
    }

    pub(super) fn break_in_due(&mut self) {
        let Some(break_in) = &mut self.break_in else {
            return;
        };
        match break_in.step {
            BreakStep::Sending => self.break_in_failed("nobody told whether BREAK went out".into()),
            BreakStep::Pausing => {
                break_in.step = BreakStep::Waiting;
                break_in.until = self.now.map(|now| now + STOP);
                self.out.push(Output::SendBreakKey);
                self.key_sent();
            }
            BreakStep::Waiting => {
                self.end_break_in(BreakResult::NoStop);
                self.break_in_over();
            }
        }
    }

    fn key_sent(&mut self) {
        let late = self.after(OURS);
        let shared = self.is_shared();
        match &mut self.errand {
            // On a shared port the signs have as long as the break-in has.
            Some(errand) if errand.step == Step::BreakIn => {
                errand.step = Step::Late;
                errand.until = if shared { None } else { late };
            }
            // gdb's kernel would say `$T…`. Where the console is not seen, a probe tells a new kernel from a deaf one.
            None if !shared && self.gdb.as_ref().is_some_and(|gdb| gdb.waits && !gdb.gone) => {
                let mut errand = Errand::new(Goal::NewKernel);
                errand.step = Step::Late;
                errand.until = late;
                self.errand = Some(errand);
            }
            _ => {}
        }
    }

    fn break_in_failed(&mut self, reason: String) {
        self.end_break_in(BreakResult::Failed(reason));
        self.break_in_over();
    }

    /// The kernel stopped: a `g` that has not gone out stays here.
    pub(super) fn end_break_in(&mut self, result: BreakResult) {
        if self.break_in.take().is_some() {
            self.answerable |= result == BreakResult::Stopped;
            self.broke_in(result);
            self.out.push(Output::BreakInDone);
        }
    }
}
