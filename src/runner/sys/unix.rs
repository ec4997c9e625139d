//! POSIX: signals and terminal settings.

use super::StopSignal;
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// Asks a process to end (SIGTERM). One that is gone already is no error.
///
/// # Errors
///
/// The system's refusal.
pub fn terminate(pid: u32) -> io::Result<()> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(io::ErrorKind::InvalidInput)?;
    match kill_process(pid, Signal::TERM) {
        Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The settings of the terminal on standard input, put back when this is dropped: a debugger that was killed leaves
/// its own behind.
#[derive(Debug)]
pub struct TerminalState(Option<Termios>);

impl TerminalState {
    /// Remembers the present settings; nothing if standard input is no terminal.
    pub fn save() -> Self {
        Self(tcgetattr(rustix::stdio::stdin()).ok())
    }
}

impl Drop for TerminalState {
    fn drop(&mut self) {
        if let Some(termios) = &self.0 {
            // A terminal that is gone cannot be restored and need not be.
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, termios);
        }
    }
}

/// The signals that end vmserial. From the moment this exists they no longer kill the process.
#[derive(Debug)]
pub struct StopSignals {
    interrupt: Stream,
    terminate: Stream,
    hangup: Stream,
}

impl StopSignals {
    /// Begins to catch the signals. Needs a running tokio runtime with I/O.
    ///
    /// # Errors
    ///
    /// The system's refusal.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a signal that came is reported by the next call.
    pub async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.interrupt.recv() => StopSignal::Interrupt,
            _ = self.terminate.recv() => StopSignal::Terminate,
            _ = self.hangup.recv() => StopSignal::Hangup,
        }
    }
}

/// Returns the signal that ended a process, 0 if none did.
pub fn signal_of(status: std::process::ExitStatus) -> i32 {
    std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or_default()
}
