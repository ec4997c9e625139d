//! What the user's keys do: typed, or asked of the menu behind the escape key.

use super::ask::{Answer, parse_kibibytes};
use super::escape::{Key, Question, help};
use super::paste::Paste;
use super::power::PowerAction;
use super::run::{Console, host};
use crate::bridge::control::Mode;
use crate::model::Problem;
use std::time::{Duration, Instant};

/// How often the user is told how far a paste is.
const PASTE_TOLD: Duration = Duration::from_secs(2);

/// Stops a paste.
const CTRL_C: u8 = 3;

/// A file on its way.
pub(super) struct Pasting {
    pub paste: Paste,
    pub name: String,
    /// When the user is told how far it is.
    pub tell_at: Instant,
}

impl Console<'_> {
    /// Hands typed bytes on. True if the user leaves.
    pub(super) fn type_keys(&mut self, bytes: &[u8]) -> bool {
        for key in self.keys.input(bytes) {
            match key {
                // The keys that are typed now would stand in the middle of the file.
                Key::Bytes(bytes) if self.pasting.is_some() => {
                    if bytes.contains(&CTRL_C) {
                        self.stop_paste("stopped");
                    }
                }
                Key::Bytes(bytes) if self.spec.mode == Mode::Rw => self.to_owner.extend(bytes),
                Key::Bytes(_) => {}
                Key::Leave => return true,
                Key::Break => self.asker.send_break(),
                Key::Who => self.asker.who(),
                Key::TakeOver if self.spec.mode == Mode::Rw => self.asker.take_over(),
                Key::TakeOver => (self.notify)("[vmserial: this console only reads]"),
                Key::Suspend => self.suspend = true,
                Key::Help => {
                    for line in help(self.spec.escape) {
                        (self.notify)(&line);
                    }
                }
                Key::Ask(question) => {
                    self.to_stdout
                        .extend_from_slice(format!("\r\n{}", question.text()).as_bytes());
                }
                Key::Echo(bytes) => self.to_stdout.extend(bytes),
                Key::Answer(question, answer) => {
                    self.to_stdout.extend_from_slice(b"\r\n");
                    self.obey(question, &answer);
                }
                Key::Cancelled => self.to_stdout.extend_from_slice(b"\r\n"),
                Key::Unknown(_) => {
                    let escape = self.spec.escape;
                    (self.notify)(&format!(
                        "[vmserial: no such key after {escape}; {escape} ? lists them]"
                    ));
                }
            }
        }
        false
    }

    /// Does what the answer to a question says.
    pub(super) fn obey(&mut self, question: Question, answer: &str) {
        match question {
            Question::History => match parse_kibibytes(answer) {
                Ok(kibibytes) => self.asker.history(kibibytes),
                Err(problem) => (self.notify)(&format!("[vmserial: {problem}]")),
            },
            Question::Log | Question::Paste | Question::Power if answer.is_empty() => {}
            Question::Log => self.asker.log(answer),
            Question::Paste => self.begin_paste(answer),
            Question::Power => match (PowerAction::parse(answer), &self.spec.power) {
                (Some(action), Ok(power)) => self.asker.power(power, action),
                (Some(_), Err(reason)) => (self.notify)(&format!("[vmserial: no power here: {reason}]")),
                (None, _) => (self.notify)("[vmserial: expected up, down or reset]"),
            },
        }
    }

    pub(super) fn tell(&mut self, answer: Answer) {
        match answer {
            Answer::Lines(lines) => {
                for line in lines {
                    (self.notify)(&line);
                }
            }
            Answer::History(bytes) => {
                let head = format!("\r\n[vmserial: history, {} bytes]\r\n", bytes.len());
                self.to_stdout.extend_from_slice(head.as_bytes());
                self.to_stdout.extend_from_slice(&bytes);
                self.to_stdout
                    .extend_from_slice(b"\r\n[vmserial: end of history]\r\n");
            }
        }
    }

    pub(super) async fn suspend_now(&mut self) -> Result<(), Problem> {
        (self.notify)("[vmserial: suspended, `fg` goes on]");
        match self.terminal.suspend().await {
            Ok(true) => {
                (self.notify)("[vmserial: the console goes on]");
                Ok(())
            }
            Ok(false) => {
                (self.notify)("[vmserial: not suspended: no shell would let it go on]");
                Ok(())
            }
            Err(error) => Err(host("suspend", &error)),
        }
    }

    pub(super) fn begin_paste(&mut self, name: &str) {
        if self.spec.mode == Mode::Ro {
            return (self.notify)("[vmserial: this console only reads]");
        }
        let contents = match std::fs::read(name) {
            Ok(contents) => contents,
            Err(error) => return (self.notify)(&format!("[vmserial: cannot paste `{name}`: {error}]")),
        };
        let now = Instant::now();
        let paste = Paste::new(&contents, self.spec.pace, now);
        (self.notify)(&format!(
            "[vmserial: pasting {} bytes of {name}; Ctrl-C stops it, other keys are ignored]",
            paste.progress().1
        ));
        self.pasting = Some(Pasting {
            paste,
            name: name.to_owned(),
            tell_at: now + PASTE_TOLD,
        });
    }

    /// Types the next part of the file. Nothing of it waits before the owner, so it goes as fast as the target takes it.
    pub(super) fn paste_on(&mut self) {
        let now = Instant::now();
        let Some(pasting) = &mut self.pasting else {
            return;
        };
        let part = pasting.paste.next(now).map(<[u8]>::to_vec);
        let (done, all) = pasting.paste.progress();
        match part {
            Some(part) => {
                self.to_owner.extend(part);
                if pasting.tell_at <= now {
                    pasting.tell_at = now + PASTE_TOLD;
                    let line = format!("[vmserial: {done} of {all} bytes of {} pasted]", pasting.name);
                    (self.notify)(&line);
                }
            }
            None => self.stop_paste("done"),
        }
    }

    pub(super) fn stop_paste(&mut self, why: &str) {
        if let Some(pasting) = self.pasting.take() {
            let (done, all) = pasting.paste.progress();
            let name = &pasting.name;
            (self.notify)(&format!(
                "[vmserial: {done} of {all} bytes of {name} pasted, {why}]"
            ));
        }
    }
}
