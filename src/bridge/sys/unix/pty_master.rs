//! The master side of a pseudo terminal: it is hung up and comes back, which the reactor does not expect.

use crate::model::{FailureKind, Problem};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::io;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The master side. The reactor takes a hang-up for final and reports the descriptor ready for ever after; here it ends
/// with the next user, so the descriptor is registered afresh when it was reported closed and is not.
#[derive(Debug)]
pub(super) struct Master(Option<AsyncFd<OwnedFd>>);

fn register_master(master: OwnedFd) -> Result<AsyncFd<OwnedFd>, Problem> {
    register(master, Interest::READABLE | Interest::WRITABLE)
}

impl Master {
    /// Hands a terminal's master side to the reactor.
    ///
    /// # Errors
    ///
    /// Precondition: the system has no room for another watched descriptor.
    pub fn new(master: OwnedFd) -> Result<Self, Problem> {
        Ok(Self(Some(register_master(master)?)))
    }

    pub fn registered(&self) -> io::Result<&AsyncFd<OwnedFd>> {
        self.0
            .as_ref()
            .ok_or_else(|| io::Error::other("the terminal could not be watched any more"))
    }

    fn renew(&mut self) -> io::Result<()> {
        if let Some(master) = self.0.take() {
            self.0 = Some(
                register_master(master.into_inner()).map_err(|problem| io::Error::other(problem.message))?,
            );
        }
        Ok(())
    }

    pub fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let master = self.registered()?;
            let mut guard = ready!(master.poll_read_ready(context))?;
            match rustix::io::read(master.get_ref(), &mut *buffer) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let reported_closed = guard.ready().is_read_closed();
                    guard.clear_ready();
                    if reported_closed {
                        self.renew()?;
                    }
                }
                // The last user closed the terminal, and everything that was written to it has been read.
                Err(Errno::IO) => return Poll::Ready(Ok(0)),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Reads what is there, whatever the reactor knows; 0 if there is nothing.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::io::read(self.registered()?.get_ref(), &mut *buffer) {
                Ok(count) => return Ok(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::IO) => return Ok(0),
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let master = self.registered()?;
            let mut guard = ready!(master.poll_write_ready(context))?;
            match rustix::io::write(master.get_ref(), bytes) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let reported_closed = guard.ready().is_write_closed();
                    guard.clear_ready();
                    if reported_closed {
                        self.renew()?;
                        if self.registered()?.poll_write_ready(context).is_ready() {
                            // Full and hung up: the reader sees the end, and the client goes.
                            return Poll::Pending;
                        }
                    }
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

/// Hands a descriptor to the reactor.
pub(super) fn register(descriptor: OwnedFd, interest: Interest) -> Result<AsyncFd<OwnedFd>, Problem> {
    // SAFETY: an `OwnedFd` is open for as long as it lives, always with the same number, and `AsyncFd` owns it from here.
    unsafe { AsyncFd::register_with_interest(descriptor, interest) }.map_err(|error| {
        Problem::new(
            FailureKind::Precondition,
            format!("cannot watch a pseudo terminal: {error}"),
        )
    })
}
