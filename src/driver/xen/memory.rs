//! What a driver remembers of VMs between two dials: what does not move while they live.

use crate::model::{HostRef, TargetSpec, VmRef};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Something for each VM that was asked for.
#[derive(Debug)]
pub(super) struct Memory<T>(Mutex<HashMap<(HostRef, VmRef), T>>);

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

fn key(target: &TargetSpec) -> (HostRef, VmRef) {
    (target.host.clone(), target.vm.clone())
}

impl<T: Clone> Memory<T> {
    fn lock(&self) -> MutexGuard<'_, HashMap<(HostRef, VmRef), T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what is known of a target's VM.
    pub(super) fn get(&self, target: &TargetSpec) -> Option<T> {
        self.lock().get(&key(target)).cloned()
    }

    /// Notes it.
    pub(super) fn put(&self, target: &TargetSpec, known: T) {
        self.lock().insert(key(target), known);
    }

    /// Forgets it: it is no more what it was.
    pub(super) fn forget(&self, target: &TargetSpec) {
        self.lock().remove(&key(target));
    }
}
