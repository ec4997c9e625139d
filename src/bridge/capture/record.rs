//! The lines of a JSON log, version 1. Pure.
//!
//! A line of output is `{"v":1,"time":…,"boot":1,"offset":0,"text":"login: "}`; bytes that are no UTF-8 have `base64` instead of
//! `text`. The payloads of all lines, in their order, are the stream. Lines with `mark` carry no bytes.

use crate::model::base64;
use serde::Serialize;

/// Version of the format.
const RECORD_VERSION: u32 = 1;

/// A record is closed at this size even without a line end.
pub(super) const LONGEST_PAYLOAD: usize = 4 << 10;

/// When and where in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// When the first byte came, or the mark was made.
    pub time: jiff::Timestamp,
    /// How often the target came up or was reset; 0 before the first time.
    pub boot: u64,
    /// Offset in the target's stream, counted from when its owner opened it.
    pub offset: u64,
}

#[derive(Serialize)]
struct Record<'a> {
    v: u32,
    time: String,
    boot: u64,
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

impl Place {
    fn record(self) -> Record<'static> {
        Record {
            v: RECORD_VERSION,
            time: self.time.to_string(),
            boot: self.boot,
            offset: self.offset,
            text: None,
            base64: None,
            mark: None,
            reason: None,
            bytes: None,
        }
    }
}

fn push_line(line: &mut Vec<u8>, record: &Record<'_>) {
    serde_json::to_writer(&mut *line, record).expect("numbers and texts are always JSON");
    line.push(b'\n');
}

/// Appends the line of a payload.
pub(super) fn push_payload(line: &mut Vec<u8>, place: Place, payload: &[u8]) {
    let mut record = place.record();
    match std::str::from_utf8(payload) {
        Ok(text) => record.text = Some(text),
        Err(_) => record.base64 = Some(base64::encode(payload)),
    }
    push_line(line, &record);
}

/// Appends the line of a mark.
pub(super) fn push_mark(
    line: &mut Vec<u8>,
    place: Place,
    mark: &str,
    reason: Option<&str>,
    bytes: Option<u64>,
) {
    let mut record = place.record();
    record.mark = Some(mark);
    record.reason = reason;
    record.bytes = bytes;
    push_line(line, &record);
}

/// Returns how many bytes of `pending` make the next record: to the end of its first line, or as much as a record takes
/// without cutting a character. `None` if the line may go on.
pub(super) fn next_payload(pending: &[u8]) -> Option<usize> {
    let head = &pending[..pending.len().min(LONGEST_PAYLOAD)];
    if let Some(end) = head.iter().position(|&byte| byte == b'\n') {
        return Some(end + 1);
    }
    if head.len() < LONGEST_PAYLOAD {
        return None;
    }
    match std::str::from_utf8(head) {
        // A character that goes on behind the cut is the next record's.
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => Some(error.valid_up_to()),
        _ => Some(head.len()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const PLACE: Place = Place {
        time: jiff::Timestamp::UNIX_EPOCH,
        boot: 1,
        offset: 7,
    };

    fn payload(bytes: &[u8]) -> String {
        let mut line = Vec::new();
        push_payload(&mut line, PLACE, bytes);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_payload_is_text_where_it_is_and_base64_where_not() {
        let before = r#"{"v":1,"time":"1970-01-01T00:00:00Z","boot":1,"offset":7,"#;
        for (bytes, after) in [
            (&b"ok\r\n"[..], r#""text":"ok\r\n"}"#),
            ("grüß".as_bytes(), r#""text":"grüß"}"#),
            (b"\x1b[0m\0", r#""text":"\u001b[0m\u0000"}"#),
            (b"\xff\xf3", r#""base64":"//M="}"#),
        ] {
            assert_eq!(payload(bytes), format!("{before}{after}\n"));
        }
        let mut line = Vec::new();
        push_mark(&mut line, PLACE, "lost", None, Some(3));
        assert_eq!(
            line,
            format!("{before}\"mark\":\"lost\",\"bytes\":3}}\n").into_bytes()
        );
    }

    #[test]
    fn a_record_ends_with_its_line_or_where_a_character_ends() {
        assert_eq!(next_payload(b"login: "), None);
        assert_eq!(next_payload(b"one\ntwo\n"), Some(4));
        let long = vec![b'x'; LONGEST_PAYLOAD + 5];
        assert_eq!(next_payload(&long), Some(LONGEST_PAYLOAD));
        let mut cut = vec![b'x'; LONGEST_PAYLOAD - 1];
        cut.extend("ß".as_bytes());
        assert_eq!(next_payload(&cut), Some(LONGEST_PAYLOAD - 1));
        let noise = vec![0xff; LONGEST_PAYLOAD + 1];
        assert_eq!(next_payload(&noise), Some(LONGEST_PAYLOAD));
    }
}
