//! What the menu asks of the port's owner, each on a connection of its own, so that the console goes on meanwhile.

use super::power::{PowerAction, PowerOf};
use crate::bridge::control::message::read_history;
use crate::bridge::control::{BreakParameters, Call, ControlClient, Since};
use crate::model::{Deadline, FailureKind, Problem};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// How long the owner may take. It answers at once, a BREAK takes two seconds at most.
const ANSWER: Duration = Duration::from_secs(5);

/// What comes of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Lines for the user.
    Lines(Vec<String>),
    /// Output of the target from before.
    History(Vec<u8>),
}

/// Asks, and sends the answers to the console.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    pub socket: PathBuf,
    /// Our number among the owner's connections.
    pub connection: u64,
    pub answers: UnboundedSender<Answer>,
}

async fn ask(socket: &Path, call: Call) -> Result<Value, Problem> {
    let deadline = Deadline::after(Instant::now(), ANSWER);
    ControlClient::connect(socket).await?.ask(call, deadline).await
}

impl Asker {
    /// Asks, and says what `tell` makes of the result or what failed.
    fn spawn(
        &self,
        call: Call,
        failed: &'static str,
        tell: impl FnOnce(&Value) -> Result<Answer, String> + Send + 'static,
    ) {
        let asker = self.clone();
        tokio::spawn(async move {
            let answer = match ask(&asker.socket, call).await {
                Ok(result) => tell(&result),
                Err(problem) => Err(problem.to_string()),
            };
            let answer = answer
                .unwrap_or_else(|reason| Answer::Lines(vec![format!("[vmserial: {failed}: {reason}]")]));
            // Nobody listens any more when the user has left.
            let _ = asker.answers.send(answer);
        });
    }

    pub fn send_break(&self) {
        let parameters = BreakParameters {
            break_in: false,
            observe: false,
        };
        self.spawn(Call::Break(parameters), "no BREAK sent", |result| {
            let way = result["way"].as_str().unwrap_or_default();
            Ok(line(format!("BREAK sent ({way})")))
        });
    }

    pub fn who(&self) {
        let own = self.connection;
        self.spawn(Call::Status, "cannot tell who is attached", move |status| {
            let clients = status["clients"].as_array().cloned().unwrap_or_default();
            Ok(Answer::Lines(
                clients.iter().map(|client| attached(client, own)).collect(),
            ))
        });
    }

    pub fn take_over(&self) {
        let keep = Some(self.connection);
        self.spawn(Call::TakeOver { keep }, "not taken over", |result| {
            Ok(line(match result["detached"].as_u64() {
                Some(1) => "taken over, 1 was detached".to_owned(),
                count => format!("taken over, {} were detached", count.unwrap_or_default()),
            }))
        });
    }

    pub fn log(&self, answer: &str) {
        let path = match answer {
            "-" => None,
            path => match std::path::absolute(path) {
                Ok(path) => Some(path),
                Err(error) => return self.say(format!("no log: {error}")),
            },
        };
        let shown = path.as_ref().map(|path| path.display().to_string());
        self.spawn(Call::Log { path }, "no log", move |_| {
            Ok(line(match shown {
                Some(path) => format!("logging to {path}"),
                None => "the log has ended".to_owned(),
            }))
        });
    }

    pub fn history(&self, kibibytes: usize) {
        let bytes = kibibytes.saturating_mul(1024);
        let call = Call::History {
            since: Since::Last(bytes),
            limit: bytes,
        };
        self.spawn(call, "no history", |result| {
            read_history(result).map(|slice| Answer::History(slice.bytes))
        });
    }

    pub fn power(&self, power: &PowerOf, action: PowerAction) {
        let (asker, power) = (self.clone(), power.clone());
        self.say(format!("asking for the power of {}", power.target));
        tokio::task::spawn_blocking(move || {
            let lines = match power.act(action) {
                Ok(said) => said,
                Err(problem) => vec![format!("power: {problem}")],
            };
            let lines = lines
                .into_iter()
                .map(|line| format!("[vmserial: {line}]"))
                .collect();
            // Nobody listens any more when the user has left.
            let _ = asker.answers.send(Answer::Lines(lines));
        });
    }

    fn say(&self, text: String) {
        // The console that asks is there.
        let _ = self.answers.send(line(text));
    }
}

fn line(text: String) -> Answer {
    Answer::Lines(vec![format!("[vmserial: {text}]")])
}

fn attached(client: &Value, own: u64) -> String {
    let number = client["connection"].as_u64().unwrap_or_default();
    let you = if number == own { ", this console" } else { "" };
    let may = match (client["writes"].as_bool(), client["waits_to_write"].as_bool()) {
        (Some(true), _) => "reads and writes",
        (_, Some(true)) => "reads and waits to write",
        _ => "reads",
    };
    let peer = client["peer"].as_str().unwrap_or_default();
    format!("[vmserial: connection {number} ({peer}) {may}{you}]")
}

/// Reads how much history is wanted; nothing is 16 KiB.
///
/// # Errors
///
/// What was expected.
pub(super) fn parse_kibibytes(answer: &str) -> Result<usize, Problem> {
    if answer.is_empty() {
        return Ok(16);
    }
    answer
        .parse()
        .map_err(|_| Problem::new(FailureKind::Usage, format!("`{answer}` is no number of KiB")))
}
