//! The only printer: data on standard output; status, warnings, prompts, failures on standard error.

use crate::cli::error::Failure;
use crate::plan::{Plan, show};
use serde::Serialize;
use std::io::{self, BufRead, IsTerminal, Write};

/// Where a command's words go.
#[derive(Debug)]
pub struct Ui {
    json: bool,
}

impl Ui {
    /// Makes the printer; `json` is `--json`.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Tells whether data goes out as JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Tells whether there is a person to ask: standard input and standard error are terminals.
    pub fn can_ask(&self) -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Prints one line of data.
    pub fn data(&mut self, line: &str) -> io::Result<()> {
        self.data_bytes(line.as_bytes())?;
        self.data_bytes(b"\n")
    }

    /// Prints bytes as data. A closed pipe ends the program's output silently.
    pub fn data_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.map_err(|error| {
                io::Error::new(error.kind(), format!("cannot write to standard output: {error}"))
            }),
        }
    }

    /// Prints a value as one line of JSON.
    pub fn data_json(&mut self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(value).map_err(io::Error::other)?;
        self.data(&text)
    }

    /// Prints a short sentence on standard error.
    pub fn status(&mut self, line: &str) {
        self.error_line(line);
    }

    /// Prints a warning on standard error.
    pub fn warning(&mut self, line: &str) {
        self.error_line(&format!("warning: {line}"));
    }

    /// Asks a question that is answered with yes or no; no is the default. `None` if there is nobody to ask.
    pub fn ask(&mut self, question: &str) -> io::Result<Option<bool>> {
        if !self.can_ask() {
            return Ok(None);
        }
        let mut stderr = io::stderr().lock();
        write!(stderr, "{question} [y/N] ")?;
        stderr.flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(Some(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes" | "YES")))
    }

    /// Prints a failure: headline, causes, hints; with `--json` also one JSON line on standard output.
    pub fn failure(&mut self, failure: &Failure) {
        let mut lines = format!("error: {}", failure.error);
        for cause in failure.error.chain().skip(1) {
            lines.push_str(&format!("\n  caused by: {cause}"));
        }
        for hint in &failure.hints {
            lines.push_str(&format!("\nhint: {hint}"));
        }
        self.error_line(&lines);
        self.failure_as_data(failure);
    }

    /// Prints a failure that was told already, with `--json`, as one JSON line on standard output.
    pub fn failure_as_data(&mut self, failure: &Failure) {
        if self.json {
            let causes: Vec<String> = failure.error.chain().skip(1).map(ToString::to_string).collect();
            let value = serde_json::json!({
                "error": { "kind": failure.kind, "exit_code": failure.kind.exit_code(),
                           "message": failure.error.to_string(), "causes": causes, "hints": failure.hints }
            });
            // The headline was printed already; a closed standard output changes nothing.
            let _ = self.data_json(&value);
        }
    }

    fn error_line(&mut self, line: &str) {
        let mut stderr = io::stderr().lock();
        // Nobody is left to be told when standard error is closed.
        let _ = writeln!(stderr, "{line}");
    }
}

impl crate::session::Front for Ui {
    fn planned(&mut self, plan: &Plan) -> io::Result<()> {
        if self.json {
            self.data_json(&show::json(plan))
        } else if plan.is_empty() {
            plan.notes().for_each(|note| self.error_line(note));
            self.error_line("Nothing to change.");
            Ok(())
        } else {
            self.data(show::text(plan).trim_end())
        }
    }

    fn undo_planned(&mut self, text: &str) -> io::Result<()> {
        if self.json {
            // Its steps are in the data.
            Ok(())
        } else {
            self.data(text.trim_end())
        }
    }

    fn show(&mut self, text: &str) {
        self.error_line(text.trim_end_matches('\n'));
    }

    fn status(&mut self, line: &str) {
        Self::status(self, line);
    }

    fn warning(&mut self, line: &str) {
        Self::warning(self, line);
    }

    fn ask(&mut self, question: &str) -> io::Result<Option<bool>> {
        Self::ask(self, question)
    }
}
/// Prints a warning on standard error, from where no [`Ui`] is at hand.
pub fn warn(line: &str) {
    // Nobody is left to be told of a standard error that is closed.
    let _ = writeln!(io::stderr().lock(), "warning: {line}");
}

/// Tells from now on what the program does to hosts, on standard error: every command, how it ended and how long it took.
pub fn tell_everything() {
    let teller = tracing_subscriber::fmt()
        .with_env_filter("vmserial=debug")
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false)
        .log_internal_errors(false);
    // Who has told before goes on.
    let _ = teller.try_init();
}
