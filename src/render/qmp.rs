//! The QEMU machine protocol (QMP) as bytes: one exchange of commands over one connection, without the connection.
//!
//! QMP is one JSON object per line. The server greets (`{"QMP": …}`), the client negotiates with `qmp_capabilities`,
//! then each command is answered with `return` or `error`; events may come in between at any time. A server serves
//! one client: to a second one it says nothing, not even the greeting, until the first has left (seen, QEMU 7.2).
//! Format: QEMU, `docs/interop/qmp-spec.txt`.

use serde_json::{Value, json};
use std::collections::VecDeque;

/// A server that sends more than this without a line break speaks no QMP.
const LINE_BYTES: usize = 16 * 1024 * 1024;

/// The greeting and the negotiation come before the first command, whose number is this.
const FIRST_COMMAND: u64 = 1;

/// One command of an exchange.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// `execute`.
    pub execute: String,
    /// `arguments`, a JSON object; null sends none.
    pub arguments: Value,
}

impl Command {
    /// Makes a command without arguments.
    pub fn new(execute: impl Into<String>) -> Self {
        Self::with(execute, Value::Null)
    }

    /// Makes a command with arguments.
    pub fn with(execute: impl Into<String>, arguments: Value) -> Self {
        Self {
            execute: execute.into(),
            arguments,
        }
    }

    /// Makes the command that sends BREAK to the guest's port behind a chardev.
    pub fn send_break(chardev: &str) -> Self {
        Self::with("chardev-send-break", json!({ "id": chardev }))
    }
}

/// Something that came from the server.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// The greeting, with QEMU's version (`7.2.22`) if it is written as QEMU writes it.
    Greeting(Option<String>),
    /// A command's result.
    Return {
        /// The command's `id`, if it had one.
        id: Option<u64>,
        /// The value.
        value: Value,
    },
    /// A command was refused.
    Refused {
        /// The command's `id`, if it had one.
        id: Option<u64>,
        /// `class`.
        class: String,
        /// `desc`.
        description: String,
    },
    /// Something happened in the VM.
    Event {
        /// `event`.
        name: String,
        /// `data`, null if there is none.
        data: Value,
    },
}

/// What is wrong with an exchange.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum QmpError {
    /// The bytes are no QMP.
    #[error("expected a QMP message, got `{0}`")]
    NotQmp(String),
    /// QEMU refused a command.
    #[error("QEMU refused `{execute}`: {description}")]
    Refused {
        /// Which command.
        execute: String,
        /// QEMU's class, mostly `GenericError`.
        class: String,
        /// QEMU's words.
        description: String,
    },
}

/// Parses one line.
///
/// # Errors
///
/// [`QmpError::NotQmp`] with the beginning of the line.
pub fn parse_line(line: &str) -> Result<Message, QmpError> {
    let wrong = || {
        let mut excerpt: String = line.trim().chars().take(80).collect();
        if excerpt.len() < line.trim().len() {
            excerpt.push('…');
        }
        QmpError::NotQmp(excerpt)
    };
    let value: Value = serde_json::from_str(line).map_err(|_| wrong())?;
    let id = value.get("id").and_then(Value::as_u64);
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    if let Some(greeting) = value.get("QMP") {
        Ok(Message::Greeting(version(greeting)))
    } else if let Some(value) = value.get("return") {
        Ok(Message::Return {
            id,
            value: value.clone(),
        })
    } else if let Some(error) = value.get("error") {
        Ok(Message::Refused {
            id,
            class: text(error, "class").unwrap_or_default(),
            description: text(error, "desc").ok_or_else(wrong)?,
        })
    } else if let Some(name) = text(&value, "event") {
        Ok(Message::Event {
            name,
            data: value.get("data").cloned().unwrap_or(Value::Null),
        })
    } else {
        Err(wrong())
    }
}

fn version(greeting: &Value) -> Option<String> {
    let qemu = greeting.get("version")?.get("qemu")?;
    let part = |key| qemu.get(key).and_then(Value::as_u64);
    Some(format!(
        "{}.{}.{}",
        part("major")?,
        part("minor")?,
        part("micro")?
    ))
}

/// Writes a command as its line.
pub fn command_line(command: &Command, id: u64) -> String {
    let mut object = json!({ "execute": command.execute, "id": id });
    if !command.arguments.is_null() {
        object["arguments"] = command.arguments.clone();
    }
    format!("{object}\n")
}

/// One connection from its greeting to the answer of the last command. Bytes in, bytes out.
///
/// ```text
/// greeting → qmp_capabilities → command 1 → … → command n → done
/// ```
#[derive(Debug)]
pub struct Exchange {
    line: Vec<u8>,
    /// `None` until the greeting came.
    sent: Option<Sent>,
    waiting: VecDeque<Command>,
    returns: Vec<Value>,
    total: usize,
    version: Option<String>,
}

#[derive(Debug)]
struct Sent {
    execute: String,
    id: u64,
}

impl Exchange {
    /// Makes an exchange that will send these commands in this order, each after the answer to the one before.
    pub fn new(commands: impl IntoIterator<Item = Command>) -> Self {
        let waiting: VecDeque<Command> = commands.into_iter().collect();
        Self {
            line: Vec::new(),
            sent: None,
            total: waiting.len(),
            waiting,
            returns: Vec::new(),
            version: None,
        }
    }

    /// Takes what the server sent and returns what must be sent to it.
    ///
    /// # Errors
    ///
    /// Fails when the bytes are no QMP or a command was refused; the exchange is over then.
    pub fn input(&mut self, bytes: &[u8]) -> Result<Vec<u8>, QmpError> {
        let mut out = Vec::new();
        for &byte in bytes {
            if byte != b'\n' {
                self.line.push(byte);
                if self.line.len() > LINE_BYTES {
                    return Err(QmpError::NotQmp("a line without an end".to_owned()));
                }
                continue;
            }
            let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
            if !line.trim().is_empty() {
                self.message(parse_line(&line)?, &mut out)?;
            }
        }
        Ok(out)
    }

    fn message(&mut self, message: Message, out: &mut Vec<u8>) -> Result<(), QmpError> {
        match (message, &self.sent) {
            (Message::Greeting(version), None) => {
                self.version = version;
                self.send(&Command::new("qmp_capabilities"), FIRST_COMMAND - 1, out);
            }
            (Message::Return { id, value }, Some(sent)) if id == Some(sent.id) => {
                if sent.id >= FIRST_COMMAND {
                    self.returns.push(value);
                }
                let next_id = sent.id + 1;
                if let Some(command) = self.waiting.pop_front() {
                    self.send(&command, next_id, out);
                }
            }
            // A line that QEMU could not parse is refused without an id.
            (
                Message::Refused {
                    id,
                    class,
                    description,
                },
                Some(sent),
            ) if id.is_none_or(|id| id == sent.id) => {
                return Err(QmpError::Refused {
                    execute: sent.execute.clone(),
                    class,
                    description,
                });
            }
            // Events, and answers to somebody else's numbers.
            _ => {}
        }
        Ok(())
    }

    fn send(&mut self, command: &Command, id: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(command_line(command, id).as_bytes());
        self.sent = Some(Sent {
            execute: command.execute.clone(),
            id,
        });
    }

    /// Tells whether the server greeted.
    pub fn greeted(&self) -> bool {
        self.sent.is_some()
    }

    /// Returns QEMU's version from the greeting.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Tells whether every command was answered; with no commands, whether the negotiation was.
    pub fn is_done(&self) -> bool {
        let negotiated = self.sent.as_ref().is_some_and(|sent| sent.id >= FIRST_COMMAND);
        self.returns.len() == self.total && (negotiated || self.total == 0 && self.greeted())
    }

    /// Returns the commands' results, in their order, as far as they came.
    pub fn into_returns(self) -> Vec<Value> {
        self.returns
    }

    /// Returns the command that is not answered yet, for messages; `None` while the greeting is awaited.
    pub fn pending(&self) -> Option<&str> {
        self.sent.as_ref().map(|sent| sent.execute.as_str())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    const GREETING: &str = concat!(
        r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}"#,
        "\r\n"
    );

    #[test]
    fn an_exchange_from_greeting_to_answer() {
        let mut exchange = Exchange::new([Command::send_break("ser0"), Command::new("query-status")]);
        assert!(!exchange.greeted());
        let out = exchange.input(GREETING.as_bytes()).unwrap();
        assert_eq!(out, b"{\"execute\":\"qmp_capabilities\",\"id\":0}\n");
        assert_eq!(exchange.version(), Some("7.2.22"));
        let out = exchange.input(b"{\"return\": {}, \"id\": 0}\r\n").unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"execute\":\"chardev-send-break\",\"id\":1,\"arguments\":{\"id\":\"ser0\"}}\n"
        );
        assert!(!exchange.is_done());
        let out = exchange
            .input(b"{\"event\": \"RESET\", \"data\": {\"guest\": true}}\r\n{\"return\": {}, \"id\": 1}\r\n")
            .unwrap();
        assert_eq!(out, b"{\"execute\":\"query-status\",\"id\":2}\n");
        assert_eq!(exchange.pending(), Some("query-status"));
        exchange
            .input(b"{\"return\": {\"status\": \"running\"}, \"id\": 2}\r\n")
            .unwrap();
        assert!(exchange.is_done());
        assert_eq!(
            exchange.into_returns(),
            [json!({}), json!({ "status": "running" })]
        );
    }

    #[test]
    fn a_refusal_names_the_command() {
        let mut exchange = Exchange::new([Command::send_break("nope")]);
        exchange.input(GREETING.as_bytes()).unwrap();
        exchange.input(b"{\"return\": {}, \"id\": 0}\r\n").unwrap();
        let error = exchange
            .input(b"{\"id\": 1, \"error\": {\"class\": \"GenericError\", \"desc\": \"Chardev 'nope' not found\"}}\r\n")
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "QEMU refused `chardev-send-break`: Chardev 'nope' not found"
        );
    }

    #[test]
    fn an_exchange_without_commands_only_negotiates() {
        let mut exchange = Exchange::new([]);
        assert!(!exchange.is_done());
        exchange.input(GREETING.as_bytes()).unwrap();
        assert!(exchange.is_done());
    }

    #[test]
    fn what_is_no_qmp_is_said() {
        for bytes in ["hello\n", "{}\n", "[1]\n", "{\"error\": {}}\n"] {
            let error = Exchange::new([]).input(bytes.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(bytes.trim()), "{error}");
        }
    }

    #[test]
    fn answers_with_other_numbers_are_passed_over() {
        let mut exchange = Exchange::new([Command::new("stop")]);
        exchange.input(GREETING.as_bytes()).unwrap();
        assert!(
            exchange
                .input(b"{\"return\": {}, \"id\": 7}\n")
                .unwrap()
                .is_empty()
        );
        assert_eq!(exchange.pending(), Some("qmp_capabilities"));
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(cuts in proptest::collection::vec(1usize..40, 0..20)) {
            let script = format!(
                "{GREETING}{{\"return\": {{}}, \"id\": 0}}\r\n{{\"event\": \"STOP\"}}\r\n{{\"return\": 5, \"id\": 1}}\r\n"
            );
            let mut exchange = Exchange::new([Command::new("x")]);
            let mut rest = script.as_bytes();
            let mut out = Vec::new();
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                out.extend(exchange.input(now).unwrap());
                rest = later;
            }
            out.extend(exchange.input(rest).unwrap());
            prop_assert_eq!(
                String::from_utf8(out).unwrap(),
                "{\"execute\":\"qmp_capabilities\",\"id\":0}\n{\"execute\":\"x\",\"id\":1}\n"
            );
            prop_assert!(exchange.is_done());
            prop_assert_eq!(exchange.into_returns(), vec![json!(5)]);
        }
    }
}
