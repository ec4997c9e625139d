//! A console: this terminal (or a pipe) on a port that this process or another one owns.

mod ask;
pub mod escape;
mod menu;
pub mod paste;
pub mod power;
mod run;
mod terminal;
mod watch;

pub use escape::{EscapeKey, EscapeKeyError};
pub use paste::Pace;
pub use power::PowerOf;
pub use run::{ConsoleSpec, End, InputKind, run};
pub use watch::wait_for_target;
