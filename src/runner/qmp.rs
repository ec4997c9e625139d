//! QMP commands to a VM, over a stream that a runner opens and closes at once.
//!
//! A QMP server serves one client. A second one connects and hears nothing until the first has left, so a socket that
//! somebody else holds is told from one that answers by its missing greeting and nothing else.

use crate::model::{Address, EndpointSpec, FailureKind, HostPath, Problem, Role, Wait};
use crate::plan::QmpCommand;
use crate::render::qmp::{Command, Exchange, QmpError};
use crate::runner::{RunError, Runner};
use serde_json::Value;
use std::io::{self, Read, Write};

/// Why QMP commands failed.
#[derive(Debug, thiserror::Error)]
pub enum QmpFailure {
    /// Nobody listens at the socket: the VM does not run, or has no QMP there.
    #[error("nobody answers at the QMP socket `{socket}`")]
    Absent {
        /// Which.
        socket: HostPath,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// It was connected and never greeted: another client holds it.
    #[error("the QMP socket `{socket}` accepts and does not greet: another client holds it")]
    NeverGreeted {
        /// Which.
        socket: HostPath,
    },
    /// It closed the connection before the answer: the VM ended.
    #[error("QEMU closed the QMP socket `{socket}` before its answer{to}", to = to(.pending.as_deref()))]
    Closed {
        /// Which.
        socket: HostPath,
        /// The command that has no answer.
        pending: Option<String>,
    },
    /// The deadline passed before an answer.
    #[error("QEMU did not answer `{execute}` at `{socket}` in time")]
    NoAnswer {
        /// Which.
        socket: HostPath,
        /// The command that has no answer.
        execute: String,
    },
    /// QEMU refused a command, or it is no QMP.
    #[error("at the QMP socket `{socket}`: {source}")]
    Exchange {
        /// Which.
        socket: HostPath,
        /// What is wrong.
        source: QmpError,
    },
    /// The stream could not be opened or used.
    #[error(transparent)]
    Run(#[from] RunError),
}

fn to(pending: Option<&str>) -> String {
    pending
        .map(|execute| format!(" to `{execute}`"))
        .unwrap_or_default()
}

impl From<QmpFailure> for Problem {
    fn from(failure: QmpFailure) -> Self {
        let kind = match &failure {
            QmpFailure::Run(RunError::Connection(problem)) => return Self::clone(problem),
            QmpFailure::Absent { .. } => FailureKind::NotFound,
            QmpFailure::NeverGreeted { .. } => FailureKind::Precondition,
            QmpFailure::NoAnswer { .. } | QmpFailure::Run(RunError::DeadlinePassed { .. }) => {
                FailureKind::Deadline
            }
            QmpFailure::Closed { .. } => FailureKind::ConnectionLost,
            QmpFailure::Exchange { .. }
            | QmpFailure::Run(RunError::Io { .. } | RunError::Failed { .. } | RunError::Script { .. }) => {
                FailureKind::Host
            }
            QmpFailure::Run(RunError::ProgramNotFound { .. } | RunError::NoPowerShell { .. }) => {
                FailureKind::NotFound
            }
            QmpFailure::Run(RunError::Cancelled { .. }) => FailureKind::Interrupted,
            QmpFailure::Run(RunError::Changed { .. } | RunError::Unsupported { .. }) => {
                FailureKind::Precondition
            }
        };
        let mut message = failure.to_string();
        if let Some(source) = std::error::Error::source(&failure) {
            let source = source.to_string();
            if !message.contains(&source) {
                message = format!("{message}: {source}");
            }
        }
        let problem = Self::new(kind, message);
        match &failure {
            QmpFailure::Absent { .. } => problem.hint("Start the VM, or name its QMP socket."),
            QmpFailure::NeverGreeted { .. } => problem.hint(
                "QMP serves one client at a time: end the other one (a monitor shell, libvirt), \
                 or give the VM a second `-qmp`.",
            ),
            _ => problem,
        }
    }
}

/// Returns the endpoint at which we reach a QMP socket.
pub fn endpoint(socket: &HostPath) -> EndpointSpec {
    EndpointSpec::new(Some(Role::Connect), Address::Unix(socket.as_str().into()))
}

/// Sends one command, returns its value.
///
/// # Errors
///
/// Every variant of [`QmpFailure`]; the connection is closed in each case.
pub fn qmp(runner: &dyn Runner, command: &QmpCommand, wait: &Wait) -> Result<Value, QmpFailure> {
    let one = Command::with(command.execute.clone(), command.arguments.clone());
    let mut returns = exchange(runner, &command.socket, [one], wait)?;
    Ok(returns.pop().unwrap_or(Value::Null))
}

/// Connects, greets, sends the commands one after the other and closes at once. Returns one value per command.
///
/// # Errors
///
/// Every variant of [`QmpFailure`]. The commands before the one that failed were executed.
pub fn exchange(
    runner: &dyn Runner,
    socket: &HostPath,
    commands: impl IntoIterator<Item = Command>,
    wait: &Wait,
) -> Result<Vec<Value>, QmpFailure> {
    let mut stream = runner
        .open(&endpoint(socket), wait)
        .map_err(|error| match error {
            RunError::Io { source, .. } if is_absent(&source) => QmpFailure::Absent {
                socket: socket.clone(),
                source,
            },
            // Its backlog is full of clients that wait as we would.
            RunError::Io { source, .. } if source.kind() == io::ErrorKind::WouldBlock => {
                QmpFailure::NeverGreeted {
                    socket: socket.clone(),
                }
            }
            error => QmpFailure::Run(error),
        })?;
    let mut exchange = Exchange::new(commands);
    let mut buffer = [0; 4096];
    while !exchange.is_done() {
        if wait.cancel.is_cancelled() {
            return Err(QmpFailure::Run(RunError::Cancelled {
                what: wait.what.clone(),
            }));
        }
        let count = match stream.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(read_failure(socket, &exchange, error)),
        };
        if count == 0 {
            return Err(QmpFailure::Closed {
                socket: socket.clone(),
                pending: exchange.pending().map(str::to_owned),
            });
        }
        let answer = exchange
            .input(&buffer[..count])
            .map_err(|source| QmpFailure::Exchange {
                socket: socket.clone(),
                source,
            })?;
        stream
            .write_all(&answer)
            .and_then(|()| stream.flush())
            .map_err(|error| read_failure(socket, &exchange, error))?;
    }
    Ok(exchange.into_returns())
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

fn read_failure(socket: &HostPath, exchange: &Exchange, error: io::Error) -> QmpFailure {
    let socket = socket.clone();
    match (error.kind(), exchange.pending()) {
        (io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock, None) => QmpFailure::NeverGreeted { socket },
        (io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock, Some(execute)) => QmpFailure::NoAnswer {
            socket,
            execute: execute.to_owned(),
        },
        (io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe, pending) => QmpFailure::Closed {
            pending: pending.map(str::to_owned),
            socket,
        },
        _ => QmpFailure::Run(RunError::Io {
            what: format!("talk to the QMP socket `{socket}`"),
            source: error,
        }),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::model::{Cancel, Deadline, HostRef};
    use crate::runner::ReadWrite;
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    /// What the other end of the stream does, read by read.
    #[derive(Debug, Clone)]
    enum Say {
        Bytes(&'static str),
        Nothing,
        End,
    }

    struct Script {
        say: std::vec::IntoIter<Say>,
        heard: std::sync::Arc<Mutex<Vec<u8>>>,
    }

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.say.next() {
                Some(Say::Bytes(text)) => {
                    buffer[..text.len()].copy_from_slice(text.as_bytes());
                    Ok(text.len())
                }
                Some(Say::Nothing) | None => Err(io::ErrorKind::TimedOut.into()),
                Some(Say::End) => Ok(0),
            }
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.heard.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A runner that can only open a stream.
    struct Opens {
        say: Result<Vec<Say>, io::ErrorKind>,
        heard: std::sync::Arc<Mutex<Vec<u8>>>,
    }

    impl Runner for Opens {
        fn host(&self) -> &HostRef {
            &HostRef::Local
        }
        fn open(&self, _: &EndpointSpec, _: &Wait) -> Result<Box<dyn ReadWrite>, RunError> {
            match &self.say {
                Ok(say) => Ok(Box::new(Script {
                    say: say.clone().into_iter(),
                    heard: self.heard.clone(),
                })),
                Err(kind) => Err(RunError::Io {
                    what: "connect".to_owned(),
                    source: (*kind).into(),
                }),
            }
        }
    }

    fn ask(say: Result<Vec<Say>, io::ErrorKind>) -> (Result<Value, QmpFailure>, String) {
        let runner = Opens {
            say,
            heard: Default::default(),
        };
        let wait = Wait::new(
            Deadline::after(Instant::now(), Duration::from_secs(60)),
            Cancel::new(),
            "QMP",
        );
        let command = QmpCommand {
            socket: HostPath::new("/run/q.sock"),
            execute: "query-status".to_owned(),
            arguments: Value::Null,
        };
        let result = qmp(&runner, &command, &wait);
        let heard = String::from_utf8(runner.heard.lock().unwrap().clone()).unwrap();
        (result, heard)
    }

    const GREETING: Say = Say::Bytes("{\"QMP\": {}}\n");
    const NEGOTIATED: Say = Say::Bytes("{\"return\": {}, \"id\": 0}\n");

    #[test]
    fn the_value_comes_back() {
        let answer = Say::Bytes("{\"return\": {\"running\": true}, \"id\": 1}\n");
        let (result, heard) = ask(Ok(vec![GREETING, NEGOTIATED, answer]));
        assert_eq!(result.unwrap()["running"], true);
        assert_eq!(heard.lines().count(), 2);
    }

    #[test]
    fn every_failure_has_its_kind_and_words() {
        type Case = (Result<Vec<Say>, io::ErrorKind>, FailureKind, &'static str);
        let cases: [Case; 6] = [
            (
                Err(io::ErrorKind::NotFound),
                FailureKind::NotFound,
                "nobody answers",
            ),
            (
                Err(io::ErrorKind::ConnectionRefused),
                FailureKind::NotFound,
                "nobody answers",
            ),
            (
                Ok(vec![Say::Nothing]),
                FailureKind::Precondition,
                "another client holds it",
            ),
            (
                Ok(vec![GREETING, NEGOTIATED, Say::Nothing]),
                FailureKind::Deadline,
                "did not answer `query-status`",
            ),
            (
                Ok(vec![GREETING, Say::End]),
                FailureKind::ConnectionLost,
                "before its answer to `qmp_capabilities`",
            ),
            (
                Ok(vec![Say::Bytes("login: \n")]),
                FailureKind::Host,
                "got `login:`",
            ),
        ];
        for (say, kind, words) in cases {
            let problem = Problem::from(ask(say).0.unwrap_err());
            assert_eq!(problem.kind, kind, "{problem}");
            assert!(problem.message.contains(words), "{problem}");
        }
    }
}
