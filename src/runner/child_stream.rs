//! A command's standard input and output as a stream (`exec:`).

use super::attended::{Attended, Children, End, Ended, Streams, TakeLine};
use crate::bridge::{Channel, Facts, Remarks};
use crate::model::{EndpointSpec, ExecCommand};
use crate::runner::{Status, sys};
use std::io;
use std::pin::Pin;
use std::process::Command;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::process::{ChildStdin, ChildStdout};

/// A command whose standard input was closed has this long to end by itself.
const GRACE: Duration = Duration::from_millis(500);

/// After the end of its output a command's status is waited for this long: it is the reason of the end.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The stream of a running command. The end of its output is an error if the command failed, with the last line that it
/// said. Dropping it ends the command.
pub(super) struct ChildStream {
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    child: Attended,
    ending: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send>>>,
    over: bool,
}

/// Starts the command of an `exec:` endpoint.
///
/// # Errors
///
/// `NotFound` in words if there is no such program; the system's refusal to start it.
pub(super) fn start(
    endpoint: &EndpointSpec,
    command: &ExecCommand,
    remarks: &Remarks,
    children: &Children,
) -> io::Result<Channel> {
    let name = command.program().to_owned();
    let invocation = sys::command(command.words(), command.written());
    which::which(invocation.get_program())
        .map_err(|_| io::Error::other(format!("`{name}` was not found")))?;
    let (of, remarks) = (endpoint.clone(), remarks.clone());
    let take_line = Box::new(move |line: &str| {
        remarks.say(&of, line.to_owned());
        true
    });
    let stream = over(invocation, &name, take_line, children)?;
    Ok(Channel::new(stream, Facts::half_closing(name)))
}

/// Starts a command whose standard input and output are a stream.
///
/// # Errors
///
/// The system's refusal to start it.
pub(super) fn over(
    invocation: Command,
    name: &str,
    take_line: TakeLine,
    children: &Children,
) -> io::Result<ChildStream> {
    let (child, pipes) = Attended::start(invocation, Streams::Both, GRACE, take_line, children)
        .map_err(|error| io::Error::other(format!("`{name}` cannot be started: {error}")))?;
    let (stdin, stdout) = pipes.ok_or_else(|| io::Error::other(format!("`{name}` has no pipes")))?;
    Ok(ChildStream {
        stdin: Some(stdin),
        stdout,
        child,
        ending: None,
        over: false,
    })
}

impl ChildStream {
    /// Returns the end of the command, to be waited for.
    pub(super) fn ended(&self) -> Ended {
        self.child.ended()
    }
}

/// Puts a failed end into words; `None` for success.
pub(super) fn failure(end: &End) -> Option<String> {
    if end.status == Status::Exited(0) {
        return None;
    }
    let how = end.status.to_string();
    Some(match &end.last_line {
        Some(line) => format!("{how}: {line}"),
        None => how,
    })
}

async fn verdict(mut ended: Ended) -> io::Result<()> {
    match tokio::time::timeout(LAST_WORDS, ended.wait()).await {
        Ok(Some(end)) => failure(&end).map_or(Ok(()), |failure| Err(io::Error::other(failure))),
        // It closed its output and goes on, which is an end like any other.
        Ok(None) | Err(_) => Ok(()),
    }
}

impl AsyncRead for ChildStream {
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
            ready!(Pin::new(&mut self.stdout).poll_read(context, buffer))?;
            if buffer.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
        let ended = self.child.ended();
        let ending = self.ending.get_or_insert_with(|| Box::pin(verdict(ended)));
        let verdict = ready!(ending.as_mut().poll(context));
        self.over = true;
        Poll::Ready(verdict)
    }
}

impl AsyncWrite for ChildStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_write(context, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_flush(context),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A pipe has no half-close but its end.
        self.stdin = None;
        Poll::Ready(Ok(()))
    }
}
