//! Freeing a kernel: the `+` that is owed, the program counter put back, `D`, its `OK`, and the `+` for that.

use super::state::{Errand, FreeFor, Goal, Step};
use super::{Machine, OURS, RELEASE};
use crate::rsp::interface::{Event, Freed, Output, WhenGdbDies};
use crate::rsp::kernel::KernelState;
use crate::rsp::planted::Planted;
use std::time::Duration;

/// Hex digits of one register, and where the counter stands among all of them: register 16 of x86-64
/// (arch/x86/include/asm/kgdb.h: 16 general registers, then `ip`).
const REGISTER_DIGITS: usize = 16;
const COUNTER_AT: usize = 16 * REGISTER_DIGITS;

/// How long a kernel that is known to be stopped may take for one answer while it is freed.
const SLOW: Duration = Duration::from_secs(2);

impl Machine {
    pub(super) fn gdb_detached(&mut self) {
        self.gdb_left();
        match self.config.when_gdb_dies {
            WhenGdbDies::Free => {
                let left = self.kernel == KernelState::Stopped
                    || self.break_in.is_some()
                    || self.suspect
                    || self.planted.has_breakpoints();
                if left && self.errand.is_none() {
                    self.free(FreeFor::Death);
                }
            }
            WhenGdbDies::Report => {
                if self.kernel == KernelState::Stopped {
                    self.event(Event::KernelLeftStopped);
                }
            }
        }
    }

    /// gdb is not there any more, however it went.
    fn gdb_left(&mut self) {
        let Some(gdb) = self.gdb.take() else { return };
        self.unacknowledged = None;
        if std::mem::take(&mut self.transparent) {
            self.set_kernel(KernelState::Unknown);
        }
        if gdb.gone {
            return;
        }
        if self.owed.is_some() {
            self.acknowledge();
        }
        let goal = self.errand.as_ref().map(|errand| errand.goal);
        if matches!(goal, Some(Goal::Attach | Goal::NewKernel | Goal::Verify)) {
            self.errand = None;
            self.ours = None;
            self.echo = None;
        }
        if self.request.as_ref().is_some_and(|sent| !sent.acknowledged) {
            self.suspect = true;
            self.set_kernel(KernelState::Unknown);
        }
        self.forget_held_break();
    }

    pub(super) fn resume(&mut self) {
        self.close_gdb("the kernel is freed (`vmserial resume`)");
        self.take_over(FreeFor::Resume);
    }

    pub(super) fn release(&mut self, leave_stopped: bool) {
        self.release_by = self.after(RELEASE);
        self.close_gdb("the bridge ends");
        if leave_stopped {
            let stopped = matches!(self.kernel, KernelState::Stopped | KernelState::Kdb);
            self.set_planted(|planted| planted.left = true);
            self.finish(
                FreeFor::End,
                if stopped {
                    Freed::LeftStopped
                } else {
                    Freed::LeftAlone
                },
            );
        } else {
            self.take_over(FreeFor::End);
        }
    }

    fn close_gdb(&mut self, reason: &str) {
        if self.gdb.is_some() {
            self.out.push(Output::CloseGdb {
                reason: reason.into(),
            });
            self.gdb_left();
        }
    }

    /// Whatever is under way is now done for this.
    fn take_over(&mut self, by: FreeFor) {
        if let Some(errand) = &mut self.errand
            && matches!(errand.goal, Goal::Free(_))
        {
            errand.goal = Goal::Free(by);
            return;
        }
        self.errand = None;
        self.ours = None;
        self.echo = None;
        self.free(by);
    }

    /// Frees the kernel, after finding out whether it is stopped if that is not known.
    pub(super) fn free(&mut self, by: FreeFor) {
        if !self.target_up {
            self.nothing_to_free(by);
            return;
        }
        let mut errand = Errand::new(Goal::Free(by));
        errand.broke = self.break_in.is_some();
        errand.step = Step::BreakIn;
        self.errand = Some(errand);
        let own = !self.is_shared();
        let resume = by == FreeFor::Resume;
        let awaits = self.kernel != KernelState::Kdb && self.break_in.is_none() && self.await_ack();
        match self.kernel {
            _ if awaits => {}
            KernelState::Stopped if self.proven => {
                if self.owed.is_some() {
                    self.acknowledge();
                }
                if self.kernel == KernelState::Stopped {
                    self.settle();
                } else {
                    self.freed(by);
                }
            }
            KernelState::Stopped | KernelState::Kdb => self.probe(),
            // The key may be out already: the sign of the stop is what is waited for.
            _ if self.break_in.is_some() => self.await_break_in(),
            KernelState::Unknown if own && (!self.planted.is_empty() || self.suspect || resume) => {
                self.probe()
            }
            _ if self.planted.has_breakpoints() => self.break_in_for_errand(),
            KernelState::Unknown if self.planted.stopped => self.probe(),
            KernelState::Unknown if resume && self.config.can_break => self.break_in_for_errand(),
            KernelState::Unknown if resume => self.probe(),
            _ => self.left_alone(by),
        }
    }

    /// A dead gdb's last packet may be on its way: within the time of an answer its acknowledgement tells.
    fn await_ack(&mut self) -> bool {
        let Some(sent) = self
            .request
            .as_ref()
            .filter(|sent| self.suspect && !sent.acknowledged)
        else {
            return false;
        };
        let until = sent.at + OURS;
        if until <= self.now() {
            self.request = None;
            return false;
        }
        if let Some(errand) = &mut self.errand {
            errand.step = Step::AwaitAck;
            errand.until = Some(until);
        }
        true
    }

    /// The dead gdb's packet was read: the kernel was stopped then, and runs now if that is what it was told.
    pub(super) fn acknowledgement_told(&mut self) {
        self.suspect = false;
        if let Some(Goal::Free(by)) = self.errand.take().map(|errand| errand.goal) {
            self.free(by);
        }
    }

    pub(super) fn acknowledgement_missing(&mut self) {
        self.request = None;
        if let Some(Goal::Free(by)) = self.errand.take().map(|errand| errand.goal) {
            self.free(by);
        }
    }

    /// Puts the program counter back if the kernel stands behind a dead gdb's breakpoint, then goes on.
    pub(super) fn mend(&mut self) {
        if self.planted.behind.is_empty() {
            self.mended();
        } else {
            self.ask(Step::SelectThread, b"Hg0");
        }
    }

    fn mended(&mut self) {
        match self.errand.as_ref().map(|errand| errand.goal) {
            Some(Goal::Free(_)) => self.ask(Step::Detach, b"D"),
            _ => self.let_through(),
        }
    }

    fn ask(&mut self, step: Step, data: &[u8]) {
        // A kernel that is being freed is there: what is slow is its host, and giving up would leave it stopped.
        let freeing = self.errand.as_ref().is_some_and(Errand::is_free);
        let until = self.after(if freeing { SLOW } else { OURS });
        if let Some(errand) = &mut self.errand {
            errand.step = step;
            errand.until = until;
        }
        self.send_ours(data);
    }

    /// kgdb has answered a packet of ours.
    pub(super) fn reply_for_errand(&mut self, data: &[u8]) {
        let Some(errand) = &self.errand else { return };
        match errand.step {
            Step::SelectThread => self.ask(Step::ReadCounter, b"p10"),
            Step::ReadCounter => match counter(data) {
                Some(counter) => self.put_back(counter),
                None => self.ask(Step::ReadRegisters, b"g"),
            },
            Step::ReadRegisters => {
                let digits = data
                    .get(COUNTER_AT..COUNTER_AT + REGISTER_DIGITS)
                    .unwrap_or_default();
                match counter(digits) {
                    Some(counter) => self.put_back(counter),
                    // Another machine than x86-64, where a trap is reported where it stands (arm64) or unknown to us.
                    None => self.settled_counter(),
                }
            }
            Step::WriteCounter if data == b"OK" => self.settled_counter(),
            Step::WriteCounter => self.errand_failed("kgdb did not take the program counter back"),
            Step::Detach => {
                let goal = errand.goal;
                self.owed = None;
                self.kernel_runs();
                if data != b"OK" {
                    // It runs all the same, with what it could not remove.
                    self.errand_failed("kgdb could not remove its breakpoints");
                } else if let Goal::Free(by) = goal {
                    self.freed(by);
                }
            }
            Step::Verify => self.errand_done(),
            _ => {}
        }
    }

    fn put_back(&mut self, counter: u64) {
        match self.planted.put_back(counter) {
            Some(address) => {
                let digits: String = address
                    .to_le_bytes()
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                self.ask(Step::WriteCounter, format!("P10={digits}").as_bytes());
            }
            None => self.settled_counter(),
        }
    }

    fn settled_counter(&mut self) {
        self.set_planted(|planted| planted.behind.clear());
        self.mended();
    }

    fn freed(&mut self, by: FreeFor) {
        self.set_planted(|planted| *planted = Planted::default());
        self.finish(by, Freed::Freed);
    }

    pub(super) fn left_alone(&mut self, by: FreeFor) {
        self.finish(by, Freed::LeftAlone);
    }

    pub(super) fn nothing_to_free(&mut self, by: FreeFor) {
        self.finish(by, Freed::TargetAway);
    }

    /// `D` has no answer in time. Whenever it comes, kgdb waits for this `+`, and there may be nobody left to send it.
    fn let_a_late_answer_go(&mut self) {
        if self
            .errand
            .as_ref()
            .is_some_and(|errand| errand.step == Step::Detach)
        {
            self.send_target(b"+");
        }
    }

    pub(super) fn release_due(&mut self) {
        self.let_a_late_answer_go();
        let reason = "it was not done within 4 s".into();
        self.finish(FreeFor::End, Freed::Failed { reason });
    }

    pub(super) fn errand_failed(&mut self, reason: &str) {
        let Some(errand) = &self.errand else { return };
        match errand.goal {
            // What was known was wrong; what was proven is not, and gdb may try its own luck.
            Goal::Attach if errand.probes == 0 && !errand.broke => self.first_packet_unheard(),
            Goal::Attach => self.let_through(),
            Goal::Free(by) => {
                if self.ours.is_some() {
                    self.let_a_late_answer_go();
                }
                if by == FreeFor::Death {
                    self.event(Event::KernelLeftStopped);
                }
                let reason = reason.into();
                self.finish(by, Freed::Failed { reason });
            }
            Goal::NewKernel | Goal::Verify => self.errand_done(),
        }
    }

    fn finish(&mut self, by: FreeFor, freed: Freed) {
        match by {
            FreeFor::Death => {}
            FreeFor::Resume => self.out.push(Output::Released(freed)),
            FreeFor::End => {
                self.end_break_in(crate::rsp::interface::BreakResult::NoStop);
                if self.console_held && self.is_shared() && self.kernel == KernelState::Stopped {
                    // A key would make kgdb repeat itself, and would be no key of the shell's.
                    self.out.push(Output::ForgetKeys);
                }
                self.out.push(Output::Released(freed));
                self.ended = true;
                self.release_by = None;
            }
        }
        self.errand_done();
    }

    /// Nothing is under way any more; a gdb that came meanwhile has its turn.
    pub(super) fn errand_done(&mut self) {
        self.errand = None;
        self.ours = None;
        self.echo = None;
        let Some(gdb) = self
            .gdb
            .as_mut()
            .filter(|gdb| !gdb.waits && !gdb.gone && !self.ended)
        else {
            return;
        };
        if gdb.let_through && self.kernel == KernelState::Stopped {
            if let Some(held) = gdb.held.take() {
                self.forward(held);
            }
        } else if gdb.held.is_some() {
            self.find_out();
        }
    }
}

/// Reads a register as kgdb writes it: the target's byte order, two digits a byte.
fn counter(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits)
        .ok()
        .filter(|text| text.len() == REGISTER_DIGITS)?;
    u64::from_str_radix(text, 16).ok().map(u64::swap_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_little_endian() {
        assert_eq!(counter(b"8da30381ffffffff"), Some(0xffff_ffff_8103_a38d));
        for wrong in ["", "E01", "8da30381", "8da30381fffffffg"] {
            assert_eq!(counter(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
