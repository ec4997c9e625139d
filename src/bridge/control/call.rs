//! What one asks of the owner of a port: the methods of the control socket with their parameters. Pure.

use crate::bridge::handle::{self, AttachMode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::PathBuf;

/// The most history that one reply carries; more is asked for piece by piece.
pub const HISTORY_BYTES: usize = 4 << 20;

/// The names of all methods, as `hello` tells them.
pub const METHODS: [&str; 9] = [
    "hello",
    "status",
    "attach",
    "detach",
    "break",
    "take_over",
    "log",
    "history",
    "stop",
];

/// Where an attached stream or a piece of history begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Since {
    /// At what comes next: `"now"`.
    #[default]
    Now,
    /// This many bytes before that: `{"last":16384}`.
    Last(usize),
    /// At this absolute offset of the target's stream: `{"offset":0}`.
    Offset(u64),
    /// Where the latest boot begins: `"boot"`.
    Boot,
    /// At what came at this time: `{"time":"2026-11-21T07:26:24Z"}`.
    Time(#[serde(with = "time_text")] jiff::Timestamp),
}

/// A time as RFC 3339.
mod time_text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(time: &jiff::Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<jiff::Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|error| D::Error::custom(format!("`{text}` is no time of RFC 3339: {error}")))
    }
}

impl From<Since> for handle::Since {
    fn from(since: Since) -> Self {
        match since {
            Since::Now => Self::Now,
            Since::Last(bytes) => Self::Last(bytes),
            Since::Offset(offset) => Self::Offset(offset),
            Since::Boot => Self::Boot,
            Since::Time(time) => Self::Time(time),
        }
    }
}

/// What an attached stream may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Reads and writes: `"rw"`.
    #[default]
    Rw,
    /// Reads: `"ro"`.
    Ro,
}

impl From<Mode> for AttachMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Rw => Self::ReadWrite,
            Mode::Ro => Self::ReadOnly,
        }
    }
}

/// What one asks of the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Who are you? With `events`, tell me what happens from now on.
    Hello {
        /// Whether events are wanted on this connection.
        events: bool,
    },
    /// How do you stand?
    Status,
    /// Make this connection a console; after the reply it carries bytes.
    Attach {
        /// What it may do.
        mode: Mode,
        /// Where it begins.
        since: Since,
        /// Detach everybody else who may write.
        take_over: bool,
    },
    /// Detach a client by the number that `status` tells.
    Detach {
        /// Its number.
        connection: u64,
    },
    /// Send BREAK, or break in.
    Break(BreakParameters),
    /// Detach everybody who may write.
    TakeOver {
        /// Save for this one.
        keep: Option<u64>,
    },
    /// Begin or, without a path, end the raw log.
    Log {
        /// An absolute path of the owner's machine.
        path: Option<PathBuf>,
    },
    /// Read history.
    History {
        /// Where it begins.
        since: Since,
        /// At most so many bytes.
        limit: usize,
    },
    /// End.
    Stop {
        /// For the event.
        reason: String,
    },
}

/// Parameters of `break`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakParameters {
    /// True: BREAK, 100 ms, `g`. False: BREAK alone.
    pub break_in: bool,
    /// Wait up to 1.6 s for a sign that the kernel stopped, and tell it.
    pub observe: bool,
}

impl Default for BreakParameters {
    fn default() -> Self {
        Self {
            break_in: true,
            observe: true,
        }
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HelloParameters {
    events: bool,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AttachParameters {
    mode: Mode,
    since: Since,
    take_over: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DetachParameters {
    connection: u64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoParameters {}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TakeOverParameters {
    keep: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogParameters {
    // Written out, so that leaving it away does not end a log.
    #[serde(deserialize_with = "Option::deserialize")]
    path: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HistoryParameters {
    since: Since,
    limit: usize,
}

impl Default for HistoryParameters {
    fn default() -> Self {
        Self {
            since: Since::Last(HISTORY_BYTES),
            limit: HISTORY_BYTES,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StopParameters {
    reason: String,
}

impl Default for StopParameters {
    fn default() -> Self {
        Self {
            reason: "asked through the control socket".into(),
        }
    }
}

fn parameters<T: DeserializeOwned + Default>(
    method: &str,
    params: Option<Value>,
) -> Result<T, serde_json::Error> {
    // A method without parameters may be asked without `params`, with `null` or with `{}`.
    match params {
        None | Some(Value::Null) => Ok(T::default()),
        Some(params) => serde_json::from_value(params)
            .map_err(|error| serde::de::Error::custom(format!("{method}: {error}"))),
    }
}

fn needed<T: DeserializeOwned>(method: &str, params: Option<Value>) -> Result<T, serde_json::Error> {
    serde_json::from_value(params.unwrap_or_else(|| json!({})))
        .map_err(|error| serde::de::Error::custom(format!("{method}: {error}")))
}

impl Call {
    /// Reads a method's parameters.
    ///
    /// # Errors
    ///
    /// The method is unknown, or its parameters do not fit.
    pub fn parse(method: &str, params: Option<Value>) -> Result<Self, serde_json::Error> {
        Ok(match method {
            "hello" => {
                let HelloParameters { events } = parameters(method, params)?;
                Self::Hello { events }
            }
            "status" => {
                let NoParameters {} = parameters(method, params)?;
                Self::Status
            }
            "attach" => {
                let AttachParameters {
                    mode,
                    since,
                    take_over,
                } = parameters(method, params)?;
                Self::Attach {
                    mode,
                    since,
                    take_over,
                }
            }
            "detach" => {
                let DetachParameters { connection } = needed(method, params)?;
                Self::Detach { connection }
            }
            "break" => Self::Break(parameters(method, params)?),
            "take_over" => {
                let TakeOverParameters { keep } = parameters(method, params)?;
                Self::TakeOver { keep }
            }
            "log" => {
                let LogParameters { path } = needed(method, params)?;
                Self::Log { path }
            }
            "history" => {
                let HistoryParameters { since, limit } = parameters(method, params)?;
                Self::History {
                    since,
                    limit: limit.min(HISTORY_BYTES),
                }
            }
            "stop" => {
                let StopParameters { reason } = parameters(method, params)?;
                Self::Stop { reason }
            }
            _ => {
                return Err(serde::de::Error::custom(format!(
                    "unknown method `{method}`, expected one of {}",
                    METHODS.join(", ")
                )));
            }
        })
    }

    /// Returns the method's name and its parameters as JSON.
    pub fn to_json(&self) -> (&'static str, Value) {
        match self {
            Self::Hello { events } => ("hello", json!({ "events": events })),
            Self::Status => ("status", json!({})),
            Self::Attach {
                mode,
                since,
                take_over,
            } => (
                "attach",
                json!({ "mode": mode, "since": since, "take_over": take_over }),
            ),
            Self::Detach { connection } => ("detach", json!({ "connection": connection })),
            Self::Break(parameters) => ("break", json!(parameters)),
            Self::TakeOver { keep } => ("take_over", json!({ "keep": keep })),
            Self::Log { path } => ("log", json!({ "path": path })),
            Self::History { since, limit } => ("history", json!({ "since": since, "limit": limit })),
            Self::Stop { reason } => ("stop", json!({ "reason": reason })),
        }
    }
}
