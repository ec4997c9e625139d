//! The fault kit: a hypervisor's end of a serial port that does what real ones do to a bridge.
//!
//! A [`HypervisorEnd`] is told where it lives and plays a list of [`Action`]s, one after the other. Every action waits for
//! a condition (a connection, bytes, an end) and gives up at the end's patience; the only timer is [`Action::Away`], which
//! is the fault itself. What the end read and wrote is kept for each connection, so a test can say what a new boot got.
//!
//! ```no_run
//! use vmserial_testkit::faults::{Action, HypervisorEnd};
//! let mut end = HypervisorEnd::listen_unix("/tmp/vm", std::time::Duration::from_secs(30))?;
//! end.play(&[
//!     Action::Connect,
//!     Action::Send(b"half a pack".to_vec()),
//!     Action::Reset,
//!     Action::Away(std::time::Duration::from_millis(1500)),
//!     Action::Connect,
//! ])?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod action;
mod end;
mod place;

pub use action::Action;
pub use end::{Broken, Connection, HypervisorEnd};
