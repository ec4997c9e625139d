//! Runs the cables between VMs until somebody ends them.

use crate::bridge::{Event, Outcome, SharedEvent, Signals, StopSignal, TargetState};
use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::ui::Ui;
use crate::model::join::JoinSpec;
use crate::model::{FailureKind, TargetSpec};
use crate::session::cable::{Cable, cable, listened_for};
use crate::session::planning::Hosts;
use crate::session::serve::start_owned;
use serde_json::json;
use std::process::ExitCode;
use std::sync::mpsc;
use tokio::sync::broadcast::error::RecvError;

/// Starts the bridge of each cable, does what `when_ready` says once they wait for their VMs, tells their events, and ends with them: at Ctrl-C or SIGTERM.
///
/// # Errors
///
/// A port that somebody else has, and the bridges' failures.
pub fn run(
    hosts: &dyn Hosts,
    targets: &[TargetSpec],
    joins: &[JoinSpec],
    context: &Context,
    ui: &mut Ui,
    when_ready: impl FnOnce(&mut Ui) -> Result<(), Failure>,
) -> Result<ExitCode, Failure> {
    let cables: Vec<Cable> = joins
        .iter()
        .map(|join| cable(hosts, targets, join))
        .collect::<Result<_, _>>()?;
    let (sender, events) = mpsc::channel::<(usize, SharedEvent)>();
    let (mut names, mut running) = (Vec::new(), Vec::new());
    let mut waits = false;
    for (index, cable) in cables.into_iter().enumerate() {
        for endpoint in listened_for(&cable) {
            waits = true;
            ui.status(&format!("{}: {endpoint} waits for its VM", cable.name));
        }
        let mut bridge = start_owned(&context.state, &cable.keys, cable.spec, Signals::Handled)?;
        ui.status(&format!("joined {}", cable.name));
        names.push(cable.name);
        let mut receiver = std::mem::replace(&mut bridge.events, bridge.handle.events());
        let sender = sender.clone();
        std::thread::spawn(move || {
            loop {
                let event = match receiver.blocking_recv() {
                    Ok(event) => event,
                    Err(RecvError::Lagged(_)) => continue,
                    Err(RecvError::Closed) => return,
                };
                let over = matches!(event.event, Event::Stopped { .. });
                if sender.send((index, event)).is_err() || over {
                    return;
                }
            }
        });
        running.push(bridge);
    }
    drop(sender);
    ui.status("ready");
    // VMs that come to us could not start before: now they can.
    if waits && let Err(failure) = when_ready(ui) {
        for bridge in running {
            // A bridge that has ended already needs no stop.
            let _ = bridge.handle.stop("what it was started for failed").wait();
            bridge.join();
        }
        return Err(failure);
    }
    for (index, event) in events {
        if ui.is_json() {
            ui.data_json(&json!({"join": names[index], "record": &*event}))?;
        } else if let Some(line) = sentence(&event.event) {
            ui.status(&format!("{}: {line}", names[index]));
        }
    }
    let mut code = ExitCode::SUCCESS;
    let mut failed = None;
    for bridge in running {
        match bridge.join() {
            (Outcome::Failed(problem), _) => failed = Some(problem),
            (_, Some(StopSignal::Interrupt)) => code = ExitCode::from(FailureKind::Interrupted.exit_code()),
            _ => {}
        }
    }
    match failed {
        Some(problem) => Err(problem.into()),
        None => Ok(code),
    }
}

fn sentence(event: &Event) -> Option<String> {
    match event {
        Event::Target {
            state: TargetState::Up,
            ..
        } => Some("the debugged VM is there".to_owned()),
        Event::Target {
            state: TargetState::Away,
            reason,
        } => Some(format!("the debugged VM is away: {reason}")),
        Event::ClientAttached { .. } => Some("the other VM is there".to_owned()),
        Event::ClientDetached { reason, .. } => Some(format!("the other VM left: {reason}")),
        Event::ClientRefused { reason, .. } => Some(format!("refused: {reason}")),
        Event::Said { endpoint, line } => Some(format!("{endpoint} {line}")),
        Event::KernelLeftStopped => Some("the kernel is left stopped".to_owned()),
        Event::Log { state, reason } => Some(format!("log {state}: {reason}")),
        _ => None,
    }
}
