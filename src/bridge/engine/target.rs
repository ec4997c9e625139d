//! The VM side: a state, never an error. Dialled or listened for until the bridge ends.

use crate::bridge::channel::Channel;
use crate::bridge::dial::TargetSource;
use crate::bridge::event::TargetState;
use crate::bridge::open::{self, Listener, Side, away_reason};
use crate::bridge::openings::{Openings, longest_pause, starts_something};
use crate::bridge::sys::{self, SocketMark};
use crate::model::{Address, Deadline, EndpointSpec, FailureKind, Problem, Role};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// How long a driver may look for the port's address.
const LOCATE_TIMEOUT: Duration = Duration::from_secs(10);

/// A driver that cannot find the port is asked at most this rarely.
pub(super) const LONGEST_LOCATE_PAUSE: Duration = Duration::from_secs(2);

/// A socket file that nobody answered at is taken for dead so long, as long as it is untouched.
const DEAD_FOR: Duration = Duration::from_secs(10);

/// Why a dial failed.
pub(super) struct DialFailure {
    pub reason: String,
    pub endpoint: Option<EndpointSpec>,
    /// The socket file that nobody answered at.
    dead: Option<SocketMark>,
}

pub(super) type DialResult = Result<(Channel, EndpointSpec), Box<DialFailure>>;
pub(super) type DialFuture = Pin<Box<dyn Future<Output = DialResult> + Send>>;

enum Link {
    /// Open.
    Up(Channel),
    /// Being dialled.
    Dialling(DialFuture),
    /// The next dial is due then.
    Waiting(Instant),
    /// The VM is to come to us.
    Listening,
    /// It ended and cannot come back, or must not.
    Over,
}

impl fmt::Debug for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Up(_) => "Up",
            Self::Dialling(_) => "Dialling",
            Self::Waiting(_) => "Waiting",
            Self::Listening => "Listening",
            Self::Over => "Over",
        })
    }
}

/// What happened on the VM side.
#[derive(Debug)]
pub(super) enum Change {
    /// The stream is open.
    Up { peer: String },
    /// A dial failed.
    Failed,
    /// A second connection came and was closed.
    Refused { peer: String },
}

/// The VM side.
#[derive(Debug)]
pub(super) struct TargetSide {
    source: TargetSource,
    openings: Openings,
    listener: Option<Listener>,
    link: Link,
    every: Duration,
    pause: Duration,
    /// For what is gone to now.
    longest_pause: Duration,
    /// Each dial starts a command: the pause is that of its last end, not of its start.
    is_command: bool,
    dialled_at: Option<Instant>,
    /// A socket file that nobody answered at, and when.
    dead: Option<(SocketMark, Instant)>,
    pub endpoint: String,
    pub reason: String,
    pub connections: u64,
    /// The first dial has not been answered yet: the target is neither up nor away.
    pub undecided: bool,
    /// Its stream's input ended, and the other direction may still be written (`--once`, standard streams).
    pub input_ended: bool,
    /// It takes nothing any more; what it said before is still being read.
    pub output_broken: bool,
    /// The VM's next connection: it came while the end of the last one lay unread.
    next: Option<Channel>,
}

impl TargetSide {
    /// Opens the listener, or looks at what will be dialled.
    ///
    /// # Errors
    ///
    /// Precondition, see [`Listener::open`] and `check_target_path`; usage for an endpoint that can be no target.
    pub fn open(
        source: TargetSource,
        every: Duration,
        now: Instant,
        openings: Openings,
    ) -> Result<Self, Problem> {
        // The dial and a tick of the timer fit into the pause that was promised.
        let every = every - every / 20;
        let mut side = Self {
            source: source.clone(),
            openings,
            listener: None,
            link: Link::Waiting(now),
            every,
            pause: every,
            longest_pause: every,
            is_command: false,
            dialled_at: None,
            dead: None,
            endpoint: "not located yet".into(),
            reason: "not dialled yet".into(),
            connections: 0,
            undecided: true,
            input_ended: false,
            output_broken: false,
            next: None,
        };
        let TargetSource::Fixed(endpoint) = source else {
            return Ok(side);
        };
        side.openings.check(&endpoint, Side::Target)?;
        side.endpoint = endpoint.to_string();
        if let Some((listener, served)) = Listener::open(&endpoint)? {
            side.endpoint = served.to_string();
            side.listener = Some(listener);
            side.link = Link::Listening;
            side.reason = "nobody connected yet".into();
            side.undecided = false;
        } else if !endpoint.via.is_empty() {
            // It is another machine's: nothing to look at here.
        } else if let Address::Unix(path) = &endpoint.address {
            sys::check_target_path(path)?;
        } else if endpoint.address == Address::Stdio {
            let channel = futures_now(open::dial(&endpoint))
                .map_err(|error| Problem::new(FailureKind::Host, format!("cannot open stdio: {error}")))?;
            side.link = Link::Up(channel);
            side.undecided = false;
            side.connections = 1;
        }
        Ok(side)
    }

    /// Returns the endpoint if we listen for the VM.
    pub fn listening(&self) -> Option<&str> {
        self.listener.as_ref().map(|_| self.endpoint.as_str())
    }

    pub fn channel(&mut self) -> Option<&mut Channel> {
        match &mut self.link {
            Link::Up(channel) => Some(channel),
            _ => None,
        }
    }

    pub fn is_up(&self) -> bool {
        matches!(self.link, Link::Up(_))
    }

    /// Tells whether it ended and will not come back.
    pub fn is_over(&self) -> bool {
        matches!(self.link, Link::Over)
    }

    pub fn state(&self) -> TargetState {
        if self.is_up() {
            TargetState::Up
        } else {
            TargetState::Away
        }
    }

    /// Returns when the next dial is due.
    pub fn deadline(&self) -> Option<Instant> {
        match self.link {
            Link::Waiting(until) => Some(until),
            _ => None,
        }
    }

    /// The stream ended. It is dialled again at the pace of `--reconnect-every`, counted from the last dial.
    pub fn lost(&mut self, reason: String, now: Instant, comes_back: bool) {
        let for_good = matches!(&self.link, Link::Up(channel) if channel.facts().ends_bridge);
        self.reason = reason;
        self.link = if for_good || !comes_back {
            Link::Over
        } else if self.listener.is_some() {
            Link::Listening
        } else {
            let lived = self.dialled_at.map_or(Duration::ZERO, |at| now - at);
            self.pause = if self.is_command && lived < self.longest_pause {
                (self.pause * 2).min(self.longest_pause)
            } else {
                self.every
            };
            Link::Waiting(self.dialled_at.map_or(now, |at| (at + self.pause).max(now)))
        };
    }

    /// No more dials; an open stream stays.
    pub fn stop_dialling(&mut self) {
        self.listener = None;
        self.next = None;
        if !self.is_up() {
            self.link = Link::Over;
        }
    }

    /// Goes on with dialling and accepting.
    pub fn poll(&mut self, context: &mut Context<'_>, now: Instant) -> Option<Change> {
        if !self.is_up()
            && let Some(channel) = self.next.take()
        {
            let peer = channel.facts().peer.clone();
            self.came(channel);
            return Some(Change::Up { peer });
        }
        if let Some(listener) = &mut self.listener
            && let Poll::Ready(Ok(channel)) = listener.poll_accept(context)
        {
            let peer = channel.facts().peer.clone();
            if let Link::Up(present) = &self.link {
                // A VM that reboots dials again before the end of its last connection was read.
                if self.next.is_none() && present.peer_is_gone() {
                    self.next = Some(channel);
                    return None;
                }
                return Some(Change::Refused { peer });
            }
            self.came(channel);
            return Some(Change::Up { peer });
        }
        if let Link::Waiting(until) = self.link
            && until <= now
        {
            self.dialled_at = Some(now);
            if self.is_still_dead(now) {
                self.link = Link::Waiting(beat(now, self.pause));
                return None;
            }
            self.link = Link::Dialling(Box::pin(locate_and_dial(
                self.source.clone(),
                self.openings.clone(),
                now,
            )));
        }
        let Link::Dialling(dial) = &mut self.link else {
            return None;
        };
        match dial.as_mut().poll(context) {
            Poll::Pending => None,
            Poll::Ready(Ok((channel, endpoint))) => {
                self.longest_pause = longest_pause(&endpoint, self.every);
                self.is_command = starts_something(&endpoint);
                self.endpoint = endpoint.to_string();
                let peer = channel.facts().peer.clone();
                self.came(channel);
                Some(Change::Up { peer })
            }
            Poll::Ready(Err(failure)) => {
                let DialFailure {
                    reason,
                    endpoint,
                    dead,
                } = *failure;
                self.dead = dead.map(|mark| (mark, now));
                self.longest_pause = match (&endpoint, &self.source) {
                    (Some(endpoint), _) | (None, TargetSource::Fixed(endpoint)) => {
                        longest_pause(endpoint, self.every)
                    }
                    (None, TargetSource::Asked(_)) => LONGEST_LOCATE_PAUSE.max(self.every),
                };
                if let Some(endpoint) = endpoint {
                    self.endpoint = endpoint.to_string();
                }
                self.reason = reason;
                self.undecided = false;
                let at = self.dialled_at.unwrap_or(now);
                self.link = Link::Waiting(if self.dead.is_some() {
                    beat(now, self.pause)
                } else {
                    (at + self.pause).max(now)
                });
                self.pause = (self.pause * 2).min(self.longest_pause);
                Some(Change::Failed)
            }
        }
    }

    /// Tells whether the socket file that nobody answered at is still the same: a look costs a tenth of a dial, and a
    /// lab has hundreds of VMs that are off.
    fn is_still_dead(&self, now: Instant) -> bool {
        let Some((mark, at)) = self.dead else {
            return false;
        };
        let TargetSource::Fixed(EndpointSpec {
            address: Address::Unix(path),
            ..
        }) = &self.source
        else {
            return false;
        };
        now < at + DEAD_FOR && SocketMark::of(path).is_ok_and(|found| found == mark)
    }

    fn came(&mut self, channel: Channel) {
        self.dead = None;
        self.link = Link::Up(channel);
        self.reason = "connected".into();
        self.connections += 1;
        if !self.is_command {
            self.pause = self.every;
        }
        self.undecided = false;
        self.input_ended = false;
        self.output_broken = false;
    }
}

/// Asks where a VM's port is, and goes there once.
pub(super) async fn locate_and_dial(source: TargetSource, openings: Openings, now: Instant) -> DialResult {
    let endpoint = match source {
        TargetSource::Fixed(endpoint) => endpoint,
        TargetSource::Asked(dialer) => {
            let deadline = Deadline::after(now.into_std(), LOCATE_TIMEOUT);
            let asked = tokio::task::spawn_blocking(move || dialer.locate(deadline)).await;
            let endpoint = match asked {
                Ok(Ok(endpoint)) => endpoint,
                Ok(Err(reason)) => return failed(reason, None),
                Err(error) => return failed(error.to_string(), None),
            };
            if let Err(problem) = openings.check(&endpoint, Side::Target) {
                return failed(problem.message, Some(endpoint));
            }
            if endpoint.role == Some(Role::Listen) {
                let reason = format!("`{endpoint}` would have to be listened on from the start");
                return failed(reason, Some(endpoint));
            }
            endpoint
        }
    };
    // Before the dial: a file that is made during it is another one.
    let mark = match &endpoint.address {
        Address::Unix(path) if endpoint.via.is_empty() => SocketMark::of(path).ok(),
        _ => None,
    };
    match openings.dial(&endpoint).await {
        Ok(channel) => Ok((channel, endpoint)),
        Err(error) => Err(Box::new(DialFailure {
            reason: away_reason(&error),
            endpoint: Some(endpoint),
            dead: mark.filter(|mark| {
                mark.is_settled()
                    && matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                    )
            }),
        })),
    }
}

fn failed(reason: String, endpoint: Option<EndpointSpec>) -> DialResult {
    Err(Box::new(DialFailure {
        reason,
        endpoint,
        dead: None,
    }))
}

/// Returns when a socket that nobody answers at is looked at next: within the pause, at the same moments for all ports of
/// the process, so that one wake-up of a thread serves all of them.
fn beat(now: Instant, pause: Duration) -> Instant {
    static FIRST: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let since = now.saturating_duration_since(*FIRST.get_or_init(|| now));
    let pause = pause.max(Duration::from_millis(1));
    let over = since.as_nanos() % pause.as_nanos();
    now + pause - Duration::from_nanos(u64::try_from(over).unwrap_or(0))
}

/// Polls a future that never waits.
pub(super) fn futures_now<T>(future: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    let mut future = std::pin::pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(std::task::Waker::noop()))
    {
        Poll::Ready(result) => result,
        Poll::Pending => Err(std::io::ErrorKind::WouldBlock.into()),
    }
}
