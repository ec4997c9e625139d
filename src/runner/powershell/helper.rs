//! The process of ours between vmserial and a PowerShell of Windows: when it is killed, PowerShell and everything that
//! PowerShell started are ended with it.
//!
//! The crate `powershell_script` needs that more than a command of ours: it has no deadline, writes all of a script before
//! it reads a byte of output, and panics without a PATH (`docs/dev/powershell.md`).

use super::sys;
use crate::model::{Deadline, Invocation, Wait, base64};
use crate::runner::local::Local;
use crate::runner::{Output, RunError, Runner, Status};
use serde::{Deserialize, Serialize};
use std::io;
use std::time::{Duration, Instant};

/// The hidden command that is the helper.
pub const COMMAND: &str = "powershell-helper";

/// What the helper is asked for, one line of JSON on its standard input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// A line of ours to Windows PowerShell, by `powershell_script`.
    Crate(String),
    /// A command of ours.
    Command(Invocation),
}

/// What PowerShell said, as the helper tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Exit code; `None`: there is no such PowerShell.
    code: Option<i32>,
    /// Standard output, base64.
    stdout: String,
    /// Standard error, base64.
    stderr: String,
}

impl Said {
    /// Makes it of what a PowerShell said.
    pub fn new(code: i32, stdout: &[u8], stderr: &[u8]) -> Self {
        Self {
            code: Some(code),
            stdout: base64::encode(stdout),
            stderr: base64::encode(stderr),
        }
    }

    /// There is no such PowerShell.
    pub fn nothing() -> Self {
        Self {
            code: None,
            stdout: String::new(),
            stderr: String::new(),
        }
    }

    /// Returns it as a command's output; `None` if there is no such PowerShell.
    pub fn output(&self, elapsed: Duration) -> Option<Output> {
        Some(Output {
            status: Status::Exited(self.code?),
            stdout: base64::decode(&self.stdout)?,
            stderr: base64::decode(&self.stderr)?,
            elapsed,
        })
    }
}

/// Does the helper's work. Whoever asked has the deadline and ends this process at it.
///
/// # Errors
///
/// PowerShell could not be started or spoken to.
pub fn help(request: &Request) -> io::Result<Said> {
    sys::end_children_with_us()?;
    match request {
        Request::Crate(line) => sys::by_crate(line),
        Request::Command(invocation) => {
            let year = Duration::from_secs(365 * 24 * 3600);
            let wait = Wait::new(
                Deadline::after(Instant::now(), year),
                crate::model::Cancel::new(),
                "PowerShell",
            );
            match Local::new().run(invocation, &wait) {
                Ok(output) => {
                    let code = match output.status {
                        Status::Exited(code) => code,
                        Status::Signalled(signal) => 128 + signal,
                    };
                    Ok(Said::new(code, &output.stdout, &output.stderr))
                }
                Err(RunError::ProgramNotFound { .. }) => Ok(Said::nothing()),
                Err(error) => Err(io::Error::other(error)),
            }
        }
    }
}
