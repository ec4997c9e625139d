//! The Special Administration Console of a Windows guest (EMS), and the `cmd.exe` in one of its channels.
//!
//! What is said there (Microsoft's pages on SAC; Google's and Oxide's users of it): `SAC>` is the prompt; `cmd` makes a channel and names
//! it `Cmd0001`; `ch -sn Cmd0001` shows the channel's card, any key opens it; it asks for user, domain and password. Sentences are
//! in the system's language, so that nothing depends on them but what is typed, names of channels, and prompts by their form.

use super::frame::{Frames, Mark};
use super::login::{Credentials, LoginFailure};
use super::machine::Dialogue;
use super::text::plain;
use std::time::Duration;

/// What came is taken for all that comes.
pub(super) const QUIET: Duration = Duration::from_millis(700);

/// How long an answer may take before something is tried again.
pub(super) const ANSWER: Duration = Duration::from_secs(6);

/// How often each thing is tried.
pub(super) const TRIES: u32 = 5;

/// What is kept of what was heard.
pub(super) const HEARD: usize = 32 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Enter was typed; who is there?
    Waiting,
    /// A channel was asked for.
    Asked,
    /// The channel's card is to come.
    Switching,
    /// A key opened it.
    Opening,
    /// These were typed.
    User,
    Domain,
    Password,
    /// A line whose output only cmd.exe can make.
    Probing,
}

/// A login on its way.
#[derive(Debug)]
pub struct SacLogin {
    credentials: Credentials,
    mark: Mark,
    frames: Frames,
    state: State,
    heard: Vec<u8>,
    last_heard: Duration,
    last_sent: Duration,
    tries: u32,
    output: Vec<u8>,
    outcome: Option<Result<(), LoginFailure>>,
}

pub(super) fn last_line(text: &str) -> &str {
    let mut lines = text.lines().rev().map(str::trim);
    lines.find(|line| !line.is_empty()).unwrap_or_default()
}

/// `C:\Windows\system32>`, the newest thing on the line.
pub(super) fn is_command_prompt(line: &str) -> bool {
    let path = line.strip_suffix('>').unwrap_or_default();
    path.as_bytes().first().is_some_and(u8::is_ascii_alphabetic) && path.get(1..3) == Some(":\\")
}

pub(super) fn is_sac_prompt(line: &str) -> bool {
    line.ends_with("SAC>")
}

/// Tells whether a port shows the console of EMS: its prompt at the start of a line, the same in every language.
pub fn shows_sac(heard: &[u8]) -> bool {
    plain(heard)
        .lines()
        .any(|line| line.trim_start().starts_with("SAC>"))
}

/// Finds the newest name of a channel: `Cmd0001`.
fn channel(text: &str) -> Option<String> {
    let at = text.rfind("Cmd")?;
    let name: String = text[at..]
        .chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect();
    (name.len() == 7 && name[3..].bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

impl SacLogin {
    /// Begins: types Enter.
    pub(super) fn new(credentials: Credentials, mark: Mark, now: Duration) -> Self {
        let mut login = Self {
            credentials,
            frames: Frames::new(&mark),
            mark,
            state: State::Waiting,
            heard: Vec::new(),
            last_heard: now,
            last_sent: now,
            tries: 0,
            output: Vec::new(),
            outcome: None,
        };
        login.say(State::Waiting, "\r", now);
        login
    }

    fn say(&mut self, state: State, words: &str, now: Duration) {
        if state != self.state {
            self.tries = 0;
        }
        self.state = state;
        self.output.extend_from_slice(words.as_bytes());
        self.heard.clear();
        self.last_sent = now;
    }

    fn fail(&mut self, failure: LoginFailure) {
        self.outcome = Some(Err(failure));
    }

    fn user(&self) -> Option<(String, String)> {
        let user = self.credentials.user.clone()?;
        Some(match user.split_once('\\') {
            Some((domain, name)) => (name.to_owned(), domain.trim_start_matches('.').to_owned()),
            None => (user, String::new()),
        })
    }

    fn again(&mut self, words: &str, now: Duration) {
        self.tries += 1;
        if self.tries > TRIES {
            return self.fail(LoginFailure::Silent);
        }
        self.say(self.state, words, now);
    }

    fn probe_line(&self) -> String {
        format!("echo ^<{}:up:%OS%^>\r", self.mark)
    }

    fn probe(&mut self, now: Duration) {
        let line = self.probe_line();
        self.say(State::Probing, &line, now);
    }
}

impl Dialogue for SacLogin {
    type Said = ();
    type Failure = LoginFailure;

    fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    fn take_outcome(&mut self) -> Option<Result<(), LoginFailure>> {
        self.outcome.take()
    }

    fn deadline(&self) -> Duration {
        let quiet = if self.heard.is_empty() { ANSWER } else { QUIET };
        (self.last_heard.max(self.last_sent) + quiet).min(self.last_sent + ANSWER)
    }

    fn input(&mut self, now: Duration, bytes: &[u8]) {
        if self.outcome.is_some() || bytes.is_empty() {
            return;
        }
        self.last_heard = now;
        self.heard.extend_from_slice(bytes);
        let too_much = self.heard.len().saturating_sub(HEARD);
        self.heard.drain(..too_much);
        let up = self.frames.input(bytes).iter().any(|frame| frame.kind == "up");
        if up && self.state == State::Probing {
            self.outcome = Some(Ok(()));
        }
    }

    /// Everything is decided when the console is quiet, or has gone on for long: messages come in between.
    fn tick(&mut self, now: Duration) {
        if self.outcome.is_some() || now < self.deadline() {
            return;
        }
        let text = plain(&self.heard);
        let last = last_line(&text).to_owned();
        let asks = last.ends_with(':');
        match self.state {
            State::Waiting | State::Asked | State::Switching | State::Opening if is_command_prompt(&last) => {
                self.probe(now);
            }
            State::Waiting if text.contains("SAC>") => self.say(State::Asked, "cmd\r", now),
            // Somebody's login was half done: its channel asks again from the beginning.
            State::Waiting if asks => self.say(State::Waiting, "\u{1b}\t0", now),
            State::Waiting => self.again("\r", now),
            State::Asked => match channel(&text) {
                Some(name) => self.say(State::Switching, &format!("ch -sn {name}\r"), now),
                None if text.contains("SAC>") && self.tries > 1 => {
                    let words = text.replace("SAC>", " ");
                    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
                    self.fail(LoginFailure::NoShell(words.chars().take(200).collect()));
                }
                None => self.again("cmd\r", now),
            },
            State::Switching if is_sac_prompt(&last) => self.again("ch -si 1\r", now),
            State::Switching => self.say(State::Opening, " ", now),
            State::Opening if asks => match self.user() {
                Some((user, _)) => self.say(State::User, &format!("{user}\r"), now),
                None => self.fail(LoginFailure::NoUser),
            },
            State::Opening => self.again(" ", now),
            State::User if asks => {
                let domain = self.user().map(|(_, domain)| domain).unwrap_or_default();
                self.say(State::Domain, &format!("{domain}\r"), now);
            }
            State::Domain if asks => match self.credentials.password.clone() {
                Some(password) => self.say(State::Password, &format!("{}\r", password.reveal()), now),
                None => self.fail(LoginFailure::NoPassword),
            },
            State::Password if is_command_prompt(&last) => self.probe(now),
            State::Password if asks || is_sac_prompt(&last) => {
                let user = self.credentials.user.clone().unwrap_or_default();
                self.fail(LoginFailure::Refused(user));
            }
            // Windows begins a session behind the password.
            State::User | State::Domain | State::Password => {
                self.tries += 1;
                self.last_sent = now;
                self.last_heard = now;
                if self.tries > 2 * TRIES {
                    self.fail(LoginFailure::Silent);
                }
            }
            State::Probing if text.contains("SAC>") => self.say(State::Waiting, "\r", now),
            State::Probing => {
                let line = self.probe_line();
                self.again(&line, now);
            }
        }
    }
}

#[cfg(test)]
mod tests;
