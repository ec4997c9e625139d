//! The streams that a bridge moves bytes through.

use super::pipe::PipeStream;
use crate::bridge::stdio::StdioStream;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A stream of the operating system.
#[derive(Debug)]
pub enum NativeStream {
    /// A named pipe, either end.
    Pipe(PipeStream),
    /// A TCP connection.
    Tcp(TcpStream),
    /// Our own standard input and output.
    Stdio(StdioStream),
}

impl NativeStream {
    /// Tells, after the end of input, whether the peer has closed its other direction too. Of TCP Windows does not tell:
    /// a half-closed client is detached when a write to it fails or when the next one comes.
    pub fn peer_is_gone(&self) -> bool {
        match self {
            Self::Pipe(stream) => stream.peer_is_gone(),
            Self::Tcp(_) | Self::Stdio(_) => false,
        }
    }

    /// Says why the input ended.
    pub fn end_reason(&self) -> String {
        match self {
            Self::Pipe(stream) => stream.end_reason(),
            Self::Tcp(_) | Self::Stdio(_) => "ended".into(),
        }
    }
}

impl AsyncRead for NativeStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Pipe(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Stdio(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for NativeStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Pipe(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Stdio(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Pipe(stream) => Pin::new(stream).poll_flush(context),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Stdio(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Pipe(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Stdio(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
