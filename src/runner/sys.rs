//! What processes, terminals and signals need of the operating system. Both twins have equal signatures.

#[cfg(unix)]
#[path = "sys/unix.rs"]
mod platform;
#[cfg(windows)]
#[path = "sys/windows.rs"]
mod platform;

pub use platform::{
    HAS_LOCAL_STREAMS, HAS_NAMED_PIPES, JobSignals, LocalStream, StopSignals, TerminalState, can_suspend,
    command, connect_local, connect_unix, kill, kill_group, make_private_folder, mode_and_owner, new_file,
    own_group, own_session, private, private_folder, process_with_output, set_mode_and_owner, signal_of,
    start_time, suspend, sync_folder, terminate, terminate_group,
};

/// What a shell's job control wants of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobSignal {
    /// Stop (`kill -TSTP`).
    Suspend,
    /// Go on (`fg`).
    GoOn,
}

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
