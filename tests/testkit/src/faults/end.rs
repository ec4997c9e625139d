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

/// What the guest says whenever it is asked something.
#[derive(Debug, Clone)]
struct Standing {
    question: Vec<u8>,
    answer: Vec<u8>,
    thanks: Vec<u8>,
}

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
    standing: Option<Standing>,
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
            standing: None,
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

    /// Answers a question that a bridge may ask by itself before any bytes that are expected; it says `thanks` for the
    /// answer. (A kgdb that was silent for a second is asked whether it is still there.)
    pub fn answer(&mut self, question: &[u8], answer: &[u8], thanks: &[u8]) {
        self.standing = Some(Standing {
            question: question.to_vec(),
            answer: answer.to_vec(),
            thanks: thanks.to_vec(),
        });
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
                self.hang_up();
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
                self.hang_up();
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
        let mut got = Vec::with_capacity(wanted.len());
        while got.len() < wanted.len() {
            self.read_some(&mut got, wanted.len())?;
            if wanted.starts_with(&got) {
                continue;
            }
            self.answer_a_question(wanted, &mut got)?;
            if !wanted.starts_with(&got) {
                let at = got
                    .iter()
                    .zip(wanted)
                    .take_while(|(one, other)| one == other)
                    .count();
                let around = &got[at.saturating_sub(20)..got.len().min(at + 60)];
                return Err(io::Error::other(format!(
                    "byte {at} is another one: `{}`",
                    around.escape_ascii()
                )));
            }
        }
        Ok(())
    }

    /// Reads once, until there are `most` at the most.
    fn read_some(&mut self, got: &mut Vec<u8>, most: usize) -> io::Result<()> {
        let before = got.len();
        got.resize(most, 0);
        let result = self.stream()?.read(&mut got[before..]);
        got.truncate(before + result.as_ref().map_or(0, |count| *count));
        let shown = |what: &str| format!("{what} after `{}`", got.escape_ascii());
        match result {
            Ok(0) => return Err(io::Error::other(shown("the stream ended"))),
            Ok(_) => {}
            Err(error) => return Err(io::Error::new(error.kind(), shown(&error.to_string()))),
        }
        if let Some(connection) = self.connections.last_mut() {
            connection.read.extend_from_slice(&got[before..]);
        }
        Ok(())
    }

    /// Takes a question of the bridge's own out of what was read, if it ends in one or in its beginning.
    fn answer_a_question(&mut self, wanted: &[u8], got: &mut Vec<u8>) -> io::Result<()> {
        let Some(standing) = self.standing.clone() else {
            return Ok(());
        };
        let question = &standing.question;
        let same = got.iter().zip(wanted).take_while(|(one, other)| one == other);
        // It may begin with bytes that were wanted too.
        let latest = same.count();
        let earliest = latest.saturating_sub(question.len() - 1);
        let Some(start) = (earliest..=latest).find(|&start| question.starts_with(&got[start..])) else {
            return Ok(());
        };
        while got.len() - start < question.len() {
            self.read_some(got, start + question.len())?;
            if !question.starts_with(&got[start..]) {
                return Ok(());
            }
        }
        got.truncate(start);
        self.write(&standing.answer)?;
        let mut thanks = Vec::new();
        while thanks.len() < standing.thanks.len() {
            self.read_some(&mut thanks, standing.thanks.len())?;
        }
        if thanks != standing.thanks {
            return Err(io::Error::other(format!(
                "after the answer to its question came `{}`",
                thanks.escape_ascii()
            )));
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

    /// Closes the connection for everybody: a process that another thread is just starting has a copy of the
    /// descriptor until its program begins, and would keep the connection for as long.
    fn hang_up(&mut self) {
        if let Some(stream) = self.stream.take() {
            // The other side may have gone first.
            let _ = stream.shutdown(Shutdown::Both);
        }
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
