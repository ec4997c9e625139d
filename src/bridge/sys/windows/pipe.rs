//! An open named pipe, either end, and going to one. Byte mode: where a peer writes messages their borders are ignored.

use super::pipe_error::{ABSENT, BROKEN, BUSY, DENIED, DISCONNECTED, PipeError, explained};
use super::stream::NativeStream;
use crate::bridge::channel::Facts;
use crate::model::{FailureKind, Problem};
use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, OwnedHandle};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::windows::named_pipe::{ClientOptions, NamedPipeClient, NamedPipeServer};
use tokio::task::JoinHandle;
use windows_sys::Win32::Storage::FileSystem::FlushFileBuffers;
use windows_sys::Win32::System::Pipes::{
    GetNamedPipeClientProcessId, GetNamedPipeServerProcessId, PeekNamedPipe,
};

/// Named pipes are opened by this program itself.
pub const HAS_NAMED_PIPES: bool = true;

/// What every pipe's path of this machine begins with.
pub(super) const PREFIX: &str = r"\\.\pipe\";

/// Returns the path of a named pipe, as `CreateFile` wants it.
///
/// # Errors
///
/// None here; the twin refuses.
pub fn pipe_path(host: Option<&str>, name: &str) -> Result<PathBuf, Problem> {
    Ok(PathBuf::from(match host {
        Some(host) => format!(r"\\{host}\pipe\{name}"),
        None => format!("{PREFIX}{name}"),
    }))
}

/// Tells whether a path is a pipe's, of this machine or another.
pub(super) fn is_pipe(path: &Path) -> bool {
    let text = path.to_string_lossy().to_ascii_lowercase();
    text.strip_prefix(r"\\")
        .and_then(|rest| rest.split_once('\\'))
        .is_some_and(|(_, rest)| rest.starts_with(r"pipe\"))
}

pub(super) fn no_unix_sockets() -> Problem {
    Problem::new(
        FailureKind::Precondition,
        "`unix:` endpoints are not served on Windows",
    )
    .hint("Use `pipe:NAME` or `tcp:HOST:PORT`.")
}

/// Makes sure that this can be a target. Whether the pipe is there is not looked at: to look is to take its only place.
///
/// # Errors
///
/// Precondition: Windows has no such sockets.
pub fn check_target_path(path: &Path) -> Result<(), Problem> {
    if is_pipe(path) {
        Ok(())
    } else {
        Err(no_unix_sockets())
    }
}

/// Goes to a pipe once.
///
/// # Errors
///
/// The system's, with its number and meaning: absent (2), denied (5), busy (231).
pub async fn dial_local(path: &Path) -> io::Result<(NativeStream, Facts)> {
    if !is_pipe(path) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // Not `WaitNamedPipe`: it returns at once when there is no pipe, and waits where others wait too when there is one.
    let pipe = ClientOptions::new().open(path).map_err(explained)?;
    let mut pid = 0;
    // SAFETY: the handle is open; `pid` is a valid place for the result.
    let known = unsafe { GetNamedPipeServerProcessId(pipe.as_raw_handle(), &raw mut pid) } != 0;
    let facts = Facts::whole(peer(known, pid));
    Ok((NativeStream::Pipe(PipeStream::new(End::Client(pipe))), facts))
}

fn peer(known: bool, pid: u32) -> String {
    if known && pid != 0 {
        format!("pid {pid}")
    } else {
        String::new()
    }
}

/// Which end of the pipe we have.
#[derive(Debug)]
pub(super) enum End {
    Client(NamedPipeClient),
    Server(NamedPipeServer),
}

impl AsHandle for End {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        match self {
            Self::Client(pipe) => pipe.as_handle(),
            Self::Server(pipe) => pipe.as_handle(),
        }
    }
}

/// An open named pipe. Flushing waits until the other end has read everything: what lies in a pipe is lost when its
/// server disconnects.
#[derive(Debug)]
pub struct PipeStream {
    end: End,
    /// Something was written since the last flush.
    unflushed: bool,
    flush: Option<JoinHandle<io::Result<()>>>,
    ended: Option<PipeError>,
}

impl PipeStream {
    pub(super) fn new(end: End) -> Self {
        Self {
            end,
            unflushed: false,
            flush: None,
            ended: None,
        }
    }

    /// Wraps a server's end that a client has come to.
    pub(super) fn accepted(pipe: NamedPipeServer) -> (Self, Facts) {
        let mut pid = 0;
        // SAFETY: the handle is open; `pid` is a valid place for the result.
        let known = unsafe { GetNamedPipeClientProcessId(pipe.as_raw_handle(), &raw mut pid) } != 0;
        let facts = Facts::whole(peer(known, pid));
        (Self::new(End::Server(pipe)), facts)
    }

    /// Says why the input ended.
    pub fn end_reason(&self) -> String {
        self.ended
            .map_or_else(|| "ended".to_owned(), |error| error.to_string())
    }

    /// Tells whether the other end has closed the pipe or let go of us.
    pub fn peer_is_gone(&self) -> bool {
        self.ended.is_some() || self.look().is_err()
    }

    /// Tells an end from a write of no bytes, which the other end may make: both are read as nothing.
    fn look(&self) -> io::Result<()> {
        // SAFETY: the handle is open; nothing is copied, so no place is given.
        let alive = unsafe {
            PeekNamedPipe(
                self.end.as_handle().as_raw_handle(),
                std::ptr::null_mut(),
                0,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
        if alive == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

fn flush(handle: &OwnedHandle) -> io::Result<()> {
    // SAFETY: the handle is ours and open.
    if unsafe { FlushFileBuffers(handle.as_raw_handle()) } == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

impl AsyncRead for PipeStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        loop {
            let before = buffer.filled().len();
            let result = match &mut stream.end {
                End::Client(pipe) => Pin::new(pipe).poll_read(context, buffer),
                End::Server(pipe) => Pin::new(pipe).poll_read(context, buffer),
            };
            let error = match result {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if buffer.filled().len() > before || buffer.remaining() == 0 => {
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(())) => match stream.look() {
                    Ok(()) => continue,
                    Err(error) => error,
                },
                Poll::Ready(Err(error)) => error,
            };
            return match error.raw_os_error() {
                Some(code @ (BROKEN | DISCONNECTED)) => {
                    stream.ended = Some(PipeError { code });
                    Poll::Ready(Ok(()))
                }
                _ => Poll::Ready(Err(explained(error))),
            };
        }
    }
}

impl AsyncWrite for PipeStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        if bytes.is_empty() {
            // Nothing written is an end for peers that read messages.
            return Poll::Ready(Ok(0));
        }
        let result = match &mut stream.end {
            End::Client(pipe) => Pin::new(pipe).poll_write(context, bytes),
            End::Server(pipe) => Pin::new(pipe).poll_write(context, bytes),
        };
        stream.unflushed |= result.is_ready();
        result.map_err(explained)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        loop {
            if let Some(task) = &mut stream.flush {
                let result = match Pin::new(task).poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(result) => result,
                };
                stream.flush = None;
                // A task that was cancelled ends with its runtime: nobody waits any more.
                if let Ok(Err(error)) = result {
                    return Poll::Ready(Err(explained(error)));
                }
            }
            if !stream.unflushed {
                return Poll::Ready(Ok(()));
            }
            stream.unflushed = false;
            // `FlushFileBuffers` blocks until the other end has read, so it gets a thread and a handle of its own.
            let handle = stream.end.as_handle().try_clone_to_owned()?;
            stream.flush = Some(tokio::task::spawn_blocking(move || flush(&handle)));
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

/// Puts what keeps us from making a pipe into words.
pub(super) fn cannot_listen(path: &Path, error: &io::Error) -> Problem {
    let shown = path.display();
    let problem = |reason: &str| {
        Problem::new(
            FailureKind::Precondition,
            format!("cannot listen on `{shown}`: {reason}"),
        )
    };
    match error.raw_os_error() {
        Some(DENIED | BUSY) => problem("a program serves a pipe of this name already")
            .hint("End that program or choose another name; vmserial takes nobody's name over."),
        Some(ABSENT | 123 | 161) => problem("this is no name for a pipe")
            .hint("Write `pipe:NAME`; the name has no backslash and at most 256 characters."),
        _ => problem(&error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_are_told_from_paths() {
        for path in [r"\\.\pipe\x", r"\\HOST\PIPE\x", r"\\.\Pipe\vmserial-1"] {
            assert!(is_pipe(Path::new(path)), "{path}");
        }
        for path in [r"C:\pipe\x", r"\\host\share\x", "/tmp/x", r"\\.\COM3"] {
            assert!(!is_pipe(Path::new(path)), "{path}");
        }
    }
}
