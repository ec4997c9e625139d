//! What kind of failure it is, with its exit code, and a problem as it is told to a user.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The kinds of failure that users and scripts tell apart. Each has one exit code (`docs/reference/exit-codes.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The command line is wrong: 2.
    Usage,
    /// The profile, journal or configuration is wrong: 3.
    Configuration,
    /// A VM, target, file or program is not there: 4.
    NotFound,
    /// Something must be done first: VM running, not elevated, owned by another, no `--yes`: 5.
    Precondition,
    /// A host or a tool failed: 6.
    Host,
    /// A deadline passed: 7.
    Deadline,
    /// A fail pattern was seen: 8.
    FailPattern,
    /// Some targets failed: 9.
    SomeTargets,
    /// `--exit-code`: changes are pending: 10.
    ChangesPending,
    /// A kernel panic was seen: 11.
    KernelPanic,
    /// A reset of the target was seen: 12.
    TargetReset,
    /// The connection was lost: 13.
    ConnectionLost,
    /// The user answered no: 14.
    AnsweredNo,
    /// A defect of vmserial: 70.
    Internal,
    /// Stopped by Ctrl-C: 130.
    Interrupted,
}

impl FailureKind {
    /// All kinds, in the order of their exit codes.
    pub const ALL: [Self; 15] = [
        Self::Usage,
        Self::Configuration,
        Self::NotFound,
        Self::Precondition,
        Self::Host,
        Self::Deadline,
        Self::FailPattern,
        Self::SomeTargets,
        Self::ChangesPending,
        Self::KernelPanic,
        Self::TargetReset,
        Self::ConnectionLost,
        Self::AnsweredNo,
        Self::Internal,
        Self::Interrupted,
    ];

    /// Returns the documented exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Configuration => 3,
            Self::NotFound => 4,
            Self::Precondition => 5,
            Self::Host => 6,
            Self::Deadline => 7,
            Self::FailPattern => 8,
            Self::SomeTargets => 9,
            Self::ChangesPending => 10,
            Self::KernelPanic => 11,
            Self::TargetReset => 12,
            Self::ConnectionLost => 13,
            Self::AnsweredNo => 14,
            Self::Internal => 70,
            Self::Interrupted => 130,
        }
    }
}

/// A failure with everything its reader needs: what was got and expected (message), what to do next (hints).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its kind, which decides the exit code.
    pub kind: FailureKind,
    /// A lowercase fragment without a period, things named in backticks.
    pub message: String,
    /// What to do next, a sentence each.
    pub hints: Vec<String>,
    /// The process that holds what was wanted, where the system tells it.
    pub holder: Option<u32>,
}

impl Problem {
    /// Makes a problem without hints.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hints: Vec::new(),
            holder: None,
        }
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn every_kind_stands_in_the_documented_table_with_its_code() {
        let page = include_str!("../../docs/reference/exit-codes.md");
        let documented: Vec<(u8, String)> = page
            .lines()
            .filter_map(|line| {
                let cells: Vec<&str> = line.split('|').map(str::trim).collect();
                let code = cells.get(1)?.parse().ok()?;
                Some((code, cells.get(2)?.trim_matches('`').to_owned()))
            })
            .collect();
        let mut expected = vec![(0, "–".to_owned())];
        expected.extend(FailureKind::ALL.into_iter().map(|kind| {
            let name = serde_json::to_value(kind).unwrap();
            (kind.exit_code(), name.as_str().unwrap().to_owned())
        }));
        assert_eq!(documented, expected);
    }
}
