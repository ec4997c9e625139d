//! The one queue of a session: signals, bridges and the debugger send into it, the session's loop takes out.

use crate::runner::Status;
use crate::runner::sys::{StopSignal, StopSignals};
use std::io;
use std::sync::mpsc;
use std::time::Instant;

/// Something that a session must hear of.
#[derive(Debug)]
pub enum SessionEvent {
    /// The console said something.
    ConsoleActivity,
    /// The kernel stopped; how that was seen.
    KernelStopped(String),
    /// The kernel that the debugger talked to is gone; how that was seen.
    KernelGone(String),
    /// The bridge turned the debugger away; why.
    DebuggerRefused(String),
    /// A way of breaking in failed; why.
    WayFailed(String),
    /// The debugger could not be started.
    DebuggerNotStarted,
    /// The debugger ended.
    DebuggerEnded(io::Result<Status>),
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM, SIGHUP.
    Terminate,
    /// A bridge ended; why.
    BridgeEnded(String),
    /// The answer to a release.
    Released(Result<String, String>),
}

/// Sends into the queue. A session that has ended hears nothing more.
#[derive(Debug, Clone)]
pub struct EventSender(mpsc::Sender<SessionEvent>);

impl EventSender {
    /// Sends one event.
    pub fn send(&self, event: SessionEvent) {
        // After the session's end there is nobody left to tell.
        let _ = self.0.send(event);
    }
}

/// The queue, with the signals caught since it was made.
#[derive(Debug)]
pub struct SessionEvents {
    sender: EventSender,
    receiver: mpsc::Receiver<SessionEvent>,
}

impl SessionEvents {
    /// Makes the queue and catches the stop signals from now on.
    ///
    /// # Errors
    ///
    /// The system's refusal to catch signals or to start a thread.
    pub fn catch_signals() -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let events = Self {
            sender: EventSender(sender),
            receiver,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut signals = {
            let _guard = runtime.enter();
            StopSignals::catch()?
        };
        let sender = events.sender();
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                runtime.block_on(async move {
                    loop {
                        sender.send(match signals.next().await {
                            StopSignal::Interrupt => SessionEvent::Interrupt,
                            StopSignal::Terminate | StopSignal::Hangup => SessionEvent::Terminate,
                        });
                    }
                });
            })?;
        Ok(events)
    }

    /// Returns a sender into this queue.
    pub fn sender(&self) -> EventSender {
        self.sender.clone()
    }

    /// Starts a thread that feeds the queue and ends with what it watches.
    pub fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) {
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
        if let Err(error) = spawned {
            self.sender.send(SessionEvent::BridgeEnded(format!(
                "cannot start a thread: {error}"
            )));
        }
    }

    /// Waits for the next event.
    pub fn next(&self) -> SessionEvent {
        self.receiver.recv().expect("the queue holds a sender of its own")
    }

    /// Waits for the next event, at most until `deadline`.
    pub fn next_before(&self, deadline: Instant) -> Option<SessionEvent> {
        let now = Instant::now();
        self.receiver
            .recv_timeout(deadline.saturating_duration_since(now))
            .ok()
    }

    /// Returns an event that has come already.
    pub fn try_next(&self) -> Option<SessionEvent> {
        self.receiver.try_recv().ok()
    }
}
