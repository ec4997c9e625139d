//! A debug protocol's inputs and outputs.

use super::client::Client;
use super::core::{Engine, Flow};
use crate::bridge::event::Event;
use crate::bridge::mediator::{Input, Lag, Output};
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
            Output::ToDebugger(bytes) => self.tell_debugger(&bytes),
            Output::ToConsole(bytes) => self.show(&bytes),
            Output::Dropped(count) => self.counters.dropped_from_target += count as u64,
            Output::HoldConsole(hold) => self.hold_console(hold),
            Output::ForgetKeys => self.forget_keys(),
            Output::SendBreak => self.mediator_break(),
            Output::SendSysRq(key) => self.mediator_sysrq(key),
            Output::BreakInDone => self.break_in.close_port(),
            Output::BrokeIn { way, result } => self.broke_in(way, result),
            Output::CloseDebugger { reason } => {
                if let Some(client) = self.debugger() {
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

    /// A break-in is over: everybody is told, and whoever asked for it is answered.
    fn broke_in(&mut self, way: String, result: Result<&'static str, String>) {
        let answer = match &result {
            Ok(_) => Ok(way.clone()),
            Err(reason) => Err(format!("{way}: {reason}")),
        };
        self.emit(Event::Break {
            way,
            result: result.map_or_else(|reason| reason, str::to_owned),
        });
        if let Flow::Mediated(mediation) = &mut self.flow {
            for reply in mediation.breaks.drain(..) {
                // Whoever asked may have left.
                let _ = reply.send(answer.clone());
            }
        }
    }

    /// The client that has the debugger's place.
    fn debugger(&mut self) -> Option<&mut Client> {
        self.clients.iter_mut().find(|client| !client.is_console())
    }

    /// Bytes for the debugger. One that does not keep up is treated as its policy says.
    fn tell_debugger(&mut self, bytes: &[u8]) {
        let lag = match &self.flow {
            Flow::Mediated(mediation) => mediation.mediator.lag(),
            _ => Lag::HoldTarget,
        };
        let count = bytes.len() as u64;
        let Some(client) = self.debugger().filter(|client| client.closing.is_none()) else {
            self.counters.dropped_from_target += count;
            return;
        };
        let waits = client.rest.len();
        match lag {
            Lag::DropNewest(limit) if waits >= limit => self.counters.dropped_from_target += count,
            Lag::Disconnect(limit) if waits + bytes.len() > limit => {
                client.closing = Some(format!(
                    "it did not keep up: {waits} bytes waited for it, and more came"
                ));
                let dropped = client.rest.clear() as u64 + count;
                self.counters.dropped_from_target += dropped;
            }
            _ => client.rest.push(bytes),
        }
    }

    /// Text for the consoles of a shared port.
    fn show(&mut self, bytes: &[u8]) {
        let Flow::Mediated(mediation) = &mut self.flow else {
            return;
        };
        if let Some(history) = &mut mediation.history {
            let offset = history.end();
            history.push(bytes);
            self.publish(offset, bytes);
        }
    }
}
