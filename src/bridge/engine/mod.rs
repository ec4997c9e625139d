//! The engine: one task that owns a port, its clients and every byte between them.

mod outcome;

pub use outcome::{Outcome, StopSignal};
