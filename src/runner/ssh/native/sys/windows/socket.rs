//! Sockets: what carries a session, and what is polled. WSAPoll takes nothing but sockets, so what wakes is one too.

use super::super::{Interest, Ready};
use ssh2::Session;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::windows::io::{AsRawSocket, AsSocket, OwnedSocket};
use std::time::Duration;
use windows_sys::Win32::Networking::WinSock::{
    POLLERR, POLLHUP, POLLRDNORM, POLLWRNORM, SOCKET, SOCKET_ERROR, WSAPOLLFD, WSAPoll,
};

/// A session's socket, for polling.
pub type Socket = OwnedSocket;

/// One of two sockets that are joined.
pub type PairEnd = TcpStream;

/// So many strangers may come to a pair before it is given up.
const STRANGERS: usize = 64;

/// A socket that can carry a session.
pub trait Carrier: AsSocket + AsRawSocket + 'static {}

impl<S: AsSocket + AsRawSocket + 'static> Carrier for S {}

/// Lets a socket carry a session; returns it for polling.
///
/// # Errors
///
/// The system's refusal.
pub fn carry(session: &mut Session, stream: impl Carrier) -> io::Result<Socket> {
    let socket = stream.as_socket().try_clone_to_owned()?;
    session.set_tcp_stream(stream);
    Ok(socket)
}

/// Makes two joined sockets, by the loopback: nobody else is let in between.
///
/// # Errors
///
/// The system's refusal.
pub fn pair() -> io::Result<(PairEnd, PairEnd)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let one = TcpStream::connect(listener.local_addr()?)?;
    let own = one.local_addr()?;
    for _ in 0..STRANGERS {
        let (other, from) = listener.accept()?;
        if from == own {
            for end in [&one, &other] {
                end.set_nodelay(true)?;
            }
            return Ok((one, other));
        }
    }
    Err(io::Error::other("others take the place of our own connection"))
}

fn place(socket: SOCKET, events: i16) -> WSAPOLLFD {
    WSAPOLLFD {
        fd: socket,
        events,
        revents: 0,
    }
}

/// Waits for a socket, and for bytes of the waker.
///
/// # Errors
///
/// The system's refusal.
pub fn poll(
    socket: &Socket,
    interest: Interest,
    waker: Option<&PairEnd>,
    longest: Duration,
) -> io::Result<Ready> {
    let mut wanted = 0;
    if interest.read {
        wanted |= POLLRDNORM;
    }
    if interest.write {
        wanted |= POLLWRNORM;
    }
    let mut polled = Vec::with_capacity(2);
    // An end is told here as soon as the other side says no more, and again and again: only to who wants to know.
    let socket_is_polled = wanted != 0 || interest.end || waker.is_none();
    if socket_is_polled {
        polled.push(place(raw(socket), wanted));
    }
    polled.extend(waker.map(|waker| place(raw(waker), POLLRDNORM)));
    // Rounded up: a wait that ends too early is made again, and again.
    let longest = i32::try_from(longest.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    let count = u32::try_from(polled.len()).unwrap_or_default();
    // SAFETY: `polled` has that many places, and its sockets are borrowed for as long.
    if unsafe { WSAPoll(polled.as_mut_ptr(), count, longest) } == SOCKET_ERROR {
        return Err(io::Error::last_os_error());
    }
    let of_socket = match polled.first() {
        Some(first) if socket_is_polled => first.revents,
        _ => 0,
    };
    let of_waker = match (waker, polled.last()) {
        (Some(_), Some(last)) => last.revents,
        _ => 0,
    };
    Ok(Ready {
        // An end is read as well: whoever waits for bytes has to see it.
        read: of_socket & POLLRDNORM != 0 || interest.read && of_socket & POLLHUP != 0,
        write: of_socket & POLLWRNORM != 0,
        ended: of_socket & (POLLHUP | POLLERR) != 0,
        woken: of_waker != 0,
    })
}

fn raw(socket: &impl AsRawSocket) -> SOCKET {
    // A handle: the crate and the standard library write its type differently, of the same size.
    SOCKET::try_from(socket.as_raw_socket()).unwrap_or(SOCKET::MAX)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::io::{Read as _, Write as _};

    const LONG: Duration = Duration::from_secs(30);

    fn polled(socket: &TcpStream) -> Socket {
        socket.as_socket().try_clone_to_owned().unwrap()
    }

    #[test]
    fn a_pair_carries_bytes_both_ways_and_its_end() {
        let (mut one, mut other) = pair().unwrap();
        one.write_all(b"there").unwrap();
        other.write_all(b"back").unwrap();
        let (mut there, mut back) = ([0; 5], [0; 4]);
        other.read_exact(&mut there).unwrap();
        one.read_exact(&mut back).unwrap();
        assert_eq!((&there, &back), (b"there", b"back"));
        drop(one);
        assert_eq!(other.read(&mut there).unwrap(), 0);
    }

    #[test]
    fn a_wait_tells_what_it_was_asked_for() {
        let ((mut far, near), (mut waking, waker)) = (pair().unwrap(), pair().unwrap());
        let socket = polled(&near);
        let read = Interest {
            read: true,
            ..Interest::default()
        };
        let nothing = poll(&socket, read, Some(&waker), Duration::from_millis(1)).unwrap();
        assert_eq!(nothing, Ready::default());
        let write = Interest {
            write: true,
            ..Interest::default()
        };
        assert!(poll(&socket, write, None, LONG).unwrap().write);
        waking.write_all(&[0]).unwrap();
        let woken = poll(&socket, read, Some(&waker), LONG).unwrap();
        assert!(woken.woken && !woken.read, "{woken:?}");
        far.write_all(b"x").unwrap();
        assert!(poll(&socket, read, None, LONG).unwrap().read);
    }

    #[test]
    fn an_end_wakes_who_wants_to_know_it() {
        let ((far, near), (_waking, waker)) = (pair().unwrap(), pair().unwrap());
        let socket = polled(&near);
        drop(far);
        let read = Interest {
            read: true,
            ..Interest::default()
        };
        assert!(poll(&socket, read, Some(&waker), LONG).unwrap().read);
        let end = Interest {
            end: true,
            ..Interest::default()
        };
        assert!(poll(&socket, end, Some(&waker), LONG).unwrap().ended);
        let other = poll(
            &socket,
            Interest::default(),
            Some(&waker),
            Duration::from_millis(1),
        );
        assert_eq!(other.unwrap(), Ready::default());
    }
}
