//! The engine's state, its start, the round and the timer.

use super::break_in::BreakInState;
use super::client::Client;
use super::ending::Life;
use super::keys::HeldKeys;
use super::outbound::Outbound;
use super::outcome::Outcome;
use super::slot::Slot;
use super::target::TargetSide;
use crate::bridge::capture::Capture;
use crate::bridge::channel::Channel;
use crate::bridge::dial::{BreakPort, Remarks};
use crate::bridge::event::{EVENT_VERSION, Event, EventRecord, SharedEvent};
use crate::bridge::handle::{BridgeHandle, Command};
use crate::bridge::history::History;
use crate::bridge::mediator::{Mediator, Output};
use crate::bridge::open::Side;
use crate::bridge::openings::Openings;
use crate::bridge::spec::BridgeSpec;
use crate::bridge::timeline::Timeline;
use crate::model::{EndpointSpec, FailureKind, Policy, Problem, Role};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Instant, Sleep};

/// One read of a stream; the buffer is shared by all bridges of a thread. A Unix socket gives up to 208 KiB at once.
pub(super) const SCRATCH: usize = 256 << 10;

/// The buffer begins on a page: the system's copies into one that is 16 bytes off took a quarter longer.
const PAGE: usize = 4096;

thread_local! {
    static SCRATCH_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH + PAGE].into_boxed_slice());
}

/// A client that does not keep up for this long is worth an event; sockets are full for microseconds all the time.
pub(super) const PAUSE_TOLD_AFTER: Duration = Duration::from_millis(250);

/// How bytes flow, with what the policy keeps.
pub(super) enum Flow {
    Raw { hold: VecDeque<u8>, limit: usize },
    Console { history: History },
    Mediated(Box<Mediation>),
}

impl Flow {
    /// What consoles read, where there are any.
    pub fn history(&self) -> Option<&History> {
        match self {
            Self::Console { history } => Some(history),
            Self::Mediated(mediation) => mediation.history.as_ref(),
            Self::Raw { .. } => None,
        }
    }
}

/// A debug protocol and what it owes.
pub(super) struct Mediation {
    pub mediator: Box<dyn Mediator>,
    /// The consoles' part of the stream, where the protocol shares the port with consoles.
    pub history: Option<History>,
    /// What consoles typed while the protocol held it.
    pub keys: HeldKeys,
    /// Reused by every call.
    pub outputs: Vec<Output>,
    /// Who waits for a break-in.
    pub breaks: Vec<oneshot::Sender<Result<String, String>>>,
    /// Who waits for the kernel to be freed.
    pub releases: Vec<oneshot::Sender<Result<String, String>>>,
}

/// Bytes, counted since the start.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counters {
    pub from_target: u64,
    pub to_target: u64,
    pub dropped_from_target: u64,
    pub dropped_to_target: u64,
}

/// What of the specification the engine still needs while it runs.
pub(super) struct Options {
    pub policy: Policy,
    pub replay_bytes: usize,
    pub take_over: bool,
    pub one_writer: bool,
    pub once: bool,
    pub linger: Duration,
}

/// A bridge whose listeners are open.
pub struct Engine {
    pub(super) options: Options,
    pub(super) handle: BridgeHandle,
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) target: TargetSide,
    pub(super) slots: Vec<Slot>,
    pub(super) clients: Vec<Client>,
    /// Came while the one client of the policy was gone already, with bytes of it still to be read.
    pub(super) next_client: Option<(usize, Channel, bool)>,
    pub(super) last_connection: u64,
    pub(super) flow: Flow,
    pub(super) to_target: Outbound,
    pub(super) log: Capture,
    pub(super) timeline: Timeline,
    pub(super) counters: Counters,
    pub(super) life: Life,
    /// Our own standard output took nothing any more: what it was to get is lost.
    pub(super) output_failure: Option<std::io::ErrorKind>,
    /// When the VM was reset last, and what had come from it until then.
    pub(super) last_reset: Option<(Instant, u64)>,
    pub(super) break_in: BreakInState,
    /// When a client stopped keeping up, and whether that was told.
    pub(super) paused: Option<(Instant, bool)>,
    pub(super) wait_until: Option<Instant>,
    pub(super) now: Instant,
    timer: Pin<Box<Sleep>>,
    timer_at: Option<Instant>,
}

impl Engine {
    /// Opens the listeners and the log. Must be called in a tokio runtime.
    ///
    /// # Errors
    ///
    /// Precondition: an address in use (the owner is named where the system tells), a path that is no socket, no
    /// permission, a kind that is not served yet. Usage: the specification contradicts itself.
    pub fn bind(mut spec: BridgeSpec) -> Result<Self, Problem> {
        let now = Instant::now();
        let flow = match spec.policy {
            Policy::Raw => Flow::Raw {
                hold: VecDeque::new(),
                limit: spec.hold_bytes,
            },
            Policy::Console => Flow::Console {
                history: History::default(),
            },
            policy => {
                let mediator = spec.mediator.take().ok_or_else(|| not_served(policy))?;
                Flow::Mediated(Box::new(Mediation {
                    history: mediator.has_consoles().then(History::default),
                    keys: HeldKeys::default(),
                    mediator,
                    outputs: Vec::new(),
                    breaks: Vec::new(),
                    releases: Vec::new(),
                }))
            }
        };
        let (handle, commands) = BridgeHandle::new();
        let openings = Openings::new(spec.opener.take(), remarks(&handle));
        if let BreakPort::Endpoint(endpoint) = &spec.break_port {
            check_break_port(endpoint, &openings)?;
        }
        let log = Capture::open(&spec.log)?;
        let slots = spec
            .clients
            .iter()
            .map(|client| Slot::open(client, spec.reconnect_every, &openings))
            .chain(
                spec.joined
                    .iter()
                    .map(|vm| Slot::open_joined(vm, spec.reconnect_every, &openings)),
            )
            .collect::<Result<Vec<_>, _>>()?;
        let target = TargetSide::open(spec.target, spec.reconnect_every, now, openings.clone())?;
        Ok(Self {
            options: Options {
                policy: spec.policy,
                replay_bytes: spec.replay_bytes,
                take_over: spec.take_over,
                one_writer: spec.one_writer,
                once: spec.once,
                linger: spec.linger,
            },
            handle,
            commands,
            target,
            slots,
            clients: Vec::new(),
            next_client: None,
            last_connection: 0,
            flow,
            to_target: Outbound::default(),
            log,
            timeline: Timeline::default(),
            counters: Counters::default(),
            life: Life::Running,
            output_failure: None,
            last_reset: None,
            break_in: BreakInState::new(spec.break_means, spec.break_port, openings),
            paused: None,
            wait_until: spec.wait.map(|wait| now + wait),
            now,
            timer: Box::pin(tokio::time::sleep_until(now)),
            timer_at: None,
        })
    }

    /// Returns a handle to this bridge. Events that are sent after this call reach its subscribers.
    pub fn handle(&self) -> BridgeHandle {
        self.handle.clone()
    }

    /// Returns the clients' endpoints as they are served: free ports found, devices named.
    pub fn listening(&self) -> Vec<String> {
        self.slots.iter().map(|slot| slot.served.clone()).collect()
    }

    /// Returns those of them at which gdb is served.
    pub(super) fn gdb_listening(&self) -> Vec<String> {
        let all = self.options.policy == Policy::Gdb;
        let slots = self.slots.iter().filter(|slot| all || slot.is_gdb);
        slots.map(|slot| slot.served.clone()).collect()
    }

    /// Returns the target's endpoint if the VM is to come to us.
    pub fn target_listening(&self) -> Option<String> {
        self.target.listening().map(str::to_owned)
    }

    /// Moves bytes until the end.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes everything at once; pending bytes are lost. Ask [`BridgeHandle::stop`] for a clean end.
    pub async fn run(mut self) -> Outcome {
        self.emit(Event::Ready {
            clients: self.listening(),
        });
        if self.target.is_up() {
            self.now = Instant::now();
            self.target_came();
        }
        poll_fn(|context| {
            SCRATCH_BUFFER.with_borrow_mut(|buffer| {
                let begin = buffer.as_ptr().align_offset(PAGE);
                self.poll(context, &mut buffer[begin..begin + SCRATCH])
            })
        })
        .await
    }

    fn poll(&mut self, context: &mut Context<'_>, scratch: &mut [u8]) -> Poll<Outcome> {
        loop {
            self.now = Instant::now();
            let mut progress = self.run_due();
            progress |= self.poll_commands(context);
            progress |= self.poll_target_link(context);
            progress |= self.poll_slots(context);
            progress |= self.poll_break_in(context);
            progress |= self.flush_target(context);
            progress |= self.serve_clients(context, scratch);
            progress |= self.read_target(context, scratch);
            if let Some(outcome) = self.poll_end(context, &mut progress) {
                self.emit_stopped(&outcome);
                return Poll::Ready(outcome);
            }
            if !progress && !self.arm_timer(context) {
                return Poll::Pending;
            }
        }
    }

    /// Does what is due by time.
    fn run_due(&mut self) -> bool {
        let now = self.now;
        let mut progress = false;
        if let Some((since, told @ false)) = &mut self.paused
            && now >= *since + PAUSE_TOLD_AFTER
        {
            *told = true;
            self.emit(Event::TargetPaused);
        }
        for client in &mut self.clients {
            if client.look_again.is_some_and(|at| at <= now) {
                client.look_again = None;
                progress = true;
                if client.channel.peer_is_gone() {
                    client.closing.get_or_insert_with(|| "ended".into());
                } else {
                    client.look_again = Some(now + super::attach::LOOK_AGAIN);
                }
            }
        }
        let told = self.log.tick(now);
        self.emit_all(told);
        if self.mediator_deadline().is_some_and(|at| at <= now) {
            self.mediate(crate::bridge::mediator::Input::Tick);
            progress = true;
        }
        progress
    }

    /// Sets the timer to the next deadline. Returns `true` if that has passed already.
    fn arm_timer(&mut self, context: &mut Context<'_>) -> bool {
        let paused = match self.paused {
            Some((since, false)) => Some(since + PAUSE_TOLD_AFTER),
            _ => None,
        };
        let next = [
            self.target.deadline(),
            self.life_deadline(),
            self.break_in.deadline(),
            self.mediator_deadline(),
            self.wait_until,
            self.log.deadline(),
            paused,
        ]
        .into_iter()
        .flatten()
        .chain(
            self.slots
                .iter()
                .filter_map(|slot| slot.not_before)
                .filter(|_| self.accepts()),
        )
        .chain(self.clients.iter().filter_map(|client| client.look_again))
        .min();
        let Some(next) = next else {
            self.timer_at = None;
            return false;
        };
        if self.timer_at != Some(next) {
            self.timer.as_mut().reset(next);
            self.timer_at = Some(next);
        }
        if self.timer.as_mut().poll(context).is_ready() {
            // The timer has a grain of a millisecond and never fires early, so the deadline has passed.
            self.timer_at = None;
            return true;
        }
        false
    }

    pub(super) fn emit(&self, event: Event) {
        emit(self.handle.event_sender(), event);
    }

    pub(super) fn emit_all(&self, events: Vec<Event>) {
        for event in events {
            self.emit(event);
        }
    }

    pub(super) fn history(&self) -> Option<&History> {
        self.flow.history()
    }

    fn emit_stopped(&mut self, outcome: &Outcome) {
        let told = self.log.finish();
        self.emit_all(told);
        let reason = match outcome {
            Outcome::Ended => "ended".to_owned(),
            Outcome::Stopped => "stopped".to_owned(),
            Outcome::NeverCame { reason } => format!("the target never came: {reason}"),
            Outcome::Failed(problem) => problem.message.clone(),
        };
        let counters = self.counters;
        self.emit(Event::Stopped {
            reason,
            from_target: counters.from_target,
            to_target: counters.to_target,
            dropped_from_target: counters.dropped_from_target,
            dropped_to_target: counters.dropped_to_target,
        });
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Engine")
            .field("target", &self.target)
            .field("slots", &self.slots)
            .field("clients", &self.clients)
            .finish_non_exhaustive()
    }
}

fn emit(events: &broadcast::Sender<SharedEvent>, event: Event) {
    tracing::debug!(?event, "bridge");
    let record: SharedEvent = Arc::new(EventRecord {
        v: EVENT_VERSION,
        time: jiff::Timestamp::now(),
        event,
    });
    // Nobody has to listen.
    let _ = events.send(record);
}

/// Makes an event of each line that a stream's process says. (A clone of the handle itself would keep the bridge's
/// command queue open.)
pub(super) fn remarks(handle: &BridgeHandle) -> Remarks {
    let events = handle.event_sender().clone();
    Remarks::new(move |endpoint, line| {
        let endpoint = endpoint.to_string();
        emit(&events, Event::Said { endpoint, line });
    })
}

/// A break port is gone to, for each break-in anew.
fn check_break_port(endpoint: &EndpointSpec, openings: &Openings) -> Result<(), Problem> {
    if endpoint.role == Some(Role::Connect) {
        return openings.check(endpoint, Side::Target);
    }
    Err(Problem::new(
        FailureKind::Usage,
        format!("`--break-port {endpoint}`: it must be an endpoint that can be connected to"),
    )
    .hint("Name the console's port: `--break-port connect:unix:/run/vm1/console`."))
}

fn not_served(policy: Policy) -> Problem {
    Problem::new(
        FailureKind::Precondition,
        format!("the policy `{policy}` is not served here yet"),
    )
    .hint("`raw` passes every byte of one client unchanged, `console` serves any number of them.")
}
