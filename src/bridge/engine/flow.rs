//! Bytes, by policy.

use super::core::{Engine, Flow};
use super::ending::Life;
use crate::bridge::event::Event;
use crate::bridge::handle::OutputChunk;
use crate::bridge::history::History;
use crate::bridge::mediator::{Input, Lag};
use crate::bridge::open::away_reason;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Appends to `hold`, keeping the newest `limit` bytes. Returns how many bytes were dropped.
pub(super) fn keep_newest(hold: &mut VecDeque<u8>, limit: usize, bytes: &[u8]) -> u64 {
    let kept = &bytes[bytes.len().saturating_sub(limit)..];
    let too_many = (hold.len() + kept.len()).saturating_sub(limit);
    hold.drain(..too_many);
    hold.extend(kept);
    (bytes.len() - kept.len() + too_many) as u64
}

impl Engine {
    /// Reads the target once and hands the bytes on. The target is always read, save where back-pressure is the policy.
    pub(super) fn read_target(&mut self, context: &mut Context<'_>, scratch: &mut [u8]) -> bool {
        if !self.may_read_target() {
            return false;
        }
        if let Some(progress) = self.take_bulk_of_target(context) {
            return progress;
        }
        let room = scratch.len();
        let Some(channel) = self.target.channel() else {
            return false;
        };
        let read = channel.poll_read_some(context, scratch);
        // A VM's end that asks for something (a telnet client's BREAK) has nobody to ask.
        let asked = channel.take_request().is_some();
        let count = match read {
            Poll::Pending => return asked,
            Poll::Ready(Ok(0)) => {
                self.target_input_ended();
                return true;
            }
            Poll::Ready(Err(error)) => {
                self.target_went(away_reason(&error));
                return true;
            }
            Poll::Ready(Ok(count)) => count,
        };
        let bytes = &scratch[..count];
        let offset = self.counters.from_target;
        self.counters.from_target += count as u64;
        if let Some(at) = self.flow.history().map(History::end) {
            self.timeline.note(jiff::Timestamp::now(), at);
        }
        let told = self.log.write(self.now, offset, bytes);
        self.emit_all(told);
        let shared = matches!(&self.flow, Flow::Mediated(mediation) if mediation.history.is_some());
        if !shared {
            self.publish(offset, bytes);
        }
        if let Some(client) = self.clients.first_mut() {
            client.rest.saw_chunk(count, room);
        }
        self.moved();
        self.distribute(context, bytes);
        true
    }

    /// Gives a part of the stream to whoever has subscribed; on a shared port that is the consoles' part.
    pub(super) fn publish(&self, offset: u64, bytes: &[u8]) {
        if let Some(output) = self.handle.output_sender() {
            // The last receiver may have left in between.
            let _ = output.send(OutputChunk {
                offset,
                bytes: Arc::from(bytes),
            });
        }
    }

    /// Moves a big chunk of the target to its only client without copying. `None` if it is to be read, because it is
    /// no bulk or because somebody looks at the bytes.
    fn take_bulk_of_target(&mut self, context: &mut Context<'_>) -> Option<bool> {
        if !matches!(self.flow, Flow::Raw { .. }) || self.log.is_on() || self.handle.output_sender().is_some()
        {
            return None;
        }
        let channel = self.target.channel()?;
        let client = self.clients.first_mut()?;
        match client.rest.poll_take(channel, &mut client.channel, context)? {
            Poll::Pending => return Some(false),
            Poll::Ready(Ok(0)) => self.target_input_ended(),
            Poll::Ready(Err(error)) => self.target_went(away_reason(&error)),
            Poll::Ready(Ok(count)) => {
                self.counters.from_target += count as u64;
                let (count, result) = client.rest.poll_write(&mut client.channel, context);
                client.sent += count as u64;
                self.moved();
                if let Poll::Ready(Err(error)) = result {
                    self.client_output_broke(0, away_reason(&error));
                }
            }
        }
        Some(true)
    }

    fn may_read_target(&mut self) -> bool {
        if self.target.input_ended || matches!(self.life, Life::Draining { .. }) {
            return false;
        }
        let holds = match &self.flow {
            Flow::Console { .. } => false,
            Flow::Raw { .. } => true,
            Flow::Mediated(mediation) => mediation.mediator.lag() == Lag::HoldTarget,
        };
        let stalled = holds && self.clients.iter().any(|client| !client.rest.is_empty());
        if stalled {
            self.paused.get_or_insert((self.now, false));
        }
        !stalled
    }

    /// Nobody holds the target back any more.
    pub(super) fn resumed(&mut self) {
        if let Some((_, told)) = self.paused
            && self.clients.iter().all(|client| client.rest.is_empty())
        {
            self.paused = None;
            if told {
                self.emit(Event::TargetResumed);
            }
        }
    }

    fn distribute(&mut self, context: &mut Context<'_>, bytes: &[u8]) {
        match &mut self.flow {
            Flow::Raw { hold, limit } => {
                let Some(client) = self.clients.first_mut() else {
                    self.counters.dropped_from_target += keep_newest(hold, *limit, bytes);
                    return;
                };
                let (count, result) = client.rest.forward(&mut client.channel, context, bytes);
                client.sent += count as u64;
                if let Err(error) = result {
                    self.client_output_broke(0, away_reason(&error));
                }
            }
            // The clients read it from there in the same round.
            Flow::Console { history } => history.push(bytes),
            Flow::Mediated(_) => self.mediate(Input::FromTarget(bytes)),
        }
    }

    /// Writes what the target did not take yet.
    pub(super) fn flush_target(&mut self, context: &mut Context<'_>) -> bool {
        if self.to_target.is_empty() {
            return false;
        }
        if self.target.output_broken {
            return self.drop_outbound();
        }
        let Some(channel) = self.target.channel() else {
            return self.drop_outbound();
        };
        let (count, result) = self.to_target.poll_write(channel, context);
        self.counters.to_target += count as u64;
        if count > 0 {
            self.moved();
        }
        match result {
            Poll::Pending => count > 0,
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(error)) => {
                self.target_output_broke(away_reason(&error));
                true
            }
        }
    }

    /// Writes to all clients and reads from those whose bytes have somewhere to go.
    pub(super) fn serve_clients(&mut self, context: &mut Context<'_>, scratch: &mut [u8]) -> bool {
        let mut progress = false;
        let mut index = 0;
        while index < self.clients.len() {
            let id = self.clients[index].id;
            progress |= self.write_client(context, index);
            if self.clients.get(index).is_some_and(|client| client.id == id) {
                progress |= self.read_client(context, index, scratch);
            }
            if self.clients.get(index).is_some_and(|client| client.id == id) {
                index += 1;
            }
        }
        if progress {
            self.resumed();
        }
        progress
    }

    fn write_client(&mut self, context: &mut Context<'_>, index: usize) -> bool {
        let history = self.flow.history();
        let client = &mut self.clients[index];
        if client.output_broken.is_some() && client.closing.is_none() {
            return self.drop_rest(index);
        }
        let (id, slot) = (client.id.0, client.slot);
        let result = client.write_out(context, history);
        let closing = client
            .closing
            .as_ref()
            .filter(|_| client.input_ended || client.rest.is_empty())
            .cloned();
        match result {
            Err(error) => {
                self.client_output_broke(index, away_reason(&error));
                true
            }
            Ok((count, skipped)) => {
                if let Some(bytes) = skipped {
                    self.emit(Event::Skipped {
                        client: slot,
                        connection: id,
                        bytes,
                    });
                }
                if count > 0 {
                    self.moved();
                }
                if let Some(reason) = closing {
                    self.detach_at(index, reason);
                    return true;
                }
                count > 0
            }
        }
    }

    fn read_client(&mut self, context: &mut Context<'_>, index: usize, scratch: &mut [u8]) -> bool {
        if !self.may_read_client(index) {
            return false;
        }
        if let Some(progress) = self.take_bulk(context, index) {
            return progress;
        }
        let id = self.clients[index].id;
        let mut progress = self.read_bytes(context, index, scratch);
        // What the client asks for lies behind the bytes that were read.
        if let Some(client) = self.clients.get_mut(index)
            && client.id == id
            && let Some(request) = client.channel.take_request()
        {
            self.client_asks(index, request);
            progress = true;
        }
        progress
    }

    fn read_bytes(&mut self, context: &mut Context<'_>, index: usize, scratch: &mut [u8]) -> bool {
        let room = scratch.len();
        let client = &mut self.clients[index];
        match client.channel.poll_read_some(context, scratch) {
            Poll::Pending => {
                client.forgets_input = false;
                false
            }
            Poll::Ready(Ok(0)) => {
                self.client_input_ended(index);
                true
            }
            Poll::Ready(Err(error)) => {
                self.detach_at(index, away_reason(&error));
                true
            }
            Poll::Ready(Ok(count)) => {
                client.received += count as u64;
                self.to_target.saw_chunk(count, room);
                self.moved();
                self.take_from_client(context, index, &scratch[..count]);
                true
            }
        }
    }

    /// Moves a big chunk of a client to the target without copying. `None` if it is to be read.
    fn take_bulk(&mut self, context: &mut Context<'_>, index: usize) -> Option<bool> {
        let client = &mut self.clients[index];
        if !client.writes || matches!(self.flow, Flow::Mediated(_)) {
            return None;
        }
        let target = self.target.channel()?;
        match self.to_target.poll_take(&mut client.channel, target, context)? {
            Poll::Pending => Some(false),
            Poll::Ready(Ok(0)) => {
                self.client_input_ended(index);
                Some(true)
            }
            Poll::Ready(Err(error)) => {
                self.detach_at(index, away_reason(&error));
                Some(true)
            }
            Poll::Ready(Ok(count)) => {
                client.received += count as u64;
                self.moved();
                self.flush_target(context);
                Some(true)
            }
        }
    }

    /// A client is read only when its bytes have somewhere to go: that is its back-pressure.
    fn may_read_client(&self, index: usize) -> bool {
        let client = &self.clients[index];
        if client.input_ended || client.closing.is_some() || matches!(self.life, Life::Draining { .. }) {
            return false;
        }
        if !client.writes {
            // Only to see its end; what it says is dropped.
            return true;
        }
        if self.target.is_up() {
            let full = client.is_console()
                && matches!(&self.flow, Flow::Mediated(mediation) if mediation.keys.are_full());
            return self.to_target.is_empty() && !self.break_in.holds_keys() && !full;
        }
        // Before the first dial has been answered nobody can say that the target is away, and with `--once` the bytes
        // are for the one connection that is to come.
        let first_to_come = self.target.connections == 0 && (self.target.undecided || self.options.once);
        !first_to_come || (matches!(self.flow, Flow::Mediated(_)) && !client.is_console())
    }

    fn take_from_client(&mut self, context: &mut Context<'_>, index: usize, bytes: &[u8]) {
        let client = &mut self.clients[index];
        if !client.writes {
            self.counters.dropped_to_target += bytes.len() as u64;
            return;
        }
        if client.forgets_input {
            self.counters.dropped_to_target += bytes.len() as u64;
            return;
        }
        if matches!(self.flow, Flow::Mediated(_)) && !client.is_console() {
            self.mediate(Input::FromDebugger(bytes));
            return;
        }
        if !self.target.is_up() {
            self.counters.dropped_to_target += bytes.len() as u64;
            if client.is_console() && !client.told_away {
                client.told_away = true;
                client.add_line("[vmserial: target away, input refused]");
            }
            return;
        }
        if self.hold_keys(Some(index), bytes) {
            return;
        }
        let Some(channel) = self.target.channel() else {
            return;
        };
        let (count, result) = self.to_target.forward(channel, context, bytes);
        self.counters.to_target += count as u64;
        if let Err(error) = result {
            self.target_output_broke(away_reason(&error));
        }
    }

    /// Types bytes as a console does; they wait while a break-in holds keys. Tells whether the target is there.
    pub(super) fn type_to_target(&mut self, bytes: &[u8]) -> bool {
        if !self.target.is_up() {
            self.counters.dropped_to_target += bytes.len() as u64;
            return false;
        }
        if self.break_in.holds_keys() {
            self.break_in.held.extend_from_slice(bytes);
        } else if !self.hold_keys(None, bytes) {
            self.to_target.push(bytes);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_bytes_are_kept_and_the_others_counted() {
        let mut hold = VecDeque::new();
        assert_eq!(keep_newest(&mut hold, 4, b"ab"), 0);
        assert_eq!(keep_newest(&mut hold, 4, b"cde"), 1);
        assert_eq!(hold.make_contiguous(), b"bcde");
        assert_eq!(keep_newest(&mut hold, 4, b"0123456789"), 10);
        assert_eq!(hold.make_contiguous(), b"6789");
        assert_eq!(keep_newest(&mut hold, 0, b"xy"), 6);
        assert!(hold.is_empty());
    }
}
