//! How commands and streams reach a host. The only place that starts processes or opens a host's streams.

mod api;
mod attended;
pub mod break_means;
mod child_stream;
pub mod direct;
pub mod foreground;
pub mod helper;
pub mod listening;
pub mod local;
pub mod opener;
pub mod posix_files;
pub mod powershell;
pub mod qmp;
pub mod qmp_events;
pub mod secret;
pub mod ssh;
mod ssh_words;
mod stdio_tunnel;
pub mod sys;
mod tunnel;

pub use api::{FileSnapshot, Output, ProcessRef, ReadWrite, RunError, Runner, Status};
