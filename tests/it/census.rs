//! What a bridge's process has: more than before, when everybody has left, is a leak.

use crate::control::Asker;
use crate::kit::{PATIENCE, Running, Sandbox};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Descriptors and threads as the system counts them, tasks and clients as the bridge does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    descriptors: usize,
    threads: usize,
    tasks: u64,
    clients: usize,
}

/// Counts what one bridge has.
pub struct Census {
    folder: String,
    asker: Asker,
}

impl Census {
    pub fn of(sandbox: &Sandbox, bridge: &Running) -> Self {
        Self {
            folder: format!("/proc/{}", bridge.pid()),
            asker: Asker::new(sandbox),
        }
    }

    fn count(&mut self) -> Held {
        // Once it has answered, it has our connection too.
        let status = self.asker.result("status", json!({}));
        let entries = |name| {
            std::fs::read_dir(format!("{}/{name}", self.folder))
                .unwrap()
                .count()
        };
        Held {
            descriptors: entries("fd"),
            threads: entries("task"),
            tasks: status["tasks"].as_u64().unwrap(),
            clients: status["clients"].as_array().unwrap().len(),
        }
    }

    /// What each descriptor is.
    fn descriptors(&self) -> Vec<PathBuf> {
        let all = std::fs::read_dir(format!("{}/fd", self.folder))
            .unwrap()
            .flatten();
        all.filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .collect()
    }

    /// Waits until no client is left, and says what the bridge has then.
    pub fn with_nobody(&mut self) -> Held {
        self.wait("a client is left", |held| held.clients == 0)
    }

    /// Waits until the bridge has no more than `before`, and fails if it always has.
    pub fn assert_back_at(&mut self, before: Held) {
        self.wait(&format!("more is left than {before:?}"), |held| {
            held.descriptors <= before.descriptors
                && held.threads <= before.threads
                && held.tasks <= before.tasks
                && held.clients <= before.clients
        });
    }

    fn wait(&mut self, otherwise: &str, is_so: impl Fn(Held) -> bool) -> Held {
        let until = Instant::now() + PATIENCE;
        loop {
            let held = self.count();
            if is_so(held) {
                return held;
            }
            assert!(
                Instant::now() < until,
                "{otherwise}: {held:?}, {:#?}",
                self.descriptors()
            );
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}
