//! What all histories of a process may hold together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

/// All histories of a process together: fifty flooded ports with all that one may have, or a thousand with a quarter of
/// a mebibyte each.
pub const HISTORY_BUDGET: usize = 256 << 20;

static PROCESS: LazyLock<Arc<Budget>> = LazyLock::new(|| Arc::new(Budget::new(HISTORY_BUDGET)));

/// An amount of memory that many share.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
    sharers: AtomicUsize,
}

impl Budget {
    /// Makes a budget, in bytes.
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
            sharers: AtomicUsize::new(0),
        }
    }

    /// Returns the budget of this process.
    pub fn of_process() -> Arc<Self> {
        Arc::clone(&PROCESS)
    }

    /// Returns how much is in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes some, if there is so much.
    pub(super) fn take(&self, bytes: usize) -> bool {
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|&sum| sum <= self.limit)
            })
            .is_ok()
    }

    /// Takes some in any case.
    pub(super) fn overdraw(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives some back.
    pub(super) fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts one more, or one less, among whom it is shared.
    pub(super) fn join(&self) {
        self.sharers.fetch_add(1, Ordering::Relaxed);
    }

    /// See [`Budget::join`].
    pub(super) fn leave(&self) {
        self.sharers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Tells whether somebody who has so much should make room for others: little is left, and it is more than a fair part.
    pub(super) fn is_too_much(&self, bytes: usize) -> bool {
        let tight = self.used() > self.limit - self.limit / 8;
        tight && bytes > self.limit / self.sharers.load(Ordering::Relaxed).max(1)
    }
}
