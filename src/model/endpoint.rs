//! The address of a byte stream: `[listen:|connect:]KIND:ADDRESS[,option=value…]`.

mod command;
mod parse;
mod place;
mod reach;
mod single;
mod text;
mod tty;

use crate::model::break_with::NativeBreak;
use crate::model::policy::ClientPrefix;
use std::fmt;
use std::path::PathBuf;

pub use command::ExecCommand;
pub use parse::{EndpointError, starts_with_kind};
pub(crate) use parse::{UNIX_PATH_BYTES, Wrong, column, control_character, long_path, split_commas};
pub(crate) use place::resolved_path;
pub use place::{TargetOrEndpoint, TargetOrEndpointError};
pub use single::check_places;
pub use tty::{FlowControl, Parity, TtySettings};

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
        /// What the server's line is set to; only where we connect.
        settings: TtySettings,
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
        /// Its settings.
        settings: TtySettings,
    },
    /// Our own standard input and output.
    Stdio,
    /// A child's standard input and output.
    Exec(ExecCommand),
    /// A file that bytes are appended to (clients only).
    File(PathBuf),
}

impl Address {
    /// Returns the word of the grammar.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unix(_) => "unix",
            Self::Tcp { .. } => "tcp",
            Self::Telnet { .. } => "telnet",
            Self::Rfc2217 { .. } => "rfc2217",
            Self::Pipe { .. } => "pipe",
            Self::Pty { .. } => "pty",
            Self::Tty { .. } => "tty",
            Self::Stdio => "stdio",
            Self::Exec(_) => "exec",
            Self::File(_) => "file",
        }
    }

    /// Returns the kinds of BREAK that such a stream can send by itself, the best first.
    pub fn native_breaks(&self) -> &'static [NativeBreak] {
        match self {
            Self::Telnet { .. } => &[NativeBreak::Telnet],
            Self::Rfc2217 { .. } => &[NativeBreak::Rfc2217, NativeBreak::Telnet],
            Self::Tty { .. } => &[NativeBreak::Tty],
            _ => &[],
        }
    }

    /// Tells whether the stream never leaves this machine: such endpoints are dialled again without backing off.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp { host, .. } | Self::Telnet { host, .. } | Self::Rfc2217 { host, .. } => {
                is_loopback(host)
            }
            Self::Pipe { host, .. } => host.is_none(),
            Self::Exec(_) => false,
            Self::Unix(_) | Self::Pty { .. } | Self::Tty { .. } | Self::Stdio | Self::File(_) => true,
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
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

impl EndpointSpec {
    /// Makes an endpoint without SSH hops.
    pub fn new(role: Option<Role>, address: Address) -> Self {
        Self {
            role,
            address,
            via: Vec::new(),
        }
    }

    /// Returns the endpoint of the other side: the same address with the other role.
    #[must_use]
    pub fn other_side(&self) -> Self {
        Self {
            role: self.role.map(Role::other),
            ..self.clone()
        }
    }

    /// Tells whether the stream never leaves this machine.
    pub fn is_local(&self) -> bool {
        self.via.is_empty() && self.address.is_local()
    }
}

/// A client of a bridge: `[console=|gdb=|kd=|ro=]ENDPOINT`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientSpec {
    /// What the client is for; `None` leaves it to the policy.
    pub prefix: Option<ClientPrefix>,
    /// Its endpoint, with our role.
    pub endpoint: EndpointSpec,
}

impl fmt::Display for EndpointSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(role) = self.role {
            write!(formatter, "{}:", role.name())?;
        }
        match &self.address {
            Address::Unix(path) => write!(formatter, "unix:{}", escaped(&path.to_string_lossy()))?,
            Address::Tcp { host, port } => write!(formatter, "tcp:{}:{port}", bracketed(host))?,
            Address::Telnet { host, port } => write!(formatter, "telnet:{}:{port}", bracketed(host))?,
            Address::Rfc2217 { host, port, settings } => {
                write!(formatter, "rfc2217:{}:{port}{settings}", bracketed(host))?
            }
            Address::Pipe { host: None, name } => write!(formatter, "pipe:{}", escaped(name))?,
            Address::Pipe {
                host: Some(host),
                name,
            } => {
                write!(formatter, "pipe:\\\\{}\\pipe\\{}", escaped(host), escaped(name))?;
            }
            Address::Pty { link: None } => formatter.write_str("pty")?,
            Address::Pty { link: Some(link) } => {
                write!(formatter, "pty:{}", escaped(&link.to_string_lossy()))?
            }
            Address::Tty { device, settings } => write!(formatter, "tty:{}{settings}", escaped(device))?,
            Address::Stdio => formatter.write_str("stdio")?,
            Address::Exec(command) => return write!(formatter, "exec:{command}"),
            Address::File(path) => write!(formatter, "file:{}", escaped(&path.to_string_lossy()))?,
        }
        for hop in &self.via {
            write!(formatter, ",via={}", escaped(&hop.0))?;
        }
        Ok(())
    }
}

impl fmt::Display for ClientSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(prefix) = self.prefix {
            write!(formatter, "{}=", prefix.name())?;
        }
        self.endpoint.fmt(formatter)
    }
}

fn escaped(text: &str) -> String {
    text.replace(',', ",,")
}

fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        escaped(host)
    }
}
