//! The journal: what an apply has done and how each step is taken back, on disk before the step starts.
//!
//! A folder `journal/<UTC>-<8 hex>/` (0700) per apply holds `entry.json` and `before/N`, the file that step N edits as
//! it was. The entry is written beside and renamed, and written to disk, before each step and after it. Each change of
//! an entry goes to a copy in the host's own folder too, so that the host can be undone without this state folder.

use crate::model::{Digest, FailureKind, HostRef, Problem, TargetName};
use crate::plan::{Action, Step};
use crate::runner::sys::sync_folder;
use crate::runner::{FileSnapshot, ProcessRef};
use crate::session::sys::private_folder;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Version of `entry.json` that this program writes and undoes.
pub const FORMAT: u32 = 1;

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Not begun.
    Pending,
    /// Begun; whether it happened must be observed.
    Started,
    /// Done.
    Done,
    /// Taken back.
    Undone,
    /// It failed and changed nothing, or what it changed is known and shown.
    Failed,
}

/// The file that an edit found, and what it left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditRecord {
    /// `before/N`, or `None` if there was no file.
    pub before: Option<String>,
    /// Mode bits of the file that was there.
    pub mode: Option<u32>,
    /// User and group of the file that was there.
    pub owner: Option<(u32, u32)>,
    /// Our keys before: `None` is absent.
    pub values: BTreeMap<String, Option<String>>,
    /// Digest of what we left; `None` if we removed the file.
    pub after: Option<Digest>,
}

/// One step in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// How far.
    pub state: StepState,
    /// The step.
    pub step: Step,
    /// For edits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edit: Option<EditRecord>,
    /// For started processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessRef>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What `entry.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryData {
    /// See [`FORMAT`].
    pub format: u32,
    /// Version of the program that wrote it.
    pub version: String,
    /// When the apply began, RFC 3339 in UTC.
    pub time: String,
    /// The command line.
    pub command: String,
    /// Hosts of its steps.
    pub hosts: Vec<HostRef>,
    /// Targets of its steps.
    pub targets: Vec<TargetName>,
    /// In the order in which they are done.
    pub steps: Vec<StepRecord>,
}

impl EntryData {
    /// Tells whether something of it is still in force, or may be.
    pub fn is_in_force(&self) -> bool {
        self.steps.iter().any(|step| {
            matches!(step.state, StepState::Started | StepState::Done)
                && !matches!(step.step.action, Action::WaitFor(_))
        })
    }
}

/// An entry of a journal that is open for writing.
#[derive(Debug)]
pub struct Entry {
    /// Its identifier, the folder's name.
    pub id: String,
    /// What it holds.
    pub data: EntryData,
    folder: PathBuf,
    mirror: Option<PathBuf>,
}

/// An entry as it is found in a journal.
#[derive(Debug)]
pub enum Found {
    /// Ours to undo.
    Entry(Entry),
    /// Written by another version, or damaged: listed, not undone.
    Unknown {
        /// The folder's name.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A journal folder, with the host's own folder for copies.
#[derive(Debug, Clone)]
pub struct Journal {
    folder: PathBuf,
    mirror: Option<PathBuf>,
}

fn failed(what: String) -> impl FnOnce(io::Error) -> Problem {
    move |error| {
        Problem::new(FailureKind::Host, format!("cannot {what}: {error}"))
            .hint("Without a journal nothing is changed, because it could not be undone. Mend the folder or name another one with `--state DIR`.")
    }
}

impl Journal {
    /// Names the journal of a state folder. `host_folder` is where copies go, if anywhere.
    pub fn new(state: &Path, host_folder: Option<&Path>) -> Self {
        Self {
            folder: state.join("journal"),
            mirror: host_folder.map(|folder| folder.join("journal")),
        }
    }

    /// Names the journal that a host keeps itself.
    pub fn of_host(host_folder: &Path) -> Self {
        Self {
            folder: host_folder.join("journal"),
            mirror: None,
        }
    }

    /// Begins an entry. Nothing is on disk before its first step is recorded.
    ///
    /// # Errors
    ///
    /// The folder cannot be made.
    pub fn begin(&self, id: String, data: EntryData) -> Result<Entry, Problem> {
        let folder = self.folder.join(&id);
        make_private(&folder.join("before"))
            .map_err(failed(format!("make the journal folder `{}`", folder.display())))?;
        // The copy serves machines that have no journal; this one has.
        let mirror = self
            .mirror
            .as_ref()
            .map(|mirror| mirror.join(&id))
            .filter(|mirror| make_private(&mirror.join("before")).is_ok());
        Ok(Entry {
            id,
            data,
            folder,
            mirror,
        })
    }

    /// Reads all entries, the newest first.
    ///
    /// # Errors
    ///
    /// The folder cannot be read. That there is none is no error.
    pub fn entries(&self) -> Result<Vec<Found>, Problem> {
        let reading = || failed(format!("read the journal `{}`", self.folder.display()));
        let folders = match fs::read_dir(&self.folder) {
            Ok(folders) => folders,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(reading()(error)),
        };
        let mut ids = Vec::new();
        for entry in folders {
            let entry = entry.map_err(reading())?;
            if entry.path().is_dir() {
                ids.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        // The name begins with the time, in a form that sorts.
        ids.sort_unstable_by(|one, other| other.cmp(one));
        Ok(ids.into_iter().map(|id| self.load(id)).collect())
    }

    fn load(&self, id: String) -> Found {
        let folder = self.folder.join(&id);
        let unknown = |id, reason: String| Found::Unknown { id, reason };
        let text = match fs::read(folder.join("entry.json")) {
            Ok(text) => text,
            Err(error) => return unknown(id, format!("cannot read its entry.json: {error}")),
        };
        let format = serde_json::from_slice::<serde_json::Value>(&text)
            .ok()
            .and_then(|value| value.get("format").and_then(serde_json::Value::as_u64));
        match format {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => {
                return unknown(id, format!("its format is {format}, this program knows {FORMAT}"));
            }
            None => return unknown(id, "its entry.json is damaged".to_owned()),
        }
        match serde_json::from_slice(&text) {
            Ok(data) => {
                let mirror = self
                    .mirror
                    .as_ref()
                    .map(|mirror| mirror.join(&id))
                    .filter(|mirror| mirror.is_dir());
                Found::Entry(Entry {
                    id,
                    data,
                    folder,
                    mirror,
                })
            }
            Err(error) => unknown(id, format!("its entry.json is damaged: {error}")),
        }
    }
}

impl Entry {
    /// Keeps a file as it is before step `index` edits it.
    ///
    /// # Errors
    ///
    /// It cannot be written to disk.
    pub fn keep_before(&self, index: usize, snapshot: &FileSnapshot) -> Result<String, Problem> {
        let name = format!("before/{index}");
        for folder in self.folders() {
            write_durably(&folder.join(&name), &snapshot.bytes).map_err(failed(format!(
                "keep a copy in the journal `{}`",
                folder.display()
            )))?;
        }
        Ok(name)
    }

    /// Reads a kept file back.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn read_before(&self, name: &str) -> Result<Vec<u8>, Problem> {
        fs::read(self.folder.join(name)).map_err(failed(format!(
            "read the kept file `{name}` of the journal entry {}",
            self.id
        )))
    }

    /// Writes the entry to disk. Called before a step starts and after it.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn save(&self) -> Result<(), Problem> {
        let text = serde_json::to_vec_pretty(&self.data).map_err(|error| {
            Problem::new(
                FailureKind::Internal,
                format!("cannot write the journal entry: {error}"),
            )
        })?;
        for folder in self.folders() {
            write_durably(&folder.join("entry.json"), &text)
                .map_err(failed(format!("write the journal entry `{}`", folder.display())))?;
        }
        Ok(())
    }

    fn folders(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.folder).chain(&self.mirror)
    }
}

/// Makes the folder of an entry and its parts, which only their owner may enter, and writes the new names to disk.
fn make_private(folder: &Path) -> io::Result<()> {
    let entry = folder.parent().ok_or(io::ErrorKind::InvalidInput)?;
    private_folder(entry)?;
    private_folder(folder)?;
    entry.parent().map_or(Ok(()), sync_folder)
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync_folder(folder)
}
