//! What QEMU tells by QMP of its VM while it runs: resets and pauses.
//!
//! The connection stays, and a QMP server serves one client: each port's owner needs a server of its own.

use crate::bridge::dial::{VmEvent, VmEventReader};
use crate::render::qmp::{Command, Message, command_line, parse_line};

/// A line that is longer is no event of QMP's.
const LONGEST_LINE: usize = 1 << 20;

/// Numbers of our two commands.
const NEGOTIATE: u64 = 0;
const STATUS: u64 = 1;

/// Greets, asks once whether the VM runs, and reads events from then on.
#[derive(Debug, Default)]
pub struct QmpEvents {
    line: Vec<u8>,
}

impl QmpEvents {
    fn line(&self, happened: &mut Vec<VmEvent>) -> Result<Option<String>, String> {
        let line = String::from_utf8_lossy(&self.line);
        if line.trim().is_empty() {
            return Ok(None);
        }
        let message = parse_line(&line).map_err(|error| error.to_string())?;
        Ok(match message {
            Message::Greeting(_) => Some(command_line(&Command::new("qmp_capabilities"), NEGOTIATE)),
            Message::Return {
                id: Some(NEGOTIATE), ..
            } => Some(command_line(&Command::new("query-status"), STATUS)),
            Message::Return {
                id: Some(STATUS),
                value,
            } => {
                // A VM that was paused before we came; one that runs is what everybody expects.
                if value["running"] == false {
                    happened.push(VmEvent::Paused(true));
                }
                None
            }
            // Names: QEMU, qapi/run-state.json.
            Message::Event { name, .. } => {
                happened.extend(match name.as_str() {
                    "RESET" => Some(VmEvent::Reset),
                    "STOP" => Some(VmEvent::Paused(true)),
                    "RESUME" => Some(VmEvent::Paused(false)),
                    _ => None,
                });
                None
            }
            Message::Refused { description, .. } => return Err(format!("QEMU refused: {description}")),
            Message::Return { .. } => None,
        })
    }
}

impl VmEventReader for QmpEvents {
    fn input(&mut self, bytes: &[u8], happened: &mut Vec<VmEvent>) -> Result<Vec<u8>, String> {
        let mut answer = Vec::new();
        for &byte in bytes {
            if byte != b'\n' {
                if self.line.len() == LONGEST_LINE {
                    return Err("expected a QMP message, got a line without an end".into());
                }
                self.line.push(byte);
                continue;
            }
            answer.extend(self.line(happened)?.unwrap_or_default().into_bytes());
            self.line.clear();
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn hear(lines: &str, chunk: usize) -> (String, Vec<VmEvent>) {
        let mut events = QmpEvents::default();
        let (mut said, mut happened) = (Vec::new(), Vec::new());
        for chunk in lines.as_bytes().chunks(chunk) {
            said.extend(events.input(chunk, &mut happened).unwrap());
        }
        (String::from_utf8(said).unwrap(), happened)
    }

    /// As QEMU 7.2 writes it.
    const TALK: &str = "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}}}}\r\n\
        {\"return\": {}, \"id\": 0}\r\n\
        {\"return\": {\"status\": \"running\", \"singlestep\": false, \"running\": true}, \"id\": 1}\r\n\
        {\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"RESET\", \"data\": {\"guest\": false, \"reason\": \"host-qmp-system-reset\"}}\r\n\
        {\"event\": \"STOP\"}\r\n{\"event\": \"VSERPORT_CHANGE\", \"data\": {}}\r\n{\"event\": \"RESUME\"}\r\n";

    #[test]
    fn resets_and_pauses_are_told_however_the_stream_is_cut() {
        for chunk in [1, 7, 4096] {
            let (said, happened) = hear(TALK, chunk);
            assert_eq!(
                said,
                "{\"execute\":\"qmp_capabilities\",\"id\":0}\n{\"execute\":\"query-status\",\"id\":1}\n"
            );
            assert_eq!(
                happened,
                [VmEvent::Reset, VmEvent::Paused(true), VmEvent::Paused(false)]
            );
        }
    }

    #[test]
    fn a_vm_that_is_paused_already_is_told() {
        let paused = TALK.replace("\"running\": true", "\"running\": false");
        assert_eq!(hear(&paused, 4096).1.first(), Some(&VmEvent::Paused(true)));
    }

    #[test]
    fn what_is_no_qmp_is_refused_with_its_words() {
        let mut happened = Vec::new();
        let refused = QmpEvents::default()
            .input(b"login: \n", &mut happened)
            .unwrap_err();
        assert!(refused.contains("got `login:`"), "{refused}");
        let endless = vec![b'x'; LONGEST_LINE + 1];
        assert!(QmpEvents::default().input(&endless, &mut happened).is_err());
        assert_eq!(happened, []);
    }
}
