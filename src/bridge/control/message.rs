//! The language of the control socket, version 1: one JSON object a line. Pure.
//!
//! A request is `{"v":1,"id":n,"method":…,"params":{}}`; its reply has the same `id` and either `result` or `error`. Lines
//! without `id` are events, the same as `vmserial bridge --json` prints.

use super::call::{Call, METHODS};
use crate::bridge::handle::HistorySlice;
use crate::model::base64;
use crate::model::{FailureKind, Policy, Problem};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Version of the language.
pub const CONTROL_VERSION: u32 = 1;

/// The longest line that is read. A line of history is the longest that is written.
pub const LINE_BYTES: usize = 8 << 20;

/// Who owns a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Version of the program.
    pub version: String,
    /// Process identifier of the owner.
    pub pid: u32,
    /// Its command line.
    pub command: String,
    /// The port: its endpoint, or its host, VM and number.
    pub port: String,
}

/// A request as it stands on its line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestLine {
    v: u32,
    id: u64,
    method: String,
    #[serde(default)]
    params: Option<Value>,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Comes back in the reply.
    pub id: u64,
    /// What is asked.
    pub call: Call,
}

/// A line that is no request of this version, with the `id` of the reply that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRequest {
    /// The request's `id` where it could be read, else 0.
    pub id: u64,
    /// What is wrong.
    pub error: ControlError,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlError {
    /// The kind, as in exit codes.
    pub kind: FailureKind,
    /// A fragment.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

impl From<Problem> for ControlError {
    fn from(problem: Problem) -> Self {
        Self {
            kind: problem.kind,
            message: problem.message,
            hints: problem.hints,
        }
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        Self {
            hints: error.hints,
            ..Self::new(error.kind, error.message)
        }
    }
}

impl Request {
    /// Reads one line, without its line end.
    ///
    /// # Errors
    ///
    /// The line is no JSON, of another version, of an unknown method, or its parameters do not fit.
    pub fn parse(line: &[u8]) -> Result<Self, BadRequest> {
        let bad = |id: u64, message: String| BadRequest {
            id,
            error: ControlError {
                kind: FailureKind::Usage,
                message,
                hints: Vec::new(),
            },
        };
        let value: Value = serde_json::from_slice(line)
            .map_err(|error| bad(0, format!("the line is no JSON object: {error}")))?;
        let id = value.get("id").and_then(Value::as_u64).unwrap_or(0);
        match value.get("v").and_then(Value::as_u64) {
            Some(1) => {}
            Some(version) => {
                return Err(bad(id, format!("version {version} is not spoken, only 1 is")));
            }
            None => return Err(bad(id, "expected `\"v\":1`".into())),
        }
        let request: RequestLine =
            serde_json::from_value(value).map_err(|error| bad(id, error.to_string()))?;
        let call =
            Call::parse(&request.method, request.params).map_err(|error| bad(id, error.to_string()))?;
        Ok(Self { id, call })
    }

    /// Writes the request as a line, with its line end.
    pub fn to_line(&self) -> Vec<u8> {
        let (method, params) = self.call.to_json();
        line(&json!({ "v": CONTROL_VERSION, "id": self.id, "method": method, "params": params }))
    }
}

/// Writes a reply as a line, with its line end.
pub fn reply_line(id: u64, result: Result<Value, ControlError>) -> Vec<u8> {
    line(&match result {
        Ok(result) => json!({ "v": CONTROL_VERSION, "id": id, "result": result }),
        Err(error) => json!({ "v": CONTROL_VERSION, "id": id, "error": error }),
    })
}

fn line(value: &Value) -> Vec<u8> {
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// A line that the owner sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// The reply to a request.
    Reply {
        /// The request's.
        id: u64,
        /// What came of it.
        result: Result<Value, ControlError>,
    },
    /// Something happened.
    Event(Value),
}

impl Line {
    /// Reads one line, without its line end.
    ///
    /// # Errors
    ///
    /// The reason, as a fragment.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let mut value: Value =
            serde_json::from_slice(line).map_err(|error| format!("the owner sent no JSON: {error}"))?;
        let Some(id) = value.get("id").and_then(Value::as_u64) else {
            return Ok(Self::Event(value));
        };
        if let Some(error) = value.get_mut("error") {
            let error = serde_json::from_value(error.take())
                .map_err(|error| format!("the owner sent an error that cannot be read: {error}"))?;
            return Ok(Self::Reply {
                id,
                result: Err(error),
            });
        }
        let result = value
            .get_mut("result")
            .map(Value::take)
            .ok_or_else(|| "the owner sent a reply without a result".to_owned())?;
        Ok(Self::Reply {
            id,
            result: Ok(result),
        })
    }
}

/// Returns the result of `hello`.
pub fn hello_result(identity: &Identity, policy: Policy) -> Value {
    json!({
        "program": "vmserial", "version": identity.version, "pid": identity.pid, "command": identity.command,
        "port": identity.port, "policy": policy, "methods": METHODS,
    })
}

/// Returns the result of `history`.
pub fn history_result(slice: &HistorySlice) -> Value {
    json!({
        "offset": slice.offset, "skipped": slice.skipped, "end": slice.end, "base64": base64::encode(&slice.bytes),
    })
}

/// Reads the result of `history` back.
///
/// # Errors
///
/// The reason, as a fragment.
pub fn read_history(result: &Value) -> Result<HistorySlice, String> {
    let number = |name: &str| {
        result
            .get(name)
            .and_then(Value::as_u64)
            .ok_or_else(|| format!("the owner sent history without `{name}`"))
    };
    Ok(HistorySlice {
        offset: number("offset")?,
        skipped: number("skipped")?,
        end: number("end")?,
        bytes: result
            .get("base64")
            .and_then(Value::as_str)
            .and_then(base64::decode)
            .ok_or_else(|| "the owner sent history that is no base64".to_owned())?,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::bridge::control::call::{BreakParameters, HISTORY_BYTES, Mode, Since};
    use std::path::PathBuf;

    #[test]
    fn requests_are_written_as_they_are_read() {
        for call in [
            Call::Hello { events: true },
            Call::Status,
            Call::Attach {
                mode: Mode::Ro,
                since: Since::Last(16384),
                take_over: true,
            },
            Call::Detach { connection: 3 },
            Call::Break(BreakParameters {
                break_in: false,
                observe: true,
            }),
            Call::TakeOver { keep: Some(3) },
            Call::History {
                since: Since::Boot,
                limit: 1,
            },
            Call::History {
                since: Since::Time(jiff::Timestamp::UNIX_EPOCH),
                limit: 1,
            },
            Call::Log {
                path: Some(PathBuf::from("/l")),
            },
            Call::Log { path: None },
            Call::History {
                since: Since::Offset(7),
                limit: 10,
            },
            Call::Stop {
                reason: "because".into(),
            },
        ] {
            let request = Request { id: 7, call };
            let line = request.to_line();
            assert_eq!(line.last(), Some(&b'\n'));
            assert_eq!(Request::parse(&line).unwrap(), request);
        }
    }

    #[test]
    fn parameters_have_defaults() {
        for (line, call) in [
            (
                r#"{"v":1,"id":1,"method":"hello"}"#,
                Call::Hello { events: false },
            ),
            (
                r#"{"v":1,"id":1,"method":"attach","params":{"since":"now"}}"#,
                Call::Attach {
                    mode: Mode::Rw,
                    since: Since::Now,
                    take_over: false,
                },
            ),
            (
                r#"{"v":1,"id":1,"method":"break","params":null}"#,
                Call::Break(BreakParameters::default()),
            ),
            (
                r#"{"v":1,"id":1,"method":"history","params":{"limit":99999999999}}"#,
                Call::History {
                    since: Since::Last(HISTORY_BYTES),
                    limit: HISTORY_BYTES,
                },
            ),
        ] {
            assert_eq!(Request::parse(line.as_bytes()).unwrap().call, call, "{line}");
        }
    }

    #[test]
    fn a_wrong_line_is_told_what_is_wrong_with_its_id() {
        for (line, id, part) in [
            ("hello", 0, "no JSON object"),
            ("[]", 0, "expected `\"v\":1`"),
            (r#"{"v":2,"id":4,"method":"hello"}"#, 4, "version 2"),
            (r#"{"v":1,"method":"hello"}"#, 0, "missing field `id`"),
            (
                r#"{"v":1,"id":5,"method":"reboot"}"#,
                5,
                "unknown method `reboot`, expected one of hello,",
            ),
            (
                r#"{"v":1,"id":5,"method":"attach","params":{"mode":"wr"}}"#,
                5,
                "attach: unknown variant `wr`",
            ),
            (
                r#"{"v":1,"id":5,"method":"status","params":{"x":1}}"#,
                5,
                "status: unknown field `x`",
            ),
            (
                r#"{"v":1,"id":5,"method":"detach"}"#,
                5,
                "detach: missing field `connection`",
            ),
            (
                r#"{"v":1,"id":5,"method":"log","params":{}}"#,
                5,
                "log: missing field `path`",
            ),
        ] {
            let bad = Request::parse(line.as_bytes()).unwrap_err();
            assert_eq!(bad.id, id, "{line}");
            assert!(bad.error.message.contains(part), "{}", bad.error.message);
            assert_eq!(bad.error.kind, FailureKind::Usage);
        }
    }

    #[test]
    fn replies_and_events_are_told_apart() {
        let line = reply_line(3, Ok(json!({"a": 1})));
        assert_eq!(
            Line::parse(&line).unwrap(),
            Line::Reply {
                id: 3,
                result: Ok(json!({"a": 1}))
            }
        );
        let error = ControlError::from(Problem::new(FailureKind::Precondition, "no").hint("Do."));
        let line = reply_line(4, Err(error.clone()));
        assert_eq!(
            Line::parse(&line).unwrap(),
            Line::Reply {
                id: 4,
                result: Err(error)
            }
        );
        assert!(matches!(
            Line::parse(br#"{"v":1,"event":"ready"}"#).unwrap(),
            Line::Event(_)
        ));
        assert!(Line::parse(b"SSH-2.0").is_err());
    }

    #[test]
    fn history_is_bytes() {
        let slice = HistorySlice {
            offset: 5,
            skipped: 2,
            bytes: vec![0, 255, 10],
            end: 8,
        };
        assert_eq!(read_history(&history_result(&slice)).unwrap(), slice);
    }
}
