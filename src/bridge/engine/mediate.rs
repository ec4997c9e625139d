//! A debug protocol's inputs and outputs.

use super::core::{Engine, Flow};
use crate::bridge::mediator::{Input, Output};
use tokio::time::Instant;

impl Engine {
    pub(super) fn mediator_deadline(&self) -> Option<Instant> {
        match &self.flow {
            Flow::Mediated(mediation) => mediation.mediator.deadline().map(Instant::from_std),
            _ => None,
        }
    }

    /// Tells the mediator something and does what it wants, in its order.
    pub(super) fn mediate(&mut self, input: Input<'_>) {
        let now = self.now.into_std();
        let Flow::Mediated(mediation) = &mut self.flow else {
            return;
        };
        let mut outputs = std::mem::take(&mut mediation.outputs);
        mediation.mediator.handle(now, input, &mut outputs);
        for output in outputs.drain(..) {
            self.perform(output);
        }
        if let Flow::Mediated(mediation) = &mut self.flow {
            // A nested call (a stream that broke while we wrote) left an empty buffer: keep the one with capacity.
            mediation.outputs = outputs;
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::ToTarget(bytes) => {
                if self.target.is_up() {
                    self.to_target.push(&bytes);
                } else {
                    self.counters.dropped_to_target += bytes.len() as u64;
                }
            }
            Output::ToDebugger(bytes) => match self.clients.first_mut() {
                Some(client) if client.closing.is_none() => client.rest.push(&bytes),
                _ => self.counters.dropped_from_target += bytes.len() as u64,
            },
            Output::SendBreak => self.mediator_break(),
            Output::SendSysRq(key) => self.mediator_sysrq(key),
            Output::BreakInDone => self.break_in.close_port(),
            Output::CloseDebugger { reason } => {
                if let Some(client) = self.clients.first_mut() {
                    client.closing.get_or_insert(reason);
                }
            }
            Output::Event(event) => self.emit(event),
            Output::Released(result) => {
                if let Flow::Mediated(mediation) = &mut self.flow {
                    for reply in mediation.releases.drain(..) {
                        // Whoever asked may have left.
                        let _ = reply.send(result.clone());
                    }
                }
                self.kernel_released();
            }
        }
    }
}
