//! From an endpoint to a channel: what is served, listening, dialling.

use crate::bridge::channel::{Channel, Facts};
use crate::bridge::file_sink::FileSink;
use crate::bridge::stdio::StdioStream;
use crate::bridge::sys::{self, LocalListener, NativeStream, PtyServer};
use crate::bridge::telnet::{self, Dialect, Party};
use crate::bridge::tty;
use crate::model::{Address, EndpointSpec, FailureKind, Problem, Role};
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// A TCP dial that gets no answer is given up after this time: a host that is off answers nothing for minutes.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// On which side of the bridge an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The VM's.
    Target,
    /// A client's.
    Client,
}

/// Refuses what cannot be served yet, by its name, with what to use instead.
///
/// # Errors
///
/// Precondition; usage for a kind that is not for this side.
pub fn check_served(endpoint: &EndpointSpec, side: Side) -> Result<(), Problem> {
    let refuse = |what: &str, instead: &str| {
        Err(Problem::new(
            FailureKind::Precondition,
            format!("`{endpoint}`: {what} not served yet"),
        )
        .hint(instead))
    };
    match &endpoint.address {
        Address::Unix(_)
        | Address::Tcp { .. }
        | Address::Telnet { .. }
        | Address::Rfc2217 { .. }
        | Address::Pty { .. }
        | Address::Stdio => Ok(()),
        Address::File(_) if side == Side::Client => Ok(()),
        Address::File(_) => Err(Problem::new(
            FailureKind::Usage,
            format!("`{endpoint}`: a file can be a client only"),
        )
        .hint("Name the endpoint of the VM's serial port first.")),
        Address::Pipe { host, name } => match sys::pipe_path(host.as_deref(), name) {
            Ok(_) => Ok(()),
            Err(problem) => Err(Problem {
                message: format!("`{endpoint}`: {}", problem.message),
                ..problem
            }),
        },
        Address::Tty { device, .. } => sys::check_tty(device).map_err(|problem| Problem {
            message: format!("`{endpoint}`: {}", problem.message),
            ..problem
        }),
        Address::Exec(_) => refuse(
            "`exec:` endpoints are",
            "Let the program listen on a Unix socket and connect to it.",
        ),
    }
}

/// Something that gives channels one after the other.
#[derive(Debug)]
pub enum Listener {
    /// A Unix socket, or a named pipe of Windows.
    Local(LocalListener),
    /// A TCP port, and the telnet that is spoken on it.
    Tcp(TcpListener, Option<Dialect>),
    /// A pseudo terminal.
    Pty(PtyServer),
}

impl Listener {
    /// Opens the listener of an endpoint; returns it with the endpoint as it is served (port, device).
    /// `None` if the endpoint is one that we go to.
    ///
    /// # Errors
    ///
    /// Precondition: in use, no permission, something else is at the path.
    pub fn open(endpoint: &EndpointSpec) -> Result<Option<(Self, EndpointSpec)>, Problem> {
        let mut served = endpoint.clone();
        let listener = match (&endpoint.address, endpoint.role) {
            (Address::Unix(path), Some(Role::Listen)) => Self::Local(sys::listen_local(path)?),
            (Address::Pipe { host, name }, Some(Role::Listen)) => {
                Self::Local(sys::listen_local(&sys::pipe_path(host.as_deref(), name)?)?)
            }
            (
                Address::Tcp { host, port }
                | Address::Telnet { host, port }
                | Address::Rfc2217 { host, port, .. },
                Some(Role::Listen),
            ) => {
                let listener = sys::listen_tcp(host, *port, &endpoint.to_string())?;
                if let Address::Tcp { port, .. }
                | Address::Telnet { port, .. }
                | Address::Rfc2217 { port, .. } = &mut served.address
                {
                    *port = listener.local_addr().map_or(*port, |address| address.port());
                }
                Self::Tcp(listener, dialect(&endpoint.address))
            }
            (Address::Pty { link }, _) => {
                let server = sys::open_pty(link.as_deref())?;
                if link.is_none() {
                    served.address = Address::Pty {
                        link: Some(server.device().to_owned()),
                    };
                }
                Self::Pty(server)
            }
            _ => return Ok(None),
        };
        Ok(Some((listener, served)))
    }

    /// Waits for the next channel.
    pub fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Channel>> {
        let accepted = match self {
            Self::Local(listener) => listener.poll_accept(context),
            Self::Pty(server) => server.poll_attach(context),
            Self::Tcp(listener, dialect) => {
                return listener
                    .poll_accept(context)
                    .map_ok(|(stream, peer)| tcp_channel(stream, peer.to_string(), *dialect, Party::Server));
            }
        };
        accepted.map_ok(|(stream, facts)| Channel::native(stream, facts))
    }
}

/// Returns the telnet that an endpoint speaks.
fn dialect(address: &Address) -> Option<Dialect> {
    match address {
        Address::Telnet { .. } => Some(Dialect::Telnet),
        Address::Rfc2217 { settings, .. } => Some(Dialect::Rfc2217(*settings)),
        _ => None,
    }
}

fn tcp_channel(stream: TcpStream, peer: String, dialect: Option<Dialect>, party: Party) -> Channel {
    // Without these options the stream works, only slower.
    let _ = sys::tune_tcp(&stream);
    if dialect.is_some() {
        // Without it a telnet client's urgent byte is missing from the stream; few send one.
        let _ = sys::keep_urgent_inline(&stream);
    }
    let channel = Channel::native(NativeStream::Tcp(stream), Facts::half_closing(peer));
    match dialect {
        Some(dialect) => telnet::wrap(channel, dialect, party),
        None => channel,
    }
}

/// Goes to an endpoint once.
///
/// # Errors
///
/// The system's error; `TimedOut` after 5 s.
pub async fn dial(endpoint: &EndpointSpec) -> io::Result<Channel> {
    match &endpoint.address {
        Address::Unix(path) => {
            let (stream, facts) = sys::dial_local(path).await?;
            Ok(Channel::native(stream, facts))
        }
        Address::Pipe { host, name } => {
            let path = sys::pipe_path(host.as_deref(), name).map_err(io::Error::other)?;
            let (stream, facts) = sys::dial_local(&path).await?;
            Ok(Channel::native(stream, facts))
        }
        Address::Tcp { host, port }
        | Address::Telnet { host, port }
        | Address::Rfc2217 { host, port, .. } => {
            let connect = TcpStream::connect((host.as_str(), *port));
            let stream = tokio::time::timeout(DIAL_TIMEOUT, connect).await??;
            let peer = stream
                .peer_addr()
                .map(|peer| peer.to_string())
                .unwrap_or_default();
            Ok(tcp_channel(
                stream,
                peer,
                dialect(&endpoint.address),
                Party::Client,
            ))
        }
        Address::Stdio => {
            let facts = Facts {
                peer: "stdio".into(),
                half_close: false,
                ends_bridge: true,
            };
            Ok(Channel::native(NativeStream::Stdio(StdioStream::open()?), facts))
        }
        Address::Tty { device, settings } => tty::open(device, *settings),
        Address::File(path) => {
            let sink = FileSink::open(path)?;
            Ok(Channel::new(sink, Facts::whole(path.display().to_string())))
        }
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("`{endpoint}` cannot be dialled"),
        )),
    }
}

/// Puts a dial's or stream's error into the words of the `target` event.
pub fn away_reason(error: &io::Error) -> String {
    if error.get_ref().is_some() {
        // Somebody who knows more has put it into words.
        return error.to_string();
    }
    match error.kind() {
        io::ErrorKind::NotFound => "absent".into(),
        io::ErrorKind::ConnectionRefused => "refused".into(),
        io::ErrorKind::WouldBlock | io::ErrorKind::ResourceBusy => "busy".into(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "reset".into(),
        io::ErrorKind::TimedOut => "no answer".into(),
        _ => error.to_string(),
    }
}
