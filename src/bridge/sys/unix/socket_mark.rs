//! Tells a socket's file from the one that another program made in its place, without connecting.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

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
}
