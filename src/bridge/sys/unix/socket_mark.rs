//! Tells a socket's file from the one that another program made in its place, without connecting.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// A program that needs longer from `bind` to `listen` is found by the next whole dial.
const SETTLED_SECONDS: i64 = 2;

/// A socket's file as it was; equal marks are the same file, untouched, or both no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketMark(Option<(u64, u64, i64, i64)>);

impl SocketMark {
    /// Looks at the path; one system call, a tenth of a dial.
    ///
    /// # Errors
    ///
    /// The system's, save that there is no file.
    pub fn of(path: &Path) -> io::Result<Self> {
        match std::fs::metadata(path) {
            Ok(file) => Ok(Self(Some((
                file.dev(),
                file.ino(),
                file.ctime(),
                file.ctime_nsec(),
            )))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self(None)),
            Err(error) => Err(error),
        }
    }

    /// Tells whether the file is old enough to be taken for what it will stay: a program makes its file a moment before
    /// it listens.
    pub fn is_settled(&self) -> bool {
        let Some((_, _, seconds, _)) = self.0 else {
            return true;
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(now.as_secs()).is_ok_and(|now| now > seconds + SETTLED_SECONDS)
    }
}
