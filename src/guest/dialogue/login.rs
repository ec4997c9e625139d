//! From a silent console to our own shell in the guest: prompts, echo handshake, `sudo`.

use super::frame::{Frames, Mark};
use super::machine::Dialogue;
use super::text::{IN_USE, Prompt, newest_prompt, plain, without_kernel_messages};
use std::fmt;
use std::time::Duration;

/// A secret. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    /// Wraps it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns it, for the one who types it.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// Who logs in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Credentials {
    /// The user's name.
    pub user: Option<String>,
    /// For the login and for `sudo`.
    pub password: Option<Hidden>,
    /// Our shell runs with `sudo`.
    pub sudo: bool,
}

/// Our shell runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedIn {
    /// We gave a user's name, so the login is ours to end.
    pub by_us: bool,
    /// The user's number in our shell.
    pub uid: u32,
}

/// Why there is no shell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginFailure {
    /// Nothing came at all.
    #[error("the console is silent: no login prompt and no shell answers there")]
    Silent,
    /// It asks for a user, and none is known.
    #[error("the guest asks who logs in, and no user is known")]
    NoUser,
    /// It asks for a password, and none is known.
    #[error("the guest asks for a password, and none is known")]
    NoPassword,
    /// The guest said no.
    #[error("the guest refused the login of `{0}`")]
    Refused(String),
    /// The password must be changed first.
    #[error("the guest wants a new password to be chosen first")]
    NewPassword,
    /// `sudo` said no.
    #[error("`sudo` in the guest refused{0}")]
    Sudo(String),
    /// The kernel is stopped.
    #[error("the guest's kernel stands in its debugger (KDB)")]
    InDebugger,
    /// Nothing runs yet.
    #[error("the guest stands in its boot loader")]
    InBootLoader,
    /// Something answers that is no shell.
    #[error("what answers on the console is no POSIX shell: `{0}`")]
    NoShell(String),
    /// Our shell finds no place for its files.
    #[error("the guest has no folder for temporary files (looked at /run, /dev/shm, /tmp)")]
    NoPlace,
    /// It has not what the dialogue needs.
    #[error("the guest has no `{0}`, which the dialogue over its console needs")]
    Missing(String),
}

/// Nobody types faster than this: what came is taken for all that comes.
const QUIET: Duration = Duration::from_millis(700);

/// A flood of messages has no quiet in it: this long after the last word of ours something is tried.
const FLOOD: Duration = Duration::from_secs(4);

/// After the name nothing is typed before something asks for it: it would be taken for the password. `login` is started first,
/// which takes an emulated guest its time, and gives up by itself after a minute (LOGIN_TIMEOUT).
const AFTER_USER: Duration = Duration::from_secs(30);

/// A wrong password is told after three seconds of silence (`pam_faildelay`, FAIL_DELAY).
const AFTER_PASSWORD: Duration = Duration::from_secs(8);

/// How long a shell may take for one line. An emulated guest reads its start-up files meanwhile.
const ANSWER: Duration = Duration::from_secs(5);

/// How often each thing is tried.
const TRIES: u32 = 4;

/// What is kept of what was heard.
const HEARD: usize = 16 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Enter was typed; who is there?
    Waiting,
    /// A name was typed.
    UserSent,
    /// A password was typed.
    PasswordSent,
    /// A line was typed whose output only a shell can make.
    Probing,
    /// Our own shell was started.
    Starting,
    /// `sudo` got its password.
    SudoPassword,
}

/// A login on its way.
#[derive(Debug)]
pub struct Login {
    credentials: Credentials,
    mark: Mark,
    frames: Frames,
    state: State,
    /// Since our last word.
    heard: Vec<u8>,
    /// The same as text, without the kernel's messages.
    text: String,
    last_heard: Duration,
    last_sent: Duration,
    tries: u32,
    starts: u32,
    user_given: bool,
    password_given: bool,
    output: Vec<u8>,
    outcome: Option<Result<LoggedIn, LoginFailure>>,
}

impl Login {
    /// Begins: types Enter.
    pub(super) fn new(credentials: Credentials, mark: Mark, now: Duration) -> Self {
        let mut login = Self {
            credentials,
            frames: Frames::new(&mark),
            mark,
            state: State::Waiting,
            heard: Vec::new(),
            text: String::new(),
            last_heard: now,
            last_sent: now,
            tries: 0,
            starts: 0,
            user_given: false,
            password_given: false,
            output: Vec::new(),
            outcome: None,
        };
        login.say(State::Waiting, "\r", now);
        login
    }

    fn patience(&self) -> Duration {
        match self.state {
            State::Waiting => FLOOD,
            State::UserSent => AFTER_USER,
            State::PasswordSent => AFTER_PASSWORD,
            State::Probing => ANSWER,
            State::Starting | State::SudoPassword => ANSWER * 2,
        }
    }

    fn say(&mut self, state: State, words: &str, now: Duration) {
        self.state = state;
        self.output.extend_from_slice(words.as_bytes());
        self.heard.clear();
        self.text.clear();
        self.last_sent = now;
    }

    fn fail(&mut self, failure: LoginFailure) {
        self.outcome = Some(Err(failure));
    }

    /// Takes it down. Kernel messages are no answer to anything, and end no quiet.
    fn hear(&mut self, bytes: &[u8], now: Duration) {
        self.heard.extend_from_slice(bytes);
        let too_much = self.heard.len().saturating_sub(HEARD);
        if too_much > 0 {
            // A message whose beginning is gone would be taken for an answer.
            let end = self.heard[too_much..].iter().position(|byte| *byte == b'\n');
            self.heard.drain(..end.map_or(too_much, |end| too_much + end + 1));
        }
        let text = without_kernel_messages(&plain(&self.heard));
        if text != self.text {
            self.last_heard = now;
            self.text = text;
        }
    }

    fn meet(&mut self, text: &str, now: Duration) {
        let prompt = newest_prompt(text);
        match (self.state, prompt) {
            (_, Some(Prompt::Debugger)) => self.fail(LoginFailure::InDebugger),
            (_, Some(Prompt::BootLoader)) => self.fail(LoginFailure::InBootLoader),
            (State::UserSent | State::PasswordSent, Some(Prompt::NewPassword)) => {
                self.fail(LoginFailure::NewPassword);
            }
            (State::Waiting | State::Probing, Some(Prompt::LeftOver)) => {
                self.say(State::Waiting, "\u{3}\r", now);
            }
            (State::Waiting, Some(Prompt::User)) => self.give_user(now),
            // Somebody's login was half done, or a line of ours was taken for the password.
            (State::Waiting, Some(Prompt::Password)) => self.again(State::Waiting, "\r", now),
            (State::PasswordSent, _) if is_refused(text) => self.refused(),
            (State::UserSent, _) if is_refused(text) && self.is_all_given() => self.refused(),
            // What stood half-typed there was refused, and not what we said.
            (State::UserSent, Some(Prompt::User)) if is_refused(text) => self.give_user(now),
            (State::PasswordSent, Some(Prompt::User)) => self.refused(),
            (State::Probing, _) if text.contains(&self.answer()) => self.start(now),
            (State::Probing, Some(Prompt::User | Prompt::Password)) if self.is_all_given() => self.refused(),
            (State::Probing, Some(Prompt::User)) => self.give_user(now),
            (State::Probing, Some(Prompt::Password)) => self.again(State::Waiting, "\r", now),
            (State::Starting | State::SudoPassword, _) => self.sudo(text, now),
            _ => {}
        }
    }

    /// Tells whether more came than the name's own echo and getty's prompt before it: whatever is typed until then is taken for
    /// the password.
    fn is_answered(&self, text: &str) -> bool {
        let user = self.credentials.user.as_deref().unwrap_or_default();
        text.lines()
            .map(str::trim)
            .any(|line| !line.is_empty() && line != user && newest_prompt(line) != Some(Prompt::User))
    }

    fn again(&mut self, state: State, words: &str, now: Duration) {
        self.tries += 1;
        if self.tries > TRIES {
            self.fail(LoginFailure::Silent);
        } else {
            self.say(state, words, now);
        }
    }

    fn give_user(&mut self, now: Duration) {
        match self.credentials.user.clone() {
            None => self.fail(LoginFailure::NoUser),
            // The prompt again, before it was said no to: the name came while getty was starting.
            Some(user) if self.tries <= TRIES => {
                self.tries += 1;
                self.user_given = true;
                self.say(State::UserSent, &format!("{user}\r"), now);
            }
            Some(user) => self.fail(LoginFailure::Refused(user)),
        }
    }

    fn give_password(&mut self, now: Duration) {
        match self.credentials.password.clone() {
            None => self.fail(LoginFailure::NoPassword),
            Some(password) => {
                self.password_given = true;
                self.say(State::PasswordSent, &format!("{}\r", password.0), now);
            }
        }
    }

    /// Tells whether everything that opens the door was typed: a no is then meant for us.
    fn is_all_given(&self) -> bool {
        self.user_given && (self.password_given || self.credentials.password.is_none())
    }

    fn refused(&mut self) {
        self.fail(LoginFailure::Refused(
            self.credentials.user.clone().unwrap_or_default(),
        ));
    }

    /// The echo of this line is not its output: only a shell makes the one of the other.
    fn probe(&mut self, now: Duration) {
        let line = format!(" echo vm\"\"serial-{}-$((6*7))\r", self.mark);
        self.say(State::Probing, &line, now);
    }

    fn answer(&self) -> String {
        format!("vmserial-{}-42", self.mark)
    }

    fn start(&mut self, now: Duration) {
        self.starts += 1;
        let line = format!("{}\r", self.start_line());
        self.say(State::Starting, &line, now);
    }

    /// The line that starts our shell: it reads lines that begin with our mark and tell their length, so that nothing that
    /// somebody else types is run, and it gives the terminal back as it was.
    fn start_line(&self) -> String {
        let sudo = match (&self.credentials.password, self.credentials.sudo) {
            (_, false) => "",
            (None, true) => "sudo -n ",
            (Some(_), true) => "sudo -p vm''serial-password: ",
        };
        let shell = concat!(
            "s=$(stty -g);trap \"stty $s;rm -rf \\\"\\$t\\\"\" EXIT;trap exit INT HUP TERM;stty -echo;",
            "for c in base64 mktemp dd tr wc;do command -v $c >/dev/null||{ printf \"<%s:missing:%s>\\n\" $0 $c;exit; };done;",
            "for d in /run /dev/shm /tmp;do t=$(mktemp -d $d/.vmserial-XXXXXX 2>/dev/null)&&break;done;",
            "printf \"<%s:up:%s:%s>\\n\" $0 \"$(id -u)\" ${t:+place};",
            "while IFS= read -r l;do case $l in $0:*) p=${l#*:};n=${p%%:*};p=${p#*:};",
            "if [ ${#p} = \"$n\" ];then eval \"$p\";else printf \"<%s:bad>\\n\" $0;fi;;",
            "*) echo \"IN_USE; Ctrl-C ends that\";;esac;done"
        )
        .replace("IN_USE", IN_USE);
        format!(" {sudo}sh -c '{shell}' {}", self.mark)
    }

    fn sudo(&mut self, text: &str, now: Duration) {
        if !self.credentials.sudo {
            return;
        }
        // The echo of the line has the quotes in it.
        let asked = text.matches("vmserial-password:").count();
        let words = [
            "not in the sudoers",
            "incorrect password",
            "a password is required",
            "may not run sudo",
            "sudo: not found",
            "sudo: command not found",
        ];
        if let Some(line) = text
            .lines()
            .find(|line| words.iter().any(|words| line.contains(words)))
        {
            return self.fail(LoginFailure::Sudo(format!(": {}", shortened(line))));
        }
        match (self.state, asked, self.credentials.password.clone()) {
            (State::Starting, 1.., Some(password)) => {
                self.say(State::SudoPassword, &format!("{}\r", password.0), now);
            }
            (State::SudoPassword, 1.., _) => {
                self.output.extend_from_slice(b"\x03");
                self.fail(LoginFailure::Sudo(" the password".to_owned()));
            }
            _ => {}
        }
    }

    fn is_up(&mut self, fields: &[String]) {
        let uid = fields.first().and_then(|uid| uid.parse().ok());
        let place = fields.get(1).is_some_and(|place| place == "place");
        self.outcome = Some(match (uid, place) {
            (_, false) => {
                // Our shell is there, and is not wanted.
                self.output.extend_from_slice(b"\x03");
                Err(LoginFailure::NoPlace)
            }
            (uid, true) => Ok(LoggedIn {
                by_us: self.user_given,
                uid: uid.unwrap_or(u32::MAX),
            }),
        });
    }
}

impl Dialogue for Login {
    type Said = LoggedIn;
    type Failure = LoginFailure;

    fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    fn take_outcome(&mut self) -> Option<Result<LoggedIn, LoginFailure>> {
        self.outcome.take()
    }

    fn deadline(&self) -> Duration {
        let quiet = if self.text.is_empty() {
            self.patience()
        } else {
            QUIET
        };
        (self.last_heard.max(self.last_sent) + quiet).min(self.last_sent + self.patience())
    }

    fn input(&mut self, now: Duration, bytes: &[u8]) {
        if self.outcome.is_some() || bytes.is_empty() {
            return;
        }
        self.hear(bytes, now);
        for frame in self.frames.input(bytes) {
            match frame.kind.as_str() {
                "up" if self.state == State::Starting || self.state == State::SudoPassword => {
                    return self.is_up(&frame.fields);
                }
                "missing" => {
                    let what = frame.fields.first().cloned().unwrap_or_default();
                    return self.fail(LoginFailure::Missing(what));
                }
                _ => {}
            }
        }
        let text = self.text.clone();
        self.meet(&text, now);
    }

    fn tick(&mut self, now: Duration) {
        if self.outcome.is_some() || now < self.deadline() {
            return;
        }
        let text = self.text.clone();
        let said_something = match self.state {
            State::UserSent => self.is_answered(&text),
            _ => !text.trim().is_empty(),
        };
        let waited = now.saturating_sub(self.last_sent) >= self.patience();
        match self.state {
            State::Waiting if said_something => self.probe(now),
            State::Waiting if waited => self.again(State::Waiting, "\r", now),
            // The password waits for quiet, too: BusyBox switches the echo off after it has asked. A prompt in another language ends
            // with a colon; none is a user without a password.
            State::UserSent if said_something => {
                let last = text.lines().last().unwrap_or_default().trim_end().to_owned();
                if last.ends_with(':') || newest_prompt(&text) == Some(Prompt::Password) {
                    self.give_password(now);
                } else {
                    self.probe(now);
                }
            }
            State::UserSent if waited => self.probe(now),
            State::PasswordSent if said_something || waited => self.probe(now),
            State::Probing if waited => {
                self.tries += 1;
                if self.tries > TRIES {
                    let last = text
                        .lines()
                        .rev()
                        .find(|line| !line.trim().is_empty())
                        .unwrap_or_default();
                    let failure = if last.is_empty() {
                        LoginFailure::Silent
                    } else {
                        LoginFailure::NoShell(shortened(last))
                    };
                    self.fail(failure);
                } else {
                    self.probe(now);
                }
            }
            State::Starting | State::SudoPassword if waited => {
                if self.starts >= TRIES {
                    self.fail(LoginFailure::NoShell("our own shell did not start".to_owned()));
                } else {
                    // What stands half-typed there is given up first.
                    self.say(State::Starting, "\u{3}\r", now);
                    self.probe(now);
                }
            }
            // Nothing yet: the time goes on from here.
            _ => self.last_heard = now,
        }
    }
}

fn is_refused(text: &str) -> bool {
    let lower = text.to_lowercase();
    [
        "login incorrect",
        "authentication failure",
        "permission denied",
        "access denied",
        "login timed out",
        "account locked",
        "maximum number of tries",
    ]
    .iter()
    .any(|words| lower.contains(words))
}

fn shortened(line: &str) -> String {
    line.trim().chars().take(60).collect()
}

#[cfg(test)]
mod tests;
