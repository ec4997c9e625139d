//! What happens to the port that a console is attached to, as its owner's events tell.

use crate::bridge::TargetState;
use crate::bridge::control::{Call, ControlClient};
use crate::model::{Deadline, FailureKind, Problem};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::time::timeout_at;

/// How long an owner may take for an answer, or to get from its lock to its control socket.
const ANSWER: Duration = Duration::from_secs(2);

/// Something that a console's user should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The VM side came or went, and why.
    Target(TargetState, String),
    /// The bridge ends, and why.
    Stopped(String),
    /// A client was detached, and why.
    Detached(u64, String),
    /// A client became the one that writes.
    Writes(u64),
}

/// A second connection to the owner, for its events.
#[derive(Debug)]
pub struct Watch {
    client: ControlClient,
    state: TargetState,
}

impl Watch {
    /// Begins to watch, and returns how the VM side stands.
    ///
    /// # Errors
    ///
    /// See [`ControlClient::ask`].
    pub async fn begin(socket: &Path, deadline: Deadline) -> Result<(Self, News), Problem> {
        let mut client = ControlClient::connect_until(socket, deadline).await?;
        client.ask(Call::Hello { events: true }, deadline).await?;
        let status = client.ask(Call::Status, deadline).await?;
        let (state, reason) = target(&status["target"], &status["target_reason"]);
        Ok((Self { client, state }, News::Target(state, reason)))
    }

    /// Returns the next news; `None` when the owner is gone.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was read of a line stays.
    pub async fn next(&mut self) -> Option<News> {
        loop {
            let event = self.client.event().await.ok()?;
            match event["event"].as_str() {
                Some("target") => {
                    let (state, reason) = target(&event["state"], &event["reason"]);
                    // Events from before the first look tell nothing new.
                    if state != self.state {
                        self.state = state;
                        return Some(News::Target(state, reason));
                    }
                }
                Some("stopped") => {
                    return Some(News::Stopped(text(&event["reason"])));
                }
                Some("client_detached") => {
                    let connection = event["connection"].as_u64().unwrap_or_default();
                    return Some(News::Detached(connection, text(&event["reason"])));
                }
                Some("writer") => {
                    return Some(News::Writes(event["connection"].as_u64().unwrap_or_default()));
                }
                _ => {}
            }
        }
    }
}

/// Waits until the VM side of a port is there. For a thread that runs no async tasks.
///
/// # Errors
///
/// It did not come in time (deadline), or the owner cannot be asked.
pub fn wait_for_target(socket: &Path, wait: Duration) -> Result<(), Problem> {
    let failed = |error| Problem::new(FailureKind::Host, format!("cannot start a runtime: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    runtime.block_on(async {
        let deadline = Deadline::after(Instant::now(), wait + ANSWER);
        let until = Instant::now() + wait;
        let (mut watch, News::Target(mut state, mut reason)) = Watch::begin(socket, deadline).await? else {
            return Ok(());
        };
        while state != TargetState::Up {
            match timeout_at(until.into(), watch.next()).await {
                Ok(Some(News::Target(now, why))) => (state, reason) = (now, why),
                Ok(Some(News::Stopped(why))) => reason = why,
                Ok(Some(News::Detached(..) | News::Writes(_))) => {}
                Ok(None) => {
                    return Err(Problem::new(
                        FailureKind::ConnectionLost,
                        format!("the port's owner ended: {reason}"),
                    ));
                }
                Err(_) => {
                    let problem =
                        Problem::new(FailureKind::Deadline, format!("the target is away: {reason}"));
                    return Err(problem.hint("Start the VM, or check where its port is."));
                }
            }
        }
        Ok(())
    })
}

fn target(state: &Value, reason: &Value) -> (TargetState, String) {
    let state = match state.as_str() {
        Some("up") => TargetState::Up,
        _ => TargetState::Away,
    };
    (state, text(reason))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
