//! A console: this terminal (or a pipe) on a port that this process or another one owns.

pub mod escape;
mod run;
mod watch;

pub use escape::{EscapeKey, EscapeKeyError};
pub use run::{ConsoleSpec, End, InputKind, run};
pub use watch::wait_for_target;
