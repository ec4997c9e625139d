//! `cargo xtask bench bridge`: the bridge beside the tools that it replaces, on the same work in the same run.
//!
//! The VM's end is a Unix socket, the client is TCP on loopback; both ends are played by this process. What is judged
//! against a peer is the ratio within each round, so that a busy machine slows both alike.
//!
//! | file | what it measures or owns |
//! |---|---|
//! | `run` | the command, its sections, the verdict |
//! | `contender` | vmserial, socat and ser2net, started with both ends connected |
//! | `usage` | CPU time and memory of a process, CPUs |
//! | `round_trip` | 64 bytes there and back |
//! | `throughput` | bulk either way, and what it costs |
//! | `fan_out` | a client that does not read |
//! | `reconnect` | an endpoint that goes and comes back |
//! | `ports` | 1,000 idle ports in one process |
//! | `goals` | what is judged |

mod contender;
mod fan_out;
mod goals;
mod ports;
mod reconnect;
mod round_trip;
mod run;
mod throughput;
mod usage;

pub use run::{BenchArgs, run};
