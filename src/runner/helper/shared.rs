//! What both ends of a helper's channel keep of its streams: windows, what came and was not read, who waits.
//!
//! A stream may send as many bytes as the other end granted it; more are granted as they are read there. So one that
//! nobody reads holds its window and nothing else, and the others go on.

use super::wire::{self, Abilities, Decoder, Failure, Frame, LONGEST};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;

/// What an end may send ahead of its reader: what a fast pipe moves in a few milliseconds, small beside a bridge's own
/// history for a stream that is stalled.
pub(super) const WINDOW: u32 = 256 * 1024;

/// So much waits for the channel at most before streams are told to wait.
const WAITING: usize = 256 * 1024;

/// What came for a stream.
#[derive(Debug)]
pub(super) enum Item {
    Bytes(Vec<u8>),
    Break,
}

/// How an `Open` was answered.
pub(super) type Answer = Result<(Abilities, String), (Failure, String)>;

#[derive(Debug, Default)]
pub(super) struct Entry {
    pub answer: Option<Answer>,
    pub input: VecDeque<Item>,
    /// Nothing more comes, for this reason.
    pub input_over: Option<String>,
    pub closed_by_peer: bool,
    pub closed_by_us: bool,
    pub ended_by_us: bool,
    /// Nobody here has it any more; it is kept until the other end says the same.
    pub left: bool,
    /// What we may send.
    pub credit: usize,
    /// What the other end may send.
    granted: usize,
    /// What was read and not granted again yet.
    read: usize,
    pub break_done: Option<Option<String>>,
    pub reader: Option<Waker>,
    pub writer: Option<Waker>,
    pub control: Option<Waker>,
}

impl Entry {
    pub fn wake(&mut self) {
        let all = [self.reader.take(), self.writer.take(), self.control.take()];
        for waker in all.into_iter().flatten() {
            waker.wake();
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    out: Vec<u8>,
    want_room: Vec<Waker>,
    streams: HashMap<u32, Entry>,
    /// The newest stream's number.
    newest: u32,
    /// The channel is over, for this reason.
    pub over: Option<String>,
    /// What is to be written is the last.
    finishing: bool,
}

impl State {
    pub fn entry(&mut self, stream: u32) -> Option<&mut Entry> {
        self.streams.get_mut(&stream)
    }

    pub fn send(&mut self, stream: u32, frame: &Frame) {
        if self.over.is_none() {
            wire::encode(stream, frame, &mut self.out);
        }
    }

    /// Sends some of `bytes`, as many as there is room and credit for.
    pub fn send_data(
        &mut self,
        stream: u32,
        bytes: &[u8],
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if let Some(reason) = &self.over {
            return Poll::Ready(Err(io::Error::other(reason.clone())));
        }
        let room = self.out.len() < WAITING;
        let Some(entry) = self.streams.get_mut(&stream) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if entry.closed_by_peer || entry.closed_by_us || entry.ended_by_us {
            return Poll::Ready(Err(match &entry.input_over {
                Some(reason) if entry.closed_by_peer => {
                    io::Error::new(io::ErrorKind::BrokenPipe, reason.clone())
                }
                _ => io::ErrorKind::BrokenPipe.into(),
            }));
        }
        let count = bytes.len().min(entry.credit).min(LONGEST);
        if count == 0 && !bytes.is_empty() {
            entry.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        if !room {
            self.want_room.push(context.waker().clone());
            return Poll::Pending;
        }
        entry.credit -= count;
        wire::encode(stream, &Frame::Data(bytes[..count].to_vec()), &mut self.out);
        Poll::Ready(Ok(count))
    }

    /// So many bytes of a stream were taken by whoever reads it.
    pub fn was_read(&mut self, stream: u32, count: usize) {
        let Some(entry) = self.streams.get_mut(&stream) else {
            return;
        };
        entry.read += count;
        if entry.read < WINDOW as usize / 4 || entry.input_over.is_some() {
            return;
        }
        let more = std::mem::take(&mut entry.read);
        entry.granted += more;
        self.send(stream, &Frame::Credit(more as u32));
    }

    /// Says `Close` unless it was said, and forgets the stream if the other end said it too.
    pub fn leave(&mut self, stream: u32, reason: &str) {
        let Some(entry) = self.streams.get_mut(&stream) else {
            return;
        };
        entry.left = true;
        entry.input.clear();
        let (said, done) = (entry.closed_by_us, entry.closed_by_peer);
        entry.closed_by_us = true;
        if !said {
            let reason = reason.to_owned();
            self.send(stream, &Frame::Close { reason });
        }
        if done || self.over.is_some() {
            self.streams.remove(&stream);
        }
    }

    /// The helper could not open it: that is the end of the stream.
    pub fn failed(&mut self, stream: u32, failure: Failure, reason: String) {
        if let Some(entry) = self.streams.remove(&stream)
            && !entry.closed_by_us
        {
            self.send(stream, &Frame::Failed { failure, reason });
        }
    }

    /// The helper has it open.
    pub fn opened(&mut self, stream: u32, abilities: Abilities, peer: String) {
        if let Some(entry) = self.streams.get_mut(&stream)
            && !entry.closed_by_us
        {
            entry.granted = WINDOW as usize;
            let window = WINDOW;
            self.send(
                stream,
                &Frame::Opened {
                    window,
                    abilities,
                    peer,
                },
            );
        }
    }

    /// Takes a frame in. Returns the endpoint of a stream that is to be opened.
    fn take(&mut self, stream: u32, frame: Frame, we_open: bool) -> Result<Option<String>, String> {
        match (&frame, we_open) {
            (Frame::Open { .. } | Frame::Break, false)
            | (Frame::Opened { .. } | Frame::Failed { .. } | Frame::BreakDone { .. }, true) => {
                return Err("it said what the other end says".into());
            }
            (Frame::Open { window, endpoint }, true) => {
                if stream <= self.newest {
                    return Err(format!("stream {stream} was opened twice"));
                }
                self.newest = stream;
                let entry = Entry {
                    credit: *window as usize,
                    ..Entry::default()
                };
                self.streams.insert(stream, entry);
                return Ok(Some(endpoint.clone()));
            }
            (Frame::Ping, _) => {
                self.send(0, &Frame::Pong);
                return Ok(None);
            }
            (Frame::Pong, _) => return Ok(None),
            _ => {}
        }
        let Some(entry) = self.streams.get_mut(&stream) else {
            // Its end was on its way when the other end gave it up.
            return match frame {
                Frame::Close { .. } if stream <= self.newest => Ok(None),
                _ => Err(format!("there is no stream {stream}")),
            };
        };
        let silent = entry.input_over.is_some();
        match frame {
            Frame::Opened {
                window,
                abilities,
                peer,
            } if entry.answer.is_none() => {
                entry.credit = window as usize;
                entry.granted = WINDOW as usize;
                entry.answer = Some(Ok((abilities, peer)));
            }
            Frame::Failed { failure, reason } if entry.answer.is_none() => {
                entry.answer = Some(Err((failure, reason.clone())));
                entry.input_over = Some(reason);
                entry.closed_by_peer = true;
                entry.closed_by_us = true;
            }
            Frame::Data(bytes) if !silent => {
                let Some(granted) = entry.granted.checked_sub(bytes.len()) else {
                    return Err(format!("stream {stream} sent more than was granted"));
                };
                entry.granted = granted;
                if !entry.left {
                    entry.input.push_back(Item::Bytes(bytes));
                }
            }
            Frame::Credit(more) => {
                entry.credit += more as usize;
                if entry.credit > u32::MAX as usize {
                    return Err(format!("stream {stream} was granted too much"));
                }
            }
            Frame::Break if !silent => entry.input.push_back(Item::Break),
            Frame::BreakDone { failure } => entry.break_done = Some(failure),
            Frame::End { reason } if !silent => entry.input_over = Some(reason),
            Frame::Close { reason } if !entry.closed_by_peer => {
                entry.closed_by_peer = true;
                // What ended before keeps its own reason.
                entry.input_over.get_or_insert(reason);
                let said = std::mem::replace(&mut entry.closed_by_us, true);
                entry.wake();
                let left = entry.left;
                if !said {
                    let reason = String::new();
                    self.send(stream, &Frame::Close { reason });
                }
                if left {
                    self.streams.remove(&stream);
                }
                return Ok(None);
            }
            _ => return Err(format!("stream {stream} got a frame that does not fit now")),
        }
        entry.wake();
        if entry.left && entry.closed_by_peer {
            self.streams.remove(&stream);
        }
        Ok(None)
    }
}

/// One end of a helper's channel.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    work: Notify,
}

impl Shared {
    /// Gives the state out; whoever sent something says so with [`Shared::written`].
    pub fn lock(&self) -> MutexGuard<'_, State> {
        // Each critical section leaves a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is something to be written.
    pub fn written(&self) {
        self.work.notify_one();
    }

    /// Makes a stream on the end that asks for them.
    pub fn open(&self, endpoint: &str) -> Option<u32> {
        let mut state = self.lock();
        if state.over.is_some() || state.finishing {
            return None;
        }
        // 2^32 dials at ten a second are 13 years.
        let stream = state.newest.checked_add(1)?;
        state.newest = stream;
        state.streams.insert(stream, Entry::default());
        let endpoint = endpoint.to_owned();
        let window = WINDOW;
        state.send(stream, &Frame::Open { window, endpoint });
        drop(state);
        self.written();
        Some(stream)
    }

    /// Takes bytes in, and calls `open` for each stream that is to be opened.
    ///
    /// # Errors
    ///
    /// What the other end did wrong; the channel cannot go on.
    pub fn take(
        &self,
        decoder: &mut Decoder,
        bytes: &[u8],
        we_open: bool,
        open: &mut dyn FnMut(u32, String),
    ) -> Result<(), String> {
        decoder.input(bytes);
        while let Some((stream, frame)) = decoder.next().map_err(|error| error.to_string())? {
            let asked = self.lock().take(stream, frame, we_open)?;
            if let Some(endpoint) = asked {
                open(stream, endpoint);
            }
        }
        self.written();
        Ok(())
    }

    /// Sends a ping.
    pub fn ping(&self) {
        self.lock().send(0, &Frame::Ping);
        self.written();
    }

    /// Returns what is to be written; empty when it was all and [`Shared::finish`] was called.
    pub async fn output(&self, mut buffer: Vec<u8>) -> Vec<u8> {
        buffer.clear();
        loop {
            {
                let mut state = self.lock();
                if !state.out.is_empty() {
                    std::mem::swap(&mut state.out, &mut buffer);
                    for waker in state.want_room.drain(..) {
                        waker.wake();
                    }
                    return buffer;
                }
                if state.finishing {
                    return buffer;
                }
            }
            self.work.notified().await;
        }
    }

    /// Everything that is to be written is there.
    pub fn finish(&self) {
        self.lock().finishing = true;
        self.written();
    }

    /// The channel is over: every stream ends for this reason once what came was read.
    pub fn fail(&self, reason: &str) {
        let mut state = self.lock();
        state.over.get_or_insert_with(|| reason.to_owned());
        for waker in std::mem::take(&mut state.want_room) {
            waker.wake();
        }
        for entry in state.streams.values_mut() {
            entry.wake();
        }
    }
}

/// Makes an end.
pub(super) fn end() -> Arc<Shared> {
    Arc::default()
}
