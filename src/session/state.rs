//! The states of a debug session, as a pure machine: what has happened goes in with the time, what is to be done
//! comes out.
//!
//! ```text
//!  Settling ──console quiet, or long enough──► BreakingIn ──stop seen──► Debugging ──debugger ended──► Releasing ──► Ended
//!     │                                        │   ▲  │                     │                             ▲
//!     │                                        └way failed: next way        └─signal: ask it to end, kill─┤
//!     │                                           or next round                                            │
//!     └──signal, bridge ended, no way left────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Whatever happens, a session goes through *Releasing*: no kernel is left frozen.

use crate::model::BreakIn;
use std::time::{Duration, Instant};

/// A console that said nothing for this long has a shell that waits, or a kernel that works in silence.
const QUIET: Duration = Duration::from_millis(700);

/// A console that says nothing at all (a kernel that was up before we came) is believed to be ready after this.
const SILENT: Duration = Duration::from_secs(2);

/// A console that is never quiet, as that of a guest that logs all along, is waited for this part of the patience: the rest
/// is for the ways.
const TALK: u32 = 4;

/// How long a way of breaking in may take until its stop is seen, on a loaded host with an emulated CPU: BREAK, 100 ms,
/// `g`, 1.5 s for the stop; on a port that kgdb shares up to 300 ms before and all that once more.
const WAY: Duration = Duration::from_secs(4);

/// A debugger that was asked to end is killed after this.
const DEBUGGER_END: Duration = Duration::from_secs(2);

/// Freeing a kernel takes 4 s at most (`docs/dev/design.md`); this is that and a little.
const RELEASE: Duration = Duration::from_secs(6);

/// What a session is told before it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Ways of breaking in, in this order; empty: the debugger is started at once and its bridge breaks in.
    pub ways: Vec<BreakIn>,
    /// No stop by then: the session fails. Long for a VM that was just started, since it may still boot.
    pub patience: Duration,
    /// Leave the kernel as the debugger leaves it.
    pub leave_stopped: bool,
    /// Ctrl-C belongs to the debugger, which has the terminal.
    pub debugger_owns_interrupt: bool,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The console said something.
    ConsoleActivity,
    /// The kernel stopped in its debugger; how that was seen.
    KernelStopped(String),
    /// A way of breaking in could not be gone; why.
    WayFailed(String),
    /// The debugger could not be started; why.
    DebuggerNotStarted,
    /// The debugger ended by itself or was killed; `true` if with success.
    DebuggerEnded(bool),
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM or SIGHUP.
    Terminate,
    /// A bridge ended before the session; why.
    BridgeEnded(String),
    /// The kernel is free (what was done), or not (why).
    Released(Result<String, String>),
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Go this way of breaking in; its stop is reported by [`Input::KernelStopped`].
    BreakIn(BreakIn),
    /// Start the debugger.
    StartDebugger,
    /// Ask the debugger to end.
    TerminateDebugger,
    /// End the debugger for sure.
    KillDebugger,
    /// Free the kernel; answered by [`Input::Released`].
    Release,
    /// Stop the bridges and end with this.
    Finish(End),
}

/// How a session ended. The first cause counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The debugger ended with success and the kernel runs, or was left as was asked.
    Done,
    /// The debugger ended without success.
    DebuggerFailed,
    /// The debugger could not be started.
    DebuggerNotStarted,
    /// No way of breaking in led to a stop: what each said.
    NoBreakIn(Vec<String>),
    /// Ctrl-C.
    Interrupted,
    /// SIGTERM or SIGHUP.
    Terminated,
    /// The bridge ended under the session: why.
    BridgeEnded(String),
    /// The kernel could not be freed: why.
    NotReleased(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Settling {
        since: Instant,
        last_activity: Option<Instant>,
    },
    BreakingIn {
        way: usize,
        until: Instant,
    },
    Pausing {
        until: Instant,
    },
    Debugging,
    EndingDebugger {
        until: Instant,
    },
    Releasing {
        until: Instant,
    },
    Ended,
}

/// The machine.
#[derive(Debug)]
pub struct Session {
    wanted: Wanted,
    state: State,
    give_up: Instant,
    reasons: Vec<String>,
    end: Option<End>,
}

impl Session {
    /// Begins a session whose bridges are up.
    pub fn new(wanted: Wanted, now: Instant) -> Self {
        let give_up = now + wanted.patience;
        let state = State::Settling {
            since: now,
            last_activity: None,
        };
        Self {
            wanted,
            state,
            give_up,
            reasons: Vec::new(),
            end: None,
        }
    }

    /// Returns when [`Input::Tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Settling {
                since,
                last_activity: None,
            } => Some(since + SILENT),
            State::Settling {
                since,
                last_activity: Some(last),
            } => Some((last + QUIET).min(since + self.wanted.patience / TALK)),
            State::BreakingIn { until, .. }
            | State::Pausing { until }
            | State::EndingDebugger { until }
            | State::Releasing { until } => Some(until),
            State::Debugging | State::Ended => None,
        }
    }

    /// Takes what has happened and returns what is to be done, in this order.
    pub fn handle(&mut self, now: Instant, input: Input) -> Vec<Command> {
        match input {
            Input::ConsoleActivity => self.console_activity(now),
            Input::KernelStopped(_) => self.kernel_stopped(),
            Input::WayFailed(reason) => match self.state {
                State::BreakingIn { way, .. } => self.way_failed(now, way, &reason),
                _ => Vec::new(),
            },
            Input::DebuggerNotStarted => self.release(now, End::DebuggerNotStarted),
            Input::DebuggerEnded(success) => match self.state {
                State::Debugging | State::EndingDebugger { .. } => {
                    self.release(now, if success { End::Done } else { End::DebuggerFailed })
                }
                _ => Vec::new(),
            },
            Input::Interrupt if self.state == State::Debugging && self.wanted.debugger_owns_interrupt => {
                Vec::new()
            }
            Input::Interrupt => self.stop(now, End::Interrupted),
            Input::Terminate => self.stop(now, End::Terminated),
            Input::BridgeEnded(reason) => self.stop(now, End::BridgeEnded(reason)),
            Input::Released(result) => self.released(result),
            Input::Tick => self.tick(now),
        }
    }

    fn console_activity(&mut self, now: Instant) -> Vec<Command> {
        if let State::Settling { last_activity, .. } = &mut self.state {
            *last_activity = Some(now);
        }
        Vec::new()
    }

    fn kernel_stopped(&mut self) -> Vec<Command> {
        match self.state {
            State::Settling { .. } | State::BreakingIn { .. } | State::Pausing { .. } => {
                self.state = State::Debugging;
                vec![Command::StartDebugger]
            }
            _ => Vec::new(),
        }
    }

    fn tick(&mut self, now: Instant) -> Vec<Command> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        match self.state {
            State::Settling { .. } | State::Pausing { .. } => self.go(now, 0),
            State::BreakingIn { way, .. } => self.way_failed(now, way, "no sign of a stop"),
            State::EndingDebugger { .. } => {
                self.state = State::EndingDebugger {
                    until: now + DEBUGGER_END,
                };
                vec![Command::KillDebugger]
            }
            State::Releasing { .. } => self.released(Err("the bridge gave no answer".to_owned())),
            State::Debugging | State::Ended => Vec::new(),
        }
    }

    /// Goes a way, or starts the debugger when there is none to go.
    fn go(&mut self, now: Instant, way: usize) -> Vec<Command> {
        match self.wanted.ways.get(way) {
            Some(&break_in) => {
                self.state = State::BreakingIn {
                    way,
                    until: now + WAY,
                };
                vec![Command::BreakIn(break_in)]
            }
            None => {
                self.state = State::Debugging;
                vec![Command::StartDebugger]
            }
        }
    }

    fn way_failed(&mut self, now: Instant, way: usize, reason: &str) -> Vec<Command> {
        let name = match self.wanted.ways.get(way) {
            Some(BreakIn::Qmp) => "qmp",
            Some(BreakIn::Sysrq) => "sysrq",
            Some(BreakIn::Break) | None => "break",
        };
        let reason = format!("{name}: {reason}");
        if !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
        if way + 1 < self.wanted.ways.len() {
            return self.go(now, way + 1);
        }
        if now >= self.give_up {
            let reasons = std::mem::take(&mut self.reasons);
            return self.release(now, End::NoBreakIn(reasons));
        }
        // A kernel that still boots hears nothing yet: another round, after a pause in which it may get further.
        self.state = State::Pausing { until: now + QUIET };
        Vec::new()
    }

    /// Ends the session from wherever it is; the first cause counts.
    fn stop(&mut self, now: Instant, end: End) -> Vec<Command> {
        match self.state {
            State::Debugging => {
                self.end.get_or_insert(end);
                self.state = State::EndingDebugger {
                    until: now + DEBUGGER_END,
                };
                vec![Command::TerminateDebugger]
            }
            State::EndingDebugger { .. } => vec![Command::KillDebugger],
            State::Releasing { .. } | State::Ended => Vec::new(),
            State::Settling { .. } | State::BreakingIn { .. } | State::Pausing { .. } => {
                self.release(now, end)
            }
        }
    }

    fn release(&mut self, now: Instant, end: End) -> Vec<Command> {
        let end = self.end.get_or_insert(end);
        if self.wanted.leave_stopped || matches!(end, End::BridgeEnded(_)) {
            return self.released(Ok(String::new()));
        }
        self.state = State::Releasing { until: now + RELEASE };
        vec![Command::Release]
    }

    fn released(&mut self, result: Result<String, String>) -> Vec<Command> {
        if self.state == State::Ended {
            return Vec::new();
        }
        self.state = State::Ended;
        let end = match (self.end.take(), result) {
            (Some(End::Done) | None, Err(reason)) => End::NotReleased(reason),
            (end, _) => end.unwrap_or(End::Done),
        };
        vec![Command::Finish(end)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wanted(ways: &[BreakIn]) -> Wanted {
        Wanted {
            ways: ways.to_vec(),
            patience: Duration::from_secs(10),
            leave_stopped: false,
            debugger_owns_interrupt: true,
        }
    }

    /// Lets time pass until the machine wants something.
    fn wait(session: &mut Session, now: &mut Instant) -> Vec<Command> {
        loop {
            *now = session
                .deadline()
                .expect("there is something to wait for")
                .max(*now);
            let commands = session.handle(*now, Input::Tick);
            if !commands.is_empty() {
                return commands;
            }
        }
    }

    #[test]
    fn a_session_that_goes_well() {
        let mut now = Instant::now();
        let mut session = Session::new(wanted(&[BreakIn::Qmp]), now);
        session.handle(now, Input::ConsoleActivity);
        assert_eq!(wait(&mut session, &mut now), [Command::BreakIn(BreakIn::Qmp)]);
        assert_eq!(
            session.handle(now, Input::KernelStopped("banner".into())),
            [Command::StartDebugger]
        );
        assert_eq!(session.handle(now, Input::Interrupt), []);
        assert_eq!(
            session.handle(now, Input::DebuggerEnded(true)),
            [Command::Release]
        );
        let end = session.handle(now, Input::Released(Ok("it ran".into())));
        assert_eq!(end, [Command::Finish(End::Done)]);
    }

    #[test]
    fn a_console_that_is_never_quiet_is_broken_into_all_the_same() {
        let began = Instant::now();
        let mut now = began;
        let mut session = Session::new(wanted(&[BreakIn::Sysrq]), now);
        let commands = loop {
            session.handle(now, Input::ConsoleActivity);
            now += QUIET / 2;
            let commands = session.handle(now, Input::Tick);
            if !commands.is_empty() {
                break commands;
            }
            assert!(
                now < began + Duration::from_secs(10),
                "patience ended without a try"
            );
        };
        assert_eq!(commands, [Command::BreakIn(BreakIn::Sysrq)]);
        // Time is left for a second round.
        assert!(now <= began + Duration::from_secs(10) / TALK + QUIET);
    }

    #[test]
    fn ways_are_gone_in_their_order_and_again_until_patience_ends() {
        let mut now = Instant::now();
        let mut session = Session::new(wanted(&[BreakIn::Qmp, BreakIn::Sysrq]), now);
        assert_eq!(wait(&mut session, &mut now), [Command::BreakIn(BreakIn::Qmp)]);
        let next = session.handle(now, Input::WayFailed("no greeting".into()));
        assert_eq!(next, [Command::BreakIn(BreakIn::Sysrq)]);
        let mut commands = wait(&mut session, &mut now);
        while let [Command::BreakIn(_)] = commands[..] {
            commands = wait(&mut session, &mut now);
        }
        assert_eq!(commands, [Command::Release]);
        let Some(Command::Finish(End::NoBreakIn(reasons))) =
            session.handle(now, Input::Released(Ok(String::new()))).pop()
        else {
            panic!("the session ends for want of a break-in");
        };
        assert_eq!(
            reasons,
            [
                "qmp: no greeting",
                "sysrq: no sign of a stop",
                "qmp: no sign of a stop"
            ]
        );
    }

    #[test]
    fn a_debugger_that_does_not_end_is_killed_and_the_kernel_freed() {
        let mut now = Instant::now();
        let mut session = Session::new(wanted(&[]), now);
        assert_eq!(wait(&mut session, &mut now), [Command::StartDebugger]);
        assert_eq!(
            session.handle(now, Input::Terminate),
            [Command::TerminateDebugger]
        );
        assert_eq!(wait(&mut session, &mut now), [Command::KillDebugger]);
        assert_eq!(
            session.handle(now, Input::DebuggerEnded(false)),
            [Command::Release]
        );
        assert_eq!(
            session.handle(now, Input::Released(Ok(String::new()))),
            [Command::Finish(End::Terminated)]
        );
    }

    #[test]
    fn success_is_claimed_only_for_a_kernel_that_runs() {
        let mut now = Instant::now();
        let mut session = Session::new(wanted(&[]), now);
        wait(&mut session, &mut now);
        session.handle(now, Input::DebuggerEnded(true));
        let end = session.handle(now, Input::Released(Err("no answer".into())));
        assert_eq!(end, [Command::Finish(End::NotReleased("no answer".into()))]);
    }

    proptest! {
        /// Whatever happens, a session that is told to stop ends, and not before the kernel was freed.
        #[test]
        fn every_session_ends_with_the_kernel_freed(events in proptest::collection::vec(0u8..9, 0..30)) {
            let mut now = Instant::now();
            let mut session = Session::new(wanted(&[BreakIn::Break]), now);
            let (mut released, mut finished, mut running) = (0, 0, false);
            let mut note = |commands: Vec<Command>, running: &mut bool| {
                for command in commands {
                    match command {
                        Command::StartDebugger => *running = true,
                        Command::Release => released += 1,
                        Command::Finish(_) => finished += 1,
                        _ => {}
                    }
                }
            };
            for event in events {
                now += Duration::from_millis(400);
                let input = match event {
                    0 => Input::ConsoleActivity,
                    1 => Input::KernelStopped("x".into()),
                    2 => Input::WayFailed("x".into()),
                    3 if running => {
                        running = false;
                        Input::DebuggerEnded(false)
                    }
                    4 => Input::Interrupt,
                    _ => Input::Tick,
                };
                note(session.handle(now, input), &mut running);
            }
            for _ in 0..8 {
                note(session.handle(now, Input::Terminate), &mut running);
                if running {
                    running = false;
                    note(session.handle(now, Input::DebuggerEnded(false)), &mut running);
                }
                now += Duration::from_secs(7);
                note(session.handle(now, Input::Tick), &mut running);
            }
            prop_assert_eq!((released, finished), (1, 1));
        }
    }
}
