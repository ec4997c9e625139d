//! What Windows does not have: pseudo terminals that another program could open, and moving bytes without copying.

use super::stream::NativeStream;
use crate::bridge::channel::Facts;
use crate::model::{FailureKind, Problem};
use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::task::{Context, Poll};

/// A pseudo terminal; Windows has none that another program could open.
#[derive(Debug)]
pub struct PtyServer(Infallible);

impl PtyServer {
    /// Returns the terminal's own path.
    pub fn device(&self) -> &Path {
        match self.0 {}
    }

    /// Waits until somebody opens the terminal.
    pub fn poll_attach(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<(NativeStream, Facts)>> {
        match self.0 {}
    }
}

/// Refuses: Windows has none.
pub fn open_pty(_link: Option<&Path>) -> Result<PtyServer, Problem> {
    Err(Problem::new(
        FailureKind::Precondition,
        "`pty` endpoints are not served on Windows: another program could not open one",
    )
    .hint("Use `listen:pipe:NAME` or `listen:tcp:127.0.0.1:PORT`."))
}

/// Bulk without copying; Windows has nothing like it for these streams.
#[derive(Debug)]
pub struct Splice(Infallible);

impl Splice {
    /// Refuses.
    pub fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Tells whether bytes can be moved so between these streams.
    pub fn can_join(_from: &NativeStream, _to: &NativeStream) -> bool {
        false
    }

    /// Returns how many bytes are on their way.
    pub fn inside(&self) -> usize {
        match self.0 {}
    }

    /// Takes bytes from a stream.
    pub fn poll_fill(&mut self, _from: &NativeStream, _context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self.0 {}
    }

    /// Gives what is inside to a stream.
    pub fn poll_empty(
        &mut self,
        _to: &NativeStream,
        _context: &mut Context<'_>,
    ) -> (usize, Poll<io::Result<()>>) {
        match self.0 {}
    }

    /// Takes what is inside out again.
    pub fn take_out(&mut self) -> io::Result<Vec<u8>> {
        match self.0 {}
    }
}

/// A Unix socket's file; Windows serves none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketMark(Infallible);

impl SocketMark {
    /// Refuses.
    ///
    /// # Errors
    ///
    /// Always.
    pub fn of(_path: &Path) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Tells whether the file will stay as it is.
    pub fn is_settled(&self) -> bool {
        match self.0 {}
    }
}
