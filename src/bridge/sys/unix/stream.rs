//! The streams that a bridge moves bytes through.

use super::owner::tcp_peer_is_closed;
use super::pty::PtyStream;
use crate::bridge::stdio::StdioStream;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::AsFd;
use rustix::net::sockopt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A stream of the operating system.
#[derive(Debug)]
pub enum NativeStream {
    /// A Unix stream socket.
    Unix(UnixStream),
    /// A TCP connection.
    Tcp(TcpStream),
    /// A pseudo terminal that we made.
    Pty(PtyStream),
    /// Our own standard input and output.
    Stdio(StdioStream),
}

impl NativeStream {
    /// Says why the input ended; a socket's end says nothing more.
    pub fn end_reason(&self) -> String {
        "ended".into()
    }

    /// Tells, after the end of input, whether the peer has closed its other direction too.
    pub fn peer_is_gone(&self) -> bool {
        match self {
            Self::Unix(stream) => hung_up(stream),
            Self::Tcp(stream) => hung_up(stream) || tcp_peer_is_closed(stream),
            Self::Pty(_) => true,
            Self::Stdio(_) => false,
        }
    }
}

/// Both directions ended, or an error (a reset) is pending.
fn hung_up(stream: &impl AsFd) -> bool {
    let mut descriptors = [PollFd::new(stream, PollFlags::empty())];
    let now = rustix::time::Timespec::default();
    poll(&mut descriptors, Some(&now)).is_ok_and(|ready| ready > 0)
        && descriptors[0]
            .revents()
            .intersects(PollFlags::HUP | PollFlags::ERR)
}

/// Sends small packets at once (a kgdb session is bound by round trips) and finds dead peers: first probe after 30 s,
/// then each 10 s, three of them.
pub fn tune_tcp(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(30))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    Ok(())
}

/// Leaves urgent bytes (telnet's SYNCH) where they are in the stream.
pub fn keep_urgent_inline(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_oobinline(stream, true)?;
    Ok(())
}

impl AsyncRead for NativeStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Pty(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Stdio(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for NativeStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Pty(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Stdio(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Pty(stream) => Pin::new(stream).poll_flush(context),
            Self::Stdio(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Pty(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Stdio(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
