//! The gdb remote serial protocol as kgdb speaks it: framing, state, the rules of a port of its own or one shared with
//! a console. Bytes and the time in, bytes and events out; no I/O, no clock.
//!
//! [`Machine`] decides; [`framing`] and [`demux`] take the two streams apart; [`planted`] remembers the breakpoints
//! that a dead gdb leaves behind. The rules are in `docs/dev/design.md`, "`vmserial bridge`"; what a real kernel was seen
//! to do is in `docs/dev/kgdb-wire.md`.

pub mod answers;
pub mod demux;
pub mod framing;
pub mod interface;
pub mod kernel;
pub mod machine;
pub mod partition;
pub mod planted;
pub mod request;

pub use interface::{BreakResult, Config, Event, Freed, Input, Output, PortKind, WhenGdbDies};
pub use kernel::KernelState;
pub use machine::Machine;
pub use planted::Planted;

#[cfg(test)]
mod tests;
