//! Windows: TCP and standard streams. Unix sockets and pseudo terminals are refused by name; named pipes come later.

use crate::bridge::StopSignal;
use crate::bridge::channel::Facts;
use crate::bridge::stdio::StdioStream;
use crate::model::{FailureKind, Problem};
use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 16;

/// A stream of the operating system.
#[derive(Debug)]
pub enum NativeStream {
    /// A TCP connection.
    Tcp(TcpStream),
    /// Our own standard input and output.
    Stdio(StdioStream),
}

impl NativeStream {
    /// Tells, after the end of input, whether the peer has closed its other direction too. Windows has no table that
    /// tells: a half-closed client is detached when a write to it fails or when the next one comes.
    pub fn peer_is_gone(&self) -> bool {
        false
    }
}

fn not_served(kind: &str, instead: &str) -> Problem {
    Problem::new(
        FailureKind::Precondition,
        format!("`{kind}:` endpoints are not served on Windows yet"),
    )
    .hint(instead)
}

/// Sends small packets at once. Windows' own keepalive times are kept: they are per socket only by an ioctl.
pub fn tune_tcp(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)
}

/// A listening local socket; there is none on Windows yet.
#[derive(Debug)]
pub struct LocalListener(Infallible);

impl LocalListener {
    /// Accepts a connection.
    pub fn poll_accept(&self, _context: &mut Context<'_>) -> Poll<io::Result<(NativeStream, Facts)>> {
        match self.0 {}
    }
}

/// Refuses: not served on Windows yet.
pub fn listen_local(_path: &Path) -> Result<LocalListener, Problem> {
    Err(not_served("unix", "Use `listen:tcp:127.0.0.1:PORT`."))
}

/// Refuses: not served on Windows yet.
pub fn check_target_path(_path: &Path) -> Result<(), Problem> {
    Err(not_served("unix", "Use `connect:tcp:HOST:PORT`."))
}

/// Refuses: not served on Windows yet.
pub async fn dial_local(_path: &Path) -> io::Result<(NativeStream, Facts)> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A pseudo terminal; Windows has none that another program could open.
#[derive(Debug)]
pub struct PtyServer(Infallible);

impl PtyServer {
    /// Returns the terminal's own path.
    pub fn device(&self) -> &Path {
        match self.0 {}
    }

    /// Waits until somebody opens the terminal.
    pub fn poll_attach(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<(NativeStream, Facts)>> {
        match self.0 {}
    }
}

/// Refuses: Windows has none.
pub fn open_pty(_link: Option<&Path>) -> Result<PtyServer, Problem> {
    Err(not_served("pty", "Use `listen:tcp:127.0.0.1:PORT`."))
}

/// Bulk without copying; Windows has nothing like it for these streams.
#[derive(Debug)]
pub struct Splice(Infallible);

impl Splice {
    /// Refuses.
    pub fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Tells whether bytes can be moved so between these streams.
    pub fn can_join(_from: &NativeStream, _to: &NativeStream) -> bool {
        false
    }

    /// Returns how many bytes are on their way.
    pub fn inside(&self) -> usize {
        match self.0 {}
    }

    /// Takes bytes from a stream.
    pub fn poll_fill(&mut self, _from: &NativeStream, _context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self.0 {}
    }

    /// Gives what is inside to a stream.
    pub fn poll_empty(
        &mut self,
        _to: &NativeStream,
        _context: &mut Context<'_>,
    ) -> (usize, Poll<io::Result<()>>) {
        match self.0 {}
    }

    /// Takes what is inside out again.
    pub fn take_out(&mut self) -> io::Result<Vec<u8>> {
        match self.0 {}
    }
}

/// Listens on a TCP port; port 0 takes a free one.
///
/// # Errors
///
/// Precondition: in use, no such address, no permission.
pub fn listen_tcp(host: &str, port: u16) -> Result<TcpListener, Problem> {
    let cannot = |error: io::Error| {
        Problem::new(
            FailureKind::Precondition,
            format!("cannot listen on `tcp:{host}:{port}`: {error}"),
        )
        .hint("Choose another port, or port 0 for a free one.")
    };
    let address: SocketAddr = (host, port)
        .to_socket_addrs()
        .map_err(cannot)?
        .next()
        .ok_or_else(|| cannot(io::ErrorKind::NotFound.into()))?;
    let open = || -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        // No SO_REUSEADDR: on Windows it would take the port away from whoever listens on it.
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(cannot)
}

/// Names the process that listens on a TCP port; not known on Windows yet.
pub fn describe_tcp_owner(_port: u16) -> Option<String> {
    None
}

/// Opens a file to append to. It takes the folder's access list.
pub fn create_private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Reads from standard input; blocks. 0 is its end.
pub fn read_stdin(buffer: &mut [u8]) -> io::Result<usize> {
    io::stdin().lock().read(buffer)
}

/// Writes all of `bytes` to standard output; blocks.
pub fn write_stdout(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Ctrl-C, Ctrl-Break and the console's closing, from the moment this is made.
#[derive(Debug)]
pub struct StopSignals {
    ctrl_c: tokio::signal::windows::CtrlC,
    ctrl_break: tokio::signal::windows::CtrlBreak,
    close: tokio::signal::windows::CtrlClose,
}

impl StopSignals {
    /// Takes the signals over. Needs a runtime.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            ctrl_c: tokio::signal::windows::ctrl_c()?,
            ctrl_break: tokio::signal::windows::ctrl_break()?,
            close: tokio::signal::windows::ctrl_close()?,
        })
    }

    /// Waits for the next one.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a signal that came is kept for the next call.
    pub async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.ctrl_c.recv() => StopSignal::Interrupt,
            _ = self.ctrl_break.recv() => StopSignal::Interrupt,
            _ = self.close.recv() => StopSignal::Terminate,
        }
    }
}

impl AsyncRead for NativeStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Stdio(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for NativeStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Stdio(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Stdio(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Stdio(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
