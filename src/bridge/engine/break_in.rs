//! A break-in: BREAK, 100 ms, `g`, with nothing between.
//!
//! The console policy runs the whole of it here, with everybody's keys held. A mediator asks for the single acts and has
//! its own clock.

use super::core::Engine;
use crate::bridge::channel::Channel;
use crate::bridge::dial::{BreakMeans, BreakPort};
use crate::bridge::event::Event;
use crate::bridge::mediator::Input;
use crate::bridge::open;
use crate::model::Deadline;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Each way of sending BREAK has this long; a QMP socket that another client holds accepts and never greets.
const WAY_DEADLINE: Duration = Duration::from_millis(500);

/// How long a way may be beyond its deadline before it is given up without its reason.
const GRACE: Duration = Duration::from_millis(100);

/// Somebody else does the whole break-in: BREAK (500 ms at most), the pause, the `g`, and the way there and back.
const OWNER_DEADLINE: Duration = Duration::from_secs(2);

/// Between BREAK and the SysRq key; the kernel takes a key for 5 s.
const PAUSE: Duration = Duration::from_millis(100);

/// A break port is closed this long after the `g` at the latest.
const PORT_OPEN_FOR: Duration = Duration::from_millis(1600);

type Answer = oneshot::Sender<Result<String, String>>;

/// Who wanted the BREAK.
enum Asked {
    /// A handle, one BREAK only.
    Break(Answer),
    /// A handle, the whole break-in.
    BreakIn(Answer),
    /// The mediator.
    Mediator,
}

enum Act {
    Idle,
    /// What was typed before goes out first, until this time at most: a guest that reads no key must hear BREAK too.
    Gated(Instant, Asked),
    /// On its way: the break port is opened, then the BREAK goes out beside the stream.
    Sending(Pin<Box<dyn Future<Output = Sent> + Send>>, Asked),
    /// The key is due then.
    Pause(Instant, String, Answer),
}

/// What came of a BREAK: the way, the break port, and the bytes that must go in the stream.
struct Sent {
    way: String,
    result: Result<(Option<Channel>, Vec<u8>), String>,
    /// An owner did the whole break-in: no `g` of ours.
    whole: bool,
}

impl Sent {
    fn failed(way: String, reason: String) -> Self {
        Self {
            way,
            result: Err(reason),
            whole: false,
        }
    }
}

/// The means of breaking in, and the break-in that is under way.
pub(super) struct BreakInState {
    means: BreakMeans,
    port: BreakPort,
    act: Act,
    open_port: Option<(Channel, Instant)>,
    /// The last BREAK was a whole break-in, by an owner.
    whole: bool,
    /// Keys that came meanwhile from a handle; consoles are simply not read.
    pub held: Vec<u8>,
}

impl BreakInState {
    pub fn new(means: BreakMeans, port: BreakPort) -> Self {
        Self {
            means,
            port,
            act: Act::Idle,
            open_port: None,
            whole: false,
            held: Vec::new(),
        }
    }

    /// Tells whether a key now would come between BREAK and `g`.
    pub fn holds_keys(&self) -> bool {
        match &self.act {
            Act::Idle => false,
            // A mediator holds keys itself, and its own bytes must pass.
            Act::Gated(_, Asked::Mediator) | Act::Sending(_, Asked::Mediator) => false,
            Act::Gated(..) | Act::Sending(..) | Act::Pause(..) => true,
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        let pause = match &self.act {
            Act::Pause(until, ..) | Act::Gated(until, _) => Some(*until),
            _ => None,
        };
        let port = self.open_port.as_ref().map(|(_, until)| *until);
        [pause, port].into_iter().flatten().min()
    }

    pub fn close_port(&mut self) {
        self.open_port = None;
    }

    /// Starts to send a BREAK by the configured means.
    fn send(&mut self, asked: Asked) {
        self.open_port = None;
        let means = self.means.clone();
        let port = self.port.clone();
        self.act = Act::Sending(Box::pin(send_break(means, port)), asked);
    }
}

/// Opens the break port, then sends the BREAK; an owner does everything.
async fn send_break(means: BreakMeans, port: BreakPort) -> Sent {
    let port = match port {
        BreakPort::Asked(source) => match tokio::task::spawn_blocking(move || source.now()).await {
            Ok(Ok(port)) => port,
            Ok(Err(reason)) => return Sent::failed(means.way(), reason),
            Err(error) => return Sent::failed(means.way(), error.to_string()),
        },
        port => port,
    };
    let whole = matches!(port, BreakPort::Owner(_));
    let way = match &port {
        BreakPort::Owner(owner) => owner.way(),
        _ => means.way(),
    };
    let act = async {
        let channel = match port {
            BreakPort::Target => None,
            BreakPort::Asked(_) => return Err("whoever knows the break port does not know it".into()),
            BreakPort::Endpoint(endpoint) => Some(
                tokio::time::timeout(WAY_DEADLINE, open::dial(&endpoint))
                    .await
                    .map_err(|_| format!("`{endpoint}` did not answer within 500 ms"))?
                    .map_err(|error| format!("`{endpoint}`: {}", open::away_reason(&error)))?,
            ),
            BreakPort::Owner(owner) => {
                let deadline = Deadline::after(Instant::now().into_std(), OWNER_DEADLINE);
                let asked = tokio::task::spawn_blocking(move || owner.break_in(deadline));
                return match tokio::time::timeout(OWNER_DEADLINE + GRACE, asked).await {
                    Ok(Ok(Ok(()))) => Ok((None, Vec::new())),
                    Ok(Ok(Err(reason))) => Err(reason),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err("no answer within 2 s".into()),
                };
            }
        };
        match means {
            BreakMeans::None => Err("there is no way to send BREAK: name one with `--break-with`".into()),
            BreakMeans::InStream { bytes, .. } => Ok((channel, bytes)),
            BreakMeans::Beside(breaker) => {
                let deadline = Deadline::after(Instant::now().into_std(), WAY_DEADLINE);
                let sent = tokio::task::spawn_blocking(move || breaker.send_break(deadline));
                // The way knows the reason at its deadline; this is for one that hangs beyond it.
                match tokio::time::timeout(WAY_DEADLINE + GRACE, sent).await {
                    Ok(Ok(Ok(()))) => Ok((channel, Vec::new())),
                    Ok(Ok(Err(reason))) => Err(reason),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err("no answer within 500 ms".into()),
                }
            }
        }
    };
    let result = act.await;
    Sent { way, result, whole }
}

impl Engine {
    /// A handle wants one BREAK.
    pub(super) fn ask_break(&mut self, answer: Answer) {
        self.start_break(Asked::Break(answer));
    }

    /// A handle wants a break-in.
    pub(super) fn ask_break_in(&mut self, answer: Answer) {
        self.start_break(Asked::BreakIn(answer));
    }

    /// The mediator wants one BREAK.
    pub(super) fn mediator_break(&mut self) {
        self.start_break(Asked::Mediator);
    }

    fn start_break(&mut self, asked: Asked) {
        let busy = !matches!(self.break_in.act, Act::Idle);
        let reason = if busy {
            "another break-in is under way"
        } else if !self.target.is_up() && matches!(self.break_in.port, BreakPort::Target) {
            "the target is away"
        } else {
            self.break_in.act = Act::Gated(self.now + WAY_DEADLINE, asked);
            return;
        };
        let way = self.break_in.means.way();
        self.break_failed(way, reason.into(), asked);
    }

    /// The mediator wants the key out, into the break port or the target.
    pub(super) fn mediator_sysrq(&mut self, key: u8) {
        if !self.break_in.whole {
            self.send_key(key);
        }
    }

    fn send_key(&mut self, key: u8) {
        if let Some((channel, until)) = &mut self.break_in.open_port {
            *until = self.now + PORT_OPEN_FOR;
            // One byte into a stream that was opened for it; if it cannot be taken the stop will not show.
            let mut context = Context::from_waker(std::task::Waker::noop());
            let _ = channel.poll_write_some(&mut context, &[key]);
        } else if self.target.is_up() {
            self.to_target.push(&[key]);
        }
    }

    /// Goes on with a break-in.
    pub(super) fn poll_break_in(&mut self, context: &mut Context<'_>) -> bool {
        self.read_break_port(context);
        match std::mem::replace(&mut self.break_in.act, Act::Idle) {
            Act::Idle => false,
            Act::Pause(until, way, answer) if until <= self.now => {
                self.send_key(b'g');
                // Whoever asked may have left.
                let _ = answer.send(Ok(way));
                self.let_keys_go();
                true
            }
            Act::Gated(until, asked) if self.to_target.is_empty() || until <= self.now => {
                self.break_in.send(asked);
                true
            }
            Act::Sending(mut sending, asked) => match sending.as_mut().poll(context) {
                Poll::Pending => {
                    self.break_in.act = Act::Sending(sending, asked);
                    false
                }
                Poll::Ready(sent) => {
                    self.break_sent(sent, asked, context);
                    true
                }
            },
            waiting => {
                self.break_in.act = waiting;
                false
            }
        }
    }

    fn break_sent(&mut self, sent: Sent, asked: Asked, context: &mut Context<'_>) {
        let Sent { way, result, whole } = sent;
        self.break_in.whole = whole;
        let (mut channel, in_stream) = match result {
            Ok(sent) => sent,
            Err(reason) => {
                self.break_failed(way, reason, asked);
                return;
            }
        };
        match &mut channel {
            Some(channel) if !in_stream.is_empty() => {
                // A stream that was just opened takes two bytes.
                let _ = channel.poll_write_some(context, &in_stream);
            }
            Some(_) => {}
            None => self.to_target.push(&in_stream),
        }
        self.break_in.open_port = channel.map(|channel| (channel, self.now + PORT_OPEN_FOR));
        self.emit(Event::Break {
            way: way.clone(),
            result: "sent".into(),
        });
        match asked {
            Asked::Mediator => self.mediate(Input::BreakSent(Ok(&way))),
            Asked::BreakIn(answer) if !whole => {
                self.break_in.act = Act::Pause(self.now + PAUSE, way, answer);
            }
            Asked::Break(answer) | Asked::BreakIn(answer) => {
                // Whoever asked may have left.
                let _ = answer.send(Ok(way));
                self.let_keys_go();
            }
        }
    }

    fn break_failed(&mut self, way: String, reason: String, asked: Asked) {
        self.emit(Event::Break {
            way: way.clone(),
            result: reason.clone(),
        });
        let text = format!("{way}: {reason}");
        match asked {
            Asked::Mediator => self.mediate(Input::BreakSent(Err(&text))),
            Asked::Break(answer) | Asked::BreakIn(answer) => {
                // Whoever asked may have left.
                let _ = answer.send(Err(text));
                self.let_keys_go();
            }
        }
    }

    fn let_keys_go(&mut self) {
        let held = std::mem::take(&mut self.break_in.held);
        if !held.is_empty() {
            self.type_to_target(&held);
        }
    }

    /// An open break port is read, because an unread port makes its guest lose bytes; the mediator looks for signs in it.
    fn read_break_port(&mut self, context: &mut Context<'_>) {
        let Some((channel, until)) = &mut self.break_in.open_port else {
            return;
        };
        let mut buffer = [0; 4096];
        let mut text = Vec::new();
        let ended = loop {
            match channel.poll_read_some(context, &mut buffer) {
                Poll::Ready(Ok(0) | Err(_)) => break true,
                Poll::Ready(Ok(count)) => text.extend_from_slice(&buffer[..count]),
                Poll::Pending => break false,
            }
        };
        if ended || *until <= self.now {
            self.break_in.open_port = None;
        }
        if !text.is_empty() {
            self.mediate(Input::ConsoleText(&text));
        }
    }
}

impl fmt::Debug for BreakInState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("BreakInState")
            .field("means", &self.means)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}
