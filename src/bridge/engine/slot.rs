//! The client endpoints: listeners, endpoints that we go to, and those that are there from the start.

use super::target::{DialFuture, LONGEST_LOCATE_PAUSE, futures_now, locate_and_dial};
use crate::bridge::channel::Channel;
use crate::bridge::dial::TargetSource;
use crate::bridge::open::{self, Listener, Side};
use crate::bridge::openings::{Openings, longest_pause, starts_something};
use crate::bridge::spec::JoinedVm;
use crate::model::{Address, ClientPrefix, ClientSpec, EndpointSpec, FailureKind, Problem};
use std::fmt;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// After a failed accept (no descriptor left) the listener rests, since it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A command that ran for longer than this served somebody, and is started again without a longer pause.
const RAN_WELL: Duration = Duration::from_secs(1);

enum Source {
    Listener(Listener),
    /// There from the start, once: standard streams, a file.
    Given(Option<Channel>),
    /// We go to it, again and again.
    Dialled(TargetSource, Option<DialFuture>),
}

impl fmt::Debug for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Listener(_) => "Listener",
            Self::Given(_) => "Given",
            Self::Dialled(..) => "Dialled",
        })
    }
}

/// One client endpoint.
#[derive(Debug)]
pub(super) struct Slot {
    /// Where it is; `None` while nobody has found that out.
    endpoint: Option<EndpointSpec>,
    source: Source,
    pub served: String,
    /// Whether clients of this endpoint may write.
    pub writes: bool,
    /// Whether it is named as the debugger's.
    pub is_gdb: bool,
    pub not_before: Option<Instant>,
    openings: Openings,
    every: Duration,
    pause: Duration,
    /// When a command was started last.
    dialled_at: Option<Instant>,
    /// How it stands with a VM, which is told when it changes; `None` for clients that are no VMs.
    standing: Option<Standing>,
}

/// How it stands with a VM that is a client.
#[derive(Debug, Default)]
struct Standing {
    told: String,
    now: String,
}

impl Slot {
    /// Opens the endpoint's listener, or prepares to go to it.
    ///
    /// # Errors
    ///
    /// Precondition, see [`Listener::open`] and [`Openings::check`].
    pub fn open(spec: &ClientSpec, every: Duration, openings: &Openings) -> Result<Self, Problem> {
        openings.check(&spec.endpoint, Side::Client)?;
        let mut served = spec.endpoint.to_string();
        let source = match Listener::open(&spec.endpoint)? {
            Some((listener, endpoint)) => {
                served = endpoint.to_string();
                Source::Listener(listener)
            }
            None if matches!(spec.endpoint.address, Address::Stdio | Address::File(_)) => {
                let channel = futures_now(open::dial(&spec.endpoint)).map_err(|error| {
                    Problem::new(
                        FailureKind::Precondition,
                        format!("cannot open `{}`: {error}", spec.endpoint),
                    )
                    .hint("Name a file in a folder that exists and that you may write to.")
                })?;
                Source::Given(Some(channel))
            }
            None => Source::Dialled(TargetSource::Fixed(spec.endpoint.clone()), None),
        };
        Ok(Self {
            endpoint: Some(spec.endpoint.clone()),
            source,
            served,
            writes: spec.prefix != Some(ClientPrefix::Ro),
            is_gdb: spec.prefix == Some(ClientPrefix::Gdb),
            not_before: None,
            openings: openings.clone(),
            every,
            pause: every,
            dialled_at: None,
            standing: None,
        })
    }

    /// Opens the end of a joined VM: listens for it, or prepares to go to where it is each time.
    ///
    /// # Errors
    ///
    /// As [`Slot::open`].
    pub fn open_joined(vm: &JoinedVm, every: Duration, openings: &Openings) -> Result<Self, Problem> {
        let mut slot = match &vm.source {
            TargetSource::Fixed(endpoint) => {
                let client = ClientSpec {
                    prefix: None,
                    endpoint: endpoint.clone(),
                };
                Self::open(&client, every, openings)?
            }
            TargetSource::Asked(_) => Self {
                endpoint: None,
                source: Source::Dialled(vm.source.clone(), None),
                served: String::new(),
                writes: true,
                is_gdb: false,
                not_before: None,
                openings: openings.clone(),
                every,
                pause: every,
                dialled_at: None,
                standing: None,
            },
        };
        slot.served.clone_from(&vm.name);
        slot.standing = Some(Standing::default());
        Ok(slot)
    }

    /// Returns how it stands with a joined VM, if that has changed since the last call.
    pub fn news(&mut self) -> Option<String> {
        let standing = self.standing.as_mut()?;
        if standing.told == standing.now {
            return None;
        }
        standing.told.clone_from(&standing.now);
        Some(standing.now.clone())
    }

    fn stands(&mut self, now: String) {
        if let Some(standing) = &mut self.standing {
            standing.now = now;
        }
    }

    /// Waits for the next client. An endpoint that we go to is left alone while `full`.
    pub fn poll(&mut self, context: &mut Context<'_>, now: Instant, full: bool) -> Poll<Channel> {
        if self.not_before.is_some_and(|until| until > now) {
            return Poll::Pending;
        }
        self.not_before = None;
        match &mut self.source {
            Source::Given(channel) => match channel.take() {
                Some(channel) => Poll::Ready(channel),
                None => Poll::Pending,
            },
            Source::Listener(listener) => match listener.poll_accept(context) {
                Poll::Ready(Ok(channel)) => Poll::Ready(channel),
                Poll::Ready(Err(_)) => {
                    self.not_before = Some(now + ACCEPT_PAUSE);
                    Poll::Pending
                }
                Poll::Pending => Poll::Pending,
            },
            Source::Dialled(..) if full => Poll::Pending,
            Source::Dialled(source, dial) => {
                let starts = self.endpoint.as_ref().is_some_and(starts_something);
                if dial.is_none() && starts {
                    let longest = longest(self.endpoint.as_ref(), self.every);
                    let ended_soon = self.dialled_at.is_some_and(|at| now < at + self.pause + RAN_WELL);
                    self.pause = if ended_soon {
                        (self.pause * 2).min(longest)
                    } else {
                        self.every
                    };
                    self.dialled_at = Some(now);
                }
                let future = dial.get_or_insert_with(|| {
                    Box::pin(locate_and_dial(source.clone(), self.openings.clone(), now))
                });
                let result = match future.as_mut().poll(context) {
                    Poll::Ready(result) => result,
                    Poll::Pending => return Poll::Pending,
                };
                *dial = None;
                self.not_before = Some(now + self.pause);
                match result {
                    Ok((channel, endpoint)) => {
                        if !starts {
                            self.pause = self.every;
                        }
                        self.endpoint = Some(endpoint);
                        self.stands("connected".to_owned());
                        Poll::Ready(channel)
                    }
                    Err(failure) => {
                        let longest = longest(failure.endpoint.as_ref(), self.every);
                        self.pause = (self.pause * 2).min(longest);
                        self.stands(format!("away: {}", failure.reason));
                        Poll::Pending
                    }
                }
            }
        }
    }
}

fn longest(endpoint: Option<&EndpointSpec>, every: Duration) -> Duration {
    match endpoint {
        Some(endpoint) => longest_pause(endpoint, every),
        None => LONGEST_LOCATE_PAUSE.max(every),
    }
}
