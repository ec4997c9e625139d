//! What consoles type on a port that they share with a debugger: held while the kernel is stopped or broken into.

use super::core::{Engine, Flow};
use crate::bridge::event::KernelState;

/// So much is kept of what is typed; then consoles are not read until it has gone out.
const LIMIT: usize = 64 << 10;

/// Added to the stream of a console that types to a stopped kernel.
const NOTICE: &str = "[vmserial: kernel stopped, input held]";

/// Keys on their way to a kernel that must not have them yet.
#[derive(Debug, Default)]
pub(super) struct HeldKeys {
    /// Whether keys are held.
    held: bool,
    bytes: Vec<u8>,
}

impl HeldKeys {
    /// Tells whether no more is taken.
    pub fn are_full(&self) -> bool {
        self.held && self.bytes.len() >= LIMIT
    }

    /// Tells whether keys are held.
    pub fn are_held(&self) -> bool {
        self.held
    }
}

impl Engine {
    /// Tells whether a key that comes now waits.
    pub(super) fn keys_are_held(&self) -> bool {
        matches!(&self.flow, Flow::Mediated(mediation) if mediation.keys.are_held())
    }

    /// Keeps what a console typed, if it must wait. The console is told once in each stop.
    pub(super) fn hold_keys(&mut self, index: Option<usize>, bytes: &[u8]) -> bool {
        let Flow::Mediated(mediation) = &mut self.flow else {
            return false;
        };
        if !mediation.keys.held {
            return false;
        }
        mediation.keys.bytes.extend_from_slice(bytes);
        if mediation.mediator.kernel() == KernelState::Stopped
            && let Some(client) = index.and_then(|index| self.clients.get_mut(index))
            && !client.told_held
        {
            client.told_held = true;
            client.add_line(NOTICE);
        }
        true
    }

    /// The protocol holds keys from now on, or lets them go.
    pub(super) fn hold_console(&mut self, hold: bool) {
        let Flow::Mediated(mediation) = &mut self.flow else {
            return;
        };
        mediation.keys.held = hold;
        if hold {
            return;
        }
        let keys = std::mem::take(&mut mediation.keys.bytes);
        for client in &mut self.clients {
            client.told_held = false;
        }
        if self.target.is_up() {
            self.to_target.push(&keys);
        } else {
            self.counters.dropped_to_target += keys.len() as u64;
        }
    }

    /// The kernel that the held keys were typed for is gone. What a console has typed beyond the limit goes with them.
    pub(super) fn forget_keys(&mut self) {
        let Flow::Mediated(mediation) = &mut self.flow else {
            return;
        };
        let full = mediation.keys.are_full();
        self.counters.dropped_to_target += std::mem::take(&mut mediation.keys.bytes).len() as u64;
        for client in self.clients.iter_mut().filter(|client| client.is_console()) {
            client.forgets_input = full;
        }
    }
}
