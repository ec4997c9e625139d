//! What sessions need of the operating system. Both twins have equal signatures.

#[cfg(unix)]
#[path = "sys/unix.rs"]
mod platform;
#[cfg(windows)]
#[path = "sys/windows.rs"]
mod platform;

pub use platform::{control_path, prepare_control_path, private_folder, try_lock, try_lock_shared, unlock};
