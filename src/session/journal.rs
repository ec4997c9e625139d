//! The journal: what an apply has done and how each step is taken back, on disk before the step starts.
//!
//! A folder `journal/<UTC>-<8 hex>/` (0700) per apply holds `entry.json` and `before/N`, the file that step N edits as
//! it was. The entry is written beside and renamed, and written to disk, before each step and after it. Each change of
//! an entry goes to a copy in the host's own folder too, so that the host can be undone without this state folder.

mod record;

pub use record::{EditRecord, EntryData, FORMAT, StepRecord, StepState, TargetRecord};

use crate::model::{FailureKind, Problem};
use crate::runner::FileSnapshot;
use crate::session::store::Store;

/// The file of an entry that tells everything but the files' old contents.
const ENTRY: &str = "entry.json";

/// An entry of a journal that is open for writing.
#[derive(Debug)]
pub struct Entry {
    /// Its identifier, the folder's name.
    pub id: String,
    /// What it holds.
    pub data: EntryData,
    store: Store,
    copy: Option<Store>,
    /// Why there is no copy in the host's folder, to be told once.
    copy_trouble: Option<Problem>,
}

/// An entry as it is found in a journal.
#[derive(Debug)]
pub enum Found {
    /// Ours to undo.
    Entry(Box<Entry>),
    /// Written by another version, or damaged: listed, not undone.
    Unknown {
        /// The folder's name.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Found {
    /// Returns the identifier.
    pub fn id(&self) -> &str {
        match self {
            Self::Entry(entry) => &entry.id,
            Self::Unknown { id, .. } => id,
        }
    }
}

/// A journal folder, with the host's own folder for copies.
#[derive(Debug, Clone)]
pub struct Journal {
    store: Store,
    copies: Option<Store>,
}

fn unwritable(problem: Problem) -> Problem {
    Problem {
        message: format!("cannot write the journal: {}", problem.message),
        ..problem
    }
    .hint("Without a journal nothing is changed, because it could not be undone. Mend the folder or name another one with `--state DIR`.")
}

impl Journal {
    /// Names the journal of a state folder (or of a host's folder). `copies` is the folder for copies, if there is one.
    pub fn new(state: &Store, copies: Option<&Store>) -> Self {
        Self {
            store: state.inner("journal"),
            copies: copies.map(|folder| folder.inner("journal")),
        }
    }

    /// Begins an entry. Nothing of it is on disk before its first [`Entry::save`].
    ///
    /// # Errors
    ///
    /// The folder cannot be made.
    pub fn begin(&self, data: EntryData) -> Result<Entry, Problem> {
        let id = data.new_id();
        let store = self.store.inner(&id);
        store.inner("before").make().map_err(unwritable)?;
        let mut entry = Entry {
            copy: self.copies.as_ref().map(|copies| copies.inner(&id)),
            copy_trouble: None,
            id,
            data,
            store,
        };
        entry.copied(|copy| copy.inner("before").make());
        Ok(entry)
    }

    /// Reads all entries, the newest first.
    ///
    /// # Errors
    ///
    /// The folder cannot be read. That there is none is no error.
    pub fn entries(&self) -> Result<Vec<Found>, Problem> {
        // The name begins with the time, in a form that sorts.
        let ids = self.store.names()?.into_iter().rev();
        Ok(ids.filter_map(|id| self.load(id)).collect())
    }

    fn load(&self, id: String) -> Option<Found> {
        let unknown = |id, reason: String| Some(Found::Unknown { id, reason });
        let store = self.store.inner(&id);
        let text = match store.read(ENTRY) {
            Ok(Some(text)) => text,
            // Killed before anything was written down, and nothing is done before that.
            Ok(None) => return None,
            Err(problem) => return unknown(id, problem.message),
        };
        let format = serde_json::from_slice::<serde_json::Value>(&text)
            .ok()
            .and_then(|value| value.get("format").and_then(serde_json::Value::as_u64));
        match format {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => {
                return unknown(id, format!("its format is {format}, this program knows {FORMAT}"));
            }
            None => return unknown(id, format!("its {ENTRY} is damaged")),
        }
        match serde_json::from_slice(&text) {
            Ok(data) => {
                let copy = self.copies.as_ref().map(|copies| copies.inner(&id));
                let copy = copy.filter(|copy| matches!(copy.read(ENTRY), Ok(Some(_))));
                Some(Found::Entry(Box::new(Entry {
                    id,
                    data,
                    store,
                    copy,
                    copy_trouble: None,
                })))
            }
            Err(error) => unknown(id, format!("its {ENTRY} is damaged: {error}")),
        }
    }
}

impl Entry {
    /// Keeps a file as it is before step `index` edits it. Returns its name in the entry.
    ///
    /// # Errors
    ///
    /// It cannot be written to disk.
    pub fn keep_before(&mut self, index: usize, snapshot: &FileSnapshot) -> Result<String, Problem> {
        let number = (index + 1).to_string();
        self.store
            .inner("before")
            .write(&number, &snapshot.bytes)
            .map_err(unwritable)?;
        self.copied(|copy| copy.inner("before").write(&number, &snapshot.bytes));
        Ok(format!("before/{number}"))
    }

    /// Reads a kept file back.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn read_before(&self, name: &str) -> Result<Vec<u8>, Problem> {
        self.store.read(name)?.ok_or_else(|| {
            Problem::new(
                FailureKind::Configuration,
                format!("the journal entry {} has lost its file `{name}`", self.id),
            )
            .hint(format!("Its folder is `{}`.", self.store.folder()))
        })
    }

    /// Writes the entry to disk. Called before a step starts and after it.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn save(&mut self) -> Result<(), Problem> {
        let text = serde_json::to_vec_pretty(&self.data).map_err(|error| {
            Problem::new(
                FailureKind::Internal,
                format!("cannot write the journal entry: {error}"),
            )
        })?;
        self.store.write(ENTRY, &text).map_err(unwritable)?;
        self.copied(|copy| copy.write(ENTRY, &text));
        Ok(())
    }

    /// Marks a step and writes the entry to disk.
    ///
    /// # Errors
    ///
    /// See [`Entry::save`].
    pub fn mark(&mut self, index: usize, state: StepState) -> Result<(), Problem> {
        self.data.steps[index].state = state;
        self.save()
    }

    /// Returns, once, why there is no copy in the host's folder.
    pub fn take_copy_trouble(&mut self) -> Option<Problem> {
        self.copy_trouble.take()
    }

    /// The copy serves machines that have no journal; this one has, so a copy that fails stops nothing.
    fn copied(&mut self, work: impl FnOnce(&Store) -> Result<(), Problem>) {
        if let Some(copy) = &self.copy
            && let Err(problem) = work(copy)
        {
            self.copy_trouble = Some(problem);
            self.copy = None;
        }
    }
}
