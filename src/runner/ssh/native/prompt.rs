//! Questions at the terminal: passphrases, passwords, the key of a new host.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Read as _, Write as _};

/// How often an unanswered question looks whether anybody still wants the answer.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// The terminal of this process.
pub struct Terminal<'a> {
    device: File,
    given_up: &'a dyn Fn() -> bool,
}

/// Echo is put back on every way out.
struct Silent<'a>(&'a File, Option<Termios>);

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        if let Some(before) = &self.1 {
            let _ = tcsetattr(self.0, OptionalActions::Flush, before);
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
        Some(Self { device, given_up })
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
        if !echo {
            let before = tcgetattr(device).ok()?;
            let mut quiet = before.clone();
            quiet.local_modes.remove(LocalModes::ECHO);
            quiet.local_modes.insert(LocalModes::ECHONL);
            tcsetattr(device, OptionalActions::Flush, &quiet).ok()?;
            silent.1 = Some(before);
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
