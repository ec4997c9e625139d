//! What processes, terminals and signals need of the operating system. Both twins have equal signatures.

#[cfg(unix)]
#[path = "sys/unix.rs"]
mod platform;
#[cfg(windows)]
#[path = "sys/windows.rs"]
mod platform;

pub use platform::{StopSignals, TerminalState, signal_of, terminate};

/// A signal that ends vmserial, in the words of POSIX.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// Ctrl-C.
    Interrupt,
    /// Asked to end (`kill`, service manager, Windows close event).
    Terminate,
    /// The terminal is gone.
    Hangup,
}
