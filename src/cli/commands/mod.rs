//! One file per command.

pub mod bridge;
pub mod completions;
