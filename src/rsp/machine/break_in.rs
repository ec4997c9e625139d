//! Breaking in: BREAK, 100 ms, `g`, and nothing between.
//!
//! On a port that kgdb shares a BREAK can be lost: while kgdb leaves, it still polls the UART, and reading the line status
//! takes the BREAK away (seen, `docs/dev/kgdb-wire.md`). So BREAK is held until the kernel has been let run for a moment, and
//! a break-in that nobody answered is made once more, whole. Elsewhere nobody polls the port that BREAK goes to.

use super::state::{BreakIn, BreakStep, Errand, Goal, Step};
use super::{Machine, OURS};
use crate::rsp::interface::{BreakResult, Event, Output, WhenGdbDies};
use crate::rsp::kernel::KernelState;
use std::time::Duration;

/// The kernel must have seen the BREAK before the key comes; its window is 5 s (drivers/tty/serial/serial_core.c).
const PAUSE: Duration = Duration::from_millis(100);

/// After this nobody waits for the stop any more: 1.6 s after the BREAK.
const STOP: Duration = Duration::from_millis(1500);

/// The ways to BREAK have their own deadlines of 500 ms; this one is for whoever forgets to tell.
const SENT: Duration = Duration::from_secs(3);

/// kgdb has let go of the UART this long after the byte that lets the kernel run, also on a busy host.
const LEAVES: Duration = Duration::from_millis(300);

/// What it takes to free a kernel that a `g` has stopped. Later than this before the end no kernel is stopped any more.
const FREEING: Duration = Duration::from_millis(500);

impl Machine {
    pub(super) fn break_requested(&mut self) {
        if self.kernel == KernelState::Stopped {
            self.broke_in(BreakResult::AlreadyStopped);
        } else if !self.target_up {
            self.broke_in(BreakResult::Failed("the target is away".into()));
        } else {
            self.begin_break_in();
            if let Some(break_in) = &mut self.break_in {
                break_in.asked = true;
            }
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
        let heard_from = self.let_run.map(|at| at + LEAVES).filter(|_| self.is_shared());
        let until = heard_from.filter(|until| *until > self.now());
        self.break_in = Some(BreakIn {
            step: BreakStep::Holding,
            until,
            asked: false,
            again: false,
            heard: false,
        });
        if until.is_none() {
            self.send_break();
        }
    }

    fn send_break(&mut self) {
        let until = self.after(SENT);
        let Some(break_in) = &mut self.break_in else {
            return;
        };
        break_in.step = BreakStep::Sending;
        break_in.until = until;
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
        let (again, until) = (self.may_try_again(), self.after(STOP));
        let in_time = self.is_in_time(FREEING);
        let Some(break_in) = &mut self.break_in else {
            return;
        };
        match break_in.step {
            BreakStep::Holding => self.send_break(),
            BreakStep::Sending => self.break_in_failed("nobody told whether BREAK went out".into()),
            BreakStep::Pausing if in_time => {
                break_in.step = BreakStep::Waiting;
                break_in.until = until;
                self.out.push(Output::SendBreakKey);
                self.key_sent();
            }
            BreakStep::Waiting if again => {
                break_in.again = true;
                if let Some(errand) = self.errand.as_mut().filter(|errand| errand.step == Step::Late) {
                    errand.step = Step::BreakIn;
                }
                self.send_break();
            }
            BreakStep::Pausing | BreakStep::Waiting => {
                self.end_break_in(BreakResult::NoStop);
                self.break_in_over();
            }
        }
    }

    /// Nothing was heard of the first BREAK and `g`: both may have been lost.
    fn may_try_again(&self) -> bool {
        let unheard = |break_in: &BreakIn| !break_in.again && !break_in.heard;
        self.is_shared()
            && self.break_in.as_ref().is_some_and(unheard)
            && self.is_in_time(PAUSE + STOP + FREEING)
    }

    /// Tells whether the end of the bridge leaves this much time.
    fn is_in_time(&self, needed: Duration) -> bool {
        self.release_by.is_none_or(|end| self.now() + needed <= end)
    }

    /// SysRq has taken a key: no use in sending it again.
    pub(super) fn break_in_heard(&mut self) {
        if let Some(break_in) = &mut self.break_in {
            break_in.heard |= break_in.step == BreakStep::Waiting;
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

    /// gdb has left. A BREAK that has not gone out stays here unless somebody else wants it.
    pub(super) fn forget_held_break(&mut self) {
        let held = |break_in: &BreakIn| break_in.step == BreakStep::Holding && !break_in.asked;
        if self.errand.is_none() && self.break_in.as_ref().is_some_and(held) {
            self.break_in_failed("whoever wanted it has left".into());
        }
    }

    /// The kernel stopped: a `g` that has not gone out stays here.
    pub(super) fn end_break_in(&mut self, result: BreakResult) {
        let Some(break_in) = self.break_in.take() else {
            return;
        };
        let stopped = result == BreakResult::Stopped;
        self.answerable |= stopped;
        self.broke_in(result);
        self.out.push(Output::BreakInDone);
        let nobody = !break_in.asked && self.gdb.is_none() && self.errand.is_none();
        if stopped && nobody && self.config.when_gdb_dies == WhenGdbDies::Report {
            self.event(Event::KernelLeftStopped);
        }
    }
}
