//! The helper's side of one stream: the endpoint that it opened, joined to the channel.

use super::stream::{Given, Stream};
use crate::bridge::Channel;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::AsyncWrite as _;
use tokio::time::{Sleep, sleep};

/// What a client wrote before it closed the stream has this long to go to an endpoint that takes nothing.
const LAST_BYTES: Duration = Duration::from_secs(2);

/// Bytes of the endpoint that are read at once.
const CHUNK: usize = 32 * 1024;

/// A stream and its endpoint.
pub(super) struct Pump {
    channel: Channel,
    stream: Stream,
    reason_of: fn(&io::Error) -> String,
    to_endpoint: Vec<u8>,
    written: usize,
    from_endpoint: Vec<u8>,
    read: usize,
    sent: usize,
    breaking: bool,
    /// The client's direction ended.
    input_over: bool,
    /// And the endpoint was told.
    shut: bool,
    /// The endpoint's direction ended.
    output_over: bool,
    /// The client is gone: what it wrote still goes out, until then.
    closing: Option<Pin<Box<Sleep>>>,
}

impl Pump {
    pub fn new(channel: Channel, stream: Stream, reason_of: fn(&io::Error) -> String) -> Self {
        Self {
            channel,
            stream,
            reason_of,
            to_endpoint: Vec::new(),
            written: 0,
            from_endpoint: vec![0; CHUNK],
            read: 0,
            sent: 0,
            breaking: false,
            input_over: false,
            shut: false,
            output_over: false,
            closing: None,
        }
    }

    /// Moves bytes until both ends are done with each other.
    pub async fn run(mut self) {
        std::future::poll_fn(|context| self.poll(context)).await;
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.closing.is_none() && self.stream.poll_closed(context).is_ready() {
            self.closing = Some(Box::pin(sleep(LAST_BYTES)));
        }
        if let Some(limit) = &mut self.closing
            && limit.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(());
        }
        // A fast end must not keep the other streams waiting: a round each, then they have their turn.
        for _ in 0..8 {
            let there = match self.poll_there(context) {
                Poll::Ready(Err(error)) => return self.broken(&error),
                result => result.is_ready(),
            };
            let back = match self.poll_back(context) {
                Poll::Ready(Err(error)) => return self.broken(&error),
                result => result.is_ready(),
            };
            if self.is_done() {
                return Poll::Ready(());
            }
            if !there && !back {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn broken(&mut self, error: &io::Error) -> Poll<()> {
        self.stream.close_with((self.reason_of)(error));
        Poll::Ready(())
    }

    fn is_done(&self) -> bool {
        let half_close = self.channel.facts().half_close;
        match (&self.closing, self.output_over) {
            (Some(_), _) => self.shut,
            (None, true) => self.sent == self.read && (!half_close || self.shut),
            (None, false) => false,
        }
    }

    /// Moves something from the client to the endpoint. Ready says that there was something to do.
    fn poll_there(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.shut {
            return Poll::Pending;
        }
        if self.breaking {
            let Some(&by) = self.channel.native_breaks().first() else {
                self.breaking = false;
                self.stream
                    .break_done(Some("this endpoint has no BREAK".to_owned()));
                return Poll::Ready(Ok(()));
            };
            let sent = std::task::ready!(self.channel.poll_break(by, context));
            self.breaking = false;
            self.stream
                .break_done(sent.err().map(|error| (self.reason_of)(&error)));
            return Poll::Ready(Ok(()));
        }
        if self.written < self.to_endpoint.len() {
            let rest = &self.to_endpoint[self.written..];
            self.written += std::task::ready!(self.channel.poll_write_some(context, rest))?;
            return Poll::Ready(Ok(()));
        }
        if self.input_over {
            // What lies in a pipe is lost when it is closed, so its end waits until it was read.
            let end = if self.channel.facts().half_close {
                std::task::ready!(self.channel.poll_end(context))
            } else if self.closing.is_some() {
                std::task::ready!(Pin::new(&mut self.channel).poll_flush(context))
            } else {
                return Poll::Pending;
            };
            self.shut = true;
            return Poll::Ready(end);
        }
        match std::task::ready!(self.stream.poll_next(context)) {
            Ok(Given::Bytes(bytes)) => {
                self.to_endpoint = bytes;
                self.written = 0;
            }
            Ok(Given::Break) => self.breaking = true,
            // The channel to the client is over, which is an end too.
            Ok(Given::End) | Err(_) => self.input_over = true,
        }
        Poll::Ready(Ok(()))
    }

    /// Moves something from the endpoint to the client.
    fn poll_back(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing.is_some() {
            return Poll::Pending;
        }
        if self.sent < self.read {
            let bytes = &self.from_endpoint[self.sent..self.read];
            let sent = Pin::new(&mut self.stream).poll_write(context, bytes);
            match std::task::ready!(sent) {
                Ok(count) => self.sent += count,
                // The client closed it: that is seen above.
                Err(_) => self.sent = self.read,
            }
            return Poll::Ready(Ok(()));
        }
        if self.output_over {
            return Poll::Pending;
        }
        let count = std::task::ready!(self.channel.poll_read_some(context, &mut self.from_endpoint))?;
        (self.read, self.sent) = (count, 0);
        if count == 0 {
            self.output_over = true;
            let reason = self.channel.end_reason();
            if self.channel.facts().half_close {
                self.stream.end(reason);
            } else {
                self.stream.close_with(reason);
            }
        }
        Poll::Ready(Ok(()))
    }
}
