//! The journal: what an apply has done and how each step is taken back, on disk before the step starts.
//!
//! A folder `journal/<UTC>-<8 hex>/` (0700) per apply holds `entry.json` and `before/N`, the file that step N edits as
//! it was. The entry is written beside and renamed, and written to disk, before each step and after it. Each change of
//! an entry goes to a copy in each host's own folder too, with that host's steps alone, so that a host can be undone without
//! this state folder.

mod record;
mod shared;

pub use record::{EditRecord, EntryData, FORMAT, StepRecord, StepState, TargetRecord};
pub use shared::SharedEntry;

use crate::model::{FailureKind, HostRef, Problem};
use crate::session::marks::{Access, far_folder};
use crate::session::planning::Hosts;
use crate::session::store::Store;
use std::collections::BTreeMap;

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
    copies: Copies,
    /// Why there is no copy in a host's folder, to be told once.
    copy_trouble: Option<Problem>,
}

/// The copies of an entry on its hosts.
#[derive(Debug, Default)]
struct Copies {
    /// This machine's own folder.
    here: Option<Store>,
    /// By host; `None` where there is none. Written the last time, to leave out what did not change.
    of: BTreeMap<HostRef, Option<(Store, Vec<u8>)>>,
    /// The entry itself is a host's copy, or is not wanted anywhere else.
    none: bool,
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
    /// It is the one that a host keeps itself, which is this host for us.
    of_host: Option<HostRef>,
}

fn unwritable(problem: Problem) -> Problem {
    Problem {
        message: format!("cannot write the journal: {}", problem.message),
        ..problem
    }
    .hint("Without a journal nothing is changed, because it could not be undone. Mend the folder or name another one with `--state DIR`.")
}

impl Journal {
    /// Names the journal of a state folder. `copies` is this machine's folder for copies, if there is one.
    pub fn new(state: &Store, copies: Option<&Store>) -> Self {
        Self {
            store: state.inner("journal"),
            copies: copies.map(|folder| folder.inner("journal")),
            of_host: None,
        }
    }

    /// Names the journal that a host keeps itself. Whatever name the host had for whoever wrote an entry, it is `host` for us.
    pub fn of_host(folder: &Store, host: &HostRef) -> Self {
        Self {
            store: folder.inner("journal"),
            copies: None,
            of_host: Some(host.clone()),
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
        Ok(Entry {
            copies: self.copies(&id),
            copy_trouble: None,
            id,
            data,
            store,
        })
    }

    fn copies(&self, id: &str) -> Copies {
        Copies {
            here: self.copies.as_ref().map(|copies| copies.inner(id)),
            of: BTreeMap::new(),
            none: self.of_host.is_some(),
        }
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
        match serde_json::from_slice::<EntryData>(&text) {
            Ok(data) => {
                let data = match &self.of_host {
                    Some(host) => data.seen_as(host),
                    None => data,
                };
                Some(Found::Entry(Box::new(Entry {
                    copies: self.copies(&id),
                    id,
                    data,
                    store,
                    copy_trouble: None,
                })))
            }
            Err(error) => unknown(id, format!("its {ENTRY} is damaged: {error}")),
        }
    }
}

impl Entry {
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
        self.save_here()?;
        self.write_copies();
        Ok(())
    }

    /// Writes the entry itself, without its copies.
    fn save_here(&self) -> Result<(), Problem> {
        let text = serde_json::to_vec_pretty(&self.data).map_err(|error| {
            Problem::new(
                FailureKind::Internal,
                format!("cannot write the journal entry: {error}"),
            )
        })?;
        self.store.write(ENTRY, &text).map_err(unwritable)
    }

    /// Finds the folders for copies of the hosts of its steps: `Access::Make` to begin copies there, `Access::Look` to keep those
    /// right that are there. Hosts that are known already are not asked again.
    pub fn reach_copies(&mut self, hosts: &dyn Hosts, access: Access) {
        if self.copies.none {
            return;
        }
        for host in self.data.hosts.clone() {
            if self.copies.of.contains_key(&host) {
                continue;
            }
            let copy = match access {
                Access::Make => self.new_copy(hosts, &host),
                Access::Look => self.present_copy(hosts, &host),
            };
            match copy {
                Ok(copy) => {
                    self.copies.of.insert(host, copy.map(|copy| (copy, Vec::new())));
                }
                Err(problem) => self.without_copy(host, problem),
            }
        }
    }

    fn new_copy(&self, hosts: &dyn Hosts, host: &HostRef) -> Result<Option<Store>, Problem> {
        if *host == HostRef::Local {
            return self.copies.here.clone().map_or(Ok(None), |copy| {
                copy.inner("before").make()?;
                Ok(Some(copy))
            });
        }
        // A guest behind its console keeps none: each write would go through a line of text.
        if host.is_guest() {
            return Ok(None);
        }
        let folder = far_folder(hosts, host, Access::Make, &format!("journal/{}/before", self.id))?;
        Ok(folder.map(|folder| folder.inner("journal").inner(&self.id)))
    }

    fn present_copy(&self, hosts: &dyn Hosts, host: &HostRef) -> Result<Option<Store>, Problem> {
        let copy = match host {
            HostRef::Local => self.copies.here.clone(),
            HostRef::Ssh(_) => far_folder(hosts, host, Access::Look, "")?
                .map(|folder| folder.inner("journal").inner(&self.id)),
            HostRef::Serial(_) | HostRef::Sac(_) | HostRef::Direct { .. } => None,
        };
        match copy {
            Some(copy) if copy.read(ENTRY)?.is_some() => Ok(Some(copy)),
            _ => Ok(None),
        }
    }

    fn write_copies(&mut self) {
        let hosts: Vec<HostRef> = self.copies.of.keys().cloned().collect();
        for host in hosts {
            if let Some((store, text)) = self.changed_copy(&host) {
                let result = store.write(ENTRY, &text);
                self.copy_written(host, text, result);
            }
        }
    }

    /// Returns what a host's copy is to be, and where it is; `None` if it is so already, or there is none.
    fn changed_copy(&self, host: &HostRef) -> Option<(Store, Vec<u8>)> {
        let (store, written) = self.copies.of.get(host)?.as_ref()?;
        let own = self.data.of_host(host);
        let has_begun = own.steps.iter().any(|record| record.state != StepState::Pending);
        // What cannot be written as JSON was told by the entry itself.
        let text = serde_json::to_vec_pretty(&own).unwrap_or_default();
        (has_begun && text != *written).then(|| (store.clone(), text))
    }

    fn copy_written(&mut self, host: HostRef, text: Vec<u8>, result: Result<(), Problem>) {
        match result {
            Ok(()) => {
                if let Some(Some((_, written))) = self.copies.of.get_mut(&host) {
                    *written = text;
                }
            }
            Err(problem) => self.without_copy(host, problem),
        }
    }

    /// A copy serves machines that have no journal; this one has, so a copy that fails stops nothing.
    fn without_copy(&mut self, host: HostRef, problem: Problem) {
        let message = format!("{host}: {}", problem.message);
        self.copies.of.insert(host, None);
        self.copy_trouble = Some(Problem { message, ..problem });
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

    /// Returns, once, why there is no copy in a host's folder.
    pub fn take_copy_trouble(&mut self) -> Option<Problem> {
        self.copy_trouble.take()
    }
}
