//! An open byte stream with what the bridge must know about it.

use crate::bridge::line::{ControlRequest, ControlledStream, LineChange};
use crate::bridge::sys::NativeStream;
use crate::model::NativeBreak;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Any byte stream.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// What is known of a stream beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The other end, for events: `127.0.0.1:40312`, `pid 812`, a device; may be empty.
    pub peer: String,
    /// Whether one direction can end while the other goes on.
    pub half_close: bool,
    /// Whether the end of this stream ends the bridge (our own standard input and output).
    pub ends_bridge: bool,
}

impl Facts {
    /// Makes the facts of a stream that can be half-closed.
    pub fn half_closing(peer: impl Into<String>) -> Self {
        Self {
            peer: peer.into(),
            half_close: true,
            ends_bridge: false,
        }
    }

    /// Makes the facts of a stream that ends in both directions at once.
    pub fn whole(peer: impl Into<String>) -> Self {
        Self {
            peer: peer.into(),
            half_close: false,
            ends_bridge: false,
        }
    }
}

/// The streams of the system, which the bridge moves most bytes through, are not boxed.
enum Stream {
    Native(NativeStream),
    Boxed(Box<dyn ByteStream>),
    Controlled(Box<dyn ControlledStream>),
}

/// An open byte stream. `poll_shutdown` ends our direction only (half-close) where [`Facts::half_close`] says so.
pub struct Channel {
    stream: Stream,
    facts: Facts,
}

impl Channel {
    /// Wraps any stream: an SSH channel, a child's pipes, a test's duplex.
    pub fn new(stream: impl ByteStream + 'static, facts: Facts) -> Self {
        Self {
            stream: Stream::Boxed(Box::new(stream)),
            facts,
        }
    }

    /// Wraps a stream of the operating system.
    pub fn native(stream: NativeStream, facts: Facts) -> Self {
        Self {
            stream: Stream::Native(stream),
            facts,
        }
    }

    /// Wraps a stream that has a control: telnet, RFC 2217, a terminal device.
    pub fn controlled(stream: impl ControlledStream + 'static, facts: Facts) -> Self {
        Self {
            stream: Stream::Controlled(Box::new(stream)),
            facts,
        }
    }

    /// Returns why our own standard output takes nothing any more, if that is what this stream writes to.
    pub fn output_failure(&self) -> Option<io::ErrorKind> {
        match &self.stream {
            Stream::Native(NativeStream::Stdio(stream)) => stream.output_failure(),
            Stream::Native(_) | Stream::Boxed(_) | Stream::Controlled(_) => None,
        }
    }

    /// Returns the kinds of BREAK that this stream can send by itself, the best first.
    pub fn native_breaks(&self) -> &'static [NativeBreak] {
        match &self.stream {
            Stream::Native(_) | Stream::Boxed(_) => &[],
            Stream::Controlled(stream) => stream.native_breaks(),
        }
    }

    /// See [`ControlledStream::poll_break`].
    pub(crate) fn poll_break(&mut self, by: NativeBreak, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Native(_) | Stream::Boxed(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
            Stream::Controlled(stream) => stream.poll_break(by, context),
        }
    }

    /// See [`ControlledStream::take_request`].
    pub(crate) fn take_request(&mut self) -> Option<ControlRequest> {
        match &mut self.stream {
            Stream::Native(_) | Stream::Boxed(_) => None,
            Stream::Controlled(stream) => stream.take_request(),
        }
    }

    /// See [`ControlledStream::set_lines`].
    pub(crate) fn set_lines(&mut self, change: LineChange) -> io::Result<()> {
        match &mut self.stream {
            Stream::Native(_) | Stream::Boxed(_) => Err(io::ErrorKind::Unsupported.into()),
            Stream::Controlled(stream) => stream.set_lines(change),
        }
    }

    /// Returns what is known of the stream.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Returns the operating system's stream, if it is one.
    pub(crate) fn native_stream(&self) -> Option<&NativeStream> {
        match &self.stream {
            Stream::Native(stream) => Some(stream),
            Stream::Boxed(_) | Stream::Controlled(_) => None,
        }
    }

    /// Tells, after the end of input, whether the peer has closed its other direction too. TCP does not tell that by
    /// itself; for peers on this machine the system's socket table does. `false` is "not known to be gone".
    pub fn peer_is_gone(&self) -> bool {
        match &self.stream {
            Stream::Native(stream) => stream.peer_is_gone(),
            Stream::Boxed(_) => false,
            Stream::Controlled(stream) => stream.peer_is_gone(),
        }
    }

    /// Says why the input ended: `ended`, or what the system tells of it.
    pub(crate) fn end_reason(&self) -> String {
        match &self.stream {
            Stream::Native(stream) => stream.end_reason(),
            Stream::Controlled(stream) => stream.end_reason().unwrap_or_else(|| "ended".into()),
            Stream::Boxed(_) => "ended".into(),
        }
    }

    /// Reads into `buffer`; 0 is the end of input.
    pub(crate) fn poll_read_some(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut target = ReadBuf::new(buffer);
        match Pin::new(self).poll_read(context, &mut target) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(target.filled().len())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Writes some of `bytes`.
    pub(crate) fn poll_write_some(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(context, bytes)
    }

    /// Ends our direction.
    pub(crate) fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_shutdown(context)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Channel")
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

impl AsyncRead for Channel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Native(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Boxed(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Controlled(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Channel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Native(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Boxed(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Controlled(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Native(stream) => Pin::new(stream).poll_flush(context),
            Stream::Boxed(stream) => Pin::new(stream).poll_flush(context),
            Stream::Controlled(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Native(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Boxed(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Controlled(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
