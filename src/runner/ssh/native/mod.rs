//! SSH inside the program, by libssh2. One thread owns each connection.

mod ask;
mod auth;
mod connect;
mod drive;
mod known_hosts;
mod line;
mod pipe;
mod pool;
mod prompt;
mod pump;
mod room;
mod settings;
mod sys;
mod worker;

mod entry;
pub use entry::{BUILT_IN, exec, open, open_within, renew};
