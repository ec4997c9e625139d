//! The control socket of a running bridge: JSON lines that ask, and streams that attach (`docs/reference/control-socket.md`).
//!
//! `call` and `message` are the language and pure, `server` speaks it for a [`BridgeHandle`](crate::bridge::BridgeHandle), `client`
//! asks it from another process.

pub mod call;
pub mod client;
mod evidence;
pub mod message;
pub mod server;

pub use call::{BreakParameters, Call, Mode, Since};
pub use client::{Attached, ControlClient};
pub use message::{ControlError, Identity, Line, Request};
pub use server::ControlServer;
