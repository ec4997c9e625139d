//! A folder of ours on a host, reached through its runner: every write is on disk before it returns.

use crate::model::{Cancel, Deadline, Digest, HostPath, Problem, Wait};
use crate::runner::{FileSnapshot, Runner};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long one file may take; a remote disk that hangs must not hang an apply for ever.
const ONE_FILE: Duration = Duration::from_secs(30);

/// Only the owner may read what the journal keeps: a configuration file may hold secrets.
const PRIVATE: u32 = 0o600;

/// A folder on a host.
#[derive(Clone)]
pub struct Store {
    runner: Arc<dyn Runner>,
    folder: HostPath,
    /// What we wrote last, by file: a file that somebody else wrote meanwhile is not overwritten.
    written: Arc<Mutex<BTreeMap<HostPath, Digest>>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Store({} on {})", self.folder, self.runner.host())
    }
}

impl Store {
    /// Names a folder. Nothing is made before the first write.
    pub fn new(runner: Arc<dyn Runner>, folder: HostPath) -> Self {
        Self {
            runner,
            folder,
            written: Arc::default(),
        }
    }

    /// Returns the folder of this name within.
    #[must_use]
    pub fn inner(&self, name: &str) -> Self {
        Self {
            runner: Arc::clone(&self.runner),
            folder: self.path(name),
            written: Arc::clone(&self.written),
        }
    }

    /// Returns where it is.
    pub fn folder(&self) -> &HostPath {
        &self.folder
    }

    fn path(&self, name: &str) -> HostPath {
        HostPath::new(format!("{}/{name}", self.folder.as_str().trim_end_matches('/')))
    }

    /// Our own wait: what was done is written down also after Ctrl-C.
    fn wait(&self) -> Wait {
        Wait::new(
            Deadline::after(Instant::now(), ONE_FILE),
            Cancel::new(),
            format!("the folder `{}`", self.folder),
        )
    }

    /// Makes the folder, for its owner only.
    ///
    /// # Errors
    ///
    /// The host's refusal.
    pub fn make(&self) -> Result<(), Problem> {
        Ok(self.runner.make_folder(&self.folder, &self.wait())?)
    }

    /// Writes a file of this folder, whole and durably.
    ///
    /// # Errors
    ///
    /// The host's refusal, or that somebody else wrote it since we did.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Problem> {
        let path = self.path(name);
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let new = FileSnapshot {
            bytes: bytes.to_vec(),
            mode: Some(PRIVATE),
            owner: None,
        };
        self.runner
            .replace(&path, Some(&new), written.get(&path), &self.wait())?;
        written.insert(path, new.digest());
        Ok(())
    }

    /// Reads a file of this folder; `None` if there is none.
    ///
    /// # Errors
    ///
    /// The host's refusal.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Problem> {
        let path = self.path(name);
        let snapshot = self.runner.read(&path, &self.wait())?;
        if let Some(snapshot) = &snapshot {
            let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            written.insert(path, snapshot.digest());
        }
        Ok(snapshot.map(|snapshot| snapshot.bytes))
    }

    /// Returns the names in the folder, sorted; none if there is no such folder.
    ///
    /// # Errors
    ///
    /// The host's refusal.
    pub fn names(&self) -> Result<Vec<String>, Problem> {
        Ok(self.runner.list(&self.folder, &self.wait())?)
    }
}
