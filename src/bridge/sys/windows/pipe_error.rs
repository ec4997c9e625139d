//! What the numbers of pipes mean: Windows says them in words that do not tell whether a VM is off or somebody has it.

use std::fmt;
use std::io;

/// `ERROR_FILE_NOT_FOUND`.
pub(super) const ABSENT: i32 = 2;
/// `ERROR_ACCESS_DENIED`.
pub(super) const DENIED: i32 = 5;
/// `ERROR_BROKEN_PIPE`: the other end closed its handle.
pub(super) const BROKEN: i32 = 109;
/// `ERROR_PIPE_BUSY`.
pub(super) const BUSY: i32 = 231;
/// `ERROR_NO_DATA`.
const CLOSING: i32 = 232;
/// `ERROR_PIPE_NOT_CONNECTED`: the other end called `DisconnectNamedPipe`, as Hyper-V does when its VM is reset.
pub(super) const DISCONNECTED: i32 = 233;

/// A pipe's error with its number and what it means. `Display` is a fragment for the `target` event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PipeError {
    /// The system's number.
    pub code: i32,
}

impl PipeError {
    fn meaning(self) -> Option<(&'static str, &'static str, io::ErrorKind)> {
        Some(match self.code {
            ABSENT => (
                "absent",
                "no pipe has this name: the VM is off, or has no such port",
                io::ErrorKind::NotFound,
            ),
            DENIED => (
                "denied",
                "not for this user: Hyper-V wants an administrator or a member of Hyper-V Administrators",
                io::ErrorKind::PermissionDenied,
            ),
            53 | 67 => (
                "no host",
                "the pipe's host is not found in the network",
                io::ErrorKind::HostUnreachable,
            ),
            BROKEN => (
                "ended",
                "the other end closed the pipe",
                io::ErrorKind::BrokenPipe,
            ),
            BUSY => (
                "busy",
                "another program has the pipe, or the VM is being reset",
                io::ErrorKind::WouldBlock,
            ),
            CLOSING => (
                "closing",
                "the other end is closing the pipe",
                io::ErrorKind::BrokenPipe,
            ),
            DISCONNECTED => (
                "disconnected",
                "the other end let go of us: the VM was reset",
                io::ErrorKind::NotConnected,
            ),
            _ => return None,
        })
    }
}

impl fmt::Display for PipeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.meaning() {
            Some((word, meaning, _)) => write!(formatter, "{word} ({}: {meaning})", self.code),
            None => write!(formatter, "{}", io::Error::from_raw_os_error(self.code)),
        }
    }
}

impl std::error::Error for PipeError {}

/// Puts a pipe's error into words; its kind is one that the engine knows.
pub(super) fn explained(error: io::Error) -> io::Error {
    let Some(code) = error.raw_os_error() else {
        return error;
    };
    let error = PipeError { code };
    match error.meaning() {
        Some((_, _, kind)) => io::Error::new(kind, error),
        None => io::Error::from_raw_os_error(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_of_hyper_v_has_its_number_and_words() {
        for (code, start) in [
            (2, "absent (2: "),
            (5, "denied (5: "),
            (109, "ended (109: "),
            (231, "busy (231: "),
            (232, "closing (232: "),
            (233, "disconnected (233: "),
        ] {
            let error = explained(io::Error::from_raw_os_error(code));
            assert!(error.to_string().starts_with(start), "{error}");
        }
        let other = explained(io::Error::from_raw_os_error(8));
        assert_eq!(other.raw_os_error(), Some(8));
    }
}
