//! Which engines there are. The built-in one needs libssh2; both twins have equal signatures.

#[cfg(feature = "ssh")]
#[path = "native/mod.rs"]
mod engine;
#[cfg(not(feature = "ssh"))]
#[path = "absent.rs"]
mod engine;

pub use engine::{BUILT_IN, exec, open, open_within, renew};
