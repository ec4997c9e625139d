//! One file per command.

pub mod apply;
pub mod break_in;
pub mod bridge;
pub mod completions;
pub mod console;
pub mod debug;
mod debug_kd;
pub mod doctor;
pub mod down;
pub mod drift;
pub mod guest;
pub mod helper;
pub mod journal;
pub mod plan;
pub mod powershell;
pub mod profile;
pub mod resume;
pub mod setup;
pub mod status;
pub mod undo;
pub mod up;
