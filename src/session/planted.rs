//! The breakpoints that gdb planted, kept on disk while there are any: what frees a kernel after its bridge was killed.

use crate::model::{FailureKind, Problem};
use crate::rsp::Planted;
use crate::session::port_key::PortKey;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The files of one port, one per key: commands that know the port by another name find them too.
#[derive(Debug, Clone)]
pub struct PlantedFiles {
    folder: PathBuf,
    files: Vec<PathBuf>,
}

impl PlantedFiles {
    /// Names the files of a port; nothing is made.
    pub fn new(state: &Path, keys: &[PortKey]) -> Self {
        let folder = state.join("planted");
        let files = keys
            .iter()
            .map(|key| folder.join(format!("{}.json", key.id())))
            .collect();
        Self { folder, files }
    }

    /// Reads what an earlier bridge on this port left.
    ///
    /// # Errors
    ///
    /// Host: a file is there and cannot be read. Configuration: it holds something else.
    pub fn load(&self) -> Result<Planted, Problem> {
        let mut planted = Planted::default();
        for file in &self.files {
            let text = match fs::read_to_string(file) {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    let message = format!("cannot read `{}`: {error}", file.display());
                    return Err(Problem::new(FailureKind::Host, message));
                }
            };
            let found: Planted = serde_json::from_str(&text).map_err(|error| {
                Problem::new(
                    FailureKind::Configuration,
                    format!("`{}` is no list of planted breakpoints: {error}", file.display()),
                )
                .hint("Remove it if the VM was reset since: the breakpoints are gone with the kernel.")
            })?;
            planted.breakpoints.extend(found.breakpoints);
            planted.behind.extend(found.behind);
            planted.stopped |= found.stopped;
            planted.left |= found.left;
        }
        Ok(planted)
    }

    /// Writes what is planted now; the files go when nothing is. A killed process leaves them, so no sync is needed.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn keep(&self, planted: &Planted) -> io::Result<()> {
        for file in &self.files {
            if planted.is_empty() {
                match fs::remove_file(file) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => continue,
                }
            }
            fs::create_dir_all(&self.folder)?;
            let mut beside = tempfile::NamedTempFile::new_in(&self.folder)?;
            beside.write_all(&serde_json::to_vec(planted)?)?;
            beside.persist(file)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn what_was_planted_is_found_under_every_name_of_the_port_until_nothing_is() {
        let state = tempfile::tempdir().unwrap();
        let keys = ["connect:tcp:127.0.0.1:1", "connect:tcp:127.0.0.1:2"]
            .map(|text| PortKey::of_endpoint(&text.parse().unwrap()));
        let both = PlantedFiles::new(state.path(), &keys);
        assert!(both.load().unwrap().is_empty());
        let planted = Planted {
            breakpoints: [1, 2].into(),
            behind: [1].into(),
            stopped: true,
            left: false,
        };
        both.keep(&planted).unwrap();
        for key in &keys {
            let one = PlantedFiles::new(state.path(), std::slice::from_ref(key));
            assert_eq!(one.load().unwrap(), planted);
        }
        both.keep(&Planted::default()).unwrap();
        assert!(both.load().unwrap().is_empty());
        assert_eq!(fs::read_dir(state.path().join("planted")).unwrap().count(), 0);
    }
}
