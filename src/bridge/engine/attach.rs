//! Who comes, who is refused, who leaves.

use super::client::Client;
use super::core::{Engine, Flow};
use super::ending::Life;
use super::target::Change;
use crate::bridge::capture::Mark;
use crate::bridge::channel::Channel;
use crate::bridge::event::{Event, TargetState};
use crate::bridge::handle::{AttachMode, AttachRefused, AttachRequest, ClientId, Since};
use crate::bridge::history::History;
use crate::bridge::mediator::Input;
use std::task::{Context, Poll};
use std::time::Duration;

/// How often a half-closed client is looked at: whether its peer is gone altogether.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What is told to whoever loses the place.
fn taken_over_by(newcomer: ClientId, peer: &str) -> String {
    format!("taken over by connection {} ({peer})", newcomer.0)
}

impl Engine {
    /// Accepts and dials clients. Everybody is accepted at once, also to be refused: nobody waits in a backlog.
    pub(super) fn poll_slots(&mut self, context: &mut Context<'_>) -> bool {
        if !self.accepts() {
            return false;
        }
        let mut progress = false;
        if !self.is_full(false)
            && let Some((slot, channel, writes)) = self.next_client.take()
        {
            self.client_came(slot, channel, writes);
            progress = true;
        }
        for index in 0..self.slots.len() {
            let number = index + 1;
            let busy = self.is_full(self.is_console_slot(number))
                || self.clients.iter().any(|client| client.slot == number);
            while let Poll::Ready(channel) = self.slots[index].poll(context, self.now, busy) {
                progress = true;
                let writes = self.slots[index].writes;
                self.client_came(number, channel, writes);
            }
            if let Some(line) = self.slots[index].news() {
                let endpoint = self.slots[index].served.clone();
                self.emit(Event::Said { endpoint, line });
            }
        }
        progress
    }

    pub(super) fn accepts(&self) -> bool {
        matches!(self.life, Life::Running)
    }

    /// Tells whether the policy allows no further client: of consoles it allows any number, else one.
    fn is_full(&self, console: bool) -> bool {
        !console && self.sole_client().is_some()
    }

    /// Returns who has the place that the policy has once.
    fn sole_client(&self) -> Option<usize> {
        self.clients.iter().position(|client| !client.is_console())
    }

    /// Tells whether clients of this endpoint (0: of the control socket) are consoles.
    fn is_console_slot(&self, slot: usize) -> bool {
        let gdb = slot > 0 && self.slots[slot - 1].is_gdb;
        self.history().is_some() && !(gdb && matches!(self.flow, Flow::Mediated(_)))
    }

    fn client_came(&mut self, slot: usize, channel: Channel, writes: bool) {
        // A client that leaves and one that comes are seen in the same instant: who left has the right to its last
        // bytes, who comes has the right to its place.
        let console = self.is_console_slot(slot);
        if !console
            && let Some(present) = self.sole_client()
            && !self.options.take_over
            && self.next_client.is_none()
            && self.clients[present].channel.peer_is_gone()
        {
            self.next_client = Some((slot, channel, writes));
            return;
        }
        self.last_connection += 1;
        let id = ClientId(self.last_connection);
        if let Err(reason) = self.make_room(id, &channel.facts().peer, console) {
            self.emit(Event::ClientRefused {
                client: slot,
                connection: id.0,
                peer: channel.facts().peer.clone(),
                reason,
            });
            return;
        }
        let since = Since::Last(self.options.replay_bytes);
        let cursor = self.cursor_at(since).filter(|_| console);
        self.attach(Client::new(id, slot, channel, writes, cursor), "connected");
    }

    /// Makes room for one more client where the policy allows one.
    fn make_room(&mut self, newcomer: ClientId, peer: &str, console: bool) -> Result<(), String> {
        let Some(index) = self.sole_client().filter(|_| !console) else {
            return Ok(());
        };
        let present = &self.clients[index];
        if self.options.take_over {
            self.detach_at(index, taken_over_by(newcomer, peer));
            return Ok(());
        }
        // It ended its input, and may have been gone for long: TCP does not tell.
        if present.input_ended || present.closing.is_some() || present.output_broken.is_some() {
            self.detach_at(index, "ended".into());
            return Ok(());
        }
        let one = if self.history().is_some() {
            "one gdb"
        } else {
            "one client"
        };
        Err(format!(
            "the policy `{}` serves {one}, and connection {} ({}) is attached",
            self.options.policy, present.id.0, present.peer
        ))
    }

    /// Returns where a console begins to read; `None` where the policy has no consoles.
    pub(super) fn cursor_at(&self, since: Since) -> Option<u64> {
        let history = self.history()?;
        let end = history.end();
        Some(match since {
            Since::Now => end,
            Since::Last(bytes) => end
                .saturating_sub(bytes as u64)
                .max(history.contiguous_from())
                .min(end),
            Since::Offset(offset) => offset.min(end),
            Since::Boot => self.timeline.boot().min(end),
            Since::Time(time) => self.timeline.since(time, end),
        })
    }

    fn attach(&mut self, mut client: Client, how: &str) {
        if let Flow::Raw { hold, .. } = &mut self.flow {
            let (front, back) = hold.as_slices();
            client.rest.push(front);
            client.rest.push(back);
            hold.clear();
        }
        self.emit(Event::ClientAttached {
            client: client.slot,
            connection: client.id.0,
            peer: client.peer.clone(),
            reason: how.to_owned(),
        });
        let debugger = matches!(self.flow, Flow::Mediated(_)) && !client.is_console();
        let taken = self
            .clients
            .iter()
            .any(|other| other.writes && other.is_console());
        if self.options.one_writer && client.writes && client.is_console() && taken {
            client.writes = false;
            client.waits_to_write = true;
        }
        self.clients.push(client);
        if debugger {
            self.mediate(Input::DebuggerAttached);
        }
    }

    /// Attaches a stream that somebody opened.
    pub(super) fn attach_open(&mut self, request: AttachRequest) -> Result<ClientId, AttachRefused> {
        let refused = |channel, reason: String| AttachRefused {
            channel: Box::new(channel),
            reason,
        };
        if !self.accepts() {
            return Err(refused(request.channel, "the bridge is ending".into()));
        }
        if matches!(self.flow, Flow::Mediated(_)) && self.history().is_none() {
            let reason = format!("a port with the policy `{}` has no console", self.options.policy);
            return Err(refused(request.channel, reason));
        }
        self.last_connection += 1;
        let id = ClientId(self.last_connection);
        let console = self.is_console_slot(0);
        if let Some(index) = self.sole_client().filter(|_| request.take_over && !console) {
            let reason = taken_over_by(id, &request.channel.facts().peer);
            self.detach_at(index, reason);
        }
        if let Err(reason) = self.make_room(id, &request.channel.facts().peer, console) {
            return Err(refused(request.channel, reason));
        }
        let writes = request.mode == AttachMode::ReadWrite;
        let cursor = self.cursor_at(request.since);
        let mut client = Client::new(id, 0, request.channel, writes, cursor);
        client.rest.push(&request.preface.make(id, cursor));
        client.received += request.received.len() as u64;
        self.attach(client, "attached through the control socket");
        if request.take_over {
            self.take_over(Some(id));
        }
        let writes = self.clients.iter().any(|client| client.id == id && client.writes);
        if writes && !request.received.is_empty() {
            self.type_to_target(&request.received);
        }
        Ok(id)
    }

    /// Detaches every console that may write, save for `keep`, who has the place then. A debugger keeps its own.
    pub(super) fn take_over(&mut self, keep: Option<ClientId>) -> usize {
        let newcomer = keep.and_then(|keep| self.clients.iter_mut().find(|client| client.id == keep));
        let reason = match newcomer {
            Some(newcomer) => {
                newcomer.writes |= std::mem::take(&mut newcomer.waits_to_write);
                taken_over_by(newcomer.id, &newcomer.peer)
            }
            None => "taken over through the control socket".to_owned(),
        };
        let consoles_only = matches!(self.flow, Flow::Mediated(_));
        let mut count = 0;
        while let Some(index) = self.clients.iter().position(|client| {
            client.writes && Some(client.id) != keep && (client.is_console() || !consoles_only)
        }) {
            self.detach_at(index, reason.clone());
            count += 1;
        }
        count
    }

    /// With one writer: hands on what the last one left.
    fn choose_writer(&mut self) {
        if !self.options.one_writer
            || self
                .clients
                .iter()
                .any(|client| client.writes && client.is_console())
        {
            return;
        }
        if let Some(next) = self.clients.iter_mut().find(|client| client.waits_to_write) {
            next.waits_to_write = false;
            next.writes = true;
            let event = Event::Writer {
                client: next.slot,
                connection: next.id.0,
                peer: next.peer.clone(),
            };
            self.emit(event);
        }
    }

    /// A boot begins with the next byte.
    pub(super) fn boot_begins(&mut self) {
        if let Some(end) = self.history().map(History::end) {
            self.timeline.boot_begins(end);
        }
    }

    /// Detaches the client at this index.
    pub(super) fn detach_at(&mut self, index: usize, reason: String) {
        let mut client = self.clients.remove(index);
        self.output_failure = self.output_failure.or(client.channel.output_failure());
        let debugger = matches!(self.flow, Flow::Mediated(_)) && !client.is_console();
        match &mut self.flow {
            Flow::Raw { hold, limit } => {
                let owed = client.rest.take();
                let dropped = super::flow::keep_newest(hold, *limit, &owed);
                self.counters.dropped_from_target += dropped;
            }
            Flow::Console { .. } => {}
            Flow::Mediated(_) if !debugger => {}
            Flow::Mediated(_) => self.counters.dropped_from_target += client.rest.clear() as u64,
        }
        self.emit(Event::ClientDetached {
            client: client.slot,
            connection: client.id.0,
            peer: client.peer.clone(),
            reason,
        });
        let ends_bridge = client.channel.facts().ends_bridge;
        drop(client);
        self.choose_writer();
        self.resumed();
        if debugger {
            self.mediate(Input::DebuggerDetached);
        }
        if ends_bridge || self.options.once {
            self.client_ended();
        }
    }

    /// A client's input ended: it is half-closed, or gone.
    pub(super) fn client_input_ended(&mut self, index: usize) {
        let holds = matches!(self.flow, Flow::Raw { limit, .. } if limit > 0);
        let client = &mut self.clients[index];
        if let Some(reason) = client.output_broken.take() {
            self.detach_at(index, reason);
            return;
        }
        client.input_ended = true;
        let facts = client.channel.facts();
        let ends_bridge = facts.ends_bridge;
        // gdb never half-closes. What is held must not go to a peer that may be gone already.
        let gone = (!facts.half_close && !ends_bridge)
            || (matches!(self.flow, Flow::Mediated(_)) && !client.is_console())
            || client.channel.peer_is_gone()
            || (holds && !self.options.once);
        if gone && !self.options.once {
            let reason = client.channel.end_reason();
            self.detach_at(index, reason);
        } else {
            client.look_again = facts.half_close.then_some(self.now + LOOK_AGAIN);
            if ends_bridge || self.options.once {
                self.client_ended();
            }
        }
    }

    /// Goes on with the VM side.
    pub(super) fn poll_target_link(&mut self, context: &mut Context<'_>) -> bool {
        let before = (self.target.state(), self.target.reason.clone());
        let Some(change) = self.target.poll(context, self.now) else {
            return false;
        };
        match change {
            Change::Up { peer } => {
                tracing::debug!(peer, "target up");
                self.target_came();
            }
            Change::Refused { peer } => self.emit(Event::Target {
                state: TargetState::Up,
                reason: format!("a second connection ({peer}) was closed"),
            }),
            Change::Failed => {
                // The same reason again is no news: a VM may be off for days.
                if before != (self.target.state(), self.target.reason.clone()) {
                    self.emit(Event::Target {
                        state: TargetState::Away,
                        reason: self.target.reason.clone(),
                    });
                }
            }
        }
        true
    }

    pub(super) fn target_came(&mut self) {
        self.boot_begins();
        self.wait_until = None;
        for client in &mut self.clients {
            client.told_away = false;
        }
        let told = self
            .log
            .mark(self.counters.from_target, Mark::Up(&self.target.reason));
        self.emit_all(told);
        self.emit(Event::Target {
            state: TargetState::Up,
            reason: self.target.reason.clone(),
        });
        if matches!(self.flow, Flow::Mediated(_)) {
            self.mediate(Input::TargetUp);
        }
    }

    /// The VM's stream ended. What is on its way to it still goes out if the stream is not needed again and can be
    /// half-closed.
    pub(super) fn target_input_ended(&mut self) {
        let once = self.options.once;
        let half = matches!(self.flow, Flow::Raw { .. } | Flow::Console { .. })
            && self.target.channel().is_some_and(|channel| {
                let facts = channel.facts();
                (facts.ends_bridge || (once && facts.half_close)) && !channel.peer_is_gone()
            });
        let reason = self
            .target
            .channel()
            .map_or_else(|| "ended".into(), |channel| channel.end_reason());
        if !half {
            self.target_went(reason);
            return;
        }
        self.target.input_ended = true;
        self.target.reason.clone_from(&reason);
        let told = self.log.mark(self.counters.from_target, Mark::Away(&reason));
        self.emit_all(told);
        self.emit(Event::Target {
            state: TargetState::Away,
            reason,
        });
        self.target_ended();
    }

    /// The VM's stream ended or broke.
    pub(super) fn target_went(&mut self, reason: String) {
        let failure = self.target.channel().and_then(|channel| channel.output_failure());
        self.output_failure = self.output_failure.or(failure);
        let comes_back = !self.options.once && matches!(self.life, Life::Running);
        self.target.lost(reason.clone(), self.now, comes_back);
        let told = self.log.mark(self.counters.from_target, Mark::Away(&reason));
        self.emit_all(told);
        self.counters.dropped_to_target += self.to_target.clear() as u64;
        self.emit(Event::Target {
            state: TargetState::Away,
            reason: reason.clone(),
        });
        if matches!(self.flow, Flow::Mediated(_)) {
            self.mediate(Input::TargetDown { reason: &reason });
        }
        if self.target.is_over() {
            self.target_ended();
        }
    }
}
