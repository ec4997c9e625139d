//! The thread that owns a connection's session: opens its channels, moves their bytes, keeps the connection alive.
//!
//! libssh2 is used without blocking, by three rules of its own. A packet that went out half must be completed by the very
//! call that began it, before any other call (`sticky`). One channel is being opened at a time. And whoever reads takes the
//! packets of all channels off the socket: after each round the queues are asked before the socket is waited for.

use super::line::{CHANNEL_FAILURE, Fault, Line, Step};
use super::pipe::{LinkError, Pipe, Wake};
use super::pump::{LAST_BYTES, Open, pump};
use super::room::Room;
use super::sys::{self, Interest, PairEnd, Socket};
use ssh2::{Channel, Session};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

/// A question that sshd must answer goes out this often while something is open.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// A host that said nothing for so long, though it was asked, is gone.
const SILENCE: Duration = Duration::from_secs(30);

/// A connection that nobody uses is closed.
const IDLE: Duration = Duration::from_secs(300);

/// After this an answer to the open of an address counts as slow, and others take another connection. That of a command is the
/// host's own: one that has no time for it has none for another connection either.
const SLOW_OPEN: Duration = Duration::from_secs(3);

/// What is asked of a host.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// Run this line.
    Exec(String),
    /// Connect to this address.
    Tcp(String, u16),
    /// Connect to this socket.
    Unix(String),
}

/// One request, with the pipe that serves it.
#[derive(Debug)]
pub struct Request {
    /// What.
    pub wanted: Wanted,
    /// For whom.
    pub pipe: Arc<Pipe>,
}

/// What the users of a connection see of it.
#[derive(Debug, Default)]
pub struct Health {
    /// It takes no more requests.
    pub dead: AtomicBool,
    /// Milliseconds since `epoch` at which the present open began, plus one; 0 if none.
    opening: AtomicU64,
}

impl Health {
    /// Tells whether an answer is overdue, so that new requests would wait behind it.
    pub fn is_slow(&self, epoch: Instant) -> bool {
        let since = self.opening.load(Ordering::SeqCst);
        let now = u64::try_from(epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        since > 0 && now.saturating_sub(since) > u64::try_from(SLOW_OPEN.as_millis()).unwrap_or(u64::MAX)
    }
}

struct Opening {
    key: u64,
    request: Request,
    /// The channel of a command that is about to be started.
    channel: Option<Channel>,
}

struct Closing {
    key: u64,
    channel: Channel,
    since: Instant,
    was_command: bool,
}

/// The thread's state.
pub struct Worker {
    line: Line,
    socket: Socket,
    wake: Arc<Wake>,
    wake_receiver: PairEnd,
    requests: Receiver<Request>,
    health: Arc<Health>,
    epoch: Instant,
    name: String,
    next_key: u64,
    queue: VecDeque<Request>,
    opening: Option<Opening>,
    open: Vec<Open>,
    closing: Vec<Closing>,
    room: Room,
    heard: Instant,
    asked: Option<Instant>,
    keepalive: Instant,
    used: Instant,
    abandoned: bool,
}

/// What a worker is made of.
pub struct Parts {
    /// An authenticated session that does not block.
    pub session: Session,
    /// Its socket, for polling.
    pub socket: Socket,
    /// How the thread is woken.
    pub wake: Arc<Wake>,
    /// The end that is polled.
    pub wake_receiver: PairEnd,
    /// What is wanted.
    pub requests: Receiver<Request>,
    /// What others see.
    pub health: Arc<Health>,
    /// The start of time for `health`.
    pub epoch: Instant,
    /// Name of the host, for messages.
    pub name: String,
}

impl Worker {
    /// Makes the worker of a connection.
    pub fn new(parts: Parts) -> Self {
        let now = Instant::now();
        // What is sent is decided by this file: libssh2 would send one only after its own interval.
        parts.session.set_keepalive(true, 1);
        Self {
            line: Line {
                session: parts.session,
                sticky: None,
            },
            socket: parts.socket,
            wake: parts.wake,
            wake_receiver: parts.wake_receiver,
            requests: parts.requests,
            health: parts.health,
            epoch: parts.epoch,
            name: parts.name,
            next_key: 0,
            queue: VecDeque::new(),
            opening: None,
            open: Vec::new(),
            closing: Vec::new(),
            room: Room::new(),
            heard: now,
            asked: None,
            keepalive: now + KEEPALIVE,
            used: now,
            abandoned: false,
        }
    }

    /// Serves until the connection is lost or nobody wants it any more.
    pub fn run(mut self) {
        let reason = loop {
            match self.round() {
                Ok(true) => {}
                Ok(false) => break None,
                Err(reason) => break Some(reason),
            }
        };
        self.health.dead.store(true, Ordering::SeqCst);
        let reason = match reason {
            None => "the connection was closed".to_owned(),
            Some(reason) => format!("lost the connection to {}: {reason}", self.name),
        };
        tracing::debug!(host = %self.name, %reason, "an SSH connection ended");
        self.fail_all(&reason);
    }

    fn fail_all(&mut self, reason: &str) {
        for open in self.open.drain(..) {
            open.pipe.end(Err(LinkError::Lost(reason.to_owned())));
        }
        if let Some(opening) = self.opening.take() {
            let reason = reason.to_owned();
            opening.request.pipe.end(Err(match opening.channel {
                None => LinkError::LostBefore(reason),
                Some(_) => LinkError::Lost(reason),
            }));
        }
        self.queue.extend(self.requests.try_iter());
        for request in self.queue.drain(..) {
            request.pipe.end(Err(LinkError::LostBefore(reason.to_owned())));
        }
    }

    /// Does all that can be done now, then waits. `false`: nobody wants the connection any more.
    fn round(&mut self) -> Result<bool, String> {
        loop {
            match self.requests.try_recv() {
                Ok(request) => self.queue.push_back(request),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.abandoned = true;
                    break;
                }
            }
        }
        let mut moved = self.pump_all()?;
        moved |= self.close_some()?;
        moved |= self.open_next()?;
        let busy = !self.open.is_empty() || self.opening.is_some() || !self.closing.is_empty();
        let now = Instant::now();
        if busy || !self.queue.is_empty() {
            self.used = now;
        } else if self.abandoned || now.duration_since(self.used) > IDLE {
            // A farewell is polite only: nothing is lost without it.
            let _ = self.line.session.disconnect(None, "", None);
            return Ok(false);
        }
        if moved || self.something_is_queued() {
            return Ok(true);
        }
        self.keep_alive(now, busy)?;
        self.wait(busy)?;
        Ok(true)
    }

    /// Tells whether packets of a channel that wants them were taken off the socket by another one's call.
    fn something_is_queued(&self) -> bool {
        self.line.sticky.is_none()
            && self.open.iter().any(|open| {
                let state = open.pipe.lock();
                let readable = state.has_room() && open.channel.read_window().available > 0;
                let writable = !state.outgoing.is_empty() && open.channel.write_window().remaining > 0;
                readable || writable || (open.channel.eof() && !state.incoming_ended)
            })
    }

    fn pump_all(&mut self) -> Result<bool, String> {
        let mut moved = false;
        let mut index = 0;
        while index < self.open.len() {
            let open = &mut self.open[index];
            let (progress, over) = pump(&mut self.line, open)?;
            moved |= progress || over;
            if over {
                let open = self.open.swap_remove(index);
                self.closing.push(Closing {
                    key: open.key,
                    channel: open.channel,
                    since: Instant::now(),
                    was_command: open.is_command,
                });
            } else {
                index += 1;
            }
        }
        Ok(moved)
    }

    fn close_some(&mut self) -> Result<bool, String> {
        let mut moved = false;
        let mut index = 0;
        while index < self.closing.len() {
            let closing = &mut self.closing[index];
            let channel = &mut closing.channel;
            let done = match self.line.attempt(closing.key | 7, |_| channel.close()) {
                Step::Done(()) => true,
                Step::Later => self.line.sticky.is_none() && closing.since.elapsed() > LAST_BYTES,
                Step::Failed(fault) if fault.is_the_channels() => true,
                Step::Failed(fault) => return Err(fault.text),
            };
            if done {
                let closed = self.closing.swap_remove(index);
                if closed.was_command {
                    self.room.ended(Instant::now());
                }
                moved = true;
            } else {
                index += 1;
            }
        }
        Ok(moved)
    }

    fn commands(&self) -> usize {
        let closing = self.closing.iter().filter(|closing| closing.was_command).count();
        self.open.iter().filter(|open| open.is_command).count() + closing
    }

    fn open_next(&mut self) -> Result<bool, String> {
        if self.opening.is_none() {
            let commands = self.commands();
            self.queue.retain(|request| request.pipe.lock().dropped.is_none());
            let room = self.room.is_for_one_more(commands, Instant::now());
            let next = self
                .queue
                .iter()
                .position(|request| room || !matches!(request.wanted, Wanted::Exec(_)));
            let Some(request) = next.and_then(|index| self.queue.remove(index)) else {
                return Ok(false);
            };
            self.next_key += 16;
            let since = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
            if !matches!(request.wanted, Wanted::Exec(_)) {
                self.health.opening.store(since + 1, Ordering::SeqCst);
            }
            self.opening = Some(Opening {
                key: self.next_key,
                request,
                channel: None,
            });
        }
        let Some(mut opening) = self.opening.take() else {
            return Ok(false);
        };
        let step = match &mut opening.channel {
            None => {
                let wanted = &opening.request.wanted;
                let step = self.line.attempt(opening.key, |session| match wanted {
                    Wanted::Exec(_) => session.channel_session(),
                    Wanted::Tcp(host, port) => session.channel_direct_tcpip(host, *port, None),
                    Wanted::Unix(path) => session.channel_direct_streamlocal(path, None),
                });
                match step {
                    Step::Done(channel) if matches!(wanted, Wanted::Exec(_)) => {
                        opening.channel = Some(channel);
                        self.opening = Some(opening);
                        return Ok(true);
                    }
                    step => step,
                }
            }
            Some(channel) => {
                let Wanted::Exec(line) = &opening.request.wanted else {
                    return Err("a stream was taken for a command".to_owned());
                };
                match self.line.attempt(opening.key, |_| channel.exec(line)) {
                    Step::Done(()) => match opening.channel.take() {
                        Some(channel) => Step::Done(channel),
                        None => Step::Later,
                    },
                    Step::Later => Step::Later,
                    Step::Failed(fault) => Step::Failed(fault),
                }
            }
        };
        match step {
            Step::Later => {
                self.let_others_go();
                self.opening = Some(opening);
                Ok(false)
            }
            Step::Done(channel) => {
                self.opened(opening, channel);
                Ok(true)
            }
            Step::Failed(fault) if fault.is_the_channels() => {
                self.health.opening.store(0, Ordering::SeqCst);
                self.refused(opening, fault);
                Ok(true)
            }
            Step::Failed(fault) => {
                self.opening = Some(opening);
                Err(fault.text)
            }
        }
    }

    /// Sends those who wait behind a slow open to another connection.
    fn let_others_go(&mut self) {
        if self.health.is_slow(self.epoch) {
            for request in self.queue.drain(..) {
                request.pipe.end(Err(LinkError::Busy));
            }
        }
    }

    fn opened(&mut self, opening: Opening, channel: Channel) {
        self.health.opening.store(0, Ordering::SeqCst);
        let pipe = opening.request.pipe;
        let mut state = pipe.lock();
        state.opened = true;
        pipe.tell(state);
        self.open.push(Open {
            key: opening.key,
            channel,
            pipe,
            is_command: matches!(opening.request.wanted, Wanted::Exec(_)),
            eof_sent: false,
        });
        self.room.opened(self.commands());
    }

    fn refused(&mut self, opening: Opening, fault: Fault) {
        let is_command = matches!(opening.request.wanted, Wanted::Exec(_));
        let commands = self.commands();
        if is_command
            && opening.channel.is_none()
            && fault.code == CHANNEL_FAILURE
            && self.room.refused(commands, Instant::now())
        {
            self.queue.push_front(opening.request);
            return;
        }
        let failed = !is_command && fault.text.contains("connect failed");
        let error = match opening.request.wanted {
            Wanted::Tcp(..) if failed => LinkError::ConnectFailed,
            // sshd tells no more: there is no socket, or nobody listens.
            Wanted::Unix(_) if failed => LinkError::Refused("connect failed".to_owned()),
            _ => LinkError::Refused(format!("{} refused: {}", self.name, fault.text)),
        };
        opening.request.pipe.end(Err(error));
    }

    fn keep_alive(&mut self, now: Instant, busy: bool) -> Result<(), String> {
        if !busy {
            // Nothing reads then: a lost connection is found at its next use.
            self.asked = None;
            self.heard = now;
            self.keepalive = now + KEEPALIVE;
            return Ok(());
        }
        if let Some(asked) = self.asked {
            if self.heard >= asked {
                self.asked = None;
            } else if now.duration_since(asked) > SILENCE {
                return Err(format!("no answer for {} s", SILENCE.as_secs()));
            }
        }
        // Only into a socket with room: libssh2 would leave a half-sent one behind.
        if now >= self.keepalive && self.line.sticky.is_none() && self.has_room_for_a_packet() {
            self.keepalive = now + KEEPALIVE;
            self.asked.get_or_insert(now);
            self.line
                .session
                .keepalive_send()
                .map_err(|error| error.message().to_owned())?;
        }
        Ok(())
    }

    fn has_room_for_a_packet(&self) -> bool {
        let write = Interest {
            write: true,
            ..Interest::default()
        };
        sys::poll(&self.socket, write, None, Duration::ZERO).is_ok_and(|ready| ready.write)
    }

    fn wait(&mut self, busy: bool) -> Result<(), String> {
        let wants = |open: &Open| {
            let state = open.pipe.lock();
            state.has_room() || !state.outgoing.is_empty() || open.is_command
        };
        let interest = Interest {
            read: self.opening.is_some() || !self.closing.is_empty() || self.open.iter().any(wants),
            write: self.line.sticky.is_some(),
            end: !busy,
        };
        let longest = match (busy, self.closing.is_empty()) {
            (_, false) => Duration::from_millis(50),
            (true, true) => Duration::from_secs(1),
            (false, true) => IDLE,
        };
        let longest = self.room.pause().map_or(longest, |pause| pause.min(longest));
        let ready = sys::poll(&self.socket, interest, Some(&self.wake_receiver), longest)
            .map_err(|error| error.to_string())?;
        if ready.read {
            self.heard = Instant::now();
        }
        if !busy && ready.ended {
            return Err("closed by the host".to_owned());
        }
        if ready.woken {
            self.wake.awake(&self.wake_receiver);
        }
        Ok(())
    }
}
