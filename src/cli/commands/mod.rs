//! One file per command.

pub mod completions;
