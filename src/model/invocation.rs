//! One command as data: it can be shown, journalled and run, on any host.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Whether a command only looks or changes something. Only commands that read run while a plan is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Changes nothing.
    Reads,
    /// Changes its host.
    Changes,
}

/// A program, its arguments as a list, what it reads on standard input. No shell runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    /// Program name (found on the host's PATH) or path.
    pub program: String,
    /// Arguments.
    pub arguments: Vec<String>,
    /// Bytes for standard input, which is closed after them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Reads or changes.
    pub purpose: Purpose,
    /// Values that are masked wherever the command is shown. Secrets should not be in arguments at all.
    #[serde(skip)]
    pub secrets: Vec<String>,
}

impl Invocation {
    /// Makes a command that changes nothing.
    pub fn reads(program: impl Into<String>, arguments: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::with_purpose(Purpose::Reads, program, arguments)
    }

    /// Makes a command that changes its host.
    pub fn changes(
        program: impl Into<String>,
        arguments: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self::with_purpose(Purpose::Changes, program, arguments)
    }

    fn with_purpose(
        purpose: Purpose,
        program: impl Into<String>,
        arguments: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            stdin: None,
            purpose,
            secrets: Vec::new(),
        }
    }
}

impl fmt::Display for Invocation {
    /// Writes a line that can be pasted into a POSIX shell, secrets masked.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = std::iter::once(self.program.as_str()).chain(self.arguments.iter().map(String::as_str));
        for (index, word) in words.enumerate() {
            if index > 0 {
                formatter.write_str(" ")?;
            }
            let mut word = word.to_owned();
            for secret in self.secrets.iter().filter(|secret| !secret.is_empty()) {
                word = word.replace(secret.as_str(), "***");
            }
            match shlex::try_quote(&word) {
                Ok(quoted) => formatter.write_str(&quoted)?,
                Err(_) => write!(formatter, "{word:?}")?,
            }
        }
        Ok(())
    }
}
