//! What the target says.

use super::Machine;
use super::state::{Errand, Goal, Step};
use crate::rsp::demux::Piece;
use crate::rsp::framing::data;
use crate::rsp::interface::{BreakResult, Event, Output, WhenGdbDies};
use crate::rsp::kernel::{KernelState, Seen, Sign};
use crate::rsp::request::Request;

impl Machine {
    pub(super) fn target_bytes(&mut self, bytes: &[u8]) {
        if self.transparent {
            self.show(bytes);
            return;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            // An echo acts at its last byte, wherever the chunk ends.
            let mut end = rest.len();
            let mut echoed = false;
            if let Some(echo) = &mut self.echo
                && let Some(at) = rest.iter().position(|byte| echo.feed(*byte))
            {
                (end, echoed) = (at + 1, true);
            }
            let (mut now, later) = rest.split_at(end);
            rest = later;
            while let Some(piece) = self.scanner.next(self.now(), &mut now, self.grammar()) {
                self.piece(piece);
            }
            if echoed {
                self.on_echo();
            }
        }
    }

    /// The stream ended: what was held is text.
    pub(super) fn finish_stream(&mut self) {
        if let Some(piece) = self.scanner.finish() {
            self.piece(piece);
        }
        self.forget_stream();
    }

    pub(super) fn forget_stream(&mut self) {
        self.scanner = crate::rsp::demux::TargetScanner::default();
        self.text.reset();
        self.console.reset();
    }

    pub(super) fn piece(&mut self, piece: Piece) {
        if self
            .errand
            .as_ref()
            .is_some_and(|errand| errand.step == Step::Settle)
        {
            self.settle_on();
        }
        if self.kernel == KernelState::Stopped && !matches!(piece, Piece::Text(_)) {
            self.heard = self.now;
        }
        match piece {
            Piece::Text(text) => self.on_text(&text),
            Piece::Ack => self.on_ack(),
            Piece::Nak => self.on_nak(),
            Piece::Packet(packet) => self.on_packet(&packet),
        }
    }

    /// Hands bytes to whoever reads what is no protocol of ours.
    fn show(&mut self, bytes: &[u8]) {
        if self.is_shared() && !self.transparent {
            self.out.push(Output::ToConsole(bytes.to_vec()));
        } else if self.gdb.as_ref().is_some_and(|gdb| !gdb.gone) {
            self.send_gdb(bytes);
        } else {
            self.drop_bytes(bytes);
        }
    }

    fn on_text(&mut self, text: &[u8]) {
        self.show(text);
        for &byte in text {
            if let Some(seen) = self.text.feed(byte) {
                self.on_seen(seen, true);
            }
            if self.text.writes_new_line() {
                self.dismiss_doubt();
            }
        }
    }

    pub(super) fn console_text(&mut self, text: &[u8]) {
        if self.is_shared() {
            return;
        }
        for &byte in text {
            if let Some(seen) = self.console.feed(byte) {
                self.on_seen(seen, false);
            }
            if self.console.writes_new_line() {
                self.dismiss_doubt();
            }
        }
    }

    fn on_seen(&mut self, seen: Seen, here: bool) {
        match seen {
            Seen::Sign(sign) => self.on_sign(sign),
            Seen::Line => self.on_line(here),
            Seen::SysRq => self.break_in_heard(),
        }
    }

    /// A line that began after the stop has ended. kgdb is mute while it has the machine.
    fn on_line(&mut self, here: bool) {
        if self.kernel != KernelState::Stopped {
            return;
        }
        if !self.proven {
            // Old messages were read (`dmesg`): a banner alone is no proof.
            self.set_kernel(KernelState::Unknown);
            self.was_no_stop();
        } else if self.ours.is_some() {
            // An answer, or none, will tell, and soon.
            self.hurry_verifying();
        } else if here && self.is_shared() {
            self.kernel_gone("the console shows text although the kernel was stopped: the VM was reset");
        } else if self.errand.is_none() && self.request.is_none() && self.owed.is_none() {
            // On another stream the order is not certain: kgdb is asked.
            self.verify(super::OURS);
        }
    }

    fn on_sign(&mut self, sign: Sign) {
        let state = match sign {
            Sign::EnteringKdb | Sign::KdbPrompt => KernelState::Kdb,
            _ => KernelState::Stopped,
        };
        let waits = self.gdb.as_ref().is_some_and(|gdb| gdb.waits && !gdb.gone);
        if waits && self.kernel == KernelState::Running {
            if sign == Sign::KdbPrompt && self.doubt.as_ref().is_some_and(|doubt| doubt.kdb) {
                self.new_kernel(KernelState::Kdb);
            } else if sign != Sign::KdbPrompt {
                self.doubt(sign);
            }
            return;
        }
        if sign == Sign::EnteringKdb {
            // Its prompt is the stop that can be talked to.
            return;
        }
        if self.kernel == KernelState::Stopped && self.proven && state == KernelState::Stopped {
            return;
        }
        self.kdb_at_hand = sign == Sign::KgdbOrKdb;
        self.owed = None;
        self.set_kernel(state);
        self.stop_shows(state);
    }

    /// The kernel has stopped, by whatever sign.
    pub(super) fn stop_shows(&mut self, state: KernelState) {
        self.end_break_in(BreakResult::Stopped);
        let Some(errand) = &self.errand else { return };
        match errand.step {
            Step::BreakIn | Step::Late | Step::Hold => self.stopped_for_errand(state),
            _ => {}
        }
    }

    fn on_ack(&mut self) {
        if let Some(ours) = self.ours.as_mut().filter(|ours| !ours.acknowledged) {
            ours.acknowledged = true;
            self.drop_bytes(b"+");
            return;
        }
        if self
            .errand
            .as_ref()
            .is_some_and(|errand| errand.step == Step::Settle)
        {
            self.drop_bytes(b"+");
            return;
        }
        let Some(sent) = self.request.as_mut().filter(|sent| !sent.acknowledged) else {
            self.stray(b"+");
            return;
        };
        sent.acknowledged = true;
        let request = sent.request;
        self.unacknowledged = None;
        if request.resumes() {
            self.let_run = self.now;
            self.set_kernel(KernelState::Running);
        } else if request != Request::ToKdb {
            self.set_kernel(KernelState::Stopped);
        }
        self.proven = self.kernel == KernelState::Stopped;
        match request {
            Request::Kill => {
                self.request = None;
                self.set_planted(|planted| *planted = super::Planted::default());
                self.kernel_runs();
            }
            Request::Step => self.set_planted(|planted| planted.behind.clear()),
            Request::ToKdb => {
                self.request = None;
                self.set_kernel(KernelState::Kdb);
            }
            _ => {}
        }
        if let Some(gdb) = &mut self.gdb {
            gdb.trusting = false;
        }
        match self.errand.as_ref().map(|errand| errand.step) {
            Some(Step::LetGo) => self.let_go_was_heard(),
            Some(Step::AwaitAck) => {
                self.drop_bytes(b"+");
                self.acknowledgement_told();
            }
            _ if self.gdb.is_none() && self.suspect => {
                self.drop_bytes(b"+");
                self.dead_gdb_was_heard();
            }
            _ => self.pass_to_gdb(b"+"),
        }
    }

    /// The `+` for a packet whose gdb has left since.
    fn dead_gdb_was_heard(&mut self) {
        self.suspect = false;
        if self.kernel == KernelState::Stopped {
            self.event(Event::KernelLeftStopped);
        }
    }

    fn on_nak(&mut self) {
        let settling = |errand: &Errand| errand.step == Step::Settle;
        if self.refused() || self.errand.as_ref().is_some_and(settling) {
            self.drop_bytes(b"-");
            return;
        }
        if self.request.as_ref().is_some_and(|sent| !sent.acknowledged) {
            // kgdb did not understand it, so it is there, and gdb sends it again.
            self.request = None;
            self.unacknowledged = None;
            self.set_kernel(KernelState::Stopped);
            self.proven = true;
            if let Some(gdb) = &mut self.gdb {
                gdb.waits = false;
                gdb.trusting = false;
            }
            self.pass_to_gdb(b"-");
            if self
                .errand
                .as_ref()
                .is_some_and(|errand| errand.step == Step::AwaitAck)
            {
                self.acknowledgement_told();
            }
        } else {
            self.stray(b"-");
        }
    }

    /// A `+` or `-` that nobody waits for is text. On a port of kgdb's own it is the end of something that is over, and
    /// would make gdb repeat its next packet.
    fn stray(&mut self, byte: &[u8]) {
        if self.is_shared() {
            self.on_text(byte);
        } else {
            self.drop_bytes(byte);
        }
    }

    fn drop_bytes(&mut self, bytes: &[u8]) {
        self.out.push(Output::Dropped(bytes.len()));
    }

    fn pass_to_gdb(&mut self, bytes: &[u8]) {
        if self.gdb.as_ref().is_some_and(|gdb| !gdb.gone) {
            self.send_gdb(bytes);
        } else {
            self.drop_bytes(bytes);
        }
    }

    fn on_packet(&mut self, packet: &[u8]) {
        let data = data(packet).unwrap_or_default();
        let is_echo = self
            .ours
            .as_ref()
            .is_some_and(|ours| !ours.acknowledged && ours.packet == packet)
            || self
                .request
                .as_ref()
                .is_some_and(|sent| !sent.acknowledged && sent.packet == packet);
        if is_echo {
            self.show(packet);
            return;
        }
        let stop = matches!(data.first(), Some(b'T' | b'S'));
        if self.errand.is_some() {
            self.packet_for_errand(packet, data, stop);
            return;
        }
        let unacknowledged = self.request.as_ref().is_some_and(|sent| !sent.acknowledged);
        let talking = self.gdb.as_ref().is_some_and(|gdb| gdb.let_through && !gdb.gone);
        if unacknowledged || !talking {
            self.swallow(packet, data, stop);
            return;
        }
        let waits = self.gdb.as_ref().is_some_and(|gdb| gdb.waits);
        let output = self.kernel != KernelState::Stopped && data.first() == Some(&b'O') && data.len() > 2;
        if waits || output || self.request.is_some() {
            self.deliver(packet, data, stop);
        } else if self.owed.is_some() {
            if let Some(gdb) = self.gdb.as_mut().filter(|gdb| gdb.wants_repeat) {
                gdb.wants_repeat = false;
                self.send_gdb(packet);
            } else {
                // It was repeated because of noise; gdb's `+` for the first is on its way.
                self.drop_bytes(packet);
            }
        } else {
            self.swallow(packet, data, stop);
        }
    }

    /// Gives gdb what it waits for.
    pub(super) fn deliver(&mut self, packet: &[u8], data: &[u8], stop: bool) {
        let is_output = data.first() == Some(&b'O') && data != b"OK";
        let waits = self.gdb.as_ref().is_some_and(|gdb| gdb.waits);
        self.owed = Some(Request::Other);
        if waits && !is_output {
            self.request = None;
            self.doubt = None;
            if matches!(data.first(), Some(b'W')) {
                // The kernel goes down (`kgdbreboot=0`) and does not wait for an acknowledgement.
                if let Some(gdb) = &mut self.gdb {
                    gdb.waits = false;
                }
                self.send_gdb(packet);
                self.kernel_gone("the kernel said goodbye (`$W`)");
                return;
            }
            if let Some(gdb) = &mut self.gdb {
                gdb.waits = false;
            }
            // A stop, or a refusal: `c` for a thread that is not the current one is answered `E16`.
            self.set_kernel(KernelState::Stopped);
            self.proven = true;
            if stop {
                self.stop_shows(KernelState::Stopped);
            }
        } else if !is_output && let Some(sent) = self.request.take() {
            self.owed = Some(self.answered(sent.request, data));
        }
        self.send_gdb(packet);
        let held = self
            .gdb
            .as_mut()
            .filter(|gdb| gdb.let_through && !gdb.waits)
            .and_then(|gdb| gdb.held.take());
        if let Some(held) = held.filter(|_| self.kernel == KernelState::Stopped) {
            self.forward(held);
        }
    }

    /// Notes what a reply means. Returns what the `+` for it will mean.
    pub(super) fn answered(&mut self, request: Request, data: &[u8]) -> Request {
        let fine = data == b"OK";
        match request {
            Request::Plant(address) if fine => self.set_planted(|planted| {
                planted.breakpoints.insert(address);
            }),
            Request::Unplant(address) if fine => self.set_planted(|planted| {
                planted.breakpoints.remove(&address);
            }),
            Request::SetCounter if fine => self.set_planted(|planted| planted.behind.clear()),
            Request::Status if matches!(data.first(), Some(b'S' | b'T')) => {
                self.set_planted(|planted| planted.breakpoints.clear());
            }
            Request::Detach if fine => self.set_planted(|planted| *planted = super::Planted::default()),
            _ => {}
        }
        match request {
            // kgdb lets the kernel run after any answer to `D`.
            Request::Detach => request,
            Request::Restart | Request::NoAcks if fine => request,
            _ => Request::Other,
        }
    }

    /// Takes a packet that is nobody's: acknowledged once, its meaning noted.
    fn swallow(&mut self, packet: &[u8], data: &[u8], stop: bool) {
        self.drop_bytes(packet);
        let answers = self.request.as_ref().is_some_and(|sent| sent.acknowledged);
        self.owed = Some(Request::Other);
        if answers && let Some(sent) = self.request.take() {
            self.owed = Some(self.answered(sent.request, data));
        }
        if stop || (answers && self.owed != Some(Request::Detach)) {
            let fresh = self.kernel != KernelState::Stopped;
            let told = self.break_in.as_ref().is_some_and(|break_in| !break_in.asked);
            self.set_kernel(KernelState::Stopped);
            self.proven = true;
            self.acknowledge();
            self.stop_shows(KernelState::Stopped);
            if fresh && self.gdb.is_none() && self.errand.is_none() && self.planted.has_breakpoints() {
                match self.config.when_gdb_dies {
                    WhenGdbDies::Free => self.free(super::state::FreeFor::Death),
                    WhenGdbDies::Report if told => {}
                    WhenGdbDies::Report => self.event(Event::KernelLeftStopped),
                }
            }
        } else {
            self.acknowledge();
        }
    }

    /// An errand's turn to take a packet.
    fn packet_for_errand(&mut self, packet: &[u8], data: &[u8], stop: bool) {
        let Some((goal, step)) = self.errand.as_ref().map(|errand| (errand.goal, errand.step)) else {
            return;
        };
        let waits = self.gdb.as_ref().is_some_and(|gdb| gdb.waits && !gdb.gone);
        if waits && goal == Goal::NewKernel && matches!(data.first(), Some(b'T' | b'W')) {
            // gdb's own kernel after all, only late.
            self.errand = None;
            self.ours = None;
            self.echo = None;
            self.end_break_in(BreakResult::Stopped);
            self.deliver(packet, data, stop);
            return;
        }
        let expected = self.ours.as_ref().is_some_and(|ours| ours.acknowledged);
        self.send_target(b"+");
        self.drop_bytes(packet);
        let output = data.first() == Some(&b'O') && data != b"OK";
        if output {
            return;
        }
        match step {
            Step::Probe | Step::BreakIn | Step::Late | Step::Hold | Step::LetGo => self.proof(stop),
            Step::SelectThread
            | Step::ReadCounter
            | Step::ReadRegisters
            | Step::WriteCounter
            | Step::Detach
            | Step::Verify
                if expected =>
            {
                self.ours = None;
                self.echo = None;
                self.reply_for_errand(data);
            }
            Step::AwaitAck | Step::Settle => {
                if let Some(sent) = self.request.take_if(|sent| sent.acknowledged) {
                    self.answered(sent.request, data);
                }
            }
            _ => {}
        }
    }
}
