//! One thing that a doctor looks at.

use serde::Serialize;

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// As it should be.
    Good,
    /// It works, and could be better.
    Advice,
    /// It must be mended.
    Missing,
    /// Something before it must be mended first.
    NotLookedAt,
}

/// One thing that was looked at on a host, with the command that mends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What: `PowerShell`, `rights`.
    pub name: String,
    /// How it is.
    pub state: CheckState,
    /// What was found, as a fragment.
    pub found: String,
    /// What to do, a sentence each.
    pub mend: Vec<String>,
}

impl Check {
    /// Makes a check that found this.
    pub fn new(name: impl Into<String>, state: CheckState, found: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            state,
            found: found.into(),
            mend: Vec::new(),
        }
    }

    /// Adds what to do.
    #[must_use]
    pub fn mend(mut self, sentence: impl Into<String>) -> Self {
        self.mend.push(sentence.into());
        self
    }
}
