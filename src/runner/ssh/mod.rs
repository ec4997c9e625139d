//! Hosts behind SSH: commands, files and streams, by an engine that is built in or by the system's `ssh`.
//!
//! [`SshRunner`] is the host's runner. [`stream::open`] opens a stream through a host: an address there, or the standard
//! input and output of a command.

pub mod command;
mod engine;
mod far;
mod link;
pub mod options;
pub mod stream;
mod sys;
mod system;
pub mod terminal;

pub use engine::{accepts_new_host_keys, is_builtin};
pub use far::SshRunner;
pub use link::Far;
