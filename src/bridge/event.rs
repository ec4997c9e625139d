//! What a bridge tells about itself: one JSON line per event, version 1. Fields may be added, never changed.

use serde::Serialize;
use std::sync::Arc;

/// Version of the event format.
pub const EVENT_VERSION: u32 = 1;

/// Where the VM side stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetState {
    /// The stream is open.
    Up,
    /// Being dialled or waited for.
    Away,
}

/// What is known of the kernel behind a debug port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KernelState {
    /// Not known; treated as running.
    Unknown,
    /// Runs.
    Running,
    /// Stopped in its debugger stub.
    Stopped,
    /// At kdb's prompt: running as far as keys and text go.
    Kdb,
    /// The kernel that the debugger talked to is gone.
    Gone,
}

/// Something happened. The variants' names in snake case are the `event` field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// All listeners are open and the target is being dialled.
    Ready {
        /// The clients' endpoints as they are served, in the order of the command line.
        clients: Vec<String>,
    },
    /// The VM side changed.
    Target {
        /// To what.
        state: TargetState,
        /// Why, in the system's words: `absent`, `refused`, `busy`, `reset`, `ended` or a longer text.
        reason: String,
    },
    /// A client came.
    ClientAttached {
        /// Index of its endpoint on the command line, from 1; 0 for the control socket.
        client: usize,
        /// Number of this connection, from 1, never used again.
        connection: u64,
        /// Who, as far as known.
        peer: String,
        /// How.
        reason: String,
    },
    /// A client left.
    ClientDetached {
        /// See [`Event::ClientAttached`].
        client: usize,
        /// See [`Event::ClientAttached`].
        connection: u64,
        /// See [`Event::ClientAttached`].
        peer: String,
        /// Why.
        reason: String,
    },
    /// A client was accepted and closed at once.
    ClientRefused {
        /// See [`Event::ClientAttached`].
        client: usize,
        /// See [`Event::ClientAttached`].
        connection: u64,
        /// See [`Event::ClientAttached`].
        peer: String,
        /// Why.
        reason: String,
    },
    /// Another console is the one writer now.
    Writer {
        /// See [`Event::ClientAttached`].
        client: usize,
        /// See [`Event::ClientAttached`].
        connection: u64,
        /// See [`Event::ClientAttached`].
        peer: String,
    },
    /// A console could not keep up and jumped over bytes.
    Skipped {
        /// See [`Event::ClientAttached`].
        client: usize,
        /// See [`Event::ClientAttached`].
        connection: u64,
        /// How many.
        bytes: u64,
    },
    /// The target is not read because a client does not keep up.
    TargetPaused,
    /// The target is read again.
    TargetResumed,
    /// The state of the kernel changed.
    Kernel {
        /// To what.
        state: KernelState,
    },
    /// The kernel that gdb talked to is gone.
    KernelGone {
        /// How that was seen.
        reason: String,
    },
    /// The debugger left a stopped kernel behind.
    KernelLeftStopped,
    /// A gdb was turned away.
    GdbRefused {
        /// Why.
        reason: String,
    },
    /// gdb's bytes are held back: the kernel neither answers nor echoes.
    GdbHeld {
        /// What is waited for.
        reason: String,
    },
    /// A BREAK was sent, or could not be sent.
    Break {
        /// Which way: `qmp:/path`, `telnet`, `none`.
        way: String,
        /// `sent`, or why not.
        result: String,
    },
    /// The process of an `exec:` or `via=` endpoint wrote a line to its standard error.
    Said {
        /// Whose.
        endpoint: String,
        /// The line, without its end; what is no UTF-8 is replaced.
        line: String,
    },
    /// A log cannot be written (its bytes are counted), or can be again; a full one made room, or could not.
    Log {
        /// `failed`, `written`, `rotated` or `not_rotated`.
        state: &'static str,
        /// Which file, and the system's words or how many bytes are missing.
        reason: String,
    },
    /// The bridge ended. Nothing comes after this.
    Stopped {
        /// Why.
        reason: String,
        /// Bytes read from the target.
        from_target: u64,
        /// Bytes written to the target.
        to_target: u64,
        /// Bytes of the target that no client got.
        dropped_from_target: u64,
        /// Bytes of clients that the target did not get.
        dropped_to_target: u64,
    },
}

/// An event with its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventRecord {
    /// Format version.
    pub v: u32,
    /// When, RFC 3339 in UTC.
    #[serde(serialize_with = "as_text")]
    pub time: jiff::Timestamp,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

fn as_text<S: serde::Serializer>(time: &jiff::Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

/// How events are handed around: many readers, one value.
pub type SharedEvent = Arc<EventRecord>;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_record_is_one_json_object_with_version_time_and_event() {
        let record = EventRecord {
            v: EVENT_VERSION,
            time: jiff::Timestamp::UNIX_EPOCH,
            event: Event::Target {
                state: TargetState::Away,
                reason: "refused".into(),
            },
        };
        assert_eq!(
            serde_json::to_string(&record).unwrap(),
            r#"{"v":1,"time":"1970-01-01T00:00:00Z","event":"target","state":"away","reason":"refused"}"#
        );
        let record = EventRecord {
            v: EVENT_VERSION,
            time: jiff::Timestamp::UNIX_EPOCH,
            event: Event::TargetPaused,
        };
        assert!(
            serde_json::to_string(&record)
                .unwrap()
                .contains(r#""event":"target_paused""#)
        );
    }
}
