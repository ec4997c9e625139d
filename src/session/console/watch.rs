//! What happens to the port that a console is attached to, as its owner's events tell.

use crate::bridge::TargetState;
use crate::bridge::control::{Call, ControlClient};
use crate::model::{Deadline, Problem};
use serde_json::Value;
use std::path::Path;

/// Something that a console's user should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The VM side came or went, and why.
    Target(TargetState, String),
    /// The bridge ends, and why.
    Stopped(String),
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
        let mut client = ControlClient::connect(socket).await?;
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
                _ => {}
            }
        }
    }
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
