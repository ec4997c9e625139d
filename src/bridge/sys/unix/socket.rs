//! Unix sockets and TCP listeners: private from the moment of bind, nothing replaced that somebody serves.

use super::holder::{Holder, held};
use super::owner::{tcp_holder, unix_holder};
use super::stream::NativeStream;
use crate::bridge::channel::Facts;
use crate::model::{FailureKind, Problem};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream};

/// Connections that wait to be accepted. Every one is accepted at once, also to be refused, so a few are enough.
const BACKLOG: u32 = 16;

/// A listening Unix socket. Its path is removed at the end if it is still ours.
#[derive(Debug)]
pub struct LocalListener {
    listener: UnixListener,
    path: PathBuf,
    identity: (u64, u64),
}

impl LocalListener {
    /// Accepts a connection.
    pub fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(NativeStream, Facts)>> {
        match self.listener.poll_accept(context) {
            Poll::Ready(Ok((stream, _))) => {
                let facts = Facts::half_closing(unix_peer(&stream));
                Poll::Ready(Ok((NativeStream::Unix(stream), facts)))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for LocalListener {
    fn drop(&mut self) {
        let still_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if still_ours {
            // A path that cannot be removed is found stale by the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn unix_peer(stream: &UnixStream) -> String {
    match stream.peer_cred().ok().and_then(|credentials| credentials.pid()) {
        Some(pid) => format!("pid {pid}"),
        None => String::new(),
    }
}

fn precondition(message: String) -> Problem {
    Problem::new(FailureKind::Precondition, message)
}

fn cannot_listen(path: &Path, error: io::Error) -> Problem {
    let problem = precondition(format!("cannot listen on `{}`: {error}", path.display()));
    match error.kind() {
        io::ErrorKind::PermissionDenied => problem.hint("Choose a folder that you may write to."),
        io::ErrorKind::NotFound => problem.hint("Make the folder first, or choose another."),
        io::ErrorKind::InvalidInput => {
            problem.hint("A socket's path has at most 107 bytes: choose a shorter one.")
        }
        _ => problem,
    }
}

fn socket_address(path: &Path) -> io::Result<SocketAddrUnix> {
    SocketAddrUnix::new(path).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the path has {} bytes", path.as_os_str().len()),
        )
    })
}

/// Listens on a Unix socket, mode 0600 from the moment of bind. A socket that nobody answers on is replaced.
///
/// # Errors
///
/// Precondition: the path is no socket, is served by somebody (named where the system tells), or may not be made.
pub fn listen_local(path: &Path) -> Result<LocalListener, Problem> {
    let address = socket_address(path).map_err(|error| cannot_listen(path, error))?;
    remove_stale(path, &address)?;
    let bind = || -> io::Result<UnixListener> {
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        // The bound file takes the mode of the socket's own inode, so there is no moment at which others could connect.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        rustix::net::bind(&socket, &address)?;
        // Where a system ignores the mode of an unbound socket, nobody can connect before `listen`.
        rustix::fs::chmod(path, Mode::RUSR | Mode::WUSR)?;
        rustix::net::listen(&socket, BACKLOG as i32)?;
        UnixListener::from_std(socket.into())
    };
    let listener = bind().map_err(|error| cannot_listen(path, error))?;
    let metadata = fs::symlink_metadata(path).map_err(|error| cannot_listen(path, error))?;
    Ok(LocalListener {
        listener,
        path: path.to_owned(),
        identity: (metadata.dev(), metadata.ino()),
    })
}

/// Named pipes are Windows's.
pub const HAS_NAMED_PIPES: bool = false;

/// Returns the path of a named pipe of Windows.
///
/// # Errors
///
/// Precondition: this system has none.
pub fn pipe_path(_host: Option<&str>, _name: &str) -> Result<PathBuf, Problem> {
    Err(
        precondition("named pipes are Windows's and not served on this system".into())
            .hint("Run vmserial.exe on the Windows host, or give the VM a TCP or Unix socket port."),
    )
}

/// Removes what is at the path of our own future listener if it is a socket that nobody answers on.
fn remove_stale(path: &Path, address: &SocketAddrUnix) -> Result<(), Problem> {
    let found = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(cannot_listen(path, error)),
    };
    if !found.file_type().is_socket() {
        return Err(precondition(format!(
            "cannot listen on `{}`: it is there already and is no socket",
            path.display()
        ))
        .hint("Choose another path; vmserial replaces nothing but a stale socket."));
    }
    let probe = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .map_err(|error| cannot_listen(path, error.into()))?;
    match rustix::net::connect(&probe, address) {
        Err(rustix::io::Errno::CONNREFUSED) => {}
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(rustix::io::Errno::ACCESS) => {
            return Err(precondition(format!(
                "cannot listen on `{}`: a socket of another user is there",
                path.display()
            ))
            .hint("Choose another path."));
        }
        connected => {
            // Who answered tells more surely than the system's table, which changes while it is read.
            let holder = connected
                .ok()
                .and_then(|()| answering_process(probe))
                .map(Holder::of_process)
                .or_else(|| unix_holder(path));
            return Err(held(
                &format!("cannot listen on `{}`", path.display()),
                holder,
                "listens there",
                "End that process or choose another path.",
            ));
        }
    }
    // Somebody may have replaced the stale socket since: only what was probed is removed.
    let again = fs::symlink_metadata(path).map_err(|error| cannot_listen(path, error))?;
    if (again.dev(), again.ino()) == (found.dev(), found.ino()) {
        fs::remove_file(path).map_err(|error| cannot_listen(path, error))?;
    }
    Ok(())
}

/// Returns the process that listens on what was connected to (SO_PEERCRED). One of another container has no number here.
fn answering_process(connection: OwnedFd) -> Option<u32> {
    let connection = UnixStream::from_std(connection.into()).ok()?;
    let pid = connection.peer_cred().ok()?.pid()?;
    u32::try_from(pid).ok().filter(|&pid| pid > 0)
}

/// Looks at a path that is about to be dialled, without connecting: a VM's socket may serve one connection only.
///
/// # Errors
///
/// Precondition: it is no socket, or may not be connected to. A path that is not there is fine: it is a state.
pub fn check_target_path(path: &Path) -> Result<(), Problem> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(no_permission(path));
        }
        Err(_) => return Ok(()),
    };
    if FileType::from_raw_mode(metadata.mode()) != FileType::Socket {
        return Err(
            precondition(format!("cannot connect to `{}`: it is no socket", path.display()))
                .hint("Name the Unix socket that the VM's serial port listens on."),
        );
    }
    match rustix::fs::access(path, rustix::fs::Access::WRITE_OK) {
        Err(rustix::io::Errno::ACCESS) => Err(no_permission(path)),
        _ => Ok(()),
    }
}

fn no_permission(path: &Path) -> Problem {
    precondition(format!(
        "cannot connect to `{}`: permission denied",
        path.display()
    ))
    .hint("Run as the user that the VM runs as, or give yourself access to the socket.")
}

/// Connects to a Unix socket.
pub async fn dial_local(path: &Path) -> io::Result<(NativeStream, Facts)> {
    let stream = UnixStream::connect(path).await?;
    let facts = Facts::half_closing(unix_peer(&stream));
    Ok((NativeStream::Unix(stream), facts))
}

/// Listens on a TCP port; port 0 takes a free one. `shown` is the endpoint as messages name it.
///
/// # Errors
///
/// Precondition: in use (the owner is named where the system tells), no such address, no permission.
pub fn listen_tcp(host: &str, port: u16, shown: &str) -> Result<TcpListener, Problem> {
    let what = format!("cannot listen on `{shown}`");
    let unknown_host = |reason: String| {
        precondition(format!("{what}: the host `{host}` has no address here: {reason}"))
            .hint("Use 127.0.0.1, or an address that `ip address` shows.")
    };
    let address: SocketAddr = (host, port)
        .to_socket_addrs()
        .map_err(|error| unknown_host(error.to_string()))?
        .next()
        .ok_or_else(|| unknown_host("its name leads to none".to_owned()))?;
    let open = || -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        // Connections of a former run that linger in TIME_WAIT must not keep us from listening.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => held(
            &what,
            tcp_holder(address),
            "listens there",
            "End that process, choose another port, or port 0 for a free one.",
        ),
        io::ErrorKind::AddrNotAvailable => precondition(format!("{what}: this machine has no such address"))
            .hint("Use 127.0.0.1, or an address that `ip address` shows."),
        io::ErrorKind::PermissionDenied => precondition(format!("{what}: permission denied"))
            .hint("Ports below 1024 need root: choose a higher one."),
        _ => precondition(format!("{what}: {error}")),
    })
}
