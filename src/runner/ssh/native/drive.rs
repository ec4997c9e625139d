//! Runs one call of a session that does not block to its end: the login, before the connection has its thread.

use super::sys::{self, Interest, Socket};
use crate::model::{FailureKind, Problem};
use ssh2::{BlockDirections, ErrorCode, Session};
use std::time::{Duration, Instant};

/// A host that does not go on with a login for so long is given up.
const PATIENCE: Duration = Duration::from_secs(15);

/// How often a wait looks whether anybody still wants the connection.
const LOOK: Duration = Duration::from_millis(100);

const EAGAIN: ErrorCode = ErrorCode::Session(-37);

/// A session on its way to being logged in.
pub struct Drive<'a> {
    /// The session; it does not block.
    pub session: &'a Session,
    /// Its socket.
    pub socket: &'a Socket,
    /// Name of the host.
    pub host: &'a str,
    /// Tells that nobody wants the connection any more.
    pub given_up: &'a dyn Fn() -> bool,
}

impl Drive<'_> {
    /// Calls until the call is through. The inner result is the call's own.
    ///
    /// # Errors
    ///
    /// The host is silent, or nobody waits for it any more.
    pub fn run<T>(
        &self,
        what: &str,
        mut call: impl FnMut(&Session) -> Result<T, ssh2::Error>,
    ) -> Result<Result<T, ssh2::Error>, Problem> {
        let mut began = Instant::now();
        loop {
            let called = Instant::now();
            match call(self.session) {
                Err(error) if error.code() == EAGAIN => {}
                result => return Ok(result),
            }
            // A call that took long asked somebody at the terminal: that time is not the host's.
            if called.elapsed() > Duration::from_secs(1) {
                began = Instant::now();
            }
            if (self.given_up)() {
                return Err(Problem::new(
                    FailureKind::Interrupted,
                    format!("nobody waits for {} any more", self.host),
                ));
            }
            if began.elapsed() >= PATIENCE {
                let message = format!(
                    "`{}` did not answer for {} s while waiting for {what}",
                    self.host,
                    PATIENCE.as_secs()
                );
                return Err(Problem::new(FailureKind::Deadline, message)
                    .hint("Something answers at that address, but it does not speak SSH now."));
            }
            let directions = self.session.block_directions();
            let interest = Interest {
                read: directions != BlockDirections::Outbound,
                write: matches!(directions, BlockDirections::Outbound | BlockDirections::Both),
                end: true,
            };
            // What went wrong the next call says.
            let _ = sys::poll(self.socket, interest, None, LOOK);
        }
    }

    /// Says that the connection broke.
    pub fn lost(&self, error: &ssh2::Error) -> Problem {
        Problem::new(
            FailureKind::Host,
            format!(
                "`{}` ended the connection at the login: {}",
                self.host,
                error.message()
            ),
        )
    }
}
