//! A bridge on a thread of its own.

use super::core::{Engine, remarks};
use super::outcome::{Outcome, StopSignal};
use super::watch::watch;
use crate::bridge::dial::TargetSource;
use crate::bridge::event::SharedEvent;
use crate::bridge::handle::BridgeHandle;
use crate::bridge::openings::Openings;
use crate::bridge::spec::BridgeSpec;
use crate::bridge::sys::StopSignals;
use crate::model::{FailureKind, Problem};
use std::pin::Pin;
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::broadcast;

/// How long what runs beside a bridge may take to end after it.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Who handles the signals that stop the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signals {
    /// The bridge: a first one ends it cleanly, a second one at once.
    Handled,
    /// Somebody else.
    LeftAlone,
}

/// Something that runs on the bridge's own runtime, beside it: a control socket. The function is called once the
/// listeners are open and prepares it; a failure ends the bridge before it is ready.
pub type Beside =
    Box<dyn FnOnce(BridgeHandle) -> Result<Pin<Box<dyn Future<Output = ()> + Send>>, Problem> + Send>;

/// A bridge that runs on a thread of its own.
#[derive(Debug)]
pub struct RunningBridge {
    /// Talks to it.
    pub handle: BridgeHandle,
    /// Its events from the first one on. Dropped receivers are fine.
    pub events: broadcast::Receiver<SharedEvent>,
    /// The clients' endpoints as they are served.
    pub listening: Vec<String>,
    /// The target's endpoint if the VM is to come to us.
    pub target_listening: Option<String>,
    signal: Arc<OnceLock<StopSignal>>,
    thread: JoinHandle<Outcome>,
}

impl RunningBridge {
    /// Waits for its end. Tells how it ended, and which signal asked for it, if one did.
    pub fn join(self) -> (Outcome, Option<StopSignal>) {
        let outcome = self.thread.join().unwrap_or_else(|_| {
            Outcome::Failed(Problem::new(
                FailureKind::Internal,
                "the bridge's thread panicked; its message is above",
            ))
        });
        (outcome, self.signal.get().copied())
    }
}

/// Opens the listeners of a bridge and runs it on a thread of its own.
///
/// # Errors
///
/// See [`Engine::bind`]; host if the system has no thread left.
pub fn start(spec: BridgeSpec, signals: Signals, beside: Option<Beside>) -> Result<RunningBridge, Problem> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let signal = Arc::new(OnceLock::new());
    let seen = Arc::clone(&signal);
    let thread = std::thread::Builder::new()
        .name("bridge".into())
        .spawn(move || run_thread(spec, signals, beside, &seen, &sender))
        .map_err(|error| Problem::new(FailureKind::Host, format!("cannot start a thread: {error}")))?;
    match receiver.recv() {
        Ok(Ok((handle, events, listening, target_listening))) => Ok(RunningBridge {
            handle,
            events,
            listening,
            target_listening,
            signal,
            thread,
        }),
        Ok(Err(problem)) => Err(problem),
        Err(_) => Err(Problem::new(
            FailureKind::Internal,
            "the bridge's thread panicked at its start; its message is above",
        )),
    }
}

type Started = (
    BridgeHandle,
    broadcast::Receiver<SharedEvent>,
    Vec<String>,
    Option<String>,
);

fn run_thread(
    spec: BridgeSpec,
    signals: Signals,
    beside: Option<Beside>,
    seen: &Arc<OnceLock<StopSignal>>,
    started: &mpsc::SyncSender<Result<Started, Problem>>,
) -> Outcome {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let problem = Problem::new(FailureKind::Host, format!("cannot start the reactor: {error}"));
            // The starter waits for exactly this.
            let _ = started.send(Err(problem.clone()));
            return Outcome::Failed(problem);
        }
    };
    let opener = spec.opener.clone();
    let dialer = match &spec.target {
        TargetSource::Asked(dialer) => Some(Arc::clone(dialer)),
        TargetSource::Fixed(_) => None,
    };
    let outcome = runtime.block_on(async {
        // Taken over first: whoever reads `ready` may send one at once.
        let signals = match signals {
            Signals::Handled => StopSignals::new().map(Some),
            Signals::LeftAlone => Ok(None),
        };
        let signals = signals
            .map_err(|error| Problem::new(FailureKind::Host, format!("cannot take signals over: {error}")));
        let bound = signals.and_then(|signals| bind(spec, beside).map(|bound| (signals, bound)));
        let (signals, (engine, beside)) = match bound {
            Ok(bound) => bound,
            Err(problem) => {
                // The starter waits for exactly this.
                let _ = started.send(Err(problem.clone()));
                return Outcome::Failed(problem);
            }
        };
        let handle = engine.handle();
        if let Some(signals) = signals {
            tokio::spawn(stop_on_signals(signals, handle.clone(), Arc::clone(seen)));
        }
        if let Some(dialer) = dialer {
            let openings = Openings::new(opener.clone(), remarks(&handle));
            tokio::spawn(watch(dialer, openings, handle.clone()));
        }
        let answer = (
            handle.clone(),
            handle.events(),
            engine.listening(),
            engine.target_listening(),
        );
        // The starter waits for exactly this.
        let _ = started.send(Ok(answer));
        let beside = beside.map(tokio::spawn);
        let outcome = engine.run().await;
        if let Some(opener) = opener {
            opener.close().await;
        }
        let Some(beside) = beside else {
            return outcome;
        };
        // It sees the bridge's end by itself; what it still says to its clients gets a moment.
        let _ = tokio::time::timeout(LAST_WORDS, beside).await;
        outcome
    });
    // A BREAK or a driver's look-up that hangs on a blocking thread must not keep us.
    runtime.shutdown_background();
    outcome
}

type BesideFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Opens the listeners, then prepares what runs beside.
fn bind(spec: BridgeSpec, beside: Option<Beside>) -> Result<(Engine, Option<BesideFuture>), Problem> {
    let engine = Engine::bind(spec)?;
    let beside = beside.map(|beside| beside(engine.handle())).transpose()?;
    Ok((engine, beside))
}

async fn stop_on_signals(mut signals: StopSignals, handle: BridgeHandle, seen: Arc<OnceLock<StopSignal>>) {
    loop {
        let signal = signals.next().await;
        // The first one decides the exit code.
        let _ = seen.set(signal);
        // An ended bridge answers nothing, and needs no stop.
        let _ = handle.stop("signal").await;
    }
}
