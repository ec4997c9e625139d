//! An entry into which the steps of several hosts are written at once.

use super::{ENTRY, Entry, StepRecord, StepState, unwritable};
use crate::model::{HostRef, Problem};
use crate::runner::FileSnapshot;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// An entry that several threads write into. The entry itself is written by one at a time; a host's own copy is written
/// without holding up the others, so each host's steps must be one thread's.
#[derive(Debug)]
pub struct SharedEntry<'a>(Mutex<&'a mut Entry>);

impl<'a> SharedEntry<'a> {
    /// Shares an entry.
    pub fn new(entry: &'a mut Entry) -> Self {
        Self(Mutex::new(entry))
    }

    fn lock(&self) -> MutexGuard<'_, &'a mut Entry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns its identifier.
    pub fn id(&self) -> String {
        self.lock().id.clone()
    }

    /// Returns a step as it is written now.
    pub fn record(&self, index: usize) -> StepRecord {
        self.lock().data.steps[index].clone()
    }

    /// Returns all steps as they are written now.
    pub fn records(&self) -> Vec<StepRecord> {
        self.lock().data.steps.clone()
    }

    /// Notes something of a step, which is on disk with its next mark.
    pub fn note(&self, index: usize, change: impl FnOnce(&mut StepRecord)) {
        change(&mut self.lock().data.steps[index]);
    }

    /// Marks a step and writes the entry to disk.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn mark(&self, index: usize, state: StepState) -> Result<(), Problem> {
        let (host, copy) = {
            let mut entry = self.lock();
            entry.data.steps[index].state = state;
            entry.save_here()?;
            let host = entry.data.steps[index].step.host.clone();
            let copy = entry.changed_copy(&host);
            (host, copy)
        };
        if let Some((store, text)) = copy {
            let result = store.write(ENTRY, &text);
            self.lock().copy_written(host, text, result);
        }
        Ok(())
    }

    /// Keeps a file as it is before step `index` edits it. Returns its name in the entry.
    ///
    /// # Errors
    ///
    /// It cannot be written to disk.
    pub fn keep_before(&self, index: usize, snapshot: &FileSnapshot) -> Result<String, Problem> {
        let number = (index + 1).to_string();
        let (own, host, copy) = {
            let entry = self.lock();
            let host: HostRef = entry.data.steps[index].step.host.clone();
            let copy = entry.copies.of.get(&host).cloned().flatten();
            (entry.store.clone(), host, copy)
        };
        own.inner("before")
            .write(&number, &snapshot.bytes)
            .map_err(unwritable)?;
        if let Some((copy, _)) = copy
            && let Err(problem) = copy.inner("before").write(&number, &snapshot.bytes)
        {
            self.lock().without_copy(host, problem);
        }
        Ok(format!("before/{number}"))
    }

    /// Keeps what stood there before a step and may hold a secret: here alone, in no copy. Returns its name in the entry.
    ///
    /// # Errors
    ///
    /// It cannot be written: nothing must be changed then.
    pub fn keep_secret(&self, index: usize, bytes: &[u8]) -> Result<String, Problem> {
        let number = (index + 1).to_string();
        let own = self.lock().store.clone();
        own.inner("before").write(&number, bytes).map_err(unwritable)?;
        Ok(format!("before/{number}"))
    }

    /// Returns, once, why there is no copy in a host's folder.
    pub fn take_copy_trouble(&self) -> Option<Problem> {
        self.lock().take_copy_trouble()
    }
}
