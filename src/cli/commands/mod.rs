//! One file per command.

pub mod break_in;
pub mod bridge;
pub mod completions;
pub mod console;
pub mod debug;
pub mod down;
pub mod profile;
pub mod resume;
pub mod setup;
pub mod up;
