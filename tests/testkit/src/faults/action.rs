//! What a hypervisor's end can do.

use std::fmt;
use std::time::Duration;

/// One step of a script.
#[derive(Clone, PartialEq, Eq)]
pub enum Action {
    /// Waits until there is a connection: accepts one where the end listens, dials where it connects.
    Connect,
    /// Writes it all.
    Send(Vec<u8>),
    /// Writes one byte at a time, each in a packet of its own.
    Trickle(Vec<u8>),
    /// Writes one byte so many times: a floating line is 0xff for ever.
    Flood(u8, usize),
    /// Reads exactly these bytes; anything else is an error.
    Expect(Vec<u8>),
    /// Ends the end's own direction and goes on reading.
    HalfClose,
    /// Waits until the bridge has ended its direction.
    ExpectEnd,
    /// Closes in order, as a VM that is shut down.
    Close,
    /// Cuts the connection: a TCP reset, or a Unix socket closed with bytes unread (it waits for one).
    Reset,
    /// Closes the listener; its path or port stays and refuses.
    Refuse,
    /// Listens again at the same address; a stale path is replaced.
    Listen,
    /// Removes the socket's path. What is connected stays connected.
    Unlink,
    /// Takes up the whole backlog with connections that nobody accepts, as QEMU does to its second client.
    FillBacklog,
    /// Lets them go.
    FreeBacklog,
    /// Closes everything, refuses for this time and listens again.
    Away(Duration),
}

impl fmt::Debug for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |formatter: &mut fmt::Formatter<'_>, name: &str, bytes: &[u8]| {
            let start = &bytes[..bytes.len().min(40)];
            write!(
                formatter,
                "{name}({} bytes, `{}`)",
                bytes.len(),
                start.escape_ascii()
            )
        };
        match self {
            Self::Send(all) => bytes(formatter, "Send", all),
            Self::Trickle(all) => bytes(formatter, "Trickle", all),
            Self::Expect(all) => bytes(formatter, "Expect", all),
            Self::Flood(byte, count) => write!(formatter, "Flood({byte:#04x}, {count})"),
            Self::Away(time) => write!(formatter, "Away({time:?})"),
            Self::Connect => formatter.write_str("Connect"),
            Self::HalfClose => formatter.write_str("HalfClose"),
            Self::ExpectEnd => formatter.write_str("ExpectEnd"),
            Self::Close => formatter.write_str("Close"),
            Self::Reset => formatter.write_str("Reset"),
            Self::Refuse => formatter.write_str("Refuse"),
            Self::Listen => formatter.write_str("Listen"),
            Self::Unlink => formatter.write_str("Unlink"),
            Self::FillBacklog => formatter.write_str("FillBacklog"),
            Self::FreeBacklog => formatter.write_str("FreeBacklog"),
        }
    }
}
