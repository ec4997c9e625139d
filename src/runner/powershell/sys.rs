//! Where this machine's PowerShell is reached by other means than a command. Both twins have equal signatures.

#[cfg(unix)]
#[path = "sys/unix.rs"]
mod platform;
#[cfg(windows)]
#[path = "sys/windows.rs"]
mod platform;

pub use platform::{HAS_HELPER, by_crate, end_children_with_us};
