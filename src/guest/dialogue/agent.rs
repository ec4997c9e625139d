//! Commands for our shell in the guest: sent in lines that tell their length, asked for again when the answer is lost.
//!
//! Every line may be sent twice: it is numbered, and the shell does the same number once.

use super::frame::{Frame, Frames, Mark};
use super::login::{Credentials, LoggedIn, Login};
use super::machine::{Dialogue, Shell};
use super::text::{Prompt, newest_prompt, plain};
use crate::model::Digest;
use crate::model::base64;
use std::collections::VecDeque;
use std::time::Duration;

/// What a command said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Its status.
    pub status: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// Why a command has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentFailure {
    /// Nothing came back, however often it was asked.
    #[error("the guest's shell answers no more")]
    Silent,
    /// The guest shows a login prompt: its shell is gone.
    #[error("the guest's shell is gone: it rebooted, or somebody logged it out")]
    Gone,
    /// The kernel is stopped.
    #[error("the guest's kernel stands in its debugger")]
    InDebugger,
    /// The output came, and never whole.
    #[error("the command's output arrived broken each time it was fetched")]
    Broken,
    /// More than a console is for.
    #[error("the command said {0} bytes, more than is fetched over a console")]
    TooMuch(u64),
}

/// Characters of a line's data. A terminal takes lines of at most 4,095 characters (N_TTY), and a slow one loses less of a short one.
const LINE: usize = 600;

/// Bytes of output that are asked for at once. Smaller when messages break them; divided by two each time.
const PIECE: u64 = 3072;

/// The smallest piece.
const SMALLEST: u64 = 48;

/// The most output that is fetched.
const MOST: u64 = 8 << 20;

/// How often a line is sent again.
const TRIES: u32 = 12;

/// How often the whole output is fetched again.
const FETCHES: u32 = 4;

/// After this without an answer a line is sent again.
const AGAIN: Duration = Duration::from_secs(2);

/// A command may take long: it is asked about less and less often.
const SELDOM: Duration = Duration::from_secs(20);

/// Functions of our shell, a line each. `$0` is the mark.
const FUNCTIONS: [&str; 6] = [
    // Says that a line was done.
    r#"k(){ printf '<%s:k:%s>\n' "$0" "$1"; }"#,
    // Forgets what was put down.
    r#"z(){ [ "$m" = "$1" ]||{ :>"$t/c";:>"$t/b";m=$1; };k "$1"; }"#,
    // Puts a piece down.
    r#"w(){ [ "$m" = "$1" ]||{ printf %s "$3">>"$t/$2";m=$1; };k "$1"; }"#,
    // The digest of a file, where there is a program for it.
    r#"h(){ set -- $(sha256sum<"$1" 2>/dev/null) -;printf %s "$1"; }"#,
    // Runs what was put down, once, and tells how it ended.
    r#"r(){ [ "$i" = "$1" ]||{ i=$1;base64 -d<"$t/c">"$t/s";base64 -d<"$t/b">"$t/i";sh "$t/s"<"$t/i">"$t/o" 2>"$t/e";x=$?;a=$(($(wc -c<"$t/o")));b=$(($(wc -c<"$t/e")));c=$(h "$t/o");d=$(h "$t/e"); };printf '<%s:q:%s:%s:%s:%s:%s:%s>\n' "$0" "$i" "$x" "$a" "$b" "$c" "$d"; }"#,
    // Gives a piece of the output.
    r#"g(){ v=$(dd if="$t/$2" bs="$4" skip="$3" count=1 2>/dev/null|base64|tr -d '\n');printf '<%s:g:%s:%s:%s>\n' "$0" "$1" "${#v}" "$v"; }"#,
];

/// Standard output or standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Out,
    Err,
}

/// How a command ended, and what there is to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ended {
    status: i32,
    sizes: [u64; 2],
    digests: [String; 2],
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Idle,
    /// Lines that must each be answered by `k`, then the run.
    Sending {
        number: u64,
        lines: VecDeque<(u64, String)>,
    },
    Running {
        number: u64,
    },
    Fetching {
        ended: Ended,
        which: Which,
        got: [Vec<u8>; 2],
        number: u64,
        fetches: u32,
    },
}

/// Our shell in the guest, from this side.
#[derive(Debug)]
pub struct Agent {
    mark: Mark,
    /// The login was ours, and is ours to end.
    logs_out: bool,
    frames: Frames,
    state: State,
    defined: bool,
    next: u64,
    piece: u64,
    tries: u32,
    last_sent: Duration,
    last_line: String,
    /// What is no frame: a login prompt in it tells of a reboot.
    heard: Vec<u8>,
    output: Vec<u8>,
    outcome: Option<Result<Said, AgentFailure>>,
}

impl Agent {
    fn new(mark: Mark) -> Self {
        Self {
            frames: Frames::new(&mark),
            mark,
            logs_out: false,
            state: State::Idle,
            defined: false,
            next: 1,
            piece: PIECE,
            tries: 0,
            last_sent: Duration::ZERO,
            last_line: String::new(),
            heard: Vec::new(),
            output: Vec::new(),
            outcome: None,
        }
    }

    /// Begins a command: a script of POSIX sh, and what it reads.
    pub fn begin(&mut self, now: Duration, script: &[u8], input: &[u8]) {
        self.outcome = None;
        self.heard.clear();
        let mut lines = VecDeque::new();
        if !self.defined {
            for function in FUNCTIONS {
                let number = self.number();
                lines.push_back((
                    number,
                    format!("{function};printf '<%s:k:%s>\\n' \"$0\" {number}"),
                ));
            }
        }
        let number = self.number();
        lines.push_back((number, format!("z {number}")));
        for (file, bytes) in [("c", script), ("b", input)] {
            let text = base64::encode(bytes);
            let mut rest = text.as_str();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(LINE.min(rest.len()));
                let number = self.number();
                lines.push_back((number, format!("w {number} {file} {piece}")));
                rest = after;
            }
        }
        let number = self.number();
        self.state = State::Sending { number, lines };
        self.next_line(now);
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn send(&mut self, text: &str, now: Duration) {
        self.last_line = format!("{}\n", line(&self.mark, text));
        self.output.extend_from_slice(self.last_line.as_bytes());
        self.last_sent = now;
        self.tries = 0;
    }

    fn end(&mut self, outcome: Result<Said, AgentFailure>) {
        self.state = State::Idle;
        self.outcome = Some(outcome);
    }

    fn next_line(&mut self, now: Duration) {
        let State::Sending { number, lines } = &self.state else {
            return;
        };
        match lines.front().cloned() {
            Some((_, text)) => self.send(&text, now),
            None => {
                let number = *number;
                self.defined = true;
                self.state = State::Running { number };
                self.send(&format!("r {number}"), now);
            }
        }
    }

    fn is_echoed(&self) -> bool {
        let text = String::from_utf8_lossy(&self.heard);
        let line = format!("{}:", self.mark);
        // A frame's kind is a letter; a line's length is a number.
        text.match_indices(&line)
            .any(|(at, _)| text[at + line.len()..].starts_with(|next: char| next.is_ascii_digit()))
    }

    fn frame(&mut self, now: Duration, frame: &Frame) {
        let number = frame.number(0);
        match (&mut self.state, frame.kind.as_str()) {
            (State::Sending { lines, .. }, "k") if lines.front().map(|(number, _)| *number) == number => {
                lines.pop_front();
                self.next_line(now);
            }
            (State::Running { number: wanted }, "q") if number == Some(*wanted) => self.ended(now, frame),
            (State::Fetching { number: wanted, .. }, "g") if number == Some(*wanted) => {
                let data = frame.fields.get(1).and_then(|data| base64::decode(data));
                self.fetched(now, data);
            }
            // A line that came broken is sent again at once.
            (State::Sending { .. } | State::Running { .. } | State::Fetching { .. }, "bad") => {
                self.send_again(now)
            }
            _ => {}
        }
    }

    fn ended(&mut self, now: Duration, frame: &Frame) {
        let (Some(status), Some(out), Some(err)) = (frame.number(1), frame.number(2), frame.number(3)) else {
            return;
        };
        if out.saturating_add(err) > MOST {
            return self.end(Err(AgentFailure::TooMuch(out.saturating_add(err))));
        }
        let digest = |index: usize| frame.fields.get(index).cloned().unwrap_or_default();
        let ended = Ended {
            status: i32::try_from(status).unwrap_or(i32::MAX),
            sizes: [out, err],
            digests: [digest(4), digest(5)],
        };
        self.state = State::Fetching {
            ended,
            which: Which::Out,
            got: Default::default(),
            number: 0,
            fetches: 0,
        };
        self.fetch(now);
    }

    /// Asks for the next piece, or ends when all are there.
    fn fetch(&mut self, now: Duration) {
        let next = self.number();
        let State::Fetching {
            ended,
            which,
            got,
            number,
            fetches,
        } = &mut self.state
        else {
            return;
        };
        *number = next;
        let index = usize::from(*which == Which::Err);
        let have = got[index].len() as u64;
        if have < ended.sizes[index] {
            let file = if index == 0 { "o" } else { "e" };
            let (skip, piece) = (have / self.piece, self.piece);
            return self.send(&format!("g {next} {file} {skip} {piece}"), now);
        }
        if !is_whole(&got[index], ended.sizes[index], &ended.digests[index]) {
            *fetches += 1;
            got[index].clear();
            if *fetches > FETCHES {
                return self.end(Err(AgentFailure::Broken));
            }
            return self.fetch(now);
        }
        if *which == Which::Out {
            *which = Which::Err;
            return self.fetch(now);
        }
        let [stdout, stderr] = std::mem::take(got);
        let status = ended.status;
        self.end(Ok(Said {
            status,
            stdout,
            stderr,
        }));
    }

    fn fetched(&mut self, now: Duration, data: Option<Vec<u8>>) {
        let State::Fetching {
            ended, which, got, ..
        } = &mut self.state
        else {
            return;
        };
        let index = usize::from(*which == Which::Err);
        let expected = (ended.sizes[index] - got[index].len() as u64).min(self.piece);
        match data {
            Some(data) if data.len() as u64 == expected => {
                got[index].extend_from_slice(&data);
                self.fetch(now);
            }
            _ => self.send_again(now),
        }
    }

    fn send_again(&mut self, now: Duration) {
        self.tries += 1;
        if self.tries > TRIES && !matches!(self.state, State::Running { .. }) {
            return self.end(Err(AgentFailure::Silent));
        }
        // What is long is broken more often. Pieces that are there already stay on the borders of smaller ones.
        if let State::Fetching { .. } = self.state
            && self.piece / 2 >= SMALLEST
        {
            self.piece /= 2;
            let tries = self.tries;
            self.fetch(now);
            self.tries = tries;
            return;
        }
        self.output.extend_from_slice(self.last_line.as_bytes());
        self.last_sent = now;
    }
}

impl Dialogue for Agent {
    type Said = Said;
    type Failure = AgentFailure;

    fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    fn take_outcome(&mut self) -> Option<Result<Said, AgentFailure>> {
        self.outcome.take()
    }

    fn deadline(&self) -> Duration {
        let wait = match self.state {
            State::Running { .. } => (AGAIN * (self.tries + 1)).min(SELDOM),
            _ => AGAIN,
        };
        self.last_sent + wait
    }

    fn input(&mut self, now: Duration, bytes: &[u8]) {
        if self.state == State::Idle {
            return;
        }
        let frames = self.frames.input(bytes);
        if frames.is_empty() {
            self.heard.extend_from_slice(bytes);
            let too_much = self.heard.len().saturating_sub(4096);
            self.heard.drain(..too_much);
            // Our shell echoes nothing: who echoes our line is another one.
            if self.is_echoed() {
                return self.end(Err(AgentFailure::Gone));
            }
            match newest_prompt(&plain(&self.heard)) {
                Some(Prompt::User) => return self.end(Err(AgentFailure::Gone)),
                Some(Prompt::Debugger) => return self.end(Err(AgentFailure::InDebugger)),
                _ => {}
            }
        } else {
            self.heard.clear();
        }
        for frame in frames {
            self.frame(now, &frame);
        }
    }

    fn tick(&mut self, now: Duration) {
        if self.state != State::Idle && now >= self.deadline() {
            self.send_again(now);
        }
    }
}

impl Shell for Agent {
    type Login = Login;

    fn login(credentials: Credentials, mark: Mark, now: Duration) -> Login {
        Login::new(credentials, mark, now)
    }

    fn behind(login: LoggedIn, mark: Mark) -> Self {
        let mut agent = Self::new(mark);
        agent.logs_out = login.by_us;
        agent
    }

    /// Our shell sets the terminal back before the one behind it reads again, and that one has heard us when it answers.
    fn goodbye(&self) -> Vec<Vec<u8>> {
        let exit = match self.state {
            State::Idle => format!("{}\n", line(&self.mark, "exit")).into_bytes(),
            _ => vec![3],
        };
        let log_out = self.logs_out.then(|| b" exit\r".to_vec());
        std::iter::once(exit).chain(log_out).collect()
    }
}

/// Dresses a line for our shell: the mark, its length, itself.
fn line(mark: &Mark, text: &str) -> String {
    format!("{mark}:{}:{text}", text.len())
}

fn is_whole(bytes: &[u8], size: u64, digest: &str) -> bool {
    bytes.len() as u64 == size && (digest == "-" || digest == Digest::of(bytes).as_str())
}

#[cfg(test)]
mod tests;
