//! A bridge's events, printed: JSON lines or sentences for people.
//!
//! On a thread of its own, because whoever reads our output may have stopped reading: the bridge goes on, and it ends when
//! it is told to. An output that takes nothing (a full disk) ends no bridge either.

use crate::bridge::{Event, EventRecord, TargetState};
use crate::cli::ui::Ui;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver as Done, channel};
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// How long the last events may take to be written: as long as a stream's pending bytes.
const LAST_EVENTS: Duration = Duration::from_secs(2);

/// Prints the events of one bridge.
#[derive(Debug)]
pub struct EventPrinter {
    done: Done<()>,
}

impl EventPrinter {
    /// Starts printing. With `--json` lines go to standard output, but to standard error where `stdio` is an endpoint.
    ///
    /// # Errors
    ///
    /// The system has no thread left.
    pub fn start(
        events: Receiver<Arc<EventRecord>>,
        on_stdio: bool,
        verbose: bool,
        ui: &Ui,
    ) -> io::Result<Self> {
        let (finished, done) = channel();
        let mut ui = Ui::new(ui.is_json());
        std::thread::Builder::new().name("events".into()).spawn(move || {
            print(events, on_stdio, verbose, &mut ui);
            // Nobody waits any more if it took too long.
            let _ = finished.send(());
        })?;
        Ok(Self { done })
    }

    /// Waits until everything is printed, for 2 s at most.
    pub fn finish(self) {
        // Whoever did not read for so long does not want it.
        let _ = self.done.recv_timeout(LAST_EVENTS);
    }
}

fn print(mut events: Receiver<Arc<EventRecord>>, on_stdio: bool, verbose: bool, ui: &mut Ui) {
    let mut broken = false;
    loop {
        match events.blocking_recv() {
            Ok(record) => {
                if !ui.is_json() {
                    if let Some(line) = sentence(&record.event, verbose) {
                        ui.status(&line);
                    }
                } else if !broken && let Err(error) = tell_json(&record, on_stdio, ui) {
                    broken = true;
                    ui.warning(&format!("{error}; events are not printed any more"));
                }
                if matches!(record.event, Event::Stopped { .. }) {
                    return;
                }
            }
            // Whoever reads our output is slower than the bridge; the bridge does not wait.
            Err(RecvError::Lagged(count)) => ui.warning(&format!("{count} events were not printed")),
            Err(RecvError::Closed) => return,
        }
    }
}

fn tell_json(record: &EventRecord, on_stdio: bool, ui: &mut Ui) -> io::Result<()> {
    if on_stdio {
        ui.status(&serde_json::to_string(record).map_err(io::Error::other)?);
        Ok(())
    } else {
        ui.data_json(record)
    }
}

/// Puts an event into a line for people; `None` for what only matters with `-v`.
fn sentence(event: &Event, verbose: bool) -> Option<String> {
    let text = match event {
        Event::Target {
            state: TargetState::Up,
            reason,
        } => format!("target up: {reason}"),
        Event::Target {
            state: TargetState::Away,
            reason,
        } => format!("target away: {reason}"),
        Event::ClientRefused { client, reason, .. } => format!("client {client} refused: {reason}"),
        Event::ClientAttached { client, peer, .. } if verbose => format!("client {client} attached ({peer})"),
        Event::ClientDetached {
            client, peer, reason, ..
        } if verbose => format!("client {client} detached ({peer}): {reason}"),
        Event::Writer { client, peer, .. } if verbose => format!("client {client} ({peer}) writes now"),
        Event::Skipped { client, bytes, .. } if verbose => format!("client {client} skipped {bytes} bytes"),
        Event::TargetPaused => "target paused: the client does not keep up".into(),
        Event::TargetResumed => "target resumed".into(),
        Event::Kernel { state } if verbose => format!("kernel {state:?}").to_lowercase(),
        Event::KernelGone { reason } => format!("the kernel is gone: {reason}"),
        Event::KernelLeftStopped => "the kernel is left stopped".into(),
        Event::GdbRefused { reason } => format!("gdb refused: {reason}"),
        Event::GdbHeld { reason } => format!("gdb is held: {reason}"),
        Event::Break { way, result } => format!("break by {way}: {result}"),
        Event::Said { endpoint, line } => format!("{endpoint}: {line}"),
        Event::Log { state, reason } => format!("log {state}: {reason}"),
        Event::Ready { .. }
        | Event::ClientAttached { .. }
        | Event::ClientDetached { .. }
        | Event::Skipped { .. }
        | Event::Writer { .. }
        | Event::Kernel { .. }
        | Event::Stopped { .. } => return None,
    };
    Some(text)
}
