//! What gdb says.

use super::Machine;
use super::state::{Errand, Goal, Sent, Step};
use crate::rsp::framing::{FromGdb, data};
use crate::rsp::interface::Output;
use crate::rsp::kernel::KernelState;
use crate::rsp::request::Request;

impl Machine {
    pub(super) fn gdb_bytes(&mut self, bytes: &[u8]) {
        if self.gdb.is_none() {
            return;
        }
        if self.transparent {
            self.send_target(bytes);
            return;
        }
        let mut pieces = Vec::new();
        self.gdb_scanner.feed(bytes, &mut pieces);
        for piece in pieces {
            self.gdb_piece(piece);
        }
    }

    fn gdb_piece(&mut self, piece: FromGdb) {
        let up = self.target_up;
        let Some(gdb) = &mut self.gdb else { return };
        gdb.spoken = true;
        if !up && !gdb.gone {
            gdb.gone = true;
        }
        if gdb.gone {
            match piece {
                FromGdb::Packet(packet) => self.answer_for_the_dead(&packet, false),
                FromGdb::Nak => {
                    let answer = gdb.answer.clone();
                    self.send_gdb(&answer);
                }
                _ => {}
            }
            return;
        }
        match piece {
            FromGdb::Ack if self.owed.is_some() => self.gdb_acknowledges(),
            FromGdb::Nak if self.owed.is_some() => {
                gdb.wants_repeat = true;
                self.send_target(b"-");
            }
            // gdb greets with a `+` for nothing; kgdb would ignore it, a shell would not.
            FromGdb::Ack | FromGdb::Nak => {}
            FromGdb::Interrupt => self.gdb_interrupts(),
            FromGdb::Packet(packet) => self.gdb_packet(packet),
            FromGdb::Other(bytes) => {
                if self.kernel == KernelState::Stopped && self.errand.is_none() {
                    self.send_target(&bytes);
                }
            }
        }
    }

    fn gdb_acknowledges(&mut self) {
        let answered = self.owed;
        self.acknowledge();
        match answered {
            Some(Request::Restart) => self.kernel_gone("gdb restarted the machine"),
            Some(Request::NoAcks) => self.transparent = true,
            _ => {}
        }
    }

    fn gdb_interrupts(&mut self) {
        let Some(gdb) = &self.gdb else { return };
        match &self.errand {
            None if gdb.waits || (!gdb.let_through && self.kernel != KernelState::Stopped) => {
                self.begin_break_in();
            }
            Some(Errand {
                goal: Goal::Attach,
                step: Step::Hold,
                ..
            }) => self.break_in_for_errand(),
            _ => {}
        }
    }

    fn gdb_packet(&mut self, packet: Vec<u8>) {
        if self.owed == Some(Request::Detach) {
            // Whatever is not a repeat of the `OK` lets the kernel run; gdb starts anew with this packet.
            self.acknowledge();
        }
        let idle = self.heard.is_none_or(|heard| self.now() - heard >= super::IDLE);
        let verify = idle && !self.is_shared() && self.request.is_none();
        let Some(gdb) = &mut self.gdb else { return };
        let open = gdb.let_through && self.errand.is_none() && !gdb.waits;
        if open && self.kernel == KernelState::Stopped {
            if verify {
                gdb.held = Some(packet);
                self.verify(super::UNACKNOWLEDGED);
            } else {
                self.forward(packet);
            }
            return;
        }
        // On older ones gdb has given up.
        gdb.held = Some(packet);
        if self.errand.is_none() && !gdb.waits {
            self.find_out();
        }
    }

    /// Sends a packet of gdb's to the target.
    pub(super) fn forward(&mut self, packet: Vec<u8>) {
        // A packet with a bad checksum passes: kgdb asks for it again.
        let request = data(&packet).map_or(Request::Other, Request::of);
        if request == Request::Continue {
            // Written down before the kernel can run into one.
            self.set_planted(super::Planted::resumed);
        }
        self.out.push(Output::ToTarget(packet.clone()));
        // kgdb takes a packet in place of an acknowledgement: it says `-` and waits for the next packet.
        self.owed = None;
        let now = self.now();
        let repeat = self
            .request
            .as_ref()
            .is_some_and(|sent| !sent.acknowledged && sent.packet == packet);
        if !repeat {
            self.request = Some(Sent {
                packet,
                request,
                at: now,
                acknowledged: false,
            });
        }
        self.unacknowledged.get_or_insert(now);
        if let Some(gdb) = &mut self.gdb {
            gdb.wants_repeat = false;
            gdb.waits = matches!(request, Request::Continue | Request::Step);
        }
        if request.resumes() {
            self.let_run = self.now;
            self.set_kernel(KernelState::Running);
            self.kdb_at_hand = false;
        }
    }

    /// The kernel runs with nothing planted and no gdb: `D` is done.
    pub(super) fn kernel_runs(&mut self) {
        self.let_run = self.now;
        self.kdb_at_hand = false;
        self.suspect = false;
        self.answerable = false;
        self.set_kernel(KernelState::Running);
        if let Some(gdb) = &mut self.gdb {
            gdb.let_through = false;
        }
    }
}
