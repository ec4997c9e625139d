//! Starts a helper, here or on another host, and hears who it is.

use super::find::HelperPlaces;
use super::greeting::{End, Listening, greeting, mismatch, ourselves};
use super::life::{Input, Life, Output};
use crate::model::SshHop;
use crate::runner::attended::{Attended, Children, Streams};
use crate::runner::{Status, ssh, ssh_words, sys};
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};

/// A login and the greeting behind it take this long at most.
const INTRODUCTION: Duration = Duration::from_secs(20);

/// A helper whose standard input was closed has this long to end by itself; it needs one second.
const GRACE: Duration = Duration::from_millis(1500);

/// Where a helper runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Place {
    /// SSH hops; none is this machine's Windows side.
    pub via: Vec<SshHop>,
    /// The host is one that has named pipes.
    pub windows: bool,
}

/// A helper that has presented itself.
pub(super) struct Started {
    pub life: Life,
    pub input: Input,
    pub output: Output,
    /// What came behind its greeting.
    pub behind: Vec<u8>,
    /// How it is called.
    pub name: String,
    /// Its version, for people.
    pub version: String,
}

/// A way of starting one.
pub(super) struct Candidate {
    name: String,
    /// How it is replaced by one that fits us.
    replace: String,
    way: Way,
}

/// How it is started.
enum Way {
    /// A process of ours: the helper itself, or the system's `ssh`.
    Process(Vec<String>),
    /// A command on the last of these hosts, through our own SSH.
    Ssh(Vec<SshHop>, &'static str),
}

/// On the other host: named by its user, installed by us, on the PATH. The first two are `cmd.exe`'s; other shells do not
/// find them.
const FAR_WINDOWS: [&str; 3] = [
    r#""%VMSERIAL_EXE%" helper"#,
    r#""%LOCALAPPDATA%\vmserial\bin\vmserial.exe" helper"#,
    "vmserial.exe helper",
];
const FAR_UNIX: [&str; 1] = ["vmserial helper"];

/// This program's version.
const OURS: &str = env!("CARGO_PKG_VERSION");

/// The way of starting a program of this machine.
pub(super) fn program_of_ours(program: &Path) -> Candidate {
    let program = program.to_string_lossy().into_owned();
    Candidate {
        name: program.clone(),
        replace: format!(
            "put vmserial.exe {OURS} there with `vmserial setup helper`, or name it with VMSERIAL_EXE"
        ),
        way: Way::Process(vec![program, "helper".to_owned()]),
    }
}

fn candidates(place: &Place) -> io::Result<Vec<Candidate>> {
    if place.via.is_empty() {
        let program = HelperPlaces::of_this_machine().find().map_err(io::Error::other)?;
        let program = program.to_string_lossy().into_owned();
        return Ok(vec![Candidate {
            name: program.clone(),
            replace: format!(
                "put vmserial.exe {OURS} there with `vmserial setup helper`, or name it with VMSERIAL_EXE"
            ),
            way: Way::Process(vec![program, "helper".to_owned()]),
        }]);
    }
    let is_builtin = ssh::is_builtin();
    if !is_builtin {
        which::which("ssh").map_err(|_| io::Error::other("`ssh` was not found"))?;
    }
    let commands: &[&'static str] = if place.windows { &FAR_WINDOWS } else { &FAR_UNIX };
    let host = place.via.last().map_or("", |SshHop(host)| host.as_str());
    let replace = if place.windows {
        format!("put vmserial.exe {OURS} there with `vmserial setup helper --host {host}`")
    } else {
        format!("install vmserial {OURS} on {host}")
    };
    let of = |&command: &&'static str| Candidate {
        name: format!("{command} on {}", ssh_words::shown(&place.via)),
        replace: replace.clone(),
        way: if is_builtin {
            Way::Ssh(place.via.clone(), command)
        } else {
            Way::Process(ssh_words::exec(&place.via, command))
        },
    };
    Ok(commands.iter().map(of).collect())
}

/// Starts a helper and hears who it is.
///
/// # Errors
///
/// What was tried, and what was said to it.
pub(super) async fn start(place: &Place, children: &Children) -> io::Result<Started> {
    start_one_of(candidates(place)?, children).await
}

/// Starts the first of these that answers as a helper.
///
/// # Errors
///
/// What was tried, and what was said to it.
pub(super) async fn start_one_of(candidates: Vec<Candidate>, children: &Children) -> io::Result<Started> {
    let deadline = Instant::now() + INTRODUCTION;
    let mut failures: Vec<String> = Vec::new();
    for candidate in candidates {
        let name = candidate.name.clone();
        let attempt = timeout_at(deadline, attempt(candidate, children)).await;
        match attempt.unwrap_or_else(|_| Err(Attempt::last("it said nothing in 20 s".to_owned()))) {
            Ok(started) => return Ok(started),
            Err(attempt) => {
                if attempt.is_last {
                    return Err(io::Error::other(format!("helper `{name}`: {}", attempt.reason)));
                }
                failures.push(format!("`{name}`: {}", attempt.reason));
            }
        }
    }
    Err(io::Error::other(format!("no helper: {}", failures.join("; "))))
}

/// Why one way did not lead to a helper.
struct Attempt {
    reason: String,
    /// No other way will do better.
    is_last: bool,
}

impl Attempt {
    fn last(reason: String) -> Self {
        Self {
            reason,
            is_last: true,
        }
    }
}

/// What `ssh` ends with when it is itself that failed.
const SSH_FAILED: Status = Status::Exited(255);

async fn begin(way: &Way, children: &Children) -> Result<(Life, Input, Output), Attempt> {
    let cannot = |reason: String| Attempt::last(reason);
    let words = match way {
        Way::Process(words) => words,
        Way::Ssh(via, command) => {
            let far = ssh::Far::Command((*command).to_owned());
            let channel = ssh::stream::open(via, &far).await;
            let (output, input) = tokio::io::split(channel.map_err(|error| cannot(error.to_string()))?);
            return Ok((Life::Stream, Box::new(input), Box::new(output)));
        }
    };
    let mut command = sys::command(words, None);
    // No window asks either: what cannot log in says so.
    command.env("SSH_ASKPASS_REQUIRE", "never");
    let take_line = Box::new(|line: &str| {
        tracing::debug!(line, "the helper says");
        true
    });
    let (process, pipes) = Attended::start(command, Streams::Both, GRACE, take_line, children)
        .map_err(|error| cannot(format!("it cannot be started: {error}")))?;
    let (input, output) = pipes.ok_or_else(|| cannot("it has no pipes".to_owned()))?;
    Ok((Life::Process(process), Box::new(input), Box::new(output)))
}

async fn attempt(candidate: Candidate, children: &Children) -> Result<Started, Attempt> {
    let (life, mut input, mut output) = begin(&candidate.way, children).await?;
    let ours = ourselves();
    let hello = greeting(End::Client, ours.protocol, &ours.version);
    // One that ended at once says why below.
    let _ = input.write_all(&hello).await;
    let mut listening = Listening::for_the(End::Helper);
    let mut buffer = vec![0; 4096];
    loop {
        let count = match output.read(&mut buffer).await {
            Ok(count @ 1..) => count,
            end => {
                let status = life.status().await;
                let reason = life.last_words(end).await;
                return Err(Attempt {
                    reason: reason.unwrap_or_else(|| listening.nobody().to_string()),
                    is_last: status == Some(SSH_FAILED),
                });
            }
        };
        match listening.input(&buffer[..count]) {
            Ok(None) => {}
            Ok(Some((theirs, behind))) => {
                if let Some(reason) = mismatch(&ours, &theirs, &candidate.replace) {
                    return Err(Attempt::last(reason));
                }
                tracing::debug!(version = theirs.version, "the helper is there");
                return Ok(Started {
                    life,
                    input,
                    output,
                    behind,
                    name: candidate.name,
                    version: theirs.version,
                });
            }
            Err(error) => return Err(Attempt::last(error.to_string())),
        }
    }
}
