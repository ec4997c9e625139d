//! A hypervisor's end of a port, playing its script.

use super::action::Action;
use super::place::{Place, accept, rest};
use socket2::Socket;
use std::fmt;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

/// Connections that may wait to be accepted, unless the script makes them fewer.
const BACKLOG: i32 = 8;

/// What went over one connection.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Bytes that the end wrote.
    pub written: u64,
    /// Bytes that the end read, all of them.
    pub read: Vec<u8>,
}

/// An action that did not come about.
#[derive(Debug)]
pub struct Broken {
    /// Its place in the script, from 0.
    pub index: usize,
    /// The action and what happened instead.
    pub message: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "action {}: {}", self.index, self.message)
    }
}

impl std::error::Error for Broken {}

/// One end of a serial port, as a hypervisor has it.
#[derive(Debug)]
pub struct HypervisorEnd {
    place: Place,
    patience: Duration,
    listener: Option<Socket>,
    stream: Option<Socket>,
    /// Connections of our own that take up the backlog.
    crowd: Vec<Socket>,
    connections: Vec<Connection>,
}

impl HypervisorEnd {
    fn new(place: Place, patience: Duration) -> io::Result<Self> {
        let mut end = Self {
            place,
            patience,
            listener: None,
            stream: None,
            crowd: Vec::new(),
            connections: Vec::new(),
        };
        end.listen(BACKLOG)?;
        Ok(end)
    }

    /// Listens on a Unix socket (QEMU `server=on`, VMware `fileType = "pipe"`, `pipe.endPoint = "server"`).
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn listen_unix(path: impl AsRef<Path>, patience: Duration) -> io::Result<Self> {
        Self::new(Place::ListenUnix(path.as_ref().to_owned()), patience)
    }

    /// Listens on a free TCP port of this machine (VMware `fileType = "network"`, `network.endPoint = "server"`).
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn listen_tcp(patience: Duration) -> io::Result<Self> {
        Self::new(Place::ListenTcp(SocketAddr::from(([127, 0, 0, 1], 0))), patience)
    }

    /// Goes to a Unix socket (Xen `serial = "unix:…"`, VMware `pipe.endPoint = "client"`).
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn dial_unix(path: impl AsRef<Path>, patience: Duration) -> io::Result<Self> {
        Self::new(Place::DialUnix(path.as_ref().to_owned()), patience)
    }

    /// Goes to a TCP port (VMware `network.endPoint = "client"`).
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn dial_tcp(address: SocketAddr, patience: Duration) -> io::Result<Self> {
        Self::new(Place::DialTcp(address), patience)
    }

    /// Returns the TCP address; `None` for Unix sockets.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.place {
            Place::ListenTcp(address) | Place::DialTcp(address) => Some(address),
            Place::ListenUnix(_) | Place::DialUnix(_) => None,
        }
    }

    /// Returns what went over each connection so far.
    pub fn connections(&self) -> &[Connection] {
        &self.connections
    }

    /// Plays the script to its end.
    ///
    /// # Errors
    ///
    /// The first action that did not come about within the end's patience, or read something else.
    pub fn play(&mut self, script: &[Action]) -> Result<(), Broken> {
        for (index, action) in script.iter().enumerate() {
            self.act(action).map_err(|error| Broken {
                index,
                message: match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                        format!("{action:?} did not come about in {:?}: {error}", self.patience)
                    }
                    _ => format!("{action:?}: {error}"),
                },
            })?;
        }
        Ok(())
    }

    fn act(&mut self, action: &Action) -> io::Result<()> {
        match action {
            Action::Connect => self.connect(),
            Action::Send(bytes) => self.write(bytes),
            Action::Trickle(bytes) => bytes.iter().try_for_each(|byte| self.write(&[*byte])),
            Action::Flood(byte, count) => {
                let piece = vec![*byte; (*count).min(64 << 10)];
                let mut left = *count;
                while left > 0 {
                    let now = left.min(piece.len());
                    self.write(&piece[..now])?;
                    left -= now;
                }
                Ok(())
            }
            Action::Expect(bytes) => self.expect(bytes),
            Action::HalfClose => self.stream()?.shutdown(Shutdown::Write),
            Action::ExpectEnd => self.expect_end(),
            Action::Close => {
                self.stream = None;
                Ok(())
            }
            Action::Reset => self.reset(),
            Action::Refuse => {
                self.listener = None;
                Ok(())
            }
            Action::Listen => self.listen(BACKLOG),
            Action::Unlink => self.place.path().map_or(Ok(()), std::fs::remove_file),
            Action::FillBacklog => self.fill_backlog(),
            Action::FreeBacklog => {
                self.crowd.clear();
                self.listen(BACKLOG)
            }
            Action::Away(time) => {
                self.stream = None;
                self.listener = None;
                rest(*time);
                self.listen(BACKLOG)
            }
        }
    }

    fn listen(&mut self, backlog: i32) -> io::Result<()> {
        if self.place.listens() {
            // The old one goes first: two cannot have one port.
            self.listener = None;
            self.listener = Some(self.place.listen(backlog)?);
        }
        Ok(())
    }

    fn connect(&mut self) -> io::Result<()> {
        let until = Instant::now() + self.patience;
        let stream = match (&self.listener, self.place.listens()) {
            (Some(listener), _) => accept(listener, until)?,
            (None, true) => return Err(io::Error::other("it does not listen")),
            (None, false) => self.place.dial(until)?,
        };
        stream.set_read_timeout(Some(self.patience))?;
        stream.set_write_timeout(Some(self.patience))?;
        if !self.place.is_unix() {
            stream.set_tcp_nodelay(true)?;
        }
        self.stream = Some(stream);
        self.connections.push(Connection::default());
        Ok(())
    }

    fn stream(&self) -> io::Result<&Socket> {
        self.stream
            .as_ref()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "there is no connection"))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut stream = self.stream()?;
        stream.write_all(bytes)?;
        if let Some(connection) = self.connections.last_mut() {
            connection.written += bytes.len() as u64;
        }
        Ok(())
    }

    fn expect(&mut self, wanted: &[u8]) -> io::Result<()> {
        let mut got = vec![0; wanted.len()];
        let mut count = 0;
        while count < wanted.len() {
            let result = self.stream()?.read(&mut got[count..]);
            let shown = |what: &str| format!("{what} after `{}`", got[..count].escape_ascii());
            match result {
                Ok(0) => return Err(io::Error::other(shown("the stream ended"))),
                Ok(more) => {
                    if let Some(connection) = self.connections.last_mut() {
                        connection.read.extend_from_slice(&got[count..count + more]);
                    }
                    count += more;
                }
                Err(error) => return Err(io::Error::new(error.kind(), shown(&error.to_string()))),
            }
            if got[..count] != wanted[..count] {
                let at = got
                    .iter()
                    .zip(wanted)
                    .take_while(|(one, other)| one == other)
                    .count();
                let around = &got[at.saturating_sub(20)..count.min(at + 60)];
                return Err(io::Error::other(format!(
                    "byte {at} is another one: `{}`",
                    around.escape_ascii()
                )));
            }
        }
        Ok(())
    }

    fn expect_end(&mut self) -> io::Result<()> {
        let mut rest = Vec::new();
        self.stream()?.read_to_end(&mut rest)?;
        if rest.is_empty() {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "there was more: `{}`",
            rest.escape_ascii()
        )))
    }

    fn reset(&mut self) -> io::Result<()> {
        let stream = self.stream()?;
        if self.place.is_unix() {
            let count = stream.peek(&mut [MaybeUninit::uninit(); 1])?;
            if count == 0 {
                return Err(io::Error::other(
                    "nothing is unread: a Unix socket would only be closed",
                ));
            }
        } else {
            stream.set_linger(Some(Duration::ZERO))?;
        }
        self.stream = None;
        Ok(())
    }

    fn fill_backlog(&mut self) -> io::Result<()> {
        self.listen(0)?;
        let until = Instant::now() + self.patience;
        // The first one that has to wait says that it is full.
        while let Some(socket) = self.place.dial_once()? {
            self.crowd.push(socket);
            if Instant::now() >= until {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the backlog takes everybody",
                ));
            }
        }
        Ok(())
    }
}

impl Drop for HypervisorEnd {
    fn drop(&mut self) {
        if self.place.listens()
            && let Some(path) = self.place.path()
        {
            // A path that is gone already is fine.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests;
