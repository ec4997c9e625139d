//! One stream of a helper's channel, as bytes.

use super::shared::{Item, Shared};
use super::wire::{Abilities, Frame};
use crate::bridge::ControlledStream;
use crate::model::NativeBreak;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Stream {
    shared: Arc<Shared>,
    number: u32,
    /// Said at the end, if there is something to be said.
    last_words: String,
}

/// What a stream gave.
#[derive(Debug)]
pub(super) enum Given {
    Bytes(Vec<u8>),
    Break,
    /// Its input ended.
    End,
}

impl Stream {
    pub fn new(shared: Arc<Shared>, number: u32) -> Self {
        Self {
            shared,
            number,
            last_words: String::new(),
        }
    }

    /// Waits for the answer of the helper.
    pub fn poll_answer(&self, context: &mut Context<'_>) -> Poll<io::Result<(Abilities, String)>> {
        let mut state = self.shared.lock();
        let over = state.over.clone();
        let Some(entry) = state.entry(self.number) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        match (entry.answer.take(), over) {
            (Some(Ok(opened)), _) => Poll::Ready(Ok(opened)),
            (Some(Err((failure, reason))), _) => Poll::Ready(Err(io::Error::new(failure.kind(), reason))),
            (None, Some(reason)) => Poll::Ready(Err(io::Error::other(reason))),
            (None, None) => {
                entry.control = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Returns what came next. Without bytes and end it says why: an error if the channel is over.
    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<io::Result<Given>> {
        let mut state = self.shared.lock();
        let over = state.over.clone();
        let Some(entry) = state.entry(self.number) else {
            return Poll::Ready(Ok(Given::End));
        };
        match (entry.input.pop_front(), &entry.input_over, over) {
            (Some(Item::Bytes(bytes)), _, _) => {
                state.was_read(self.number, bytes.len());
                drop(state);
                self.shared.written();
                Poll::Ready(Ok(Given::Bytes(bytes)))
            }
            (Some(Item::Break), _, _) => Poll::Ready(Ok(Given::Break)),
            (None, Some(_), _) => Poll::Ready(Ok(Given::End)),
            (None, None, Some(reason)) => Poll::Ready(Err(io::Error::other(reason))),
            (None, None, None) => {
                entry.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Waits until the other end closed the stream, or the channel is over.
    pub fn poll_closed(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        if state.over.is_some() {
            return Poll::Ready(());
        }
        match state.entry(self.number) {
            Some(entry) if !entry.closed_by_peer => {
                entry.control = Some(context.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// Says that our direction ended, and why.
    pub fn end(&self, reason: String) {
        let mut state = self.shared.lock();
        if let Some(entry) = state.entry(self.number)
            && !entry.ended_by_us
            && !entry.closed_by_us
        {
            entry.ended_by_us = true;
            state.send(self.number, &Frame::End { reason });
            drop(state);
            self.shared.written();
        }
    }

    /// Says why when it is dropped.
    pub fn close_with(&mut self, reason: String) {
        self.last_words = reason;
    }

    /// Says how a BREAK went.
    pub fn break_done(&self, failure: Option<String>) {
        self.shared
            .lock()
            .send(self.number, &Frame::BreakDone { failure });
        self.shared.written();
    }

    /// Answers the other end's wish.
    pub fn answer(
        &self,
        answer: Result<(Abilities, String), io::Error>,
        words: impl FnOnce(&io::Error) -> String,
    ) {
        let mut state = self.shared.lock();
        match answer {
            Ok((abilities, peer)) => state.opened(self.number, abilities, peer),
            Err(error) => {
                let failure = super::wire::Failure::of(error.kind());
                state.failed(self.number, failure, words(&error));
            }
        }
        drop(state);
        self.shared.written();
    }

    fn end_reason(&self) -> Option<String> {
        let mut state = self.shared.lock();
        let entry = state.entry(self.number)?;
        entry.input_over.clone().filter(|reason| !reason.is_empty())
    }

    fn is_closed(&self) -> bool {
        let mut state = self.shared.lock();
        state.over.is_some() || state.entry(self.number).is_none_or(|entry| entry.closed_by_peer)
    }

    fn poll_break(&self, asked: &mut bool, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        if let Some(reason) = &state.over {
            return Poll::Ready(Err(io::Error::other(reason.clone())));
        }
        let Some(entry) = state.entry(self.number) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if !*asked {
            *asked = true;
            entry.break_done = None;
            entry.control = Some(context.waker().clone());
            state.send(self.number, &Frame::Break);
            drop(state);
            self.shared.written();
            return Poll::Pending;
        }
        match entry.break_done.take() {
            Some(failure) => {
                *asked = false;
                Poll::Ready(failure.map_or(Ok(()), |reason| Err(io::Error::other(reason))))
            }
            None if entry.closed_by_peer => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            None => {
                entry.control = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.lock().leave(self.number, &self.last_words);
        self.shared.written();
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = self.shared.lock().send_data(self.number, bytes, context);
        if result.is_ready() {
            self.shared.written();
        }
        result
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written is behind nothing but the channel, and goes out at its close too.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end(String::new());
        Poll::Ready(Ok(()))
    }
}

/// A stream that a helper opened for us.
#[derive(Debug)]
pub(super) struct HelperStream {
    stream: Stream,
    rest: Vec<u8>,
    given: usize,
    breaks: &'static [NativeBreak],
    break_asked: bool,
}

impl HelperStream {
    pub fn new(stream: Stream, breaks: &'static [NativeBreak]) -> Self {
        Self {
            stream,
            rest: Vec::new(),
            given: 0,
            breaks,
            break_asked: false,
        }
    }
}

impl AsyncRead for HelperStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.given < self.rest.len() {
                let count = buffer.remaining().min(self.rest.len() - self.given);
                buffer.put_slice(&self.rest[self.given..self.given + count]);
                self.given += count;
                return Poll::Ready(Ok(()));
            }
            match std::task::ready!(self.stream.poll_next(context))? {
                Given::Bytes(bytes) => {
                    self.rest = bytes;
                    self.given = 0;
                }
                // A helper asks for none.
                Given::Break => {}
                Given::End => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl AsyncWrite for HelperStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl ControlledStream for HelperStream {
    fn native_breaks(&self) -> &'static [NativeBreak] {
        self.breaks
    }

    fn poll_break(&mut self, by: NativeBreak, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.breaks.contains(&by) {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        }
        self.stream.poll_break(&mut self.break_asked, context)
    }

    fn peer_is_gone(&self) -> bool {
        self.stream.is_closed()
    }

    fn end_reason(&self) -> Option<String> {
        self.stream.end_reason()
    }
}
