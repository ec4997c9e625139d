//! Where a port's output is kept on disk, and how much of it.

use std::path::PathBuf;

/// The logs of one port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogSpec {
    /// What the target sends, byte for byte, appended.
    pub raw: Option<PathBuf>,
    /// The same with times and marks, one JSON object a line.
    pub json: Option<PathBuf>,
    /// When a full file makes room for the next; `None` lets it grow for ever.
    pub rotation: Option<Rotation>,
}

/// When a log makes room: `FILE` becomes `FILE.1`, that `FILE.2`, and what is older than the last goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// A file gets no bigger than this, in bytes.
    pub max_bytes: u64,
    /// How many full files are kept beside the one that is written.
    pub keep: u32,
}

/// Full files that are kept unless somebody says how many.
pub const DEFAULT_KEEP: u32 = 5;
