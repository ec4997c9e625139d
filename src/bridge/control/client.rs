//! Asks the owner of a port through its control socket.

use super::call::{Call, Mode, Since};
use super::message::{Identity, LINE_BYTES, Line, Request};
use crate::bridge::sys::{NativeStream, dial_local};
use crate::model::{Deadline, FailureKind, Problem};
use serde_json::Value;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout_at;

/// Pause between two tries to reach an owner that is just starting.
const AGAIN: Duration = Duration::from_millis(20);

/// How long an owner may be too busy to accept.
const BUSY: Duration = Duration::from_secs(1);

/// A connection to a control socket.
#[derive(Debug)]
pub struct ControlClient {
    stream: NativeStream,
    received: Vec<u8>,
    next_id: u64,
    path: String,
}

/// A connection that has become a console.
#[derive(Debug)]
pub struct Attached {
    /// Carries bytes from here on.
    pub stream: NativeStream,
    /// Bytes that came with the reply.
    pub received: Vec<u8>,
    /// Its number among the owner's connections.
    pub connection: u64,
}

impl ControlClient {
    /// Connects. Needs a runtime.
    ///
    /// # Errors
    ///
    /// Nobody listens (not found), or the system refuses.
    pub async fn connect(path: &Path) -> Result<Self, Problem> {
        let until = tokio::time::Instant::now() + BUSY;
        let dialled = loop {
            match dial_local(path).await {
                // Others connect in the same instant: a full backlog, or a pipe whose next instance is being made.
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock && tokio::time::Instant::now() < until =>
                {
                    tokio::time::sleep(AGAIN).await;
                }
                result => break result,
            }
        };
        let (stream, _) = dialled.map_err(|error| {
            let kind = match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => FailureKind::NotFound,
                io::ErrorKind::PermissionDenied => FailureKind::Precondition,
                _ => FailureKind::Host,
            };
            Problem::new(
                kind,
                format!(
                    "cannot connect to the control socket `{}`: {error}",
                    path.display()
                ),
            )
        })?;
        Ok(Self {
            stream,
            received: Vec::new(),
            next_id: 1,
            path: path.display().to_string(),
        })
    }

    /// Connects to an owner that may be just starting: it locks its port before it listens.
    ///
    /// # Errors
    ///
    /// Nobody listens until the deadline, or the system refuses.
    pub async fn connect_until(path: &Path, deadline: Deadline) -> Result<Self, Problem> {
        loop {
            match Self::connect(path).await {
                Err(problem)
                    if problem.kind == FailureKind::NotFound
                        && !deadline.passed(std::time::Instant::now()) =>
                {
                    tokio::time::sleep(AGAIN).await;
                }
                result => return result,
            }
        }
    }

    /// Asks, and returns the result of the reply. Events that come before it are dropped.
    ///
    /// # Errors
    ///
    /// The owner's own error, its end, a reply that cannot be read, or the deadline.
    pub async fn ask(&mut self, call: Call, deadline: Deadline) -> Result<Value, Problem> {
        let id = self.next_id;
        self.next_id += 1;
        let line = Request { id, call }.to_line();
        let reply = async {
            self.stream
                .write_all(&line)
                .await
                .map_err(|error| self.lost(&error))?;
            self.reply(id).await
        };
        match timeout_at(deadline.instant().into(), reply).await {
            Ok(result) => result,
            Err(_) => Err(Problem::new(
                FailureKind::Deadline,
                format!("the owner did not answer on `{}` in time", self.path),
            )),
        }
    }

    /// Asks who the owner is.
    ///
    /// # Errors
    ///
    /// See [`ControlClient::ask`].
    pub async fn hello(&mut self, deadline: Deadline) -> Result<Identity, Problem> {
        let result = self.ask(Call::Hello { events: false }, deadline).await?;
        serde_json::from_value(result).map_err(|error| {
            Problem::new(
                FailureKind::Host,
                format!("the reply on `{}` is not vmserial's: {error}", self.path),
            )
        })
    }

    /// Turns the connection into a console.
    ///
    /// # Errors
    ///
    /// See [`ControlClient::ask`]; the owner may refuse.
    pub async fn attach(
        mut self,
        mode: Mode,
        since: Since,
        take_over: bool,
        deadline: Deadline,
    ) -> Result<Attached, Problem> {
        let call = Call::Attach {
            mode,
            since,
            take_over,
        };
        let reply = self.ask(call, deadline).await?;
        Ok(Attached {
            stream: self.stream,
            received: self.received,
            connection: reply["connection"].as_u64().unwrap_or_default(),
        })
    }

    /// Waits for the next event. `hello` must have asked for events.
    ///
    /// # Errors
    ///
    /// The owner ended, or sent what cannot be read.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was read of a line stays.
    pub async fn event(&mut self) -> Result<Value, Problem> {
        loop {
            let line = self.line().await?;
            if let Line::Event(event) =
                Line::parse(&line).map_err(|reason| Problem::new(FailureKind::Host, reason))?
            {
                return Ok(event);
            }
        }
    }

    async fn reply(&mut self, wanted: u64) -> Result<Value, Problem> {
        loop {
            let line = self.line().await?;
            match Line::parse(&line).map_err(|reason| Problem::new(FailureKind::Host, reason))? {
                // 0 is the reply to a line that the owner could not read.
                Line::Reply { id, result } if id == wanted || (id == 0 && result.is_err()) => {
                    return result.map_err(Problem::from);
                }
                Line::Reply { .. } | Line::Event(_) => {}
            }
        }
    }

    async fn line(&mut self) -> Result<Vec<u8>, Problem> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.received[searched..].iter().position(|&byte| byte == b'\n') {
                let rest = self.received.split_off(searched + end + 1);
                let mut line = std::mem::replace(&mut self.received, rest);
                line.pop();
                return Ok(line);
            }
            searched = self.received.len();
            if searched > LINE_BYTES {
                return Err(Problem::new(
                    FailureKind::Host,
                    format!("the owner sent a line longer than {LINE_BYTES} bytes"),
                ));
            }
            match self.stream.read_buf(&mut self.received).await {
                Ok(0) => {
                    return Err(Problem::new(
                        FailureKind::ConnectionLost,
                        format!("the owner closed `{}`", self.path),
                    ));
                }
                Ok(_) => {}
                Err(error) => return Err(self.lost(&error)),
            }
        }
    }

    fn lost(&self, error: &io::Error) -> Problem {
        Problem::new(
            FailureKind::ConnectionLost,
            format!("lost the owner on `{}`: {error}", self.path),
        )
    }
}

/// Asks one thing on a connection of its own, on a thread that runs no async tasks.
///
/// # Errors
///
/// See [`ControlClient::connect`] and [`ControlClient::ask`].
pub fn ask_once(path: &Path, call: Call, deadline: Deadline) -> Result<Value, Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Problem::new(FailureKind::Host, format!("cannot start a runtime: {error}")))?;
    runtime.block_on(async { ControlClient::connect(path).await?.ask(call, deadline).await })
}
