//! A program without an SSH engine of its own. Nobody calls it: the system's `ssh` is taken instead.

use crate::model::{FailureKind, Problem, Wait};
use crate::runner::ssh::link::{ExecFailure, Far};
use crate::runner::{Output, ReadWrite, RunError};
use std::io;

/// There is no engine here.
pub const BUILT_IN: bool = false;

fn none() -> RunError {
    let message = "this program was built without SSH of its own";
    let problem = Problem::new(FailureKind::Precondition, message);
    RunError::Connection(Box::new(problem.hint("Add `--ssh-engine system`.")))
}

/// Refuses.
///
/// # Errors
///
/// Always.
pub fn exec(_chain: &[String], _line: &str, _stdin: &[u8], _wait: &Wait) -> Result<Output, ExecFailure> {
    Err(ExecFailure {
        error: none(),
        stderr: Vec::new(),
    })
}

/// There is no connection to let go of.
pub fn renew(_chain: &[String]) {}

/// Refuses.
///
/// # Errors
///
/// Always.
pub async fn open(_chain: &[String], _far: &Far) -> io::Result<tokio::io::DuplexStream> {
    Err(io::Error::other(none().to_string()))
}

/// Refuses.
///
/// # Errors
///
/// Always.
pub fn open_within(_chain: &[String], _far: &Far, _wait: &Wait) -> Result<Box<dyn ReadWrite>, RunError> {
    Err(none())
}
