//! Streams through SSH, by the system's `ssh` with the user's own settings and keys.
//!
//! One `ssh` stays for each endpoint and forwards a Unix socket in a folder of our own, so that a VM's return costs no
//! login. (`ssh -W` would cost one each time, and forwards to Unix sockets only since OpenSSH 9.4.) Whether the far end
//! took a connection is told by `ssh` alone, in its debug lines: the local socket takes every one.

use super::attended::{Attended, Children, End, Ended, Streams};
use super::child_stream::failure;
use super::ssh_words;
use super::sys::{self, LocalStream};
use crate::bridge::{Channel, Facts, Remarks};
use crate::model::{Address, EndpointSpec, SshHop};
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::sync::{Arc, Mutex as SharedMutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, timeout};

/// A login and the connection behind it take this long at most.
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(20);

/// How often the forwarded socket is looked for while `ssh` logs in.
const LOOK: Duration = Duration::from_millis(20);

/// After a stream's end `ssh` has this long to end too: then the link was lost, and it says why.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// `ssh` holds nothing that it must write: SIGTERM at once.
const GRACE: Duration = Duration::ZERO;

/// So many different lines of one `ssh` are told once each.
const LINES_REMEMBERED: usize = 100;

/// Before any line at these levels `ssh` writes its level; some lines of the level above have no mark.
const NOT_FOR_PEOPLE: [&str; 6] = [
    "debug1: ",
    "debug2: ",
    "debug3: ",
    "Authenticated to ",
    "Transferred: sent ",
    "Bytes per second: ",
];

/// What became of the connections through one `ssh`.
#[derive(Debug, Clone, Default)]
struct Answers {
    /// How many were taken or refused by the far end.
    count: usize,
    /// Why the last one was refused.
    refused: Option<String>,
}

struct Ssh {
    process: Attended,
    socket: PathBuf,
    answers: watch::Receiver<Answers>,
    /// A connection whose answer was not waited for: the next answer would be taken for another's.
    owed: bool,
    _folder: tempfile::TempDir,
}

/// The way to one endpoint.
#[derive(Clone, Default)]
pub(super) struct Tunnel {
    ssh: Arc<Mutex<Option<Ssh>>>,
    said: Arc<SharedMutex<HashSet<String>>>,
}

impl Tunnel {
    /// Goes to the endpoint once, through the `ssh` that is there or a new one.
    ///
    /// # Errors
    ///
    /// What `ssh` said, or the far end's refusal.
    pub async fn open(
        &self,
        endpoint: &EndpointSpec,
        remarks: &Remarks,
        children: &Children,
    ) -> io::Result<Channel> {
        let deadline = Instant::now() + DIAL_TIMEOUT;
        let mut kept = self.ssh.lock().await;
        if kept
            .as_ref()
            .is_some_and(|ssh| ssh.owed || ssh.process.end().is_some())
        {
            *kept = None;
        }
        let ssh = match &mut *kept {
            Some(ssh) => ssh,
            // Kept at once: a dial that is given up meanwhile leaves the login to the next one.
            none => none.insert(self.start(endpoint, remarks, children)?),
        };
        let result = tokio::time::timeout_at(deadline, ssh.connect()).await;
        let ended = ssh.process.ended();
        let stream = result.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let hops: Vec<&str> = endpoint.via.iter().map(|hop| hop.0.as_str()).collect();
        let stream = Carried {
            stream,
            ended,
            ending: None,
            over: false,
        };
        Ok(Channel::new(
            stream,
            Facts::half_closing(format!("ssh {}", hops.join(" "))),
        ))
    }

    /// Ends the `ssh` of this endpoint.
    pub async fn close(&self) {
        *self.ssh.lock().await = None;
    }

    fn start(&self, endpoint: &EndpointSpec, remarks: &Remarks, children: &Children) -> io::Result<Ssh> {
        let folder = sys::private_folder()?;
        let socket = folder.path().join("s");
        let (answers_sender, answers) = watch::channel(Answers::default());
        let (of, remarks, said) = (endpoint.clone(), remarks.clone(), Arc::clone(&self.said));
        let take_line = Box::new(move |line: &str| {
            if let Some(refused) = answer(line) {
                answers_sender.send_modify(|answers| {
                    answers.count += 1;
                    answers.refused = refused;
                });
                return false;
            }
            if !is_for_people(line) {
                return false;
            }
            // A server that is away says the same for hours.
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            if said.len() >= LINES_REMEMBERED {
                said.clear();
            }
            if said.insert(line.to_owned()) {
                remarks.say(&of, line.to_owned());
            }
            true
        });
        let command = ssh_command(endpoint, &socket)?;
        let (process, _) = Attended::start(command, Streams::Neither, GRACE, take_line, children)
            .map_err(|error| io::Error::other(format!("`ssh` cannot be started: {error}")))?;
        Ok(Ssh {
            process,
            socket,
            answers,
            owed: false,
            _folder: folder,
        })
    }
}

impl Ssh {
    async fn connect(&mut self) -> io::Result<LocalStream> {
        // Looked at before: the answer may be here by the time that we know of the connection.
        let before = self.answers.borrow_and_update().count;
        let stream = loop {
            if let Ok(stream) = sys::connect_local(&self.socket).await {
                break stream;
            }
            tokio::select! {
                end = ended(&self.process) => return Err(end),
                () = sleep(LOOK) => {}
            }
        };
        self.owed = true;
        let answers = tokio::select! {
            answers = self.answers.wait_for(|answers| answers.count > before) => {
                answers.map(|answers| answers.clone()).unwrap_or_default()
            }
            end = ended(&self.process) => return Err(end),
        };
        self.owed = false;
        match answers.refused {
            None => Ok(stream),
            Some(reason) if reason.contains("Connection refused") => {
                Err(io::ErrorKind::ConnectionRefused.into())
            }
            Some(reason) => Err(io::Error::other(reason)),
        }
    }
}

/// Tells whether a line of `ssh` at the level of the answers is one that people read.
pub(super) fn is_for_people(line: &str) -> bool {
    !NOT_FOR_PEOPLE.iter().any(|start| line.starts_with(start))
}

async fn ended(process: &Attended) -> io::Error {
    lost(process.ended().wait().await.as_ref())
}

/// Puts the end of `ssh` into words: its own, where it has some.
pub(super) fn lost(end: Option<&End>) -> io::Error {
    let text = match end {
        Some(End {
            last_line: Some(line),
            ..
        }) => line.clone(),
        Some(end) => format!("ssh {}", failure(end).unwrap_or_else(|| "ended".into())),
        None => "ssh ended".into(),
    };
    io::Error::other(text)
}

/// Reads the far end's answer out of a line of `ssh`: taken, or refused with a reason (OpenSSH `channels.c`).
pub(super) fn answer(line: &str) -> Option<Option<String>> {
    let line = line.strip_prefix("debug2: ").unwrap_or(line);
    let (number, rest) = line.strip_prefix("channel ")?.split_once(": ")?;
    number.parse::<u32>().ok()?;
    if rest.starts_with("open confirm ") {
        return Some(None);
    }
    let reason = rest.strip_prefix("open failed: ")?;
    Some(Some(reason.to_owned()))
}

fn ssh_command(endpoint: &EndpointSpec, socket: &Path) -> io::Result<Command> {
    which::which("ssh").map_err(|_| io::Error::other("`ssh` was not found"))?;
    let words: Vec<String> = std::iter::once("ssh".to_owned())
        .chain(arguments(endpoint, socket))
        .collect();
    let mut command = sys::command(&words, None);
    // No window asks either: what cannot log in says so.
    command.env("SSH_ASKPASS_REQUIRE", "never");
    Ok(command)
}

fn arguments(endpoint: &EndpointSpec, socket: &Path) -> Vec<String> {
    let far = match &endpoint.address {
        Address::Unix(path) => escaped(&path.to_string_lossy()),
        Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
        Address::Tcp { host, port } => format!("{host}:{port}"),
        _ => String::new(),
    };
    let mut words: Vec<String> = ["-N", "-T", "-a", "-x"].map(String::from).into();
    let own = ["ExitOnForwardFailure=yes", "LogLevel=DEBUG2"];
    for option in ssh_words::options().chain(own) {
        words.extend(["-o".to_owned(), option.to_owned()]);
    }
    if let Some((SshHop(destination), jumps)) = endpoint.via.split_last() {
        if !jumps.is_empty() {
            let jumps: Vec<&str> = jumps.iter().map(|hop| hop.0.as_str()).collect();
            words.extend(["-J".to_owned(), jumps.join(",")]);
        }
        words.extend([
            "-L".to_owned(),
            format!("{}:{far}", escaped(&socket.to_string_lossy())),
            "--".to_owned(),
            ssh_words::destination_word(destination),
        ]);
    }
    words
}

/// In the word of a forward a colon ends a part (OpenSSH `parse_fwd_field`).
fn escaped(path: &str) -> String {
    path.replace('\\', r"\\").replace(':', r"\:")
}

/// A stream through SSH. Its end is an error if the link was lost, with the reason that `ssh` gave.
struct Carried {
    stream: LocalStream,
    ended: Ended,
    ending: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send>>>,
    over: bool,
}

async fn verdict(mut ended: Ended, otherwise: io::Result<()>) -> io::Result<()> {
    match timeout(LAST_WORDS, ended.wait()).await {
        Ok(end) => Err(lost(end.as_ref())),
        Err(_) => otherwise,
    }
}

impl AsyncRead for Carried {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.over {
            return Poll::Ready(Ok(()));
        }
        if self.ending.is_none() {
            let before = buffer.filled().len();
            let result = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
            if result.is_ok() && buffer.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
            self.ending = Some(Box::pin(verdict(self.ended.clone(), result)));
        }
        let Some(ending) = &mut self.ending else {
            return Poll::Pending;
        };
        let verdict = ready!(ending.as_mut().poll(context));
        self.over = true;
        Poll::Ready(verdict)
    }
}

impl AsyncWrite for Carried {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn tail(endpoint: &str) -> String {
        let words = arguments(&endpoint.parse().unwrap(), Path::new("/t/s"));
        let from = words.iter().rposition(|word| word == "-o").unwrap();
        words[from + 2..].join(" ")
    }

    #[test]
    fn ssh_is_asked_for_a_forward_through_all_jumps() {
        for (endpoint, expected) in [
            (
                "connect:tcp:127.0.0.1:7001,via=root@xcp1.lab",
                "-L /t/s:127.0.0.1:7001 -- root@xcp1.lab",
            ),
            (
                "connect:tcp:[::1]:7001,via=me@h:2222",
                "-L /t/s:[::1]:7001 -- ssh://me@h:2222",
            ),
            (
                "connect:unix:/run/a:b,via=a:22,via=b@c,via=[::1]:22",
                r"-J a:22,b@c -L /t/s:/run/a\:b -- ssh://[::1]:22",
            ),
            ("connect:unix:/run/a,via=[::1]", "-L /t/s:/run/a -- [::1]"),
        ] {
            assert_eq!(tail(endpoint), expected, "{endpoint}");
        }
    }

    #[test]
    fn the_far_ends_answer_is_read_from_what_ssh_says() {
        for (line, expected) in [
            (
                "debug2: channel 1: open confirm rwindow 2097152 rmax 32768",
                Some(None),
            ),
            (
                "channel 12: open failed: connect failed: Connection refused",
                Some(Some("connect failed: Connection refused")),
            ),
            ("debug1: channel 1: new [direct-tcpip]", None),
            ("channel x: open failed: y", None),
            ("ssh: connect to host h port 22: Connection refused", None),
        ] {
            let expected = expected.map(|reason| reason.map(str::to_owned));
            assert_eq!(answer(line), expected, "{line}");
        }
    }
}
