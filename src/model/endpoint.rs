//! The address of a byte stream: `[listen:|connect:]KIND:ADDRESS[,option=value…]`.

use crate::model::policy::ClientPrefix;
use std::path::PathBuf;

/// Who opens first. It is that of the side whose endpoint is written, and is always written where both exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Waits for the other side.
    Listen,
    /// Goes to the other side.
    Connect,
}

impl Role {
    /// Returns the role of the other side.
    pub fn other(self) -> Self {
        match self {
            Self::Listen => Self::Connect,
            Self::Connect => Self::Listen,
        }
    }

    /// Returns the word of the grammar.
    pub fn name(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::Connect => "connect",
        }
    }
}

/// Where the bytes are, by kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A Unix stream socket.
    Unix(PathBuf),
    /// A TCP port. The host is a name, an IPv4 or an IPv6 address without brackets.
    Tcp {
        /// Host name or address.
        host: String,
        /// Port number; 0 with role listen takes a free one.
        port: u16,
    },
    /// A TCP port that speaks telnet (RFC 854).
    Telnet {
        /// Host name or address.
        host: String,
        /// Port number.
        port: u16,
    },
    /// A TCP port that speaks telnet with the COM port control option (RFC 2217).
    Rfc2217 {
        /// Host name or address.
        host: String,
        /// Port number.
        port: u16,
    },
    /// A Windows named pipe, `\\.\pipe\NAME` or `\\HOST\pipe\NAME`.
    Pipe {
        /// Remote host; `None` is this one.
        host: Option<String>,
        /// Name after `\pipe\`.
        name: String,
    },
    /// A pseudo terminal that we make, with a stable link to it.
    Pty {
        /// The link.
        link: Option<PathBuf>,
    },
    /// A terminal device, `/dev/ttyUSB0` or `COM3`.
    Tty {
        /// Device path or name.
        device: String,
        /// Baud rate, `None` leaves the device as it is.
        baud_rate: Option<u32>,
    },
    /// Our own standard input and output.
    Stdio,
    /// A child's standard input and output: program and arguments.
    Exec(Vec<String>),
    /// A file that bytes are appended to (clients only).
    File(PathBuf),
}

/// One SSH hop, `[user@]host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SshHop(pub String);

/// A parsed endpoint. `Display` is canonical and stable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointSpec {
    /// Role of the side whose endpoint this is; `Some` exactly for unix, tcp, telnet, rfc2217 and pipe.
    pub role: Option<Role>,
    /// Where.
    pub address: Address,
    /// SSH hops in the order in which they are gone through.
    pub via: Vec<SshHop>,
}

/// A client of a bridge: `[console=|gdb=|kd=|ro=]ENDPOINT`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientSpec {
    /// What the client is for; `None` leaves it to the policy.
    pub prefix: Option<ClientPrefix>,
    /// Its endpoint, with our role.
    pub endpoint: EndpointSpec,
}
