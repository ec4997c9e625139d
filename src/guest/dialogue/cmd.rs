//! Programs in a `cmd.exe` behind a console that may lose what it prints.
//!
//! A channel of SAC may be drawn as a screen of 80 columns and 24 lines, of which what scrolls away too fast is lost. So what a
//! program printed stays in a file, and comes in numbered lines of base64, a few at a time, checked by length and digest; asked for
//! again where one is missing. A program itself runs once: its status is in a file, too.

use super::frame::{Frame, Frames, Mark};
use super::login::Credentials;
use super::machine::{Dialogue, Shell};
use super::sac::{ANSWER, HEARD, QUIET, SacLogin, TRIES, is_command_prompt, is_sac_prompt, last_line};
use super::text::plain;
use crate::model::{Digest, base64};
use std::collections::BTreeMap;
use std::time::Duration;

/// How many questions after a program's status may go unanswered before its line is taken for lost.
const POLLS: u32 = 20;

/// Lines of base64 that are asked for at once: a screen has 24.
const LINES: usize = 8;

/// Bytes in a line of `certutil -encode`: 64 digits.
const LINE: usize = 48;

/// No program of ours prints more.
const MOST: u64 = 256 << 10;

/// What a program said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CmdSaid {
    /// Its status.
    pub status: i64,
    /// Both of its streams.
    pub output: Vec<u8>,
}

/// Why a program's words did not come.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CmdFailure {
    /// Nothing answers any more.
    #[error("the guest's console no longer answers")]
    Silent,
    /// The guest was started again, or the channel was closed.
    #[error("the guest's command prompt is gone: it was started again, or somebody closed the channel")]
    Gone,
    /// What came is never whole.
    #[error("the guest's answers come broken")]
    Broken,
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Want {
    Nothing,
    /// The program's status.
    Status,
    /// How much it printed.
    Size {
        status: i64,
    },
    /// The digest of that.
    Hash {
        status: i64,
        size: u64,
    },
    /// Lines of it, by their numbers.
    Lines {
        status: i64,
        size: u64,
        hash: String,
        have: BTreeMap<usize, String>,
    },
}

/// `cmd.exe` behind a login.
#[derive(Debug)]
pub struct CmdAgent {
    mark: Mark,
    frames: Frames,
    want: Want,
    run_line: String,
    number: u64,
    heard: Vec<u8>,
    last_sent: Duration,
    last_heard: Duration,
    tries: u32,
    refetches: u32,
    output: Vec<u8>,
    outcome: Option<Result<CmdSaid, CmdFailure>>,
}

impl CmdAgent {
    fn new(mark: Mark) -> Self {
        Self {
            frames: Frames::new(&mark),
            mark,
            want: Want::Nothing,
            run_line: String::new(),
            number: 0,
            heard: Vec::new(),
            last_sent: Duration::ZERO,
            last_heard: Duration::ZERO,
            tries: 0,
            refetches: 0,
            output: Vec::new(),
            outcome: None,
        }
    }

    fn file(&self, ending: &str) -> String {
        format!("%SystemRoot%\\Temp\\{}.{ending}", self.mark)
    }

    /// Begins a program, of plain words only.
    pub fn begin(&mut self, now: Duration, words: &[String]) {
        self.number += 1;
        let (mark, number) = (&self.mark, self.number);
        let (o, q) = (self.file("o"), self.file("q"));
        // The inner cmd.exe reads its status when the program has ended; outside of the quotes it would be read before.
        self.run_line = format!(
            "cmd /v:on /c \"{} >{o} 2>&1 & echo ^<{mark}:q:{number}:!errorlevel!^> >{q}\"\r",
            words.join(" ")
        );
        self.want = Want::Status;
        self.outcome = None;
        self.refetches = 0;
        let line = self.run_line.clone();
        self.send(&line, now);
        self.tries = 0;
    }

    fn send(&mut self, line: &str, now: Duration) {
        self.output.extend_from_slice(line.as_bytes());
        self.heard.clear();
        self.last_sent = now;
    }

    fn end(&mut self, outcome: Result<CmdSaid, CmdFailure>) {
        self.want = Want::Nothing;
        self.outcome = Some(outcome);
    }

    fn frame(&mut self, frame: &Frame, now: Duration) {
        if frame.number(0) != Some(self.number) {
            return;
        }
        let value = frame.fields.get(1).and_then(|value| value.parse::<i64>().ok());
        match (&self.want, frame.kind.as_str(), value) {
            (Want::Status, "q", Some(status)) => {
                self.want = Want::Size { status };
                self.ask(now);
            }
            (Want::Size { status }, "z", Some(size)) => {
                let (status, size) = (*status, u64::try_from(size).unwrap_or(u64::MAX));
                if size > MOST {
                    return self.end(Err(CmdFailure::Broken));
                }
                if size == 0 {
                    let output = Vec::new();
                    return self.end(Ok(CmdSaid { status, output }));
                }
                self.want = Want::Hash { status, size };
                self.ask(now);
            }
            _ => {}
        }
    }

    /// Asks for what is wanted next. Each question may be asked again.
    fn ask(&mut self, now: Duration) {
        self.tries = 0;
        let line = self.question();
        self.send(&line, now);
    }

    fn question(&self) -> String {
        let (mark, number) = (&self.mark, self.number);
        let (o, q, b) = (self.file("o"), self.file("q"), self.file("b"));
        match &self.want {
            Want::Nothing => String::new(),
            Want::Status => format!("type {q}\r"),
            Want::Size { .. } => format!(
                "certutil -f -encode {o} {b} >nul & for %I in ({o}) do @echo ^<{mark}:z:{number}:%~zI^>\r"
            ),
            Want::Hash { .. } => format!("certutil -hashfile {o} SHA256\r"),
            Want::Lines { size, have, .. } => {
                let missing = (1..=lines_of(*size)).filter(|line| !have.contains_key(line));
                // Behind the certificate's first line.
                let numbers: Vec<String> = missing.take(LINES).map(|line| format!("{}:", line + 1)).collect();
                format!("findstr /n \"^\" {b} | findstr /b \"{}\"\r", numbers.join(" "))
            }
        }
    }

    fn take_lines(&mut self, text: &str, now: Duration) {
        let Want::Lines {
            status,
            size,
            hash,
            have,
        } = &mut self.want
        else {
            return;
        };
        let (total, before) = (lines_of(*size), have.len());
        for line in text.lines() {
            let Some((number, data)) = line.trim().split_once(':') else {
                continue;
            };
            let Some(index) = number
                .parse::<usize>()
                .ok()
                .and_then(|number| number.checked_sub(1))
            else {
                continue;
            };
            let left = usize::try_from(*size)
                .unwrap_or_default()
                .saturating_sub(index.saturating_sub(1) * LINE);
            let length = left.min(LINE).div_ceil(3) * 4;
            if (1..=total).contains(&index) && data.len() == length && base64::decode(data).is_some() {
                have.insert(index, data.to_owned());
            }
        }
        if have.len() == total {
            let whole: String = have.values().cloned().collect();
            let bytes = base64::decode(&whole).unwrap_or_default();
            if Digest::of(&bytes).as_str() == hash.as_str() {
                let status = *status;
                return self.end(Ok(CmdSaid {
                    status,
                    output: bytes,
                }));
            }
            have.clear();
            self.refetches += 1;
            if self.refetches > TRIES {
                return self.end(Err(CmdFailure::Broken));
            }
            return self.ask(now);
        }
        // All that were asked for are there.
        if have.len() > before && (have.len() % LINES == 0) {
            self.ask(now);
        }
    }
}

impl Dialogue for CmdAgent {
    type Said = CmdSaid;
    type Failure = CmdFailure;

    fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    fn take_outcome(&mut self) -> Option<Result<CmdSaid, CmdFailure>> {
        self.outcome.take()
    }

    fn deadline(&self) -> Duration {
        // A prompt that is back is asked at once.
        let quiet = if self.heard.is_empty() { ANSWER } else { QUIET };
        (self.last_heard.max(self.last_sent) + quiet).min(self.last_sent + ANSWER)
    }

    fn input(&mut self, now: Duration, bytes: &[u8]) {
        if self.want == Want::Nothing || bytes.is_empty() {
            return;
        }
        self.last_heard = now;
        let frames = self.frames.input(bytes);
        self.heard.extend_from_slice(bytes);
        let too_much = self.heard.len().saturating_sub(HEARD);
        self.heard.drain(..too_much);
        if is_sac_prompt(last_line(&plain(&self.heard))) {
            return self.end(Err(CmdFailure::Gone));
        }
        for frame in &frames {
            self.frame(frame, now);
        }
        let text = plain(&self.heard);
        match self.want.clone() {
            Want::Hash { status, size } => {
                if let Some(hash) = text.lines().find_map(hash_of) {
                    self.want = Want::Lines {
                        status,
                        size,
                        hash,
                        have: BTreeMap::new(),
                    };
                    self.ask(now);
                }
            }
            Want::Lines { .. } => self.take_lines(&text, now),
            // The prompt is back, so the program has ended.
            Want::Status if self.tries == 0 && is_command_prompt(last_line(&text)) => {
                self.tries = 1;
                let line = self.question();
                self.send(&line, now);
            }
            _ => {}
        }
    }

    fn tick(&mut self, now: Duration) {
        if self.want == Want::Nothing || now < self.deadline() {
            return;
        }
        self.tries += 1;
        let is_running = self.want == Want::Status;
        if self.tries > if is_running { 3 * POLLS } else { 3 * TRIES } {
            return self.end(Err(CmdFailure::Silent));
        }
        // The line itself was lost where its file never comes: it has not run then.
        let line = if is_running && self.tries.is_multiple_of(POLLS) {
            self.run_line.clone()
        } else {
            self.question()
        };
        self.send(&line, now);
    }
}

impl Shell for CmdAgent {
    type Login = SacLogin;

    fn login(credentials: Credentials, mark: Mark, now: Duration) -> SacLogin {
        SacLogin::new(credentials, mark, now)
    }

    fn behind((): (), mark: Mark) -> Self {
        Self::new(mark)
    }

    /// Our files and the prompt.
    fn goodbye(&self) -> Vec<Vec<u8>> {
        vec![format!("del {} & exit\r", self.file("*")).into_bytes()]
    }
}

fn lines_of(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX).div_ceil(LINE)
}

/// Reads the line of `certutil -hashfile` that is the digest: older ones put spaces between the bytes.
fn hash_of(line: &str) -> Option<String> {
    let digits: String = line.split_whitespace().collect();
    (digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
        .then(|| digits.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_known_with_and_without_spaces() {
        let digest = "a".repeat(64);
        assert_eq!(hash_of(&digest), Some(digest.clone()));
        let spaced = vec!["aA"; 32].join(" ");
        assert_eq!(hash_of(&spaced), Some(digest));
        assert_eq!(hash_of("SHA256-Hash von C:\\x:"), None);
    }

    #[test]
    fn a_program_s_line_is_typed_once_and_its_questions_again() {
        let mark = Mark::new(7);
        let mut agent = CmdAgent::new(mark.clone());
        let words: Vec<String> = ["bcdedit", "/enum", "{bootmgr}"].map(str::to_owned).to_vec();
        agent.begin(Duration::ZERO, &words);
        let line = String::from_utf8(agent.take_output()).unwrap_or_default();
        assert!(
            line.starts_with("cmd /v:on /c \"bcdedit /enum {bootmgr} >"),
            "{line}"
        );
        // What is echoed is no answer.
        agent.input(Duration::ZERO, line.as_bytes());
        assert_eq!(agent.want, Want::Status);
        let mut now = Duration::ZERO;
        for _ in 0..3 {
            now = agent.deadline();
            agent.tick(now);
            let asked = String::from_utf8(agent.take_output()).unwrap_or_default();
            assert!(asked.starts_with("type "), "{asked}");
        }
        agent.input(now, format!("<{mark}:q:1:0>").as_bytes());
        assert!(
            String::from_utf8(agent.take_output())
                .unwrap_or_default()
                .starts_with("certutil -f")
        );
        agent.input(now, format!("<{mark}:z:1:0>").as_bytes());
        let said = agent.take_outcome();
        assert_eq!(
            said,
            Some(Ok(CmdSaid {
                status: 0,
                output: Vec::new()
            }))
        );
    }

    #[test]
    fn a_guest_that_was_started_again_is_told_and_silence_ends() {
        let words = vec!["whoami".to_owned()];
        let mut gone = CmdAgent::new(Mark::new(7));
        gone.begin(Duration::ZERO, &words);
        gone.input(
            Duration::ZERO,
            b"\r\nComputer is booting, SAC started and initialized.\r\nSAC>",
        );
        assert_eq!(gone.take_outcome(), Some(Err(CmdFailure::Gone)));
        let mut silent = CmdAgent::new(Mark::new(7));
        silent.begin(Duration::ZERO, &words);
        let mut repeated = 0;
        let outcome = loop {
            silent.tick(silent.deadline());
            repeated += usize::from(silent.take_output().starts_with(b"cmd "));
            if let Some(outcome) = silent.take_outcome() {
                break outcome;
            }
        };
        assert_eq!(outcome, Err(CmdFailure::Silent));
        assert!(repeated >= 1, "a line that was lost is typed again");
    }
}
