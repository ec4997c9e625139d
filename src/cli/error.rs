//! Failures as a user meets them: kind, text, hints, exit code.

use crate::cli::ui::Ui;
use crate::model::{FailureKind, Problem};
use crate::runner::RunError;
use std::process::ExitCode;

/// A failure as the user meets it.
#[derive(Debug)]
pub struct Failure {
    /// Decides the exit code.
    pub kind: FailureKind,
    /// What went wrong, with its causes.
    pub error: anyhow::Error,
    /// What to do next.
    pub hints: Vec<String>,
}

impl Failure {
    /// Makes a failure without hints.
    pub fn new(kind: FailureKind, error: impl Into<anyhow::Error>) -> Self {
        Self {
            kind,
            error: error.into(),
            hints: Vec::new(),
        }
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Returns the program's exit code.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind.exit_code())
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self {
            kind: problem.kind,
            hints: problem.hints.clone(),
            error: anyhow::Error::new(problem),
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let kind = error.kind();
        Self::new(kind, error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(FailureKind::Host, error)
    }
}

/// Prints clap's own text: help and version on standard output with 0, wrong usage on standard error with 2, and with
/// `--json` on standard output too.
pub fn report_usage(error: &clap::Error, ui: &mut Ui) -> ExitCode {
    // Nothing can be done about a closed terminal.
    let _ = error.print();
    if error.use_stderr() {
        let text = error.render().to_string();
        let said = text.strip_prefix("error: ").unwrap_or(&text);
        let message = said.split("\n\n").next().unwrap_or(said).trim_end();
        ui.failure_as_data(&Failure::new(
            FailureKind::Usage,
            anyhow::Error::msg(message.to_owned()),
        ));
        ExitCode::from(FailureKind::Usage.exit_code())
    } else {
        ExitCode::SUCCESS
    }
}
