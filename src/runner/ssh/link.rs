//! What both engines offer, in the same words.

use crate::runner::RunError;

/// Where a stream through a host goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Far {
    /// Standard input and output of this line, run by the user's login shell there.
    Command(String),
    /// An address, as the host names it.
    Tcp(String, u16),
    /// A socket on the host.
    Unix(String),
}

/// A command that could not be run to its end.
#[derive(Debug)]
pub struct ExecFailure {
    /// Why.
    pub error: RunError,
    /// What it had said on standard error by then: its pid is there.
    pub stderr: Vec<u8>,
}
