//! The raw log of a port: what the target sent, appended before anybody else gets it. A full disk never stops a session.

use crate::bridge::event::Event;
use crate::bridge::sys;
use crate::model::{FailureKind, Problem};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// An open log.
#[derive(Debug)]
pub struct Capture {
    path: PathBuf,
    file: File,
    missing: u64,
}

impl Capture {
    /// Opens the log, private and appended to.
    ///
    /// # Errors
    ///
    /// Precondition, with the system's words.
    pub fn open(path: &Path) -> Result<Self, Problem> {
        let file = sys::create_private_file(path).map_err(|error| {
            Problem::new(
                FailureKind::Precondition,
                format!("cannot write the log `{}`: {error}", path.display()),
            )
            .hint("Name a file in a folder that exists and that you may write to.")
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            missing: 0,
        })
    }

    /// Returns the log's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends bytes. The first failure and the first success after one are told as events; each chunk is tried again.
    pub fn write(&mut self, bytes: &[u8]) -> Option<Event> {
        let failed_before = self.missing > 0;
        match self.append(bytes) {
            Ok(()) if failed_before => {
                let missing = std::mem::take(&mut self.missing);
                Some(Event::Log {
                    state: "written",
                    reason: format!("{missing} bytes are missing in `{}`", self.path.display()),
                })
            }
            Ok(()) => None,
            Err((written, error)) => {
                self.missing += (bytes.len() - written) as u64;
                (!failed_before).then(|| Event::Log {
                    state: "failed",
                    reason: format!("cannot write `{}`: {error}", self.path.display()),
                })
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut written = 0;
        while written < bytes.len() {
            match self.file.write(&bytes[written..]) {
                Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((written, error)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_full_disk_is_told_once_and_its_bytes_are_counted() {
        let full = Path::new("/dev/full");
        if !full.exists() {
            return;
        }
        let mut capture = Capture::open(full).unwrap();
        let first = capture.write(b"abc").unwrap();
        assert!(matches!(first, Event::Log { state: "failed", .. }), "{first:?}");
        assert_eq!(capture.write(b"defg"), None);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        capture.file = sys::create_private_file(&path).unwrap();
        let again = capture.write(b"hi").unwrap();
        let Event::Log { state, reason } = again else {
            panic!("{again:?}");
        };
        assert_eq!(state, "written");
        assert!(reason.starts_with("7 bytes are missing"), "{reason}");
        assert_eq!(std::fs::read(&path).unwrap(), b"hi");
    }

    #[test]
    fn a_log_is_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        assert_eq!(Capture::open(&path).unwrap().write(b"one"), None);
        assert_eq!(Capture::open(&path).unwrap().write(b"two"), None);
        assert_eq!(std::fs::read(&path).unwrap(), b"onetwo");
    }
}
