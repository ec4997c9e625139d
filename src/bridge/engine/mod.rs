//! The engine: one task that owns a port, its clients and every byte between them.
//!
//! One `poll` looks at everything in a fixed order, control first: timers and commands, then streams that come and go,
//! then bytes. Bytes go from `read` straight into `write`; only what a stream does not take is stored. Each wake-up goes
//! round until nothing moves any more, so a chunk costs three system calls: wait, read, write.
//!
//! | file | what it owns |
//! |---|---|
//! | `core` | the engine's state, its start, the round, the timer |
//! | `target` | the VM side: dialled, listened for, away, up |
//! | `slot` | the client endpoints: listeners and what we go to |
//! | `client` | one attached client |
//! | `attach` | who comes, who is refused, who leaves |
//! | `broken` | streams whose peer has closed with bytes unread |
//! | `flow` | bytes, by policy |
//! | `keys` | what consoles type on a port that they share with a debugger |
//! | `outbound` | what is on its way to the target |
//! | `mediate` | a debug protocol's inputs and outputs |
//! | `break_in` | BREAK, 100 ms, `g` |
//! | `send_break` | the ways that a BREAK goes |
//! | `ask` | what a handle asks |
//! | `ending` | `--once`, stop, what is still owed |
//! | `watch` | what the hypervisor tells of the VM beside the stream |
//! | `start` | a bridge on a thread of its own |

mod ask;
mod attach;
mod break_in;
mod broken;
mod client;
mod core;
mod ending;
mod flow;
mod keys;
mod mediate;
mod outbound;
mod outcome;
mod send_break;
mod slot;
mod start;
mod target;
#[cfg(all(test, unix))]
mod tests;
mod watch;

pub use self::core::Engine;
pub use outcome::{Outcome, StopSignal};
pub use start::{Beside, RunningBridge, Signals, start};
