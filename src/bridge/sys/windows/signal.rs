//! The console events that stop a bridge.

use crate::bridge::StopSignal;
use std::io;
use tokio::signal::windows::{CtrlBreak, CtrlC, CtrlClose, ctrl_break, ctrl_c, ctrl_close};

/// Ctrl-C, Ctrl-Break and the console's closing, from the moment this is made.
#[derive(Debug)]
pub struct StopSignals {
    ctrl_c: CtrlC,
    ctrl_break: CtrlBreak,
    close: CtrlClose,
}

impl StopSignals {
    /// Takes the signals over. Needs a runtime.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            ctrl_c: ctrl_c()?,
            ctrl_break: ctrl_break()?,
            close: ctrl_close()?,
        })
    }

    /// Waits for the next one.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a signal that came is kept for the next call.
    pub async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.ctrl_c.recv() => StopSignal::Interrupt,
            _ = self.ctrl_break.recv() => StopSignal::Interrupt,
            _ = self.close.recv() => StopSignal::Terminate,
        }
    }
}
