//! The terminal, by termios.

use super::super::Typed;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Read as _, Write as _};

/// How often an unanswered question looks whether anybody still wants the answer.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// The terminal of this process.
pub struct Device(File);

/// Echo is put back on every way out.
struct Silent<'a> {
    device: &'a File,
    before: Option<Termios>,
    tell: &'a dyn Fn(bool),
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(self.device, OptionalActions::Flush, before);
            (self.tell)(false);
        }
    }
}

impl Device {
    /// Opens the terminal; `None` if standard input is none.
    pub fn open() -> Option<Self> {
        if !io::stdin().is_terminal() {
            return None;
        }
        // Not `/dev/tty`, which may be another one: who looks at standard input is asked.
        let name = rustix::termios::ttyname(io::stdin(), Vec::new()).ok()?;
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        options.open(name.to_str().ok()?).ok().map(Self)
    }

    /// Asks for a line, shown or not; `silent` is told when the terminal stops to echo and when it does so again.
    pub fn ask(
        &self,
        question: &str,
        echo: bool,
        given_up: &dyn Fn() -> bool,
        silent: &dyn Fn(bool),
    ) -> Typed {
        self.try_to_ask(question, echo, given_up, silent)
            .unwrap_or(Typed::Nothing)
    }

    fn try_to_ask(
        &self,
        question: &str,
        echo: bool,
        given_up: &dyn Fn() -> bool,
        tell: &dyn Fn(bool),
    ) -> Option<Typed> {
        let mut device = &self.0;
        let mut silent = Silent {
            device,
            before: None,
            tell,
        };
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
            tell(true);
            silent.before = Some(before);
            tcsetattr(device, OptionalActions::Flush, &quiet).ok()?;
        }
        device.write_all(question.as_bytes()).ok()?;
        let mut answer = Vec::new();
        loop {
            let mut polled = [PollFd::new(device, PollFlags::IN)];
            let ready = poll(&mut polled, Some(&LOOK)).unwrap_or_default();
            if given_up() {
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
                let _ = device.write_all(b"\r\n");
                drop(silent);
                // What it does to the process is the process's own matter.
                let _ = kill_process(getpid(), Signal::INT);
                return Some(Typed::Interrupted);
            }
            if let Some(end) = answer.iter().position(|&byte| byte == b'\n') {
                answer.truncate(end);
                return String::from_utf8(answer).ok().map(Typed::Line);
            }
        }
    }
}
