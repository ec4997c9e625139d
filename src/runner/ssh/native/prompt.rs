//! Questions at the terminal: passphrases, passwords, the key of a new host.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How often an unanswered question looks whether anybody still wants the answer.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// How long an end of the process waits for the terminal.
const PATIENCE: Duration = Duration::from_secs(2);

/// The terminal of this process.
pub struct Terminal<'a> {
    device: File,
    given_up: &'a dyn Fn() -> bool,
    interrupted: Cell<bool>,
}

/// Whether a silent question is being asked: whoever ends the process waits until the terminal echoes again.
static SILENT: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

/// Waits until no question is being asked that the terminal does not show. They look every [`LOOK`] whether they are still
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

/// Echo is put back on every way out.
struct Silent<'a>(&'a File, Option<Termios>);

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        if let Some(before) = &self.1 {
            let _ = tcsetattr(self.0, OptionalActions::Flush, before);
            set_silent(false);
        }
    }
}

impl<'a> Terminal<'a> {
    /// Opens the terminal; `None` if standard input is none. `given_up` says that nobody waits for an answer any more.
    pub fn open(given_up: &'a dyn Fn() -> bool) -> Option<Self> {
        if !io::stdin().is_terminal() {
            return None;
        }
        // Not `/dev/tty`, which may be another one: who looks at standard input is asked.
        let name = rustix::termios::ttyname(io::stdin(), Vec::new()).ok()?;
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let device = options.open(name.to_str().ok()?).ok()?;
        Some(Self {
            device,
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
        let mut device = &self.device;
        let mut silent = Silent(device, None);
        let mut interrupt = None;
        if !echo {
            let before = tcgetattr(device).ok()?;
            let mut quiet = before.clone();
            // The signal of Ctrl-C could end the process while the terminal is silent: here it ends the line.
            let key = quiet.special_codes[SpecialCodeIndex::VINTR];
            if quiet.local_modes.contains(LocalModes::ISIG) && key != 0 {
                interrupt = Some(key);
                quiet.special_codes[SpecialCodeIndex::VEOL] = key;
            }
            quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
            quiet.local_modes.insert(LocalModes::ECHONL);
            set_silent(true);
            silent.1 = Some(before);
            tcsetattr(device, OptionalActions::Flush, &quiet).ok()?;
        }
        device.write_all(printable(question).as_bytes()).ok()?;
        let mut answer = Vec::new();
        loop {
            let mut polled = [PollFd::new(device, PollFlags::IN)];
            let ready = poll(&mut polled, Some(&LOOK)).unwrap_or_default();
            if (self.given_up)() {
                let _ = device.write_all(b"\r\n");
                return None;
            }
            if ready == 0 {
                continue;
            }
            let mut bytes = [0; 256];
            match device.read(&mut bytes) {
                Ok(0) | Err(_) => return None,
                Ok(count) => answer.extend_from_slice(&bytes[..count]),
            }
            if interrupt.is_some_and(|key| answer.contains(&key)) {
                self.interrupted.set(true);
                let _ = device.write_all(b"\r\n");
                drop(silent);
                // What it does to the process is the process's own matter.
                let _ = kill_process(getpid(), Signal::INT);
                return None;
            }
            if let Some(end) = answer.iter().position(|&byte| byte == b'\n') {
                answer.truncate(end);
                return String::from_utf8(answer).ok();
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
