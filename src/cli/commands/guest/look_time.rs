//! How long the guest commands wait.

use crate::model::{Deadline, Wait};
use crate::session::interrupt::Interrupt;
use std::time::{Duration, Instant};

/// How long looking may take: a guest that is emulated on a loaded host is slow, and its console slower.
const LOOK: Duration = Duration::from_secs(120);

/// Returns the wait of a look.
pub fn look(interrupt: &Interrupt) -> Wait {
    Wait::new(
        Deadline::after(Instant::now(), LOOK),
        interrupt.soft.clone(),
        "the guest",
    )
}
