//! Talking to a running bridge, from its own thread or any other.

use crate::bridge::channel::Channel;
use crate::bridge::dial::BreakOwner;
use crate::bridge::event::{KernelState, SharedEvent, TargetState};
use crate::model::{Deadline, Policy};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use tokio::sync::{broadcast, mpsc, oneshot};

/// How many chunks of output a slow subscriber may be behind before it is told that it lagged.
pub(crate) const SUBSCRIBER_BACKLOG: usize = 1024;

/// The same for events, whose queue every bridge has from the start: a process of 1,000 ports has 1,000 of them.
const EVENT_BACKLOG: usize = 256;

/// Number of a client's connection; from 1, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ClientId(pub u64);

/// What an attached stream may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachMode {
    /// Reads and writes the console.
    #[serde(rename = "rw")]
    ReadWrite,
    /// Reads the console.
    #[serde(rename = "ro")]
    ReadOnly,
}

/// Where a console that attaches begins to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// At what comes next.
    Now,
    /// This many bytes of history before that.
    Last(usize),
    /// At this absolute offset of the target's stream.
    Offset(u64),
    /// At the beginning of the latest boot, as far as the target's stream or its driver told of it.
    Boot,
    /// At what came at this time, a second too much at most (more after days).
    Time(jiff::Timestamp),
}

/// A stream that is open already and wants to be a console of this bridge.
#[derive(Debug)]
pub struct AttachRequest {
    /// The stream.
    pub channel: Channel,
    /// What it may do.
    pub mode: AttachMode,
    /// Where it begins.
    pub since: Since,
    /// Written first, whatever the stream's state (the control socket's reply).
    pub preface: Preface,
    /// Everybody else who may write is detached once this one is attached.
    pub take_over: bool,
    /// Bytes that were read from the stream already and belong to the target.
    pub received: Vec<u8>,
}

/// What is written to an attached stream first, knowing its number and the offset at which it begins to read.
pub struct Preface(Box<dyn FnOnce(ClientId, Option<u64>) -> Vec<u8> + Send>);

impl Preface {
    /// Makes it when the number is known.
    pub fn of(make: impl FnOnce(ClientId, Option<u64>) -> Vec<u8> + Send + 'static) -> Self {
        Self(Box::new(make))
    }

    /// Writes nothing.
    pub fn none() -> Self {
        Self::of(|_, _| Vec::new())
    }

    pub(crate) fn make(self, client: ClientId, offset: Option<u64>) -> Vec<u8> {
        (self.0)(client, offset)
    }
}

impl fmt::Debug for Preface {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Preface")
    }
}

/// Why an attach failed. The stream comes back so that the other side can be told.
#[derive(Debug)]
pub struct AttachRefused {
    /// The stream.
    pub channel: Box<Channel>,
    /// Why, as a fragment.
    pub reason: String,
}

/// A part of the target's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistorySlice {
    /// Absolute offset of the first byte.
    pub offset: u64,
    /// Bytes that were wanted before `offset` and are not kept any more.
    pub skipped: u64,
    /// The bytes; contiguous.
    pub bytes: Vec<u8>,
    /// Absolute offset of the end of the stream now.
    pub end: u64,
}

/// One attached client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClientStatus {
    /// Its number.
    pub connection: ClientId,
    /// Index of its endpoint on the command line, from 1; 0 for the control socket.
    pub client: usize,
    /// Who, as far as known.
    pub peer: String,
    /// Whether its bytes go to the target.
    pub writes: bool,
    /// Whether it may write when the one writer leaves.
    pub waits_to_write: bool,
    /// Bytes written to it.
    pub sent: u64,
    /// Bytes read from it.
    pub received: u64,
    /// Bytes that it jumped over.
    pub skipped: u64,
}

/// How a bridge stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Flow policy.
    pub policy: Policy,
    /// Where the VM side stands.
    pub target: TargetState,
    /// Why.
    pub target_reason: String,
    /// The endpoint that was dialled last, or is listened on.
    pub target_endpoint: String,
    /// The clients' endpoints as they are served.
    pub listening: Vec<String>,
    /// Those of them at which gdb is served.
    pub gdb: Vec<String>,
    /// Who is attached.
    pub clients: Vec<ClientStatus>,
    /// What is known of the kernel; `None` without a debug protocol.
    pub kernel: Option<KernelState>,
    /// Bytes read from the target.
    pub from_target: u64,
    /// Bytes written to the target.
    pub to_target: u64,
    /// Bytes of the target that no client got.
    pub dropped_from_target: u64,
    /// Bytes of clients that the target did not get.
    pub dropped_to_target: u64,
    /// How often the target's stream was opened.
    pub connections: u64,
    /// The raw log.
    pub log: Option<PathBuf>,
    /// The log with times.
    pub log_json: Option<PathBuf>,
}

/// A chunk of what the target sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputChunk {
    /// Absolute offset of its first byte.
    pub offset: u64,
    /// The bytes.
    pub bytes: Arc<[u8]>,
}

/// The bridge has ended and answers no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bridge has ended")]
pub struct Gone;

/// An answer that is on its way: await it, or [`Reply::wait`] for it on a thread without a runtime.
///
/// # Cancel safety
///
/// Dropping it forgets the answer; what was asked for is done all the same.
#[derive(Debug)]
#[must_use = "what was asked for may have failed"]
pub struct Reply<T>(oneshot::Receiver<T>);

impl<T> Reply<T> {
    /// Waits on a thread that runs no async tasks. The bridge answers at once, save for [`BridgeHandle::break_in`]
    /// (at most 3 s) and [`BridgeHandle::release`] (at most 5 s).
    ///
    /// # Errors
    ///
    /// [`Gone`] if the bridge ended.
    pub fn wait(self) -> Result<T, Gone> {
        self.0.blocking_recv().map_err(|_| Gone)
    }
}

impl<T> Future for Reply<T> {
    type Output = Result<T, Gone>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(|_| Gone)
    }
}

/// What a bridge can be asked.
#[derive(Debug)]
pub(crate) enum Command {
    Attach(
        Box<AttachRequest>,
        oneshot::Sender<Result<ClientId, AttachRefused>>,
    ),
    Detach(ClientId, String, oneshot::Sender<bool>),
    TakeOver(Option<ClientId>, oneshot::Sender<usize>),
    SendBreak(oneshot::Sender<Result<String, String>>),
    BreakIn(oneshot::Sender<Result<String, String>>),
    Type(Vec<u8>, oneshot::Sender<Result<(), String>>),
    Status(oneshot::Sender<Status>),
    History(Since, usize, oneshot::Sender<HistorySlice>),
    SetLog(Option<PathBuf>, oneshot::Sender<Result<(), String>>),
    Release(oneshot::Sender<Result<String, String>>),
    TargetReset(oneshot::Sender<()>),
    TargetPaused(bool, oneshot::Sender<()>),
    ConsoleText(std::sync::Arc<[u8]>, oneshot::Sender<()>),
    Stop(String, oneshot::Sender<()>),
}

/// A running bridge as everybody else sees it. Cheap to clone; usable on any thread.
#[derive(Debug, Clone)]
pub struct BridgeHandle {
    // Unbounded, because sending must not wait on a thread without a runtime; each sender waits for its answer, so
    // there are never more entries than callers.
    commands: mpsc::UnboundedSender<Command>,
    events: broadcast::Sender<SharedEvent>,
    /// Made by the first subscriber: its queue is 60 KB big, and a port that nobody asks needs none.
    output: Arc<OnceLock<broadcast::Sender<OutputChunk>>>,
}

impl BridgeHandle {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Command>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        let handle = Self {
            commands,
            events: broadcast::Sender::new(EVENT_BACKLOG),
            output: Arc::default(),
        };
        (handle, receiver)
    }

    fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Reply<T> {
        let (sender, receiver) = oneshot::channel();
        // A bridge that has ended drops the sender, which the receiver reports as `Gone`.
        let _ = self.commands.send(command(sender));
        Reply(receiver)
    }

    /// Subscribes to events from now on.
    pub fn events(&self) -> broadcast::Receiver<SharedEvent> {
        self.events.subscribe()
    }

    /// Subscribes to what the target sends from now on. A subscriber that lags finds the gap by the offsets and can
    /// read it from [`BridgeHandle::history`] where the policy keeps one.
    pub fn output(&self) -> broadcast::Receiver<OutputChunk> {
        self.output
            .get_or_init(|| broadcast::Sender::new(SUBSCRIBER_BACKLOG))
            .subscribe()
    }

    pub(crate) fn event_sender(&self) -> &broadcast::Sender<SharedEvent> {
        &self.events
    }

    /// Returns where the target's output goes, if somebody subscribed to it.
    pub(crate) fn output_sender(&self) -> Option<&broadcast::Sender<OutputChunk>> {
        self.output.get().filter(|output| output.receiver_count() > 0)
    }

    /// Makes an open stream a console. `console` and `console+gdb` allow any number, `raw` one; a debugger's own port none.
    pub fn attach(&self, request: AttachRequest) -> Reply<Result<ClientId, AttachRefused>> {
        self.ask(|reply| Command::Attach(Box::new(request), reply))
    }

    /// Detaches a client; the reason goes into the event. Answers whether it was there.
    pub fn detach(&self, client: ClientId, reason: impl Into<String>) -> Reply<bool> {
        let reason = reason.into();
        self.ask(|reply| Command::Detach(client, reason, reply))
    }

    /// Detaches everybody who may write, save for `keep`. Answers how many.
    pub fn take_over(&self, keep: Option<ClientId>) -> Reply<usize> {
        self.ask(|reply| Command::TakeOver(keep, reply))
    }

    /// Sends one BREAK and nothing else. Answers the way, or way and reason.
    pub fn send_break(&self) -> Reply<Result<String, String>> {
        self.ask(Command::SendBreak)
    }

    /// Breaks in: BREAK, 100 ms, `g`, with everybody's keys held meanwhile. Answers the way once the `g` is out (a debug
    /// policy: once the stop was seen or nothing is waited for any more), or way and reason.
    pub fn break_in(&self) -> Reply<Result<String, String>> {
        self.ask(Command::BreakIn)
    }

    /// Types bytes to the target as a console does.
    pub fn type_bytes(&self, bytes: impl Into<Vec<u8>>) -> Reply<Result<(), String>> {
        let bytes = bytes.into();
        self.ask(|reply| Command::Type(bytes, reply))
    }

    /// Asks how the bridge stands.
    pub fn status(&self) -> Reply<Status> {
        self.ask(Command::Status)
    }

    /// Reads at most `limit` bytes of history. Policies without one answer an empty slice.
    pub fn history(&self, since: Since, limit: usize) -> Reply<HistorySlice> {
        self.ask(|reply| Command::History(since, limit, reply))
    }

    /// Starts or changes the raw log; `None` ends both logs.
    pub fn set_log(&self, path: Option<PathBuf>) -> Reply<Result<(), String>> {
        self.ask(|reply| Command::SetLog(path, reply))
    }

    /// Frees a stopped kernel (debug policies). Answers what was done, or why not.
    pub fn release(&self) -> Reply<Result<String, String>> {
        self.ask(Command::Release)
    }

    /// Tells that the driver saw the VM reset.
    pub fn target_reset(&self) -> Reply<()> {
        self.ask(Command::TargetReset)
    }

    /// Tells that the driver saw the VM paused or going on.
    pub fn target_paused(&self, paused: bool) -> Reply<()> {
        self.ask(|reply| Command::TargetPaused(paused, reply))
    }

    /// Tells a debug port's bridge what the same VM's console shows: signs of a stop, of a reset, of another kernel.
    pub fn console_text(&self, text: std::sync::Arc<[u8]>) -> Reply<()> {
        self.ask(|reply| Command::ConsoleText(text, reply))
    }

    /// Ends the bridge: pending bytes get 2 s, a stopped kernel 4 s. Answers when the end has begun.
    pub fn stop(&self, reason: impl Into<String>) -> Reply<()> {
        let reason = reason.into();
        self.ask(|reply| Command::Stop(reason, reply))
    }

    /// Returns when the bridge has ended. It is told by its dropped command queue.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only waits.
    pub async fn ended(&self) {
        self.commands.closed().await;
    }
}

impl BreakOwner for BridgeHandle {
    fn way(&self) -> String {
        "console".into()
    }

    fn break_in(&self, _deadline: Deadline) -> Result<(), String> {
        match Self::break_in(self).wait() {
            Ok(Ok(_way)) => Ok(()),
            Ok(Err(reason)) => Err(reason),
            Err(gone) => Err(gone.to_string()),
        }
    }
}
