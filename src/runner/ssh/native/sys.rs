//! What the engine uses of the operating system: sockets that are polled, the terminal, the user's folder. Both twins have
//! equal signatures.

#[cfg(unix)]
#[path = "sys/unix/mod.rs"]
mod platform;
#[cfg(windows)]
#[path = "sys/windows/mod.rs"]
mod platform;

pub use platform::{
    Carrier, Device, HAS_USUAL_AGENT, PairEnd, Socket, carry, home, known_hosts_of_all, pair, poll, random,
    spelled_out, user,
};

/// What a socket is waited for. Its end is told without being asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interest {
    /// Bytes to read.
    pub read: bool,
    /// Room to write.
    pub write: bool,
    /// Nothing but the end: whoever waits for neither bytes nor room, and not for this, is not woken by the socket.
    pub end: bool,
}

/// What a wait brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ready {
    /// There are bytes to read.
    pub read: bool,
    /// There is room to write.
    pub write: bool,
    /// The connection ended.
    pub ended: bool,
    /// Somebody woke us.
    pub woken: bool,
}

/// What somebody at the terminal typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Typed {
    /// A line.
    Line(String),
    /// No answer: an end of input, or nobody waits for one any more.
    Nothing,
    /// Ctrl-C. It was passed on to the process.
    Interrupted,
}
