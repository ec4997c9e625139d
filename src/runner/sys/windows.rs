//! Windows: console events; processes are ended by their handle only, and terminal settings are the console's own.

use super::StopSignal;
use std::io;
use tokio::signal::windows::{CtrlBreak, CtrlC, CtrlClose, ctrl_break, ctrl_c, ctrl_close};

/// Windows has no request to end that a console program must obey; the caller ends the process by its handle.
///
/// # Errors
///
/// Always says so.
pub fn terminate(_pid: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Nothing to remember: the console restores its own settings when a program ends.
#[derive(Debug)]
pub struct TerminalState;

impl TerminalState {
    /// Remembers nothing.
    pub fn save() -> Self {
        Self
    }
}

/// The console events that end vmserial.
#[derive(Debug)]
pub struct StopSignals {
    interrupt: CtrlC,
    terminate: CtrlBreak,
    close: CtrlClose,
}

impl StopSignals {
    /// Begins to catch the events. Needs a running tokio runtime.
    ///
    /// # Errors
    ///
    /// The system's refusal.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: ctrl_c()?,
            terminate: ctrl_break()?,
            close: ctrl_close()?,
        })
    }

    /// Waits for the next event.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an event that came is reported by the next call.
    pub async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.interrupt.recv() => StopSignal::Interrupt,
            _ = self.terminate.recv() => StopSignal::Terminate,
            _ = self.close.recv() => StopSignal::Hangup,
        }
    }
}

/// Windows ends no process by a signal.
pub fn signal_of(_status: std::process::ExitStatus) -> i32 {
    0
}
