//! The state machine: it stands between one gdb and one kgdb and keeps the kernel from being left frozen.
//!
//! One file per concern below: what the target says ([`target`]), what gdb says ([`gdb`]), finding out whether the
//! kernel is stopped ([`find_out`]), breaking in ([`break_in`]), freeing ([`free`]), a kernel that is gone ([`gone`]).

mod break_in;
mod find_out;
mod free;
mod gdb;
mod gone;
mod state;
mod target;

use crate::rsp::demux::{Grammar, TargetScanner};
use crate::rsp::framing::GdbScanner;
use crate::rsp::interface::{BreakResult, Config, Event, Input, Output, PortKind};
use crate::rsp::kernel::{KernelState, TextWatch};
use crate::rsp::planted::Planted;
use crate::rsp::request::Request;
use state::{BreakIn, Doubt, Echo, Errand, Gdb, Ours, Sent, Step};
use std::time::{Duration, Instant};

/// A packet of ours that is not acknowledged within this time is not read by kgdb, which needs milliseconds (seen).
const OURS: Duration = Duration::from_millis(500);

/// After this silence kgdb is asked whether it is still there before a packet of gdb's goes out: on a port of its own
/// nothing tells of a reset, and gdb's packets must not reach the new boot.
const IDLE: Duration = Duration::from_secs(1);

/// The oldest packet of gdb's may lack its acknowledgement for this long; then the kernel is gone.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// All that [`Input::Release`] asks for is done within this time.
const RELEASE: Duration = Duration::from_secs(4);

/// Stands between gdb and kgdb. Pure: inputs come with the time, outputs are to be done in their order.
#[derive(Debug)]
pub struct Machine {
    config: Config,
    now: Option<Instant>,
    out: Vec<Output>,
    target_up: bool,
    first_up: bool,
    paused: bool,
    kernel: KernelState,
    /// The stop is more than a text: kgdb has said something.
    proven: bool,
    /// KDB is built in and the kernel stopped outside of it: `$3#33` typed on the console is for it.
    kdb_at_hand: bool,
    /// A gdb left while one of its packets had no acknowledgement: the kernel may be stopped.
    suspect: bool,
    /// The kernel stopped for our gdb or by our break-in: it is ours to free.
    answerable: bool,
    planted: Planted,
    scanner: TargetScanner,
    gdb_scanner: GdbScanner,
    text: TextWatch,
    console: TextWatch,
    gdb: Option<Gdb>,
    /// The newest packet of a gdb's that went to the target and has no final reply. It outlives its gdb.
    request: Option<Sent>,
    /// When kgdb last said something while it had the machine.
    heard: Option<Instant>,
    /// Since when gdb's packets have no acknowledgement.
    unacknowledged: Option<Instant>,
    /// A packet of the target's has no `+` yet: what it answers ([`Request::Other`] if nothing that matters).
    owed: Option<Request>,
    ours: Option<Ours>,
    echo: Option<Echo>,
    errand: Option<Errand>,
    break_in: Option<BreakIn>,
    /// When we last let the kernel run.
    let_run: Option<Instant>,
    doubt: Option<Doubt>,
    console_held: bool,
    transparent: bool,
    release_by: Option<Instant>,
    ended: bool,
}

#[derive(Debug, Clone, Copy)]
enum Timer {
    Errand,
    BreakIn,
    Doubt,
    Candidate,
    FirstPacket,
    Unacknowledged,
    Release,
}

impl Machine {
    /// Makes a machine for a target that is not up yet.
    pub fn new(config: Config) -> Self {
        Self {
            planted: config.planted.clone(),
            config,
            now: None,
            out: Vec::new(),
            target_up: false,
            first_up: true,
            paused: false,
            kernel: KernelState::Unknown,
            proven: false,
            kdb_at_hand: false,
            suspect: false,
            answerable: false,
            scanner: TargetScanner::default(),
            gdb_scanner: GdbScanner::default(),
            text: TextWatch::default(),
            console: TextWatch::default(),
            gdb: None,
            request: None,
            heard: None,
            unacknowledged: None,
            owed: None,
            ours: None,
            echo: None,
            errand: None,
            break_in: None,
            let_run: None,
            doubt: None,
            console_held: false,
            transparent: false,
            release_by: None,
            ended: false,
        }
    }

    /// Takes an input and appends what follows from it. `now` never goes back.
    pub fn handle(&mut self, now: Instant, input: Input<'_>, output: &mut Vec<Output>) {
        self.now = Some(now);
        self.fire();
        if !self.ended {
            self.take(input);
        }
        let stopped = self.kernel == KernelState::Stopped && self.answerable;
        if !self.first_up && self.errand.as_ref().is_none_or(|errand| !errand.is_free()) {
            self.set_planted(|planted| planted.stopped = stopped);
        }
        self.tell_consoles();
        join(std::mem::take(&mut self.out), output);
    }

    /// Returns when [`Input::Tick`] is due, if ever.
    pub fn deadline(&self) -> Option<Instant> {
        self.timers().into_iter().flatten().map(|(at, _)| at).min()
    }

    /// Returns what is known of the kernel.
    pub fn kernel(&self) -> KernelState {
        self.kernel
    }

    /// Tells whether a gdb is attached.
    pub fn has_gdb(&self) -> bool {
        self.gdb.is_some()
    }

    /// Tells whether gdb is being answered in place of a kernel that is gone.
    pub fn kernel_is_gone(&self) -> bool {
        self.gdb.as_ref().is_some_and(|gdb| gdb.gone)
    }

    /// Tells whether bytes pass unchanged from now on: the target has agreed to `QStartNoAckMode`.
    pub fn is_transparent(&self) -> bool {
        self.transparent
    }

    fn take(&mut self, input: Input<'_>) {
        match input {
            Input::TargetUp => {
                self.target_up = true;
                self.forget_stream();
                if std::mem::take(&mut self.first_up) && !self.planted.is_empty() && !self.planted.left {
                    // An earlier process was killed: what it had written down is undone.
                    self.free(state::FreeFor::Death);
                }
            }
            Input::TargetGone { reason } => {
                if std::mem::take(&mut self.target_up) {
                    self.finish_stream();
                    self.kernel_gone(&format!("the target's stream ended: {reason}"));
                }
            }
            Input::TargetReset => self.kernel_gone("the VM was reset"),
            Input::VmPaused(paused) => {
                self.paused = paused;
                if self.unacknowledged.is_some() {
                    self.unacknowledged = Some(self.now());
                }
                self.patience_while_verifying();
            }
            Input::TargetBytes(bytes) => self.target_bytes(bytes),
            Input::ConsoleText(text) => self.console_text(text),
            Input::GdbAttached => {
                self.gdb = Some(Gdb::default());
                self.gdb_scanner = GdbScanner::default();
            }
            Input::GdbBytes(bytes) => self.gdb_bytes(bytes),
            Input::GdbDetached => self.gdb_detached(),
            Input::BreakRequested => self.break_requested(),
            Input::BreakSent(result) => self.break_sent(result),
            Input::Resume => self.resume(),
            Input::Release { leave_stopped } => self.release(leave_stopped),
            Input::Tick => {}
        }
    }

    fn timers(&self) -> [Option<(Instant, Timer)>; 7] {
        let unacknowledged = self.unacknowledged.filter(|_| !self.paused);
        let first = self.errand.is_none() && self.gdb.as_ref().is_some_and(|gdb| gdb.trusting);
        [
            self.release_by.map(|at| (at, Timer::Release)),
            self.errand
                .as_ref()
                .and_then(|errand| errand.until)
                .map(|at| (at, Timer::Errand)),
            self.break_in
                .as_ref()
                .and_then(|break_in| break_in.until)
                .map(|at| (at, Timer::BreakIn)),
            self.doubt.as_ref().map(|doubt| (doubt.until, Timer::Doubt)),
            self.scanner
                .deadline(self.grammar())
                .map(|at| (at, Timer::Candidate)),
            unacknowledged
                .filter(|_| first)
                .map(|since| (since + OURS, Timer::FirstPacket)),
            unacknowledged.map(|since| (since + UNACKNOWLEDGED, Timer::Unacknowledged)),
        ]
    }

    /// Runs the timers that are due, the oldest first. Each run clears its timer or moves it on.
    fn fire(&mut self) {
        while !self.ended {
            let due = self
                .timers()
                .into_iter()
                .flatten()
                .filter(|(at, _)| *at <= self.now());
            let Some((_, timer)) = due.min_by_key(|(at, _)| *at) else {
                return;
            };
            match timer {
                Timer::Errand => self.errand_due(),
                Timer::BreakIn => self.break_in_due(),
                Timer::Doubt => self.doubt_due(),
                Timer::Candidate => {
                    if let Some(piece) = self.scanner.tick(self.now(), self.grammar()) {
                        self.piece(piece);
                    }
                }
                Timer::FirstPacket => self.first_packet_unheard(),
                Timer::Unacknowledged => {
                    self.kernel_gone("a packet of gdb's had no acknowledgement for 10 s")
                }
                Timer::Release => self.release_due(),
            }
        }
    }

    fn now(&self) -> Instant {
        self.now.expect("`handle` sets it before anything else")
    }

    fn after(&self, duration: Duration) -> Option<Instant> {
        Some(self.now() + duration)
    }

    fn is_shared(&self) -> bool {
        self.config.port == PortKind::Shared
    }

    /// What may be a packet now. While we find out on a port of kgdb's own there is no console text to protect.
    fn grammar(&self) -> Grammar {
        let asking = self
            .errand
            .as_ref()
            .is_some_and(|errand| !self.is_shared() || errand.step == Step::LetGo);
        let talking = self.ours.as_ref().is_some_and(|ours| ours.acknowledged);
        if self.kernel == KernelState::Stopped || asking || talking {
            Grammar::Stopped
        } else {
            Grammar::Running {
                errors: self.request.as_ref().is_some_and(|sent| sent.request.resumes()),
            }
        }
    }

    fn set_kernel(&mut self, state: KernelState) {
        if state == KernelState::Stopped {
            self.text.stopped();
            self.console.stopped();
        } else {
            self.proven = false;
        }
        if self.kernel != state {
            self.kernel = state;
            self.event(Event::Kernel(state));
        }
    }

    fn set_planted(&mut self, change: impl FnOnce(&mut Planted)) {
        let before = self.planted.clone();
        change(&mut self.planted);
        if self.planted != before {
            self.out.push(Output::Planted(self.planted.clone()));
        }
    }

    fn event(&mut self, event: Event) {
        self.out.push(Output::Event(event));
    }

    fn send_target(&mut self, bytes: &[u8]) {
        self.out.push(Output::ToTarget(bytes.to_vec()));
    }

    fn send_gdb(&mut self, bytes: &[u8]) {
        self.out.push(Output::ToGdb(bytes.to_vec()));
    }

    /// Sends the `+` that is owed. The kernel runs with the one for the `OK` of `D`.
    fn acknowledge(&mut self) {
        self.send_target(b"+");
        if self.owed.take() == Some(Request::Detach) {
            self.kernel_runs();
        }
    }

    fn tell_consoles(&mut self) {
        let keys_are_kdbs = self.kdb_at_hand && self.gdb.is_none();
        let stopped = self.kernel == KernelState::Stopped && !keys_are_kdbs;
        let unanswered = self.owed.is_some()
            || self.unacknowledged.is_some()
            || self.ours.as_ref().is_some_and(|ours| !ours.acknowledged);
        let breaking = self.break_in.as_ref().is_some_and(BreakIn::holds_keys);
        let hold =
            !self.ended && (breaking || (self.is_shared() && self.target_up && (stopped || unanswered)));
        if hold != self.console_held {
            self.console_held = hold;
            self.out.push(Output::HoldConsole(hold));
        }
    }

    fn broke_in(&mut self, result: BreakResult) {
        self.event(Event::Break(result));
    }
}

/// Moves outputs over, joining neighbours of the same stream.
fn join(from: Vec<Output>, to: &mut Vec<Output>) {
    for output in from {
        match (to.last_mut(), output) {
            (Some(Output::ToTarget(last)), Output::ToTarget(more))
            | (Some(Output::ToGdb(last)), Output::ToGdb(more))
            | (Some(Output::ToConsole(last)), Output::ToConsole(more)) => last.extend(more),
            (Some(Output::Dropped(last)), Output::Dropped(more)) => *last += more,
            (_, output) => to.push(output),
        }
    }
}
