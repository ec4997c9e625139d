//! The terminal of a console: raw while it is ours, as it was whenever it is the shell's.

use crate::runner::sys::{JobSignal, JobSignals, TerminalState, can_suspend, suspend};
use std::io;

/// A raw terminal, or none. However it is dropped, the terminal is as it was.
#[derive(Debug)]
pub(super) struct Terminal {
    raw: Option<TerminalState>,
    jobs: Option<JobSignals>,
}

impl Terminal {
    /// No terminal.
    pub fn none() -> Self {
        Self {
            raw: None,
            jobs: None,
        }
    }

    /// Makes the terminal of standard input raw, and watches the shell's job control.
    ///
    /// # Errors
    ///
    /// The system's refusal.
    pub fn raw() -> io::Result<Self> {
        Ok(Self {
            jobs: Some(JobSignals::catch()?),
            raw: Some(TerminalState::raw()?),
        })
    }

    /// Waits for what the shell wants of us.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a signal that came is told by the next call.
    pub async fn next_job_signal(&mut self) -> JobSignal {
        match &mut self.jobs {
            Some(jobs) => jobs.next().await,
            None => std::future::pending().await,
        }
    }

    /// Gives the terminal back and stops this process until the shell lets it go on. False if there is no shell that could.
    ///
    /// # Errors
    ///
    /// The system's refusal.
    pub async fn suspend(&mut self) -> io::Result<bool> {
        let Some(jobs) = &mut self.jobs else {
            return Ok(false);
        };
        if !can_suspend() {
            return Ok(false);
        }
        self.raw = None;
        suspend()?;
        // This thread may get a little further before the process stops.
        while jobs.next().await != JobSignal::GoOn {}
        self.raw = Some(TerminalState::raw()?);
        Ok(true)
    }

    /// Makes the terminal raw again: somebody else stopped us and let us go on, and the shell had it meanwhile.
    ///
    /// # Errors
    ///
    /// The system's refusal.
    pub fn raw_again(&mut self) -> io::Result<()> {
        if self.raw.take().is_some() {
            self.raw = Some(TerminalState::raw()?);
        }
        Ok(())
    }
}
