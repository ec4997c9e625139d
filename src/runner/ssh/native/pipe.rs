//! One SSH channel as its user sees it: bytes in and out, shared with the thread that owns the connection.
//!
//! What is read is bounded: past the limit the thread reads no more from the channel, and SSH's window stops the far end.

use super::sys::{self, PairEnd};
use crate::model::{Problem, Wait};
use crate::runner::{RunError, Status};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So much of a stream waits for its reader at most; as much again stays in SSH's window.
const MOST_INCOMING: usize = 256 * 1024;

/// So much waits for the far end to take it.
const MOST_OUTGOING: usize = 256 * 1024;

/// Of a stream's standard error the newest bytes are kept.
const MOST_STDERR: usize = 64 * 1024;

/// A wait looks at its cancel flag this often.
const LOOK: Duration = Duration::from_millis(100);

/// Why a channel is not there or ended early.
#[derive(Debug, Clone)]
pub enum LinkError {
    /// The host could not connect to the address that was asked for.
    ConnectFailed,
    /// The host did not open the channel, in its words.
    Refused(String),
    /// The connection is gone, and the command or stream never began.
    LostBefore(String),
    /// The connection is gone.
    Lost(String),
    /// There is no connection, and why.
    NotConnected(Problem),
    /// The connection waits for the answer to somebody else's request.
    Busy,
}

impl LinkError {
    /// Says it as the end of a stream.
    pub fn into_io(self) -> io::Error {
        match self {
            Self::ConnectFailed => io::ErrorKind::ConnectionRefused.into(),
            Self::Refused(text) | Self::LostBefore(text) | Self::Lost(text) => io::Error::other(text),
            Self::NotConnected(problem) => io::Error::other(problem.message),
            Self::Busy => io::ErrorKind::TimedOut.into(),
        }
    }
}

/// Wakes the thread of a connection out of its poll.
#[derive(Debug)]
pub struct Wake {
    pending: AtomicBool,
    sender: PairEnd,
}

impl Wake {
    /// Makes one, with the end that the thread polls.
    pub fn new() -> io::Result<(Arc<Self>, PairEnd)> {
        let (sender, receiver) = sys::pair()?;
        sender.set_nonblocking(true)?;
        receiver.set_nonblocking(true)?;
        let pending = AtomicBool::new(false);
        Ok((Arc::new(Self { pending, sender }), receiver))
    }

    /// Wakes the thread.
    pub fn wake(&self) {
        if !self.pending.swap(true, Ordering::SeqCst) {
            // A full socket wakes as well.
            let _ = (&self.sender).write(&[0]);
        }
    }

    /// Says that the thread is awake and looks at everything after this.
    pub fn awake(&self, mut receiver: &PairEnd) {
        let mut bytes = [0; 16];
        while matches!(receiver.read(&mut bytes), Ok(count) if count > 0) {}
        self.pending.store(false, Ordering::SeqCst);
    }
}

/// What both sides share.
#[derive(Debug, Default)]
pub struct State {
    /// Read from the far end, not yet taken.
    pub incoming: VecDeque<u8>,
    /// The far end says no more.
    pub incoming_ended: bool,
    /// The far end is a command, whose status comes after its last word: until then its stream has not ended.
    pub status_follows: bool,
    /// Standard error of a command.
    pub stderr: Vec<u8>,
    /// To be written to the far end.
    pub outgoing: VecDeque<u8>,
    /// We say no more.
    pub outgoing_ended: bool,
    /// The channel is open.
    pub opened: bool,
    /// How it ended: a command's status.
    pub end: Option<Result<Option<Status>, LinkError>>,
    /// Nobody is interested any more.
    pub dropped: Option<Instant>,
    /// Keep all that a command says.
    collects: bool,
    wakers: Vec<Waker>,
}

impl State {
    /// Tells whether more may be read from the far end.
    pub fn has_room(&self) -> bool {
        self.collects || self.incoming.len() < MOST_INCOMING
    }

    /// Adds to standard error; a stream keeps the newest only.
    pub fn add_stderr(&mut self, bytes: &[u8]) {
        self.stderr.extend_from_slice(bytes);
        if !self.collects && self.stderr.len() > 2 * MOST_STDERR {
            self.stderr.drain(..self.stderr.len() - MOST_STDERR);
        }
    }
}

/// A channel between its user and the thread.
#[derive(Debug)]
pub struct Pipe {
    state: Mutex<State>,
    changed: Condvar,
    wake: Arc<Wake>,
}

impl Pipe {
    /// Makes one whose user reads in windows, or that `collects` all that a command says.
    pub fn new(wake: Arc<Wake>, collects: bool) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                collects,
                ..State::default()
            }),
            changed: Condvar::new(),
            wake,
        })
    }

    /// Returns the state. Nobody holds it for long.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the user that something changed.
    pub fn tell(&self, mut state: MutexGuard<'_, State>) {
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.changed.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ends it. A first end is kept.
    pub fn end(&self, end: Result<Option<Status>, LinkError>) {
        let mut state = self.lock();
        state.incoming_ended = true;
        state.end.get_or_insert(end);
        self.tell(state);
    }

    /// Waits until `ready` returns something.
    ///
    /// # Errors
    ///
    /// The wait's.
    pub fn wait<T>(
        &self,
        wait: &Wait,
        mut ready: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<T, RunError> {
        let mut state = self.lock();
        loop {
            if let Some(result) = ready(&mut state) {
                return Ok(result);
            }
            let what = wait.what.clone();
            if wait.cancel.is_cancelled() {
                return Err(RunError::Cancelled { what });
            }
            let left = wait.deadline.remaining(Instant::now());
            if left.is_zero() {
                return Err(RunError::DeadlinePassed { what });
            }
            state = self
                .changed
                .wait_timeout(state, left.min(LOOK))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// The user's end: an asynchronous stream, and a blocking one whose reads and writes give up at a deadline.
#[derive(Debug)]
pub struct SshStream {
    pipe: Arc<Pipe>,
    deadline: Option<Instant>,
    counted: Vec<Counted>,
}

/// Counts a stream of a connection for as long as it lives.
#[derive(Debug)]
pub struct Counted(Arc<std::sync::atomic::AtomicUsize>);

impl Counted {
    /// Counts one more.
    pub fn new(count: &Arc<std::sync::atomic::AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl SshStream {
    /// Wraps the user's end; dropping it gives the channel up.
    pub fn new(pipe: Arc<Pipe>, counted: Vec<Counted>) -> Self {
        Self {
            pipe,
            deadline: None,
            counted,
        }
    }

    /// Returns a second handle for writing, for another thread. It does not keep the channel.
    pub fn writer(&self) -> SshWriter {
        SshWriter(Arc::clone(&self.pipe))
    }

    /// Makes blocking reads and writes give up with `TimedOut` then.
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    /// Says that nobody wants it any more, as dropping it does.
    pub fn give_up(&mut self) {
        self.pipe.lock().dropped.get_or_insert_with(Instant::now);
        self.counted.clear();
        self.pipe.wake.wake();
    }

    /// Returns the shared state.
    pub fn pipe(&self) -> &Pipe {
        &self.pipe
    }

    /// Waits until the channel is open.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub async fn opened(&self) -> Result<(), LinkError> {
        std::future::poll_fn(|context| {
            let mut state = self.pipe.lock();
            match &state.end {
                _ if state.opened => Poll::Ready(Ok(())),
                Some(Err(error)) => Poll::Ready(Err(error.clone())),
                Some(Ok(_)) => Poll::Ready(Ok(())),
                None => {
                    state.wakers.push(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn take(state: &mut State, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        if !state.incoming.is_empty() {
            let count = state.incoming.read(buffer).unwrap_or_default();
            return Some(Ok(count));
        }
        match &state.end {
            Some(Err(error)) => Some(Err(error.clone().into_io())),
            // A command that failed ends its stream with the reason.
            Some(Ok(Some(Status::Exited(0)) | None)) => Some(Ok(0)),
            Some(Ok(Some(status))) => Some(Err(io::Error::other(how_it_ended(*status, &state.stderr)))),
            None if state.incoming_ended && !state.collects && !state.status_follows => Some(Ok(0)),
            None => None,
        }
    }

    fn give(state: &mut State, bytes: &[u8]) -> Option<io::Result<usize>> {
        match &state.end {
            Some(Err(error)) => return Some(Err(error.clone().into_io())),
            Some(Ok(_)) => return Some(Err(io::ErrorKind::BrokenPipe.into())),
            None if state.outgoing_ended => return Some(Err(io::ErrorKind::BrokenPipe.into())),
            None => {}
        }
        let room = MOST_OUTGOING.saturating_sub(state.outgoing.len());
        if room == 0 {
            return None;
        }
        let count = room.min(bytes.len());
        state.outgoing.extend(&bytes[..count]);
        Some(Ok(count))
    }

    fn flushed(state: &State) -> Option<io::Result<()>> {
        match &state.end {
            Some(Err(error)) => Some(Err(error.clone().into_io())),
            Some(Ok(_)) => Some(Ok(())),
            None => state.outgoing.is_empty().then_some(Ok(())),
        }
    }

    fn poll<T>(
        &self,
        context: &Context<'_>,
        attempt: impl FnOnce(&mut State) -> Option<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut state = self.pipe.lock();
        match attempt(&mut state) {
            Some(result) => {
                drop(state);
                self.pipe.wake.wake();
                Poll::Ready(result)
            }
            None => {
                if !state.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                    state.wakers.push(context.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    fn block<T>(&self, attempt: impl FnMut(&mut State) -> Option<io::Result<T>>) -> io::Result<T> {
        block(&self.pipe, self.deadline, attempt)
    }
}

fn block<T>(
    pipe: &Pipe,
    deadline: Option<Instant>,
    mut attempt: impl FnMut(&mut State) -> Option<io::Result<T>>,
) -> io::Result<T> {
    let mut state = pipe.lock();
    loop {
        if let Some(result) = attempt(&mut state) {
            drop(state);
            pipe.wake.wake();
            return result;
        }
        let left = match deadline {
            Some(deadline) => deadline.saturating_duration_since(Instant::now()),
            None => LOOK,
        };
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        state = pipe
            .changed
            .wait_timeout(state, left)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}

/// The writing half of a stream, for another thread than the reader's.
#[derive(Debug)]
pub struct SshWriter(Arc<Pipe>);

impl SshWriter {
    /// Says no more, once all that was written is on its way.
    pub fn finish(&self) {
        self.0.lock().outgoing_ended = true;
        self.0.wake.wake();
    }
}

impl Write for SshWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        block(&self.0, None, |state| SshStream::give(state, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        block(&self.0, None, |state| SshStream::flushed(state))
    }
}

fn how_it_ended(status: Status, stderr: &[u8]) -> String {
    let how = status.to_string();
    let words = String::from_utf8_lossy(stderr);
    match words.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("{how}: {}", line.trim()),
        None => how,
    }
}

impl Drop for SshStream {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Read for SshStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.block(|state| Self::take(state, buffer))
    }
}

impl Write for SshStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.block(|state| Self::give(state, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.block(|state| Self::flushed(state))
    }
}

impl AsyncRead for SshStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = self.poll(context, |state| Self::take(state, buffer.initialize_unfilled()));
        result.map_ok(|count| buffer.advance(count))
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(context, |state| Self::give(state, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(context, |state| Self::flushed(state))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(context, |state| {
            state.outgoing_ended = true;
            Self::flushed(state)
        })
    }
}
