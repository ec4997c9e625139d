//! Finding out whether the kernel is stopped before gdb's first packet passes.

use super::state::{BreakStep, Echo, Errand, FreeFor, Goal, Ours, Step};
use super::{Machine, OURS};
use crate::rsp::framing::packet;
use crate::rsp::interface::{BreakResult, Event, Output};
use crate::rsp::kernel::KernelState;
use std::time::Duration;

/// Late answers and repeats come within milliseconds of the proof (seen).
const QUIET: Duration = Duration::from_millis(50);

/// However noisy the port is, gdb is not kept waiting longer: it repeats its packet after 2 s.
const SETTLE: Duration = Duration::from_millis(500);

/// How long a packet of gdb's may be unanswered and unechoed before it is held again.
const SILENCE: Duration = Duration::from_millis(1500);

/// kgdb asks for a repeat when it waited for an acknowledgement; more often than this is a broken line.
const REPEATS: u8 = 3;

impl Machine {
    /// gdb's first packet is held: may it pass?
    pub(super) fn find_out(&mut self) {
        let mut errand = Errand::new(Goal::Attach);
        errand.step = Step::Hold;
        self.errand = Some(errand);
        match self.kernel {
            KernelState::Stopped if self.proven || self.is_shared() => {
                if let Some(gdb) = &mut self.gdb {
                    gdb.trusting = true;
                }
                self.mend();
            }
            _ if self.break_in.is_some() => self.await_break_in(),
            KernelState::Kdb => self.probe(),
            _ if self.is_shared() => self.break_in_for_errand(),
            _ => self.probe(),
        }
    }

    /// The first packet went out on what was known, and kgdb does not hear: nothing is known.
    pub(super) fn first_packet_unheard(&mut self) {
        let Some(gdb) = &mut self.gdb else { return };
        gdb.trusting = false;
        gdb.let_through = false;
        self.take_back();
        self.set_kernel(KernelState::Unknown);
        self.find_out();
    }

    /// Sends `?`, which is answered by a stopped kernel in any state. kgdb forgets its breakpoints on it.
    pub(super) fn probe(&mut self) {
        let until = self.after(OURS);
        let Some(errand) = &mut self.errand else { return };
        errand.step = Step::Probe;
        errand.until = until;
        errand.probes += 1;
        self.send_ours(b"?");
    }

    /// Asks kgdb for something harmless: is it still there?
    pub(super) fn verify(&mut self, patience: Duration) {
        let mut errand = Errand::new(Goal::Verify);
        errand.step = Step::Verify;
        errand.until = self.after(patience).filter(|_| !self.paused);
        self.errand = Some(errand);
        self.send_ours(b"qC");
    }

    /// A paused VM answers nothing; one that goes on has its time anew.
    pub(super) fn patience_while_verifying(&mut self) {
        let until = self.after(super::UNACKNOWLEDGED).filter(|_| !self.paused);
        if let Some(errand) = self.errand.as_mut().filter(|errand| errand.step == Step::Verify) {
            errand.until = until;
        }
    }

    /// There is a sign that kgdb is gone: it has the time of an answer.
    pub(super) fn hurry_verifying(&mut self) {
        let soon = self.after(OURS);
        if let Some(errand) = self.errand.as_mut().filter(|errand| errand.step == Step::Verify) {
            errand.until = errand
                .until
                .map_or(soon, |until| soon.map(|soon| soon.min(until)));
        }
    }

    pub(super) fn send_ours(&mut self, data: &[u8]) {
        let packet = packet(data);
        self.send_target(&packet);
        self.echo = Some(Echo::of(&packet));
        self.ours = Some(Ours {
            packet,
            acknowledged: false,
            refused: 0,
        });
    }

    /// kgdb asks for our packet again. Returns whether it was ours.
    pub(super) fn refused(&mut self) -> bool {
        let Some(ours) = self.ours.as_mut().filter(|ours| !ours.acknowledged) else {
            return false;
        };
        if ours.refused < REPEATS {
            ours.refused += 1;
            let packet = ours.packet.clone();
            let until = self.after(OURS);
            self.send_target(&packet);
            if let Some(errand) = &mut self.errand {
                errand.until = until;
            }
        }
        true
    }

    /// Our own bytes came back: a tty, not kgdb, has the port.
    pub(super) fn on_echo(&mut self) {
        self.echo = None;
        let Some(errand) = &mut self.errand else { return };
        match errand.step {
            Step::Probe => {
                errand.echoed = true;
                self.ours = None;
                self.errand_due();
            }
            Step::Late => errand.echoed = true,
            Step::LetGo => self.refuse_gdb("not in kgdb: the kernel runs and echoes what gdb sends"),
            _ => {}
        }
    }

    pub(super) fn break_in_for_errand(&mut self) {
        if let Some(errand) = &mut self.errand {
            errand.step = Step::BreakIn;
            errand.until = None;
            errand.broke = true;
        }
        let under_way = self.break_in.is_some();
        self.begin_break_in();
        if !under_way && self.break_in.is_none() {
            self.no_proof();
        }
    }

    /// The break-in is over without a stop.
    pub(super) fn break_in_over(&mut self) {
        let step = self.errand.as_ref().map(|errand| errand.step);
        if matches!(step, Some(Step::BreakIn | Step::Late)) {
            self.no_proof();
        }
    }

    /// A stop shows while we wait for one.
    pub(super) fn stopped_for_errand(&mut self, state: KernelState) {
        let late = self.after(OURS);
        let shared = self.is_shared();
        let Some(errand) = &mut self.errand else { return };
        let answer_may_come = errand.probes > 0 && !errand.echoed && self.ours.is_some();
        if answer_may_come {
            errand.step = Step::Late;
            errand.until = late;
        } else if state == KernelState::Kdb || !shared {
            self.probe();
        } else {
            self.settle();
        }
    }

    /// kgdb has said something: it has the machine.
    pub(super) fn proof(&mut self, stop: bool) {
        let probed = self.ours.take().is_some();
        self.echo = None;
        if self
            .errand
            .as_ref()
            .is_some_and(|errand| errand.goal == Goal::NewKernel)
        {
            self.new_kernel(KernelState::Stopped);
            return;
        }
        if self
            .errand
            .as_ref()
            .is_some_and(|errand| errand.step == Step::LetGo)
        {
            self.take_back();
        }
        if probed && stop {
            // `?` makes kgdb forget all breakpoints; where the counter stands is another matter.
            self.set_planted(|planted| planted.breakpoints.clear());
        }
        self.set_kernel(KernelState::Stopped);
        self.proven = true;
        self.end_break_in(BreakResult::Stopped);
        self.settle();
    }

    pub(super) fn settle(&mut self) {
        let (quiet, end) = (self.after(QUIET), self.after(SETTLE));
        if let Some(errand) = &mut self.errand {
            errand.step = Step::Settle;
            errand.until = quiet;
            errand.settle_by = end;
        }
    }

    /// Something came while we wait for quiet.
    pub(super) fn settle_on(&mut self) {
        let quiet = self.after(QUIET);
        if let Some(errand) = &mut self.errand {
            errand.until = quiet.min(errand.settle_by);
        }
    }

    pub(super) fn errand_due(&mut self) {
        let can_break = self.config.can_break;
        let Some(errand) = &mut self.errand else { return };
        errand.until = None;
        match errand.step {
            // Nobody there: old messages, or a kernel that hears nothing.
            Step::Probe if errand.goal == Goal::NewKernel => self.errand_done(),
            Step::Probe => {
                let free_idle = errand.is_free() && !self.planted.has_breakpoints();
                if errand.broke || !can_break || free_idle {
                    self.no_proof();
                } else {
                    self.break_in_for_errand();
                }
            }
            Step::Late => {
                if errand.probes < 2 {
                    self.probe();
                } else {
                    self.no_proof();
                }
            }
            Step::Settle => self.settled(),
            Step::LetGo => {
                errand.step = Step::Hold;
                self.set_kernel(KernelState::Unknown);
                self.take_back();
                self.event(Event::GdbHeld {
                    reason: "the kernel neither answers nor echoes; gdb's bytes are held until it stops"
                        .into(),
                });
            }
            Step::Verify => {
                self.errand = None;
                self.kernel_gone("kgdb no longer answers: the VM was reset");
            }
            Step::AwaitAck => self.acknowledgement_missing(),
            _ => self.errand_failed("kgdb did not answer"),
        }
    }

    /// What was taken for a stop was none: from the start.
    pub(super) fn was_no_stop(&mut self) {
        let Some(errand) = self.errand.take_if(|errand| errand.step == Step::Settle) else {
            return;
        };
        match errand.goal {
            Goal::Attach => self.find_out(),
            Goal::Free(by) => self.free(by),
            Goal::NewKernel | Goal::Verify => {}
        }
    }

    fn settled(&mut self) {
        // Whatever is still owed was acknowledged packet by packet.
        self.owed = None;
        self.mend();
    }

    /// No sign of kgdb, or no way to ask for one.
    fn no_proof(&mut self) {
        let Some(errand) = &self.errand else { return };
        match errand.goal {
            Goal::Attach => self.let_go(),
            Goal::NewKernel | Goal::Verify => self.errand_done(),
            // A kernel that stopped before we came and waits for a packet gives no sign to a break-in.
            Goal::Free(FreeFor::Resume) if self.is_shared() && errand.probes == 0 => self.probe(),
            Goal::Free(by) => {
                if !self.planted.has_breakpoints() {
                    self.left_alone(by);
                } else {
                    self.errand_failed("no sign of a stopped kernel, and it has breakpoints planted");
                }
            }
        }
    }

    /// The break-in that is under way is the errand's.
    pub(super) fn await_break_in(&mut self) {
        let late = self.after(OURS).filter(|_| !self.is_shared());
        let out = self
            .break_in
            .as_ref()
            .is_some_and(|break_in| break_in.step == BreakStep::Waiting);
        if let Some(errand) = &mut self.errand {
            errand.broke = true;
            (errand.step, errand.until) = if out {
                (Step::Late, late)
            } else {
                (Step::BreakIn, None)
            };
        }
    }

    /// gdb's packet goes out without proof, once: the kernel may have stopped before we came.
    fn let_go(&mut self) {
        let until = self.after(SILENCE);
        let held = self.gdb.as_mut().and_then(|gdb| gdb.held.take());
        if let Some(errand) = &mut self.errand {
            errand.step = Step::LetGo;
            errand.until = until;
        }
        self.ours = None;
        let Some(held) = held else { return };
        self.echo = Some(Echo::of(&held));
        self.forward(held);
    }

    /// gdb's packet went out too early: it goes out again, unless gdb has a newer one.
    fn take_back(&mut self) {
        let packet = self.request.take().map(|sent| sent.packet);
        self.unacknowledged = None;
        if let Some(gdb) = &mut self.gdb {
            gdb.held = gdb.held.take().or(packet);
        }
    }

    /// The packet that was let go is acknowledged: that is the proof.
    pub(super) fn let_go_was_heard(&mut self) {
        let asked = self.errand.as_ref().is_some_and(|errand| errand.probes > 0);
        self.echo = None;
        if asked {
            self.out.push(Output::Dropped(1));
            // The acknowledgement is for a probe that lay in the UART; gdb's packet is sent again after the answers.
            self.take_back();
            self.set_kernel(KernelState::Stopped);
            self.proven = true;
            self.settle();
        } else {
            self.errand = None;
            if let Some(gdb) = &mut self.gdb {
                gdb.let_through = true;
                gdb.held = None;
            }
            self.answerable = true;
            self.send_gdb(b"+");
        }
    }

    /// The kernel is stopped and quiet: gdb's packet passes.
    pub(super) fn let_through(&mut self) {
        self.errand = None;
        self.ours = None;
        self.echo = None;
        let Some(gdb) = &mut self.gdb else { return };
        gdb.let_through = true;
        let held = gdb.held.take();
        self.answerable = true;
        self.set_planted(|planted| planted.left = false);
        if let Some(held) = held {
            self.forward(held);
        }
    }

    fn refuse_gdb(&mut self, reason: &str) {
        self.errand = None;
        self.ours = None;
        self.request = None;
        self.unacknowledged = None;
        self.gdb = None;
        self.set_kernel(KernelState::Running);
        self.event(Event::GdbRefused {
            reason: reason.into(),
        });
        self.out.push(Output::CloseGdb {
            reason: reason.into(),
        });
    }
}
