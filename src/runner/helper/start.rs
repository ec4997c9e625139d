//! Starts a helper, here or on another host, and hears who it is.

use super::find::HelperPlaces;
use super::greeting::{End, Listening, greeting, mismatch, ourselves};
use crate::model::SshHop;
use crate::runner::attended::{Attended, Children, Streams};
use crate::runner::child_stream::failure;
use crate::runner::{ssh_words, sys};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::time::{Instant, timeout, timeout_at};

/// A login and the greeting behind it take this long at most.
const INTRODUCTION: Duration = Duration::from_secs(20);

/// After the end of its output a helper's status is waited for this long: it is the reason.
const LAST_WORDS: Duration = Duration::from_millis(500);

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
    pub process: Attended,
    pub input: ChildStdin,
    pub output: ChildStdout,
    /// What came behind its greeting.
    pub behind: Vec<u8>,
    /// How it is called.
    pub name: String,
}

/// A way of starting one.
struct Candidate {
    name: String,
    words: Vec<String>,
}

/// On the other host: installed by us, then on the PATH. The first line is `cmd.exe`'s; other shells do not find it.
const FAR_WINDOWS: [&str; 2] = [
    r#""%LOCALAPPDATA%\vmserial\bin\vmserial.exe" helper"#,
    "vmserial.exe helper",
];
const FAR_UNIX: [&str; 1] = ["vmserial helper"];

fn candidates(place: &Place) -> io::Result<Vec<Candidate>> {
    if place.via.is_empty() {
        let program = HelperPlaces::of_this_machine().find().map_err(io::Error::other)?;
        let program = program.to_string_lossy().into_owned();
        return Ok(vec![Candidate {
            name: program.clone(),
            words: vec![program, "helper".to_owned()],
        }]);
    }
    which::which("ssh").map_err(|_| io::Error::other("`ssh` was not found"))?;
    let commands: &[&str] = if place.windows { &FAR_WINDOWS } else { &FAR_UNIX };
    let of = |command: &&str| Candidate {
        name: format!("{command} on {}", ssh_words::shown(&place.via)),
        words: ssh_words::exec(&place.via, command),
    };
    Ok(commands.iter().map(of).collect())
}

/// Starts a helper and hears who it is.
///
/// # Errors
///
/// What was tried, and what was said to it.
pub(super) async fn start(place: &Place, children: &Children) -> io::Result<Started> {
    let deadline = Instant::now() + INTRODUCTION;
    let mut failures: Vec<String> = Vec::new();
    for candidate in candidates(place)? {
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
const SSH_FAILED: i32 = 255;

async fn attempt(candidate: Candidate, children: &Children) -> Result<Started, Attempt> {
    let mut command = sys::command(&candidate.words, None);
    // No window asks either: what cannot log in says so.
    command.env("SSH_ASKPASS_REQUIRE", "never");
    let take_line = Box::new(|line: &str| {
        tracing::debug!(line, "the helper says");
        true
    });
    let cannot = |reason: String| Attempt::last(reason);
    let (process, pipes) = Attended::start(command, Streams::Both, GRACE, take_line, children)
        .map_err(|error| cannot(format!("it cannot be started: {error}")))?;
    let (mut input, mut output) = pipes.ok_or_else(|| cannot("it has no pipes".to_owned()))?;
    let ours = ourselves();
    let hello = greeting(End::Client, ours.protocol, &ours.version);
    // One that ended at once says why below.
    let _ = input.write_all(&hello).await;
    let mut listening = Listening::for_the(End::Helper);
    let mut buffer = vec![0; 4096];
    loop {
        let count = output.read(&mut buffer).await.unwrap_or_default();
        if count == 0 {
            let words = listening.nobody().to_string();
            let end = timeout(LAST_WORDS, process.ended().wait()).await.ok().flatten();
            let is_last = end
                .as_ref()
                .is_some_and(|end| end.status == crate::runner::Status::Exited(SSH_FAILED));
            let reason = end.as_ref().and_then(failure).unwrap_or(words);
            return Err(Attempt { reason, is_last });
        }
        match listening.input(&buffer[..count]) {
            Ok(None) => {}
            Ok(Some((theirs, behind))) => {
                if let Some(reason) = mismatch(&ours, &theirs, &candidate.name) {
                    return Err(Attempt::last(reason));
                }
                tracing::debug!(version = theirs.version, "the helper is there");
                return Ok(Started {
                    process,
                    input,
                    output,
                    behind,
                    name: candidate.name,
                });
            }
            Err(error) => return Err(Attempt::last(error.to_string())),
        }
    }
}
