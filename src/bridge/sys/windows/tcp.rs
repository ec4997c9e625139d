//! TCP listeners and the options of connections.

use crate::model::{FailureKind, Problem};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::windows::io::AsRawSocket;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use windows_sys::Win32::Networking::WinSock::{
    SIO_KEEPALIVE_VALS, SO_OOBINLINE, SOCKET, SOCKET_ERROR, SOL_SOCKET, WSAGetLastError, WSAIoctl,
    setsockopt, tcp_keepalive,
};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 16;

/// Sends small packets at once (a kgdb session is bound by round trips) and finds dead peers: first probe after 30 s,
/// then each 10 s; Windows makes ten of them.
pub fn tune_tcp(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let wanted = tcp_keepalive {
        onoff: 1,
        keepalivetime: 30_000,
        keepaliveinterval: 10_000,
    };
    let mut returned = 0;
    // SAFETY: the socket is open; the structure outlives the call, which is not overlapped and returns no data.
    let result = unsafe {
        WSAIoctl(
            stream.as_raw_socket() as SOCKET,
            SIO_KEEPALIVE_VALS,
            (&raw const wanted).cast(),
            size_of::<tcp_keepalive>() as u32,
            std::ptr::null_mut(),
            0,
            &raw mut returned,
            std::ptr::null_mut(),
            None,
        )
    };
    if result == SOCKET_ERROR {
        // SAFETY: reads this thread's last error.
        return Err(io::Error::from_raw_os_error(unsafe { WSAGetLastError() }));
    }
    Ok(())
}

/// Leaves urgent bytes (telnet's SYNCH) where they are in the stream.
pub fn keep_urgent_inline(stream: &TcpStream) -> io::Result<()> {
    let yes = 1_i32;
    // SAFETY: the socket is open, and the value outlives the call.
    let result = unsafe {
        setsockopt(
            stream.as_raw_socket() as SOCKET,
            SOL_SOCKET,
            SO_OOBINLINE,
            (&raw const yes).cast(),
            size_of::<i32>() as i32,
        )
    };
    if result == SOCKET_ERROR {
        // SAFETY: reads this thread's last error.
        return Err(io::Error::from_raw_os_error(unsafe { WSAGetLastError() }));
    }
    Ok(())
}

/// Listens on a TCP port; port 0 takes a free one. `shown` is the endpoint as messages name it.
///
/// # Errors
///
/// Precondition: in use, no such address, no permission.
pub fn listen_tcp(host: &str, port: u16, shown: &str) -> Result<TcpListener, Problem> {
    let cannot = |error: io::Error| {
        Problem::new(
            FailureKind::Precondition,
            format!("cannot listen on `{shown}`: {error}"),
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
