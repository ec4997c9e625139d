//! Edits of keyed files as data: which keys get which values, in which format.

use crate::model::digest::Digest;
use crate::model::host::HostPath;
use serde::{Deserialize, Serialize};

/// Formats that `render::edit` can change key by key, leaving every other byte alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    /// A VMware `.vmx`.
    Vmx,
    /// A domain configuration of Xen's `xl`; values are source text.
    XlCfg,
    /// Rules as `iptables-save` writes them; a key is a rule of the table `filter` (`-A CHAIN …`), its value `filter`.
    Iptables,
    /// A file in which blocks of ours stand between marks; a key is a block's name, its value the block's lines.
    Marked,
    /// A boot entry of the Boot Loader Specification.
    LoaderEntry,
    /// A file that is wholly ours; its one key is the empty string, its value the whole text.
    Whole,
}

/// One change of one key. Applying it twice equals applying it once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EditOperation {
    /// The key holds this value afterwards.
    Set {
        /// Key as it is written when it is new; an existing key keeps its own spelling.
        key: String,
        /// Plain value, not yet quoted or escaped.
        value: String,
    },
    /// The key is absent afterwards.
    Remove {
        /// Key.
        key: String,
    },
}

impl EditOperation {
    /// Returns the key that is changed.
    pub fn key(&self) -> &str {
        match self {
            Self::Set { key, .. } | Self::Remove { key } => key,
        }
    }

    /// Returns the value that the key holds afterwards, `None` if it is absent then.
    pub fn value(&self) -> Option<&str> {
        match self {
            Self::Set { value, .. } => Some(value),
            Self::Remove { .. } => None,
        }
    }
}

/// The edit of one file. Execution refuses it when the file is no longer the one it was planned on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEdit {
    /// Which file.
    pub path: HostPath,
    /// In which format.
    pub format: FileFormat,
    /// Digest of the file that the plan was made on; `None`: there was no file.
    pub planned_on: Option<Digest>,
    /// The changes.
    pub operations: Vec<EditOperation>,
    /// The file's bytes when the plan was made, for the diff that people read. Not journalled: `before/N` is.
    #[serde(skip)]
    pub before: Option<Vec<u8>>,
}
