//! How commands and streams reach a host. The only place that starts processes or opens a host's streams.

mod api;
pub mod break_means;
pub mod foreground;
pub mod local;
pub mod qmp;
pub mod sys;

pub use api::{FileSnapshot, Output, ProcessRef, ReadWrite, RunError, Runner, Status};
