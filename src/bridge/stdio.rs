//! Our own standard input and output as a stream, by two blocking threads.
//!
//! Threads, because `O_NONBLOCK` would be set on the open file that we share with the user's shell, and stay there
//! after our end. They are never joined: a read of a terminal returns only when the user types.

use crate::bridge::sys;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are read ahead or wait to be written: one chunk of the bridge each way.
const CHUNK: usize = 64 * 1024;

#[derive(Debug, Default)]
struct State {
    input: Vec<u8>,
    taken: usize,
    input_end: Option<Option<io::ErrorKind>>,
    reader: Option<Waker>,
    output: Vec<u8>,
    writing: bool,
    output_error: Option<io::ErrorKind>,
    writer: Option<Waker>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    input_room: Condvar,
    output_ready: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each critical section leaves a whole state; a panic in one cannot happen between two fields.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Standard input and output. Flushing waits until everything is written.
#[derive(Debug)]
pub struct StdioStream {
    shared: Arc<Shared>,
}

impl StdioStream {
    /// Starts the threads. Only one such stream can be of use in a process.
    ///
    /// # Errors
    ///
    /// The system has no thread left.
    pub fn open() -> io::Result<Self> {
        let stream = Self::open_output()?;
        let reader = Arc::clone(&stream.shared);
        std::thread::Builder::new()
            .name("stdin".into())
            .spawn(move || read_loop(&reader))?;
        Ok(stream)
    }

    /// Returns why standard output takes nothing any more, unless its reader closed it: that is no failure.
    pub fn output_failure(&self) -> Option<io::ErrorKind> {
        self.shared
            .lock()
            .output_error
            .filter(|kind| *kind != io::ErrorKind::BrokenPipe)
    }

    /// Starts the thread of standard output alone; standard input is left to whoever has it, and never ends.
    ///
    /// # Errors
    ///
    /// The system has no thread left.
    pub fn open_output() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("stdout".into())
            .spawn(move || write_loop(&writer))?;
        Ok(Self { shared })
    }
}

fn read_loop(shared: &Shared) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let result = sys::read_stdin(&mut buffer);
        let mut state = shared.lock();
        while state.taken < state.input.len() && !state.closed {
            state = shared
                .input_room
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return;
        }
        let end = match result {
            Ok(0) => Some(None),
            Ok(count) => {
                state.input.clear();
                state.input.extend_from_slice(&buffer[..count]);
                state.taken = 0;
                None
            }
            Err(error) => Some(Some(error.kind())),
        };
        let ended = end.is_some();
        state.input_end = end;
        if let Some(waker) = state.reader.take() {
            waker.wake();
        }
        if ended {
            return;
        }
    }
}

fn write_loop(shared: &Shared) {
    let mut chunk = Vec::with_capacity(CHUNK);
    loop {
        let mut state = shared.lock();
        while state.output.is_empty() {
            if state.closed {
                return;
            }
            state = shared
                .output_ready
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut state.output, &mut chunk);
        state.writing = true;
        // There is room for the next chunk while this one is being written.
        let waker = state.writer.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        let result = sys::write_stdout(&chunk);
        chunk.clear();
        let mut state = shared.lock();
        state.writing = false;
        if let Err(error) = result {
            state.output_error = Some(error.kind());
            state.output.clear();
            // Whoever has no output any more need not wait for input that may never come.
            if let Some(waker) = state.reader.take() {
                waker.wake();
            }
        }
        if let Some(waker) = state.writer.take() {
            waker.wake();
        }
        if state.output_error.is_some() {
            return;
        }
    }
}

impl AsyncRead for StdioStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        if state.taken < state.input.len() {
            let count = buffer.remaining().min(state.input.len() - state.taken);
            let taken = state.taken;
            buffer.put_slice(&state.input[taken..taken + count]);
            state.taken += count;
            if state.taken == state.input.len() {
                self.shared.input_room.notify_one();
            }
            return Poll::Ready(Ok(()));
        }
        if let Some(kind) = state.output_error {
            return Poll::Ready(Err(kind.into()));
        }
        match state.input_end {
            Some(None) => Poll::Ready(Ok(())),
            Some(Some(kind)) => Poll::Ready(Err(kind.into())),
            None => {
                state.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for StdioStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.shared.lock();
        if let Some(kind) = state.output_error {
            return Poll::Ready(Err(kind.into()));
        }
        let room = CHUNK - state.output.len();
        if room == 0 {
            state.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = room.min(bytes.len());
        state.output.extend_from_slice(&bytes[..count]);
        self.shared.output_ready.notify_one();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        if let Some(kind) = state.output_error {
            return Poll::Ready(Err(kind.into()));
        }
        if state.output.is_empty() && !state.writing {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(context.waker().clone());
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

impl Drop for StdioStream {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.input_room.notify_all();
        self.shared.output_ready.notify_all();
    }
}
