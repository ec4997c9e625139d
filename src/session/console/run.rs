//! Joins standard input and output to an attached console until the user leaves or one side ends.

use super::ask::{Answer, Asker};
use super::escape::{EscapeKey, Recogniser};
use super::menu::Pasting;
use super::paste::Pace;
use super::power::PowerOf;
use super::terminal::Terminal;
use super::watch::{News, Watch};
use crate::bridge::TargetState;
use crate::bridge::control::{ControlClient, Mode, Since};
use crate::bridge::stdio::StdioStream;
use crate::bridge::sys::NativeStream;
use crate::model::{Deadline, FailureKind, Problem};
use crate::runner::sys::{JobSignal, StopSignal, StopSignals};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};

/// How long the owner may take for an answer. It answers at once; this is for a machine that is overloaded.
const ANSWER: Duration = Duration::from_secs(5);

/// How long an owner may take from its lock to its control socket.
const STARTING: Duration = Duration::from_secs(2);

/// One read of either side.
const CHUNK: usize = 64 * 1024;

/// How long the last event of an owner is waited for.
const OWNER_LAST_WORDS: Duration = Duration::from_millis(300);

/// How long what was read may take to be printed at the end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What standard input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    /// A terminal: raw, with an escape key.
    Terminal,
    /// A pipe or a file: every byte is the target's, and its end is the console's end.
    Pipe,
    /// Not read.
    Nothing,
}

/// A console as it is wanted.
#[derive(Debug, Clone)]
pub struct ConsoleSpec {
    /// The owner's control socket.
    pub socket: PathBuf,
    /// What is told first, once the console is attached.
    pub greeting: String,
    /// Read and write, or read.
    pub mode: Mode,
    /// Where it begins.
    pub since: Since,
    /// Detach everybody else who writes.
    pub take_over: bool,
    /// Where keys come from.
    pub input: InputKind,
    /// The key that leads ours in (terminal only).
    pub escape: EscapeKey,
    /// How fast a file is pasted.
    pub pace: Pace,
    /// Whose power the menu asks for, or why there is none.
    pub power: Result<PowerOf, String>,
    /// How long after the end of a pipe, and after the last output since, the console stays.
    pub linger: Duration,
    /// A target that did not come within this time ends the console.
    pub wait: Option<Duration>,
}

/// Why a console ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The user left.
    Left,
    /// Standard input ended, and its linger passed.
    InputEnded,
    /// Nobody reads standard output any more.
    OutputClosed,
    /// A signal came.
    Signal(StopSignal),
    /// The owner let go of us, and why.
    OwnerEnded(String),
}

/// Runs a console. `notify` is called with one line at a time while the terminal is raw.
///
/// # Errors
///
/// The owner refuses or cannot be asked, standard input or output fails, or the target never came (`wait`).
pub async fn run(
    spec: &ConsoleSpec,
    signals: &mut StopSignals,
    notify: &mut dyn FnMut(&str),
) -> Result<End, Problem> {
    let deadline = Deadline::after(Instant::now(), ANSWER);
    let client =
        ControlClient::connect_until(&spec.socket, Deadline::after(Instant::now(), STARTING)).await?;
    let (watch, news) = Watch::begin(&spec.socket, deadline).await?;
    let attached = client
        .attach(spec.mode, spec.since, spec.take_over, deadline)
        .await?;
    let stdio = match spec.input {
        InputKind::Nothing => StdioStream::open_output(),
        InputKind::Terminal | InputKind::Pipe => StdioStream::open(),
    }
    .map_err(|error| host("open standard input and output", &error))?;
    // From here to the end of this function, however it is left, the terminal is raw.
    let terminal = match spec.input {
        InputKind::Terminal => Terminal::raw().map_err(|error| host("set the terminal raw", &error))?,
        InputKind::Pipe | InputKind::Nothing => Terminal::none(),
    };
    let connection = attached.connection;
    let (owner_in, owner_out) = tokio::io::split(attached.stream);
    let (stdin, stdout) = tokio::io::split(stdio);
    let (answers, answered) = mpsc::unbounded_channel();
    let mut console = Console {
        spec,
        notify,
        connection,
        watch: Some(watch),
        last_words: None,
        owner_in,
        owner_out,
        stdin,
        stdout,
        to_owner: Vec::new(),
        to_stdout: attached.received,
        stdin_open: spec.input != InputKind::Nothing,
        target: TargetState::Away,
        give_up: None,
        keys: Recogniser::new(match spec.input {
            InputKind::Terminal => spec.escape,
            InputKind::Pipe | InputKind::Nothing => EscapeKey::NONE,
        }),
        asker: Asker {
            socket: spec.socket.clone(),
            connection,
            answers,
        },
        answered,
        terminal,
        suspend: false,
        pasting: None,
    };
    console.greet(news);
    let end = console.run(signals).await;
    match console.say_last_words().await {
        // Its reader closed it: nobody wants the rest.
        Err(error) if end.is_ok() && error.kind() != io::ErrorKind::BrokenPipe => {
            Err(host("write to standard output", &error))
        }
        _ => end,
    }
}

pub(super) struct Console<'a> {
    pub(super) spec: &'a ConsoleSpec,
    pub(super) notify: &'a mut dyn FnMut(&str),
    /// Our number among the owner's connections.
    pub(super) connection: u64,
    pub(super) watch: Option<Watch>,
    /// What the owner said of our end, or of its own.
    pub(super) last_words: Option<String>,
    pub(super) owner_in: ReadHalf<NativeStream>,
    pub(super) owner_out: WriteHalf<NativeStream>,
    pub(super) stdin: ReadHalf<StdioStream>,
    pub(super) stdout: WriteHalf<StdioStream>,
    pub(super) to_owner: Vec<u8>,
    pub(super) to_stdout: Vec<u8>,
    pub(super) stdin_open: bool,
    pub(super) target: TargetState,
    pub(super) give_up: Option<Instant>,
    pub(super) keys: Recogniser,
    pub(super) asker: Asker,
    pub(super) answered: mpsc::UnboundedReceiver<Answer>,
    pub(super) terminal: Terminal,
    /// The user wants the shell.
    pub(super) suspend: bool,
    pub(super) pasting: Option<Pasting>,
}

impl Console<'_> {
    fn greet(&mut self, news: News) {
        (self.notify)(&self.spec.greeting);
        self.give_up = self.spec.wait.map(|wait| Instant::now() + wait);
        if self.spec.input == InputKind::Terminal
            && let Some(_byte) = self.spec.escape.byte()
        {
            let escape = self.spec.escape;
            (self.notify)(&format!(
                "Escape key is {escape}: {escape} . leaves, {escape} ? lists."
            ));
        }
        match news {
            News::Target(TargetState::Up, _) => self.target_is_up(),
            News::Target(TargetState::Away, reason) => self.tell_away(&reason),
            News::Stopped(_) | News::Detached(..) | News::Writes(_) => {}
        }
    }

    fn target_is_up(&mut self) {
        self.target = TargetState::Up;
        self.give_up = None;
    }

    fn tell_away(&mut self, reason: &str) {
        let reason = if reason.is_empty() {
            String::new()
        } else {
            format!(" ({reason})")
        };
        (self.notify)(&format!("[vmserial: target away{reason}, waiting for it]"));
    }

    async fn run(&mut self, signals: &mut StopSignals) -> Result<End, Problem> {
        let mut from_owner = vec![0; CHUNK];
        let mut from_stdin = vec![0; CHUNK];
        let mut linger: Option<Instant> = None;
        loop {
            if !self.stdin_open && self.spec.input == InputKind::Pipe && linger.is_none() {
                linger = Some(Instant::now() + self.spec.linger);
            }
            // A pipe's bytes are not given to a target that is away: it would refuse them.
            let read_stdin = self.stdin_open
                && self.to_owner.is_empty()
                && (self.spec.input == InputKind::Terminal || self.target == TargetState::Up);
            let idle = self.to_owner.is_empty() && self.to_stdout.is_empty();
            let give_up = self.give_up;
            if std::mem::take(&mut self.suspend) {
                self.suspend_now().await?;
            }
            let paste_due = self.pasting.as_ref().map(|pasting| pasting.paste.due());
            tokio::select! {
                // Signals first: they must work while both directions are busy.
                biased;
                signal = signals.next() => return Ok(End::Signal(signal)),
                news = next_news(&mut self.watch) => self.hear(news),
                job = self.terminal.next_job_signal() => match job {
                    JobSignal::Suspend => self.suspend = true,
                    JobSignal::GoOn => self
                        .terminal
                        .raw_again()
                        .map_err(|error| host("set the terminal raw", &error))?,
                },
                Some(answer) = self.answered.recv() => self.tell(answer),
                count = self.owner_out.write(&self.to_owner), if !self.to_owner.is_empty() => match count {
                    Ok(count) => drop(self.to_owner.drain(..count)),
                    // The reason is read from the other direction, with what it still carries.
                    Err(_) => {
                        self.to_owner.clear();
                        self.stdin_open = false;
                    }
                },
                count = self.stdout.write(&self.to_stdout), if !self.to_stdout.is_empty() => match count {
                    Ok(count) => drop(self.to_stdout.drain(..count)),
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(End::OutputClosed),
                    Err(error) => return Err(host("write to standard output", &error)),
                },
                count = self.owner_in.read(&mut from_owner), if self.to_stdout.is_empty() => match count {
                    Ok(0) | Err(_) => return Ok(End::OwnerEnded(self.why_ended().await)),
                    Ok(count) => {
                        self.to_stdout.extend_from_slice(&from_owner[..count]);
                        if let Some(pasting) = &mut self.pasting {
                            pasting.paste.echoed();
                        }
                        linger = linger.map(|_| Instant::now() + self.spec.linger);
                    }
                },
                count = self.stdin.read(&mut from_stdin), if read_stdin => match count {
                    Ok(0) => self.stdin_open = false,
                    Ok(count) => {
                        if self.type_keys(&from_stdin[..count]) {
                            return Ok(End::Left);
                        }
                    }
                    // A terminal that is gone reads EIO: that is its end.
                    Err(_) => self.stdin_open = false,
                },
                () = at(paste_due), if paste_due.is_some() && self.to_owner.is_empty() => self.paste_on(),
                () = at(linger), if linger.is_some() && idle => return Ok(End::InputEnded),
                () = at(give_up), if give_up.is_some() => return Err(Problem::new(
                    FailureKind::Deadline,
                    "the target did not come in the time that `--wait` gave it",
                ).hint("Is the VM running, and does its port listen where it is dialled?")),
            }
            if !self.stdin_open && self.spec.input == InputKind::Terminal && self.to_owner.is_empty() {
                return Ok(End::InputEnded);
            }
        }
    }

    fn hear(&mut self, news: Option<News>) {
        match news {
            Some(News::Target(TargetState::Up, _)) => {
                self.target_is_up();
                (self.notify)("[vmserial: target is there]");
            }
            Some(News::Target(TargetState::Away, reason)) => {
                self.target = TargetState::Away;
                self.tell_away(&reason);
                self.stop_paste("the target went away");
            }
            Some(News::Stopped(reason)) => self.last_words = Some(format!("its owner ended: {reason}")),
            Some(News::Detached(connection, reason)) if connection == self.connection => {
                self.last_words = Some(format!("this console was detached: {reason}"));
            }
            Some(News::Writes(connection)) if connection == self.connection => {
                (self.notify)("[vmserial: the one who wrote left, you write now]");
            }
            Some(News::Detached(..) | News::Writes(_)) => {}
            None => self.watch = None,
        }
    }

    /// Finds out why the owner let go of us: its last event says so, if it comes.
    async fn why_ended(&mut self) -> String {
        let told = async {
            while self.last_words.is_none() && self.watch.is_some() {
                let news = next_news(&mut self.watch).await;
                self.hear(news);
            }
        };
        // An owner that lives on has nothing to say.
        let _ = timeout(OWNER_LAST_WORDS, told).await;
        match (&self.last_words, &self.watch) {
            (Some(reason), _) => reason.clone(),
            (None, None) => "its owner ended".into(),
            (None, Some(_)) => "its owner detached this console".into(),
        }
    }

    async fn say_last_words(&mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.to_stdout);
        let write = async {
            self.stdout.write_all(&rest).await?;
            self.stdout.flush().await
        };
        // Whoever does not read for so long does not want it.
        timeout(LAST_WORDS, write).await.unwrap_or(Ok(()))
    }
}

async fn next_news(watch: &mut Option<Watch>) -> Option<News> {
    match watch {
        Some(watch) => watch.next().await,
        None => std::future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

pub(super) fn host(what: &str, error: &io::Error) -> Problem {
    Problem::new(FailureKind::Host, format!("cannot {what}: {error}"))
}
