//! Questions at the terminal: passphrases, passwords, the key of a new host.

use super::sys::{Device, Typed};
use std::cell::Cell;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How long an end of the process waits for the terminal.
const PATIENCE: Duration = Duration::from_secs(2);

/// The terminal of this process.
pub struct Terminal<'a> {
    device: Device,
    given_up: &'a dyn Fn() -> bool,
    interrupted: Cell<bool>,
}

/// Whether a silent question is being asked: whoever ends the process waits until the terminal echoes again.
static SILENT: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

/// Waits until no question is being asked that the terminal does not show. They look all the time whether they are still
/// wanted.
pub fn wait_for_echo() {
    let silent = SILENT.0.lock().unwrap_or_else(PoisonError::into_inner);
    // A terminal that takes no settings any more must not keep us.
    let _ = SILENT.1.wait_timeout_while(silent, PATIENCE, |silent| *silent);
}

fn set_silent(value: bool) {
    *SILENT.0.lock().unwrap_or_else(PoisonError::into_inner) = value;
    SILENT.1.notify_all();
}

impl<'a> Terminal<'a> {
    /// Opens the terminal; `None` if standard input is none. `given_up` says that nobody waits for an answer any more.
    pub fn open(given_up: &'a dyn Fn() -> bool) -> Option<Self> {
        Some(Self {
            device: Device::open()?,
            given_up,
            interrupted: Cell::new(false),
        })
    }

    /// Tells whether a question was answered with Ctrl-C.
    pub fn was_interrupted(&self) -> bool {
        self.interrupted.get()
    }

    /// Asks for a line that is not shown. `None`: no answer.
    pub fn secret(&self, question: &str) -> Option<String> {
        self.ask(question, false)
    }

    /// Asks for a line.
    pub fn line(&self, question: &str) -> Option<String> {
        self.ask(question, true)
    }

    /// Asks for yes or no.
    pub fn yes(&self, question: &str) -> bool {
        let answer = self.ask(&format!("{question} [y/N] "), true);
        matches!(answer.as_deref().map(str::trim), Some("y" | "Y" | "yes" | "Yes"))
    }

    fn ask(&self, question: &str, echo: bool) -> Option<String> {
        let question = printable(question);
        match self.device.ask(&question, echo, self.given_up, &set_silent) {
            Typed::Line(line) => Some(line),
            Typed::Nothing => None,
            Typed::Interrupted => {
                self.interrupted.set(true);
                None
            }
        }
    }
}

/// A server's words may not steer the terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_control() && character != '\n' {
                '?'
            } else {
                character
            }
        })
        .collect()
}
