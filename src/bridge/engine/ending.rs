//! The end: `--once`, standard input that ended, a stop. What was read is delivered first.

use super::core::{Engine, Flow};
use super::outcome::Outcome;
use crate::bridge::mediator::Input;
use crate::bridge::open::Side;
use crate::model::{FailureKind, Problem};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// How long pending bytes get after a stop.
const DRAIN: Duration = Duration::from_secs(2);

/// How long a mediator has to free a stopped kernel.
const RELEASE: Duration = Duration::from_secs(4);

/// Where the bridge's life stands.
#[derive(Debug)]
pub(super) enum Life {
    /// Goes on for ever.
    Running,
    /// One side ended; the other may finish.
    Last {
        ended: Side,
        /// The other side has been silent for `--linger` then.
        quiet_until: Instant,
        /// The end is still to be passed on.
        pass_on: bool,
    },
    /// A stopped kernel is being freed.
    Releasing { until: Instant, outcome: Outcome },
    /// What is owed is being delivered.
    Draining { until: Instant, outcome: Outcome },
}

impl Engine {
    pub(super) fn life_deadline(&self) -> Option<Instant> {
        match &self.life {
            Life::Running => None,
            Life::Last { quiet_until, .. } => Some(*quiet_until),
            Life::Releasing { until, .. } | Life::Draining { until, .. } => Some(*until),
        }
    }

    /// Bytes moved: the other side is not silent.
    pub(super) fn moved(&mut self) {
        if let Life::Last { quiet_until, .. } = &mut self.life {
            *quiet_until = self.now + self.options.linger;
        }
    }

    /// A client that the bridge lives from ended.
    pub(super) fn client_ended(&mut self) {
        match self.life {
            Life::Running => {
                // Half-close is never passed to a target that is kept: QEMU would take it for the end.
                let pass_on = self.options.once;
                self.begin_last(Side::Client, pass_on);
            }
            Life::Last {
                ended: Side::Target, ..
            } if self.clients.iter().all(|client| client.input_ended) => {
                self.begin_end(Outcome::Ended);
            }
            _ => {}
        }
    }

    /// The target ended and does not come back.
    pub(super) fn target_ended(&mut self) {
        match self.life {
            Life::Running => self.begin_last(Side::Target, true),
            Life::Last {
                ended: Side::Client, ..
            } => self.begin_end(Outcome::Ended),
            _ => {}
        }
    }

    fn begin_last(&mut self, ended: Side, pass_on: bool) {
        self.life = Life::Last {
            ended,
            quiet_until: self.now + self.options.linger,
            pass_on,
        };
    }

    /// Ends the bridge: first a stopped kernel is freed, then what is owed is delivered. A second call ends at once.
    pub(super) fn begin_end(&mut self, outcome: Outcome) {
        match &mut self.life {
            Life::Running | Life::Last { .. } => {
                if matches!(self.flow, Flow::Mediated(_)) {
                    self.life = Life::Releasing {
                        until: self.now + RELEASE,
                        outcome,
                    };
                    self.mediate(Input::End);
                } else {
                    self.begin_drain(outcome);
                }
            }
            Life::Releasing { until, .. } | Life::Draining { until, .. } => *until = self.now,
        }
    }

    /// The mediator has nothing more to do for the kernel.
    pub(super) fn kernel_released(&mut self) {
        if let Life::Releasing { outcome, .. } = &self.life {
            let outcome = outcome.clone();
            self.begin_drain(outcome);
        }
    }

    fn begin_drain(&mut self, outcome: Outcome) {
        self.target.stop_dialling();
        self.life = Life::Draining {
            until: self.now + DRAIN,
            outcome,
        };
    }

    /// Goes on with the end. Sets `progress` when it changed something.
    pub(super) fn poll_end(&mut self, context: &mut Context<'_>, progress: &mut bool) -> Option<Outcome> {
        match &self.life {
            Life::Running => {
                if self.wait_until.is_some_and(|until| until <= self.now) {
                    self.wait_until = None;
                    *progress = true;
                    let reason = self.target.reason.clone();
                    self.begin_end(Outcome::NeverCame { reason });
                }
                None
            }
            Life::Last { quiet_until, .. } if *quiet_until <= self.now => {
                *progress = true;
                self.begin_end(Outcome::Ended);
                None
            }
            Life::Last { ended, pass_on, .. } => {
                if *pass_on {
                    self.pass_end_on(*ended, context);
                }
                None
            }
            Life::Releasing { until, outcome } if *until <= self.now => {
                *progress = true;
                let outcome = outcome.clone();
                self.begin_drain(outcome);
                None
            }
            Life::Releasing { .. } => None,
            Life::Draining { until, outcome } => {
                let (until, outcome) = (*until, outcome.clone());
                if until > self.now && !self.is_drained(context) {
                    return None;
                }
                let outcome = self.with_failures(outcome);
                self.close_streams(context);
                Some(outcome)
            }
        }
    }

    /// An end at which bytes for our standard output were lost is no good one.
    fn with_failures(&mut self, outcome: Outcome) -> Outcome {
        let channels = self.clients.iter_mut().map(|client| &mut client.channel);
        let left = channels
            .chain(self.target.channel())
            .find_map(|channel| channel.output_failure());
        match (self.output_failure.or(left), &outcome) {
            (Some(kind), Outcome::Ended | Outcome::Stopped) => Outcome::Failed(Problem::new(
                FailureKind::Host,
                format!("cannot write to standard output: {kind}"),
            )),
            _ => outcome,
        }
    }

    /// Half-closes the other side once it has what was read.
    fn pass_end_on(&mut self, ended: Side, context: &mut Context<'_>) {
        let done = match ended {
            Side::Client => match self.target.channel() {
                Some(channel) if self.to_target.is_empty() => {
                    !channel.facts().half_close || channel.poll_end(context).is_ready()
                }
                Some(_) => false,
                None => true,
            },
            Side::Target => {
                let history = self.flow.history();
                let mut done = true;
                for client in self.clients.iter_mut().filter(|client| !client.output_ended) {
                    client.output_ended = client.is_up_to_date(history)
                        && (!client.channel.facts().half_close
                            || client.channel.poll_end(context).is_ready());
                    done &= client.output_ended;
                }
                done
            }
        };
        if let Life::Last { pass_on, .. } = &mut self.life {
            *pass_on = !done;
        }
    }

    /// Tells whether everybody has what is owed.
    fn is_drained(&mut self, context: &mut Context<'_>) -> bool {
        use tokio::io::AsyncWrite;
        let history = self.flow.history();
        let clients = self.clients.iter_mut().all(|client| {
            client.is_up_to_date(history)
                && std::pin::Pin::new(&mut client.channel)
                    .poll_flush(context)
                    .is_ready()
        });
        let target = match self.target.channel() {
            Some(channel) => {
                self.to_target.is_empty() && std::pin::Pin::new(channel).poll_flush(context).is_ready()
            }
            None => true,
        };
        clients && target
    }

    /// Ends our directions and takes what lies unread: a TCP socket closed with unread bytes resets the connection, and
    /// a reset may destroy what the peer has not read yet.
    fn close_streams(&mut self, context: &mut Context<'_>) {
        let mut buffer = [0; 4096];
        let channels = self.clients.iter_mut().map(|client| &mut client.channel);
        for channel in channels.chain(self.target.channel()) {
            if !channel.facts().half_close {
                continue;
            }
            // The stream is closed in any case.
            let _ = channel.poll_end(context);
            for _ in 0..1024 {
                match channel.poll_read_some(context, &mut buffer) {
                    Poll::Ready(Ok(count)) if count > 0 => {}
                    _ => break,
                }
            }
        }
    }
}
