//! How a bridge ends.

use crate::model::Problem;

/// Which signal asked for the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// Ctrl-C: exit code 130.
    Interrupt,
    /// SIGTERM or SIGHUP: exit code 0.
    Terminate,
}

/// Why a bridge ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A stream that the bridge lives from ended (`--once`, standard input).
    Ended,
    /// It was told to stop.
    Stopped,
    /// The target never came within `--wait`.
    NeverCame {
        /// Why not, as of the last dial.
        reason: String,
    },
    /// It cannot go on.
    Failed(Problem),
}
