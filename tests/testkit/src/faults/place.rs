//! Where a hypervisor's end lives, and the sockets there.

use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A pause between two looks at what cannot wake us.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// An address, and which side goes to the other.
#[derive(Debug, Clone)]
pub(super) enum Place {
    ListenUnix(PathBuf),
    ListenTcp(SocketAddr),
    DialUnix(PathBuf),
    DialTcp(SocketAddr),
}

impl Place {
    pub fn listens(&self) -> bool {
        matches!(self, Self::ListenUnix(_) | Self::ListenTcp(_))
    }

    pub fn is_unix(&self) -> bool {
        self.path().is_some()
    }

    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::ListenUnix(path) | Self::DialUnix(path) => Some(path),
            Self::ListenTcp(_) | Self::DialTcp(_) => None,
        }
    }

    fn address(&self) -> io::Result<SockAddr> {
        match self {
            Self::ListenUnix(path) | Self::DialUnix(path) => SockAddr::unix(path),
            Self::ListenTcp(address) | Self::DialTcp(address) => Ok((*address).into()),
        }
    }

    fn socket(&self) -> io::Result<Socket> {
        let domain = if self.is_unix() {
            Domain::UNIX
        } else {
            Domain::IPV4
        };
        Socket::new(domain, Type::STREAM, None)
    }

    /// Listens; a stale path is replaced.
    pub fn listen(&mut self, backlog: i32) -> io::Result<Socket> {
        if let Some(path) = self.path()
            && let Err(error) = std::fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let socket = self.socket()?;
        if !self.is_unix() {
            socket.set_reuse_address(true)?;
        }
        socket.bind(&self.address()?)?;
        socket.listen(backlog)?;
        if let Self::ListenTcp(address) = self
            && let Some(bound) = socket.local_addr()?.as_socket()
        {
            *address = bound;
        }
        Ok(socket)
    }

    /// Connects without waiting for anybody to accept. `None`: the backlog is full, nobody listens, nothing is there.
    pub fn dial_once(&self) -> io::Result<Option<Socket>> {
        let socket = self.socket()?;
        let result = if self.is_unix() {
            // With the listener's backlog full a blocking Unix connect waits for ever.
            socket.set_nonblocking(true)?;
            let result = socket.connect(&self.address()?);
            socket.set_nonblocking(false)?;
            result
        } else {
            socket.connect_timeout(&self.address()?, Duration::from_millis(200))
        };
        match result {
            Ok(()) => Ok(Some(socket)),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock
                | io::ErrorKind::TimedOut
                | io::ErrorKind::NotFound
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionRefused => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Connects, again and again until the deadline.
    pub fn dial(&self, until: Instant) -> io::Result<Socket> {
        loop {
            if let Some(socket) = self.dial_once()? {
                return Ok(socket);
            }
            if Instant::now() >= until {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "nobody listens"));
            }
            rest(LOOK_AGAIN);
        }
    }
}

/// Accepts a connection before the deadline.
pub(super) fn accept(listener: &Socket, until: Instant) -> io::Result<Socket> {
    // A listener's read timeout is the one of `accept`.
    let left = until.saturating_duration_since(Instant::now());
    listener.set_read_timeout(Some(left.max(LOOK_AGAIN)))?;
    let (socket, _) = listener.accept()?;
    Ok(socket)
}

/// Lets this time pass.
pub(super) fn rest(time: Duration) {
    let until = Instant::now() + time;
    loop {
        // Parking may end early.
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left);
    }
}
