//! A file that is appended to, and makes room for the next when it is full.

use crate::bridge::sys;
use crate::model::{FailureKind, Problem, Rotation};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where a full file may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// After a line if one ends in what still fits, else anywhere.
    Anywhere,
    /// After a line only, even if that line is bigger than the file may be.
    Lines,
}

/// An append that did not get everything out.
#[derive(Debug)]
pub(super) struct Unwritten {
    /// Bytes that are in the file.
    pub written: usize,
    /// Why no more.
    pub error: io::Error,
}

/// An open log.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    /// `None` for what is no regular file: a terminal or a FIFO cannot be full.
    rotation: Option<Rotation>,
    /// The size at which the file makes room; later than `max_bytes` after a rotation that failed.
    full_at: u64,
    /// Rotations since they were last asked for, and how they went.
    rotated: Vec<io::Result<()>>,
}

impl LogFile {
    /// Opens a log, private and appended to.
    ///
    /// # Errors
    ///
    /// Precondition, with the system's words.
    pub fn open(path: &Path, rotation: Option<Rotation>) -> Result<Self, Problem> {
        sys::survive_file_size_limit();
        let opened = sys::create_private_file(path).and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) = opened.map_err(|error| {
            Problem::new(
                FailureKind::Precondition,
                format!("cannot write the log `{}`: {error}", path.display()),
            )
            .hint("Name a file in a folder that exists and that you may write to.")
        })?;
        let rotation = rotation.filter(|_| metadata.is_file());
        Ok(Self {
            path: path.to_owned(),
            file,
            size: metadata.len(),
            full_at: rotation.map_or(u64::MAX, |rotation| rotation.max_bytes),
            rotation,
            rotated: Vec::new(),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns how the rotations went since the last call.
    pub fn take_rotated(&mut self) -> Vec<io::Result<()>> {
        std::mem::take(&mut self.rotated)
    }

    /// Appends bytes, making room as often as needed.
    pub fn append(&mut self, bytes: &[u8], cut: Cut) -> Result<(), Unwritten> {
        let mut written = 0;
        while written < bytes.len() {
            let rest = &bytes[written..];
            let count = self.fitting(rest, cut);
            if count == 0 {
                self.rotate();
                continue;
            }
            match self.write_all(&rest[..count]) {
                Ok(()) => written += count,
                Err(Unwritten { written: part, error }) => {
                    return Err(Unwritten {
                        written: written + part,
                        error,
                    });
                }
            }
        }
        Ok(())
    }

    /// Returns how many of the bytes go into this file; 0 when it has to make room first.
    fn fitting(&self, bytes: &[u8], cut: Cut) -> usize {
        let room = usize::try_from(self.full_at.saturating_sub(self.size)).unwrap_or(usize::MAX);
        if bytes.len() <= room {
            return bytes.len();
        }
        let line = bytes[..room].iter().rposition(|&byte| byte == b'\n');
        match (line, cut) {
            (Some(end), _) => end + 1,
            (None, Cut::Anywhere) => room,
            (None, Cut::Lines) if self.size == 0 => bytes
                .iter()
                .position(|&byte| byte == b'\n')
                .map_or(bytes.len(), |end| end + 1),
            (None, Cut::Lines) => 0,
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Unwritten> {
        let mut written = 0;
        while written < bytes.len() {
            match self.file.write(&bytes[written..]) {
                Ok(0) => {
                    let error = io::ErrorKind::WriteZero.into();
                    return Err(Unwritten { written, error });
                }
                Ok(count) => {
                    written += count;
                    self.size += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Unwritten { written, error }),
            }
        }
        Ok(())
    }

    /// Takes the last `count` bytes back: half a record helps nobody. False if they must stay, because somebody else
    /// writes here too or the system refuses.
    pub fn take_back(&mut self, count: u64) -> bool {
        let taken = self.file.metadata().is_ok_and(|metadata| {
            metadata.is_file()
                && metadata.len() == self.size
                && self.file.set_len(self.size.saturating_sub(count)).is_ok()
        });
        if taken {
            self.size -= count;
        }
        taken
    }

    /// Puts the full file aside and begins an empty one. If that fails, this one goes on and grows.
    fn rotate(&mut self) {
        let Some(rotation) = self.rotation else {
            self.full_at = u64::MAX;
            return;
        };
        let result = self.put_aside(rotation.keep).and_then(|()| {
            let created = sys::create_private_file(&self.path);
            if created.is_err() && rotation.keep > 0 {
                // Under its old name it is still the file that people look at.
                fs::rename(self.aside(1), &self.path)?;
            }
            created
        });
        match result {
            Ok(file) => {
                self.file = file;
                self.size = 0;
                self.full_at = rotation.max_bytes;
                self.rotated.push(Ok(()));
            }
            Err(error) => {
                self.full_at = self.size + rotation.max_bytes;
                self.rotated.push(Err(error));
            }
        }
    }

    /// Renames the full files, the oldest first, so that none is ever overwritten by a younger one. A number that is free
    /// (somebody removed that file, or a rotation was interrupted) takes the one before it, and the older stay.
    fn put_aside(&self, keep: u32) -> io::Result<()> {
        if keep == 0 {
            return fs::remove_file(&self.path);
        }
        let free = (1..keep)
            .find(|&number| !self.aside(number).exists())
            .unwrap_or(keep);
        for number in (1..free).rev() {
            fs::rename(self.aside(number), self.aside(number + 1))?;
        }
        fs::rename(&self.path, self.aside(1))
    }

    fn aside(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;

    fn files(log: &LogFile) -> Vec<Vec<u8>> {
        let aside = (1..).map(|number| log.aside(number));
        let mut all: Vec<_> = aside.map_while(|path| fs::read(path).ok()).collect();
        all.reverse();
        all.push(fs::read(log.path()).unwrap());
        all
    }

    fn rotation(max_bytes: u64, keep: u32) -> Option<Rotation> {
        Some(Rotation { max_bytes, keep })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 5))]
        #[test]
        fn the_rotated_files_are_the_newest_part_of_the_stream(
            parts in proptest::collection::vec("[a-c\n]{0,40}", 0..30),
            max_bytes in 1u64..60,
            keep in 0u32..4,
            lines in any::<bool>(),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut log = LogFile::open(&folder.path().join("log"), rotation(max_bytes, keep)).unwrap();
            let cut = if lines { Cut::Lines } else { Cut::Anywhere };
            let mut stream = Vec::new();
            for mut part in parts {
                if lines && !part.is_empty() {
                    part.push('\n');
                }
                log.append(part.as_bytes(), cut).unwrap();
                stream.extend(part.into_bytes());
            }
            let files = files(&log);
            let kept = files.concat();
            prop_assert!(stream.ends_with(&kept), "{:?} of {:?}", kept, stream);
            prop_assert!(files.len() <= keep as usize + 1);
            for file in &files {
                let one_line = file.iter().filter(|&&byte| byte == b'\n').count() == 1;
                prop_assert!(file.len() as u64 <= max_bytes || (lines && one_line), "{:?}", file);
                prop_assert!(!lines || file.is_empty() || file.ends_with(b"\n"));
            }
            // Nothing goes before the files are full.
            if files.len() <= keep as usize {
                prop_assert_eq!(kept, stream);
            }
        }
    }

    #[test]
    fn a_file_that_was_removed_or_an_interrupted_rotation_loses_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(&folder.path().join("log"), rotation(2, 3)).unwrap();
        log.append(b"1\n2\n3\n4\n", Cut::Lines).unwrap();
        assert_eq!(files(&log).concat(), b"1\n2\n3\n4\n");
        // As a rotation leaves it that got no further than its first rename but one.
        fs::remove_file(log.aside(2)).unwrap();
        log.append(b"5\n", Cut::Lines).unwrap();
        assert_eq!(fs::read(log.aside(1)).unwrap(), b"4\n");
        assert_eq!(fs::read(log.aside(2)).unwrap(), b"3\n");
        assert_eq!(fs::read(log.aside(3)).unwrap(), b"1\n");
    }

    #[test]
    fn a_rotation_that_fails_is_told_and_the_log_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(&folder.path().join("log"), rotation(4, 1)).unwrap();
        // A folder cannot be replaced by a file.
        fs::create_dir_all(log.aside(1).join("x")).unwrap();
        log.append(b"one\ntwo\n", Cut::Lines).unwrap();
        assert!(matches!(log.take_rotated()[..], [Err(_)]));
        assert_eq!(fs::read(log.path()).unwrap(), b"one\ntwo\n");
        fs::remove_dir_all(log.aside(1)).unwrap();
        log.append(b"six\n", Cut::Lines).unwrap();
        assert!(matches!(log.take_rotated()[..], [Ok(())]));
        assert_eq!(files(&log), [b"one\ntwo\n".to_vec(), b"six\n".to_vec()]);
    }

    #[test]
    fn a_log_is_appended_to_and_counts_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        LogFile::open(&path, None)
            .unwrap()
            .append(b"one\n", Cut::Anywhere)
            .unwrap();
        let mut log = LogFile::open(&path, rotation(6, 1)).unwrap();
        log.append(b"two\n", Cut::Anywhere).unwrap();
        assert_eq!(files(&log), [b"one\ntw".to_vec(), b"o\n".to_vec()]);
    }

    #[test]
    fn half_a_record_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(&folder.path().join("log"), None).unwrap();
        log.append(b"whole\nhal", Cut::Anywhere).unwrap();
        assert!(log.take_back(3));
        log.append(b"next\n", Cut::Anywhere).unwrap();
        assert_eq!(fs::read(log.path()).unwrap(), b"whole\nnext\n");
        fs::write(log.path(), b"somebody else's").unwrap();
        assert!(!log.take_back(3));
    }
}
