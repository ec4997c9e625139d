//! The engine that is the system's `ssh` program: FIDO keys, certificates, ProxyCommand just work. A login for each command.
#![expect(clippy::disallowed_methods, reason = "the runner starts processes")]

use super::link::{ExecFailure, Far};
use super::options::{has_own_connections, options};
use crate::model::{FailureKind, Problem, Wait};
use crate::runner::local::process::run_command;
use crate::runner::ssh_words::destination_word;
use crate::runner::{Output, ReadWrite, RunError, Status, sys};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// With this status `ssh` itself failed; a command may end with it too.
const OWN_FAILURE: Status = Status::Exited(255);

/// How often the forwarded socket is looked for while `ssh` logs in.
const LOOK: Duration = Duration::from_millis(20);

fn command(chain: &[String], more: &[&str]) -> Result<Command, RunError> {
    // Not that a program was not found: that would be taken for one of the host's.
    let program = which::which("ssh").map_err(|_| {
        let problem = Problem::new(FailureKind::Precondition, "`ssh` was not found on this machine");
        let hint =
            "Install OpenSSH's client (on Windows an optional feature), or leave `--ssh-engine system` out.";
        RunError::Connection(Box::new(problem.hint(hint)))
    })?;
    let mut command = Command::new(program);
    command.args(["-T", "-a", "-x"]);
    let strict = options().accept_new_host_key;
    // No terminal: `ssh` would be stopped at its question, in a group of its own. It says what it lacks instead.
    let fixed = [
        "BatchMode=yes",
        "PermitLocalCommand=no",
        "ConnectTimeout=10",
        "ServerAliveInterval=10",
        "ServerAliveCountMax=3",
    ];
    for option in fixed
        .into_iter()
        .chain(strict.then_some("StrictHostKeyChecking=accept-new"))
        .chain(has_own_connections().then_some("ControlPath=none"))
    {
        command.args(["-o", option]);
    }
    command.env("SSH_ASKPASS_REQUIRE", "never");
    command.args(more);
    if let Some((destination, jumps)) = chain.split_last() {
        if !jumps.is_empty() {
            command.args(["-J", &jumps.join(",")]);
        }
        command.args(["--", &destination_word(destination)]);
    }
    Ok(command)
}

fn failure(chain: &[String], stderr: &[u8]) -> RunError {
    let host = chain.last().map(String::as_str).unwrap_or_default();
    let words = String::from_utf8_lossy(stderr).trim().to_owned();
    let refused = ["Permission denied", "Host key verification failed", "REVOKED"];
    let kind = if refused.iter().any(|refused| words.contains(refused)) {
        FailureKind::Precondition
    } else {
        FailureKind::Host
    };
    let problem = Problem::new(kind, format!("`ssh` could not reach `{host}`: {words}"));
    RunError::Connection(Box::new(problem.hint(format!("Try it by hand: `ssh {host}`."))))
}

/// Runs a line on the last host of the chain.
pub(super) fn exec(chain: &[String], line: &str, stdin: &[u8], wait: &Wait) -> Result<Output, ExecFailure> {
    let early = |error| ExecFailure {
        error,
        stderr: Vec::new(),
    };
    let mut command = command(chain, &[]).map_err(early)?;
    command.arg(line);
    let output = run_command(command, "ssh", Some(stdin.to_vec()), wait)
        .map_err(|(error, stderr)| ExecFailure { error, stderr })?;
    // Our commands say something on standard error first: `ssh` alone with its words is its own failure.
    let begun = output.stderr.starts_with(b"vmserial-") || find(&output.stderr, b"\nvmserial-");
    if output.status == OWN_FAILURE && !begun {
        return Err(early(failure(chain, &output.stderr)));
    }
    Ok(output)
}

fn find(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}

/// A stream with the `ssh` that carries it.
struct Carried {
    stream: Box<dyn ReadWrite>,
    _child: Ended,
    _folder: tempfile::TempDir,
}

/// Ends the child with its owner.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // One that ended by itself is no failure.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Read for Carried {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Carried {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Opens a stream through the last host of the chain.
pub(super) fn open_within(chain: &[String], far: &Far, wait: &Wait) -> Result<Box<dyn ReadWrite>, RunError> {
    let what = || "open a stream through `ssh`".to_owned();
    let failed = |source| RunError::Io { what: what(), source };
    let folder = sys::private_folder().map_err(failed)?;
    let socket = folder.path().join("s");
    let far = match far {
        Far::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
        Far::Tcp(host, port) => format!("{host}:{port}"),
        Far::Unix(path) => escaped(path),
        Far::Command(_) => {
            let source = io::Error::new(io::ErrorKind::Unsupported, "a command is no address");
            return Err(failed(source));
        }
    };
    let forward = format!("{}:{far}", escaped(&socket.to_string_lossy()));
    let more = [
        "-N",
        "-o",
        "ExitOnForwardFailure=yes",
        "-o",
        "ControlPath=none",
        "-L",
        &forward,
    ];
    let mut command = command(chain, &more)?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = Ended(command.spawn().map_err(failed)?);
    loop {
        if let Ok(stream) = connect(&socket, wait) {
            return Ok(Box::new(Carried {
                stream,
                _child: child,
                _folder: folder,
            }));
        }
        if child.0.try_wait().map_err(failed)?.is_some() {
            let mut words = Vec::new();
            if let Some(stderr) = &mut child.0.stderr {
                // What cannot be read is not said.
                let _ = stderr.read_to_end(&mut words);
            }
            return Err(failure(chain, &words));
        }
        if wait.cancel.is_cancelled() {
            return Err(RunError::Cancelled {
                what: wait.what.clone(),
            });
        }
        if wait.deadline.passed(Instant::now()) {
            return Err(RunError::DeadlinePassed {
                what: wait.what.clone(),
            });
        }
        std::thread::park_timeout(LOOK);
    }
}

fn connect(socket: &Path, wait: &Wait) -> io::Result<Box<dyn ReadWrite>> {
    let left = wait
        .deadline
        .remaining(Instant::now())
        .max(Duration::from_millis(1));
    sys::connect_unix(socket, left)
}

/// In the word of a forward a colon ends a part (OpenSSH `parse_fwd_field`).
fn escaped(path: &str) -> String {
    path.replace('\\', r"\\").replace(':', r"\:")
}
