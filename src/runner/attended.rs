//! A child process of a stream: attended until it has ended, so that there are no zombies and nobody is left behind.

use crate::runner::{Status, sys};
use std::io;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// After SIGTERM a child has this long before it is killed.
const AFTER_TERMINATE: Duration = Duration::from_secs(1);

/// How long standard error is read after the child has ended: a process that it left behind may hold it for ever.
const AFTER_THE_END: Duration = Duration::from_millis(200);

/// A longer line of standard error is told in parts.
const LONGEST_LINE: usize = 4096;

/// Takes each line of a child's standard error; answers whether it is for people, and so may become the reason of its end.
pub type TakeLine = Box<dyn FnMut(&str) -> bool + Send>;

/// How a child ended.
#[derive(Debug, Clone)]
pub struct End {
    /// Its status.
    pub status: Status,
    /// The last line for people on its standard error.
    pub last_line: Option<String>,
}

/// All children of one bridge.
#[derive(Debug, Clone, Default)]
pub struct Children(Arc<Mutex<Vec<JoinHandle<()>>>>);

impl Children {
    fn add(&self, attending: JoinHandle<()>) {
        // A panic elsewhere cannot have left half of it.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|attending| !attending.is_finished());
        all.push(attending);
    }

    /// Returns when all have ended. Those whose [`Attended`] is gone end soon.
    pub async fn wait(&self) {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for attending in all {
            // A task that panicked attends nobody; its child is killed by the drop.
            let _ = attending.await;
        }
    }
}

/// A running child. Dropping it ends the child: at once politely (its pipes are closed by their own drop), after `grace`
/// by SIGTERM to it and its group, at last for sure.
#[derive(Debug)]
pub struct Attended {
    ended: watch::Receiver<Option<End>>,
    _wanted: oneshot::Sender<()>,
}

/// What of a child is wanted as a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// Its standard input and output.
    Both,
    /// Nothing: both are empty.
    Neither,
}

impl Attended {
    /// Starts a child in a session of its own: our terminal's signals do not reach it, and it has no terminal to ask on.
    /// Needs a running tokio runtime.
    ///
    /// # Errors
    ///
    /// The system's refusal to start it.
    pub fn start(
        mut command: Command,
        streams: Streams,
        grace: Duration,
        take_line: TakeLine,
        children: &Children,
    ) -> io::Result<(Self, Option<(ChildStdin, ChildStdout)>)> {
        sys::own_session(&mut command);
        let stdio = || match streams {
            Streams::Both => Stdio::piped(),
            Streams::Neither => Stdio::null(),
        };
        command.stdin(stdio()).stdout(stdio()).stderr(Stdio::piped());
        tracing::debug!(?command, "starting for a stream");
        let mut child = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let last_line = Arc::new(Mutex::new(None));
        let remarks = child
            .stderr
            .take()
            .map(|stderr| tokio::spawn(read_lines(stderr, take_line, Arc::clone(&last_line))));
        let (wanted, unwanted) = oneshot::channel();
        let (end, ended) = watch::channel(None);
        children.add(tokio::spawn(async move {
            let status = attend(&mut child, unwanted, grace).await;
            if let Some(remarks) = remarks {
                // What it said last comes with its end, unless somebody else holds the pipe.
                let _ = tokio::time::timeout(AFTER_THE_END, remarks).await;
            }
            let last_line = last_line.lock().unwrap_or_else(PoisonError::into_inner).clone();
            tracing::debug!(?status, ?last_line, "ended");
            // Whoever held the stream may be gone.
            let _ = end.send(Some(End { status, last_line }));
        }));
        Ok((
            Self {
                ended,
                _wanted: wanted,
            },
            pipes,
        ))
    }

    /// Tells how it ended, if it has.
    pub fn end(&self) -> Option<End> {
        self.ended.borrow().clone()
    }

    /// Returns what tells its end.
    pub fn ended(&self) -> Ended {
        Ended(self.ended.clone())
    }
}

/// Waits for a child's end.
#[derive(Debug, Clone)]
pub struct Ended(watch::Receiver<Option<End>>);

impl Ended {
    /// Returns how it ended, once it has.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only waits.
    pub async fn wait(&mut self) -> Option<End> {
        match self.0.wait_for(Option::is_some).await {
            Ok(end) => end.clone(),
            // Its task is gone with the runtime.
            Err(_) => None,
        }
    }
}

async fn attend(child: &mut Child, unwanted: oneshot::Receiver<()>, grace: Duration) -> Status {
    tokio::select! {
        status = child.wait() => return status_of(status),
        _ = unwanted => {}
    }
    if let Ok(status) = tokio::time::timeout(grace, child.wait()).await {
        return status_of(status);
    }
    if let Some(pid) = child.id() {
        sys::terminate_group(pid);
    }
    if let Ok(status) = tokio::time::timeout(AFTER_TERMINATE, child.wait()).await {
        return status_of(status);
    }
    if let Some(pid) = child.id() {
        sys::kill_group(pid);
    }
    // The child itself, where there are no groups.
    let _ = child.start_kill();
    status_of(child.wait().await)
}

fn status_of(status: io::Result<ExitStatus>) -> Status {
    match status {
        Ok(status) => match status.code() {
            Some(code) => Status::Exited(code),
            None => Status::Signalled(sys::signal_of(status)),
        },
        // Somebody else has waited for it.
        Err(_) => Status::Exited(0),
    }
}

async fn read_lines(
    mut stderr: impl AsyncRead + Unpin,
    mut take_line: TakeLine,
    last_line: Arc<Mutex<Option<String>>>,
) {
    let mut pending = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let count = stderr.read(&mut chunk).await.unwrap_or_default();
        pending.extend_from_slice(&chunk[..count]);
        loop {
            let end = pending.iter().position(|&byte| byte == b'\n');
            let taken = match end {
                Some(end) => end + 1,
                None if pending.len() >= LONGEST_LINE => LONGEST_LINE,
                None if count == 0 && !pending.is_empty() => pending.len(),
                None => break,
            };
            let bytes: Vec<u8> = pending.drain(..taken).collect();
            let text = String::from_utf8_lossy(&bytes);
            let line = text.trim_end_matches(['\r', '\n']);
            if take_line(line) && !line.trim().is_empty() {
                *last_line.lock().unwrap_or_else(PoisonError::into_inner) = Some(line.to_owned());
            }
        }
        if count == 0 {
            return;
        }
    }
}
