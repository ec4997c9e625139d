//! The kernel that gdb talks to is gone: gdb is answered by us until it leaves, and nothing of it reaches the new boot.

use super::Machine;
use super::state::{Doubt, Errand, Goal, Step};
use crate::rsp::answers::answer;
use crate::rsp::framing::{data, packet};
use crate::rsp::interface::{BreakResult, Event, Output};
use crate::rsp::kernel::{KernelState, Sign};
use crate::rsp::planted::Planted;
use std::time::Duration;

/// After a text that tells of a stop the console is silent for this long, or somebody reads old messages (`dmesg`).
const SILENCE: Duration = Duration::from_millis(300);

impl Machine {
    pub(super) fn kernel_gone(&mut self, reason: &str) {
        self.end_break_in(BreakResult::Failed(reason.to_owned()));
        let request = self.request.take();
        self.unacknowledged = None;
        self.owed = None;
        self.ours = None;
        self.echo = None;
        self.doubt = None;
        self.suspect = false;
        self.let_run = None;
        self.answerable = false;
        self.kdb_at_hand = false;
        self.transparent = false;
        let errand = self.errand.take();
        self.set_planted(|planted| *planted = Planted::default());
        if self.console_held && self.is_shared() {
            self.out.push(Output::ForgetKeys);
        }
        self.set_kernel(KernelState::Unknown);
        if let Some(gdb) = self.gdb.as_mut().filter(|gdb| gdb.spoken && !gdb.gone) {
            gdb.gone = true;
            let waits = std::mem::take(&mut gdb.waits);
            let held = gdb.held.take();
            let wants_answer = match (request, held) {
                // A packet that was held behind another one is newer: gdb has given up on the older.
                (_, Some(packet)) => Some((packet, false)),
                (Some(sent), None) => Some((sent.packet, sent.acknowledged)),
                (None, None) if waits => Some((packet(b"c"), true)),
                (None, None) => None,
            };
            self.event(Event::KernelGone {
                reason: reason.to_owned(),
            });
            if let Some((packet, acknowledged)) = wants_answer {
                self.answer_for_the_dead(&packet, acknowledged);
            }
        }
        if let Some(Goal::Free(by)) = errand.map(|errand| errand.goal) {
            self.nothing_to_free(by);
        }
    }

    pub(super) fn answer_for_the_dead(&mut self, request: &[u8], acknowledged: bool) {
        if data(request).is_none() {
            self.send_gdb(b"-");
            return;
        }
        let reply = packet(answer(data(request).unwrap_or_default()));
        if !acknowledged {
            self.send_gdb(b"+");
        }
        self.send_gdb(&reply);
        if let Some(gdb) = &mut self.gdb {
            gdb.answer = reply;
        }
    }

    /// A kernel says that it stopped, in words that gdb's kernel would not use.
    pub(super) fn doubt(&mut self, sign: Sign) {
        if let Some(until) = self.after(SILENCE) {
            // What follows on the sign's own line belongs to it.
            self.text.stopped();
            self.console.stopped();
            let kdb = sign == Sign::EnteringKdb || self.doubt.as_ref().is_some_and(|doubt| doubt.kdb);
            self.doubt = Some(Doubt { until, kdb });
        }
    }

    /// The console went on after such words: they were old ones.
    pub(super) fn dismiss_doubt(&mut self) {
        if self.doubt.as_ref().is_some_and(|doubt| !doubt.kdb) {
            self.doubt = None;
        }
    }

    pub(super) fn doubt_due(&mut self) {
        let Some(doubt) = self.doubt.take() else { return };
        let waits = self.gdb.as_ref().is_some_and(|gdb| gdb.waits);
        let idle = self
            .errand
            .as_ref()
            .is_none_or(|errand| errand.step == Step::Late);
        if !doubt.kdb && waits && idle {
            self.errand = Some(Errand::new(Goal::NewKernel));
            self.probe();
        }
    }

    /// The kernel has stopped, and it is not the one that gdb talked to.
    pub(super) fn new_kernel(&mut self, state: KernelState) {
        self.kernel_gone("another kernel has stopped on this port: the VM was reset while gdb waited");
        self.set_kernel(state);
        self.proven = state == KernelState::Stopped;
        self.answerable = true;
    }
}
