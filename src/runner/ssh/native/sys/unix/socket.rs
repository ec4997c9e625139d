//! Sockets: what carries a session, and what is polled.

use super::super::{Interest, Ready};
use rustix::event::{PollFd, PollFlags, Timespec};
use ssh2::Session;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A session's socket, for polling.
pub type Socket = OwnedFd;

/// One of two sockets that are joined.
pub type PairEnd = UnixStream;

/// A socket that can carry a session.
pub trait Carrier: AsFd + AsRawFd + 'static {}

impl<S: AsFd + AsRawFd + 'static> Carrier for S {}

/// Lets a socket carry a session; returns it for polling.
///
/// # Errors
///
/// The system's refusal.
pub fn carry(session: &mut Session, stream: impl Carrier) -> io::Result<Socket> {
    let socket = stream.as_fd().try_clone_to_owned()?;
    session.set_tcp_stream(stream);
    Ok(socket)
}

/// Makes two joined sockets.
///
/// # Errors
///
/// The system's refusal.
pub fn pair() -> io::Result<(PairEnd, PairEnd)> {
    UnixStream::pair()
}

/// Waits for a socket, and for bytes of the waker; an interrupted wait brings nothing.
///
/// # Errors
///
/// The system's refusal.
pub fn poll(
    socket: &Socket,
    interest: Interest,
    waker: Option<&PairEnd>,
    longest: Duration,
) -> io::Result<Ready> {
    let timeout = Timespec::try_from(longest).map_err(io::Error::other)?;
    let mut wanted = PollFlags::empty();
    wanted.set(PollFlags::IN, interest.read);
    wanted.set(PollFlags::OUT, interest.write);
    let mut polled = vec![PollFd::new(socket, wanted)];
    polled.extend(waker.map(|waker| PollFd::new(waker, PollFlags::IN)));
    match rustix::event::poll(&mut polled, Some(&timeout)) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok(Ready::default()),
        Err(error) => return Err(error.into()),
    }
    let of = |index: usize| {
        polled
            .get(index)
            .map_or(PollFlags::empty(), |polled| polled.revents())
    };
    Ok(Ready {
        read: of(0).contains(PollFlags::IN),
        write: of(0).contains(PollFlags::OUT),
        ended: of(0).intersects(PollFlags::HUP | PollFlags::ERR),
        woken: !of(1).is_empty(),
    })
}
