//! A deadline that is passed as one value through every wait, with a way to cancel it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A point in time after which a wait has failed. It is made once and handed on; nobody restarts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// Makes the deadline that lies `after` the given `now`. The caller brings the clock; this module has none.
    pub fn after(now: Instant, after: Duration) -> Self {
        Self(now + after)
    }

    /// Returns the instant itself.
    pub fn instant(self) -> Instant {
        self.0
    }

    /// Returns what is left at `now`; zero once the deadline has passed.
    pub fn remaining(self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }

    /// Tells whether the deadline has passed at `now`.
    pub fn passed(self, now: Instant) -> bool {
        now >= self.0
    }
}

/// A flag that a signal handler sets and every wait looks at.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Makes a flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the flag. It cannot be taken back.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Tells whether the flag is set.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// How long to wait, what for, and how to be told to stop waiting.
#[derive(Debug, Clone)]
pub struct Wait {
    /// After this the wait has failed.
    pub deadline: Deadline,
    /// When set, the wait ends at once.
    pub cancel: Cancel,
    /// What is waited for, as a fragment that fits after "waiting for": `the VM to power off`.
    pub what: String,
}

impl Wait {
    /// Makes a wait for `what`.
    pub fn new(deadline: Deadline, cancel: Cancel, what: impl Into<String>) -> Self {
        Self {
            deadline,
            cancel,
            what: what.into(),
        }
    }

    /// Returns the same deadline and cancel flag for a part of the wait that has its own name.
    pub fn renamed(&self, what: impl Into<String>) -> Self {
        Self {
            deadline: self.deadline,
            cancel: self.cancel.clone(),
            what: what.into(),
        }
    }
}
