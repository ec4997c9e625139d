//! A break-in: BREAK, 100 ms, `g`, with nothing between.
//!
//! The console policy runs the whole of it here, with everybody's keys held. A mediator asks for the single acts and has
//! its own clock.

use super::core::{Engine, Flow};
use super::send_break::{Left, NOT_TAKEN, Sent, TELNET_BREAK, WAY_DEADLINE, has_own, kind_for, send_break};
use crate::bridge::channel::Channel;
use crate::bridge::dial::{BreakMeans, BreakPort};
use crate::bridge::event::Event;
use crate::bridge::line::ControlRequest;
use crate::bridge::mediator::Input;
use crate::bridge::open::away_reason;
use crate::bridge::openings::Openings;
use crate::model::NativeBreak;

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Between BREAK and the SysRq key; the kernel takes a key for 5 s.
const PAUSE: Duration = Duration::from_millis(100);

/// A break port is closed this long after the `g` at the latest.
const PORT_OPEN_FOR: Duration = Duration::from_millis(1600);

const AWAY: &str = "the target is away";

type Answer = oneshot::Sender<Result<String, String>>;

/// Who wanted the BREAK.
enum Asked {
    /// A handle, one BREAK only.
    Break(Answer),
    /// A handle, the whole break-in.
    BreakIn(Answer),
    /// The mediator.
    Mediator,
    /// A client, inside its stream (telnet, RFC 2217): one BREAK only.
    Client,
}

enum Act {
    Idle,
    /// What was typed before goes out first, until this time at most: a guest that reads no key must hear BREAK too.
    Gated(Instant, Asked),
    /// On its way: the break port is opened, then the BREAK goes out beside the stream.
    Sending(Pin<Box<dyn Future<Output = Sent> + Send>>, Asked),
    /// The target's stream sends its own BREAK, until this time at most.
    OnTarget(Instant, NativeBreak, Asked),
    /// The key is due then.
    Pause(Instant, String, Answer),
}

/// The means of breaking in, and the break-in that is under way.
pub(super) struct BreakInState {
    means: BreakMeans,
    port: BreakPort,
    openings: Openings,
    act: Act,
    open_port: Option<(Channel, Instant)>,
    /// The last BREAK was a whole break-in, by an owner.
    whole: bool,
    /// Keys that came meanwhile from a handle; consoles are simply not read.
    pub held: Vec<u8>,
}

impl BreakInState {
    pub fn new(means: BreakMeans, port: BreakPort, openings: Openings) -> Self {
        Self {
            means,
            port,
            openings,
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
            Act::Gated(_, Asked::Mediator)
            | Act::Sending(_, Asked::Mediator)
            | Act::OnTarget(_, _, Asked::Mediator) => false,
            Act::Gated(..) | Act::Sending(..) | Act::OnTarget(..) | Act::Pause(..) => true,
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        let pause = match &self.act {
            Act::Pause(until, ..) | Act::Gated(until, _) | Act::OnTarget(until, ..) => Some(*until),
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
        self.act = Act::Sending(Box::pin(send_break(means, port, self.openings.clone())), asked);
    }
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

    /// A client asks for something inside its stream.
    pub(super) fn client_asks(&mut self, index: usize, request: ControlRequest) {
        if !self.clients[index].writes {
            return;
        }
        match request {
            // What gdb itself would have written into a plain stream: its protocol's state decides.
            ControlRequest::Break
                if matches!(self.flow, Flow::Mediated(_)) && !self.clients[index].is_console() =>
            {
                self.mediate(Input::FromDebugger(&TELNET_BREAK));
            }
            // To a stopped kernel it would be a byte in place of an acknowledgement.
            ControlRequest::Break if self.keys_are_held() => self.emit(Event::Break {
                way: self.break_in.means.way(),
                result: "the kernel is stopped, or is being stopped".into(),
            }),
            ControlRequest::Break => self.start_break(Asked::Client),
            ControlRequest::SetLines(change) => {
                if let Some(channel) = self.target.channel() {
                    // Most targets have no lines, and a broken stream is seen by its next read.
                    let _ = channel.set_lines(change);
                }
            }
        }
    }

    fn start_break(&mut self, asked: Asked) {
        let busy = !matches!(self.break_in.act, Act::Idle);
        let reason = if busy {
            "another break-in is under way"
        } else if !self.target.is_up() && matches!(self.break_in.port, BreakPort::Target) {
            AWAY
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
                    self.break_sent(sent, asked);
                    true
                }
            },
            Act::OnTarget(until, kind, asked) => self.poll_on_target(until, kind, asked, context),
            waiting => {
                self.break_in.act = waiting;
                false
            }
        }
    }

    fn break_sent(&mut self, sent: Sent, asked: Asked) {
        let Sent { way, result, whole } = sent;
        self.break_in.whole = whole;
        match result {
            Ok(Left::Nothing(channel)) => {
                self.break_in.open_port = channel.map(|channel| (channel, self.now + PORT_OPEN_FOR));
                self.break_done(way, asked);
            }
            Ok(Left::OnTarget) => self.break_on_target(asked),
            Err(reason) => self.break_failed(way, reason, asked),
        }
    }

    /// The target's own stream takes the BREAK.
    fn break_on_target(&mut self, asked: Asked) {
        let way = self.break_in.means.way();
        let Some(channel) = self.target.channel() else {
            self.break_failed(way, AWAY.into(), asked);
            return;
        };
        match kind_for(&self.break_in.means, channel) {
            Ok(kind) if has_own(channel, kind) => {
                self.break_in.act = Act::OnTarget(self.now + WAY_DEADLINE, kind, asked);
            }
            Ok(_) => {
                self.to_target.push(&TELNET_BREAK);
                self.break_done(way, asked);
            }
            Err(reason) => self.break_failed(way, reason, asked),
        }
    }

    fn poll_on_target(
        &mut self,
        until: Instant,
        kind: NativeBreak,
        asked: Asked,
        context: &mut Context<'_>,
    ) -> bool {
        let way = || kind.name().to_owned();
        let Some(channel) = self.target.channel() else {
            self.break_failed(way(), AWAY.into(), asked);
            return true;
        };
        match channel.poll_break(kind, context) {
            Poll::Ready(Ok(())) => self.break_done(way(), asked),
            Poll::Ready(Err(error)) => self.break_failed(way(), away_reason(&error), asked),
            Poll::Pending if until <= self.now => self.break_failed(way(), NOT_TAKEN.into(), asked),
            Poll::Pending => {
                self.break_in.act = Act::OnTarget(until, kind, asked);
                return false;
            }
        }
        true
    }

    fn break_done(&mut self, way: String, asked: Asked) {
        self.emit(Event::Break {
            way: way.clone(),
            result: "sent".into(),
        });
        match asked {
            Asked::Mediator => self.mediate(Input::BreakSent(Ok(&way))),
            Asked::BreakIn(answer) if !self.break_in.whole => {
                self.break_in.act = Act::Pause(self.now + PAUSE, way, answer);
            }
            Asked::Break(answer) | Asked::BreakIn(answer) => {
                // Whoever asked may have left.
                let _ = answer.send(Ok(way));
                self.let_keys_go();
            }
            Asked::Client => self.let_keys_go(),
        }
    }

    fn break_failed(&mut self, way: String, reason: String, asked: Asked) {
        if matches!(asked, Asked::Mediator) {
            // It tells everybody what came of it.
            self.mediate(Input::BreakSent(Err(&reason)));
            return;
        }
        self.emit(Event::Break {
            way: way.clone(),
            result: reason.clone(),
        });
        if let Asked::Break(answer) | Asked::BreakIn(answer) = asked {
            // Whoever asked may have left.
            let _ = answer.send(Err(format!("{way}: {reason}")));
        }
        self.let_keys_go();
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
                Poll::Pending if channel.take_request().is_some() => {}
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
