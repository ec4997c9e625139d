//! How long the guest commands wait.

use crate::model::{Deadline, Wait};
use crate::session::interrupt::Interrupt;
use std::time::{Duration, Instant};

/// How long looking may take: a guest that is emulated on a loaded host is slow, and its console slower.
const LOOK: Duration = Duration::from_secs(120);

/// How long somebody may take to type a few lines.
const TYPING: Duration = Duration::from_secs(1800);

fn wait(interrupt: &Interrupt, time: Duration) -> Wait {
    Wait::new(
        Deadline::after(Instant::now(), time),
        interrupt.soft.clone(),
        "the guest",
    )
}

/// Returns the wait of a look.
pub fn look(interrupt: &Interrupt) -> Wait {
    wait(interrupt, LOOK)
}

/// Returns the wait for somebody who types.
pub fn typing(interrupt: &Interrupt) -> Wait {
    wait(interrupt, TYPING)
}
