//! A stream that takes nothing any more because its peer has closed: what the peer said before that still lies unread.
//!
//! A VM's last words are its panic; a script's `echo reboot | nc -U …` closes as soon as it has written. Whoever finds out
//! by writing must not throw away what came before, so the stream is read to its end first.

use super::core::{Engine, Flow};
use super::flow::keep_newest;
use crate::bridge::channel::Channel;

/// Tells whether the end of this stream's input is certain to come, so that it can be read to its end.
fn has_an_end(channel: &Channel) -> bool {
    channel.facts().half_close && channel.peer_is_gone()
}

impl Engine {
    /// Writing to the target failed.
    pub(super) fn target_output_broke(&mut self, reason: String) {
        if !self.target.channel().is_some_and(|channel| has_an_end(channel)) {
            self.target_went(reason);
            return;
        }
        self.target.output_broken = true;
        self.drop_outbound();
    }

    /// Drops what a target that takes nothing any more was to get. Tells whether that was something.
    pub(super) fn drop_outbound(&mut self) -> bool {
        let dropped = self.to_target.clear();
        self.counters.dropped_to_target += dropped as u64;
        dropped > 0
    }

    /// Writing to a client failed.
    pub(super) fn client_output_broke(&mut self, index: usize, reason: String) {
        let client = &mut self.clients[index];
        if client.input_ended || client.closing.is_some() || !has_an_end(&client.channel) {
            self.detach_at(index, reason);
            return;
        }
        client.output_broken = Some(reason);
        self.drop_rest(index);
    }

    /// Drops, or holds for the next, what a client that takes nothing any more was to get. Tells whether that was something.
    pub(super) fn drop_rest(&mut self, index: usize) -> bool {
        let client = &mut self.clients[index];
        let owed = client.rest.take();
        self.counters.dropped_from_target += match &mut self.flow {
            Flow::Raw { hold, limit } => keep_newest(hold, *limit, &owed),
            // What a console did not get is in the history.
            _ if client.is_console() => 0,
            _ => owed.len() as u64,
        };
        !owed.is_empty()
    }
}
