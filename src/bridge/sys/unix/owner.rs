//! Who holds a socket, read from the system's own tables. Linux has them in `/proc`; elsewhere nothing is known.
//! Which process that is, is [`super::holder`]'s.

use super::holder::{Holder, holder_of_descriptor};
use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use tokio::net::TcpStream;

/// `st` of `/proc/net/tcp` (linux/include/net/tcp_states.h).
const STATE_ESTABLISHED: &str = "01";
const STATE_LISTEN: &str = "0A";

/// `__SO_ACCEPTCON` in the flags of `/proc/net/unix` (linux/include/uapi/linux/net.h).
const FLAG_LISTENS: &str = "00010000";

/// One line of `/proc/net/tcp` or `tcp6`.
struct TcpEntry<'a> {
    local: &'a str,
    remote: &'a str,
    state: &'a str,
    user: u32,
    inode: &'a str,
}

fn tcp_entries(table: &str) -> impl Iterator<Item = TcpEntry<'_>> {
    table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        let remote = fields.next()?;
        let state = fields.next()?;
        let user = fields.nth(3)?.parse().ok()?;
        let inode = fields.nth(1)?;
        Some(TcpEntry {
            local,
            remote,
            state,
            user,
            inode,
        })
    })
}

fn tables() -> [String; 2] {
    ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default())
}

/// The address as `/proc/net/tcp` spells it: the words of the address in the machine's byte order, then the port.
fn spelled(address: SocketAddr) -> String {
    let words = |bytes: &[u8]| {
        bytes
            .chunks_exact(4)
            .map(|word| {
                let word: [u8; 4] = word.try_into().expect("chunks_exact gives four bytes");
                format!("{:08X}", u32::from_ne_bytes(word))
            })
            .collect::<String>()
    };
    let ip = match address.ip() {
        IpAddr::V4(ip) => words(&ip.octets()),
        IpAddr::V6(ip) => words(&ip.octets()),
    };
    format!("{ip}:{:04X}", address.port())
}

/// Tells whether a peer on this machine has closed its socket altogether, after we read its end of stream. TCP itself
/// says the same (FIN) for a half-close and a close; the kernel's table shows whether a process still holds the other end.
pub(super) fn tcp_peer_is_closed(stream: &TcpStream) -> bool {
    let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else {
        return true;
    };
    if !peer.ip().to_canonical().is_loopback() {
        return false;
    }
    let (ours, theirs) = (spelled(local), spelled(peer));
    let tables = tables();
    if tables.iter().all(String::is_empty) {
        return false;
    }
    let entry = tables
        .iter()
        .flat_map(|table| tcp_entries(table))
        .find(|entry| entry.local == theirs && entry.remote == ours);
    match entry {
        // No process holds it. (One that is not accepted yet is held by none either, and is established.)
        Some(entry) => entry.inode == "0" && entry.state != STATE_ESTABLISHED,
        None => true,
    }
}

/// Reads an address that `/proc/net/tcp` spells: the inverse of [`spelled`].
fn read_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let mut bytes = Vec::new();
    for at in (0..ip.len()).step_by(8) {
        let word = u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ip = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(bytes) => IpAddr::from(Ipv4Addr::from(bytes)),
        Err(_) => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// Tells whether a listener keeps another address from being listened on; the smaller, the more surely it is the one.
/// A wildcard is every address of its family, and IPv6's is IPv4's too.
fn keeps_from(listener: IpAddr, wanted: IpAddr) -> Option<u8> {
    let (listener, wanted) = (listener.to_canonical(), wanted.to_canonical());
    let same_family = listener.is_ipv4() == wanted.is_ipv4();
    if listener == wanted {
        Some(0)
    } else if same_family && listener.is_unspecified() {
        Some(1)
    } else if same_family && wanted.is_unspecified() {
        Some(2)
    } else if !same_family
        && (listener.is_ipv6() && listener.is_unspecified() || wanted.is_ipv6() && wanted.is_unspecified())
    {
        Some(3)
    } else {
        None
    }
}

/// Finds the process whose listener keeps us from listening on an address of this machine.
pub(super) fn tcp_holder(wanted: SocketAddr) -> Option<Holder> {
    let tables = tables();
    let entry = tables
        .iter()
        .flat_map(|table| tcp_entries(table))
        .filter(|entry| entry.state == STATE_LISTEN)
        .filter_map(|entry| {
            let local = read_address(entry.local).filter(|local| local.port() == wanted.port())?;
            Some((keeps_from(local.ip(), wanted.ip())?, entry))
        })
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, entry)| entry)?;
    let wanted = format!("socket:[{}]", entry.inode);
    holder_of_descriptor(|_, link| link.as_os_str() == wanted.as_str())
        .or_else(|| Some(Holder::of_user(entry.user)))
}

/// Finds the process that listens on a Unix socket. The one that answered tells more surely (SO_PEERCRED).
pub(super) fn unix_holder(path: &Path) -> Option<Holder> {
    let table = fs::read("/proc/net/unix").ok()?;
    // The table has the path as its listener wrote it, who may have been in another folder.
    let written = [
        Some(path.to_owned()),
        std::path::absolute(path).ok(),
        path.canonicalize().ok(),
    ];
    let inode = table.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        // Anybody's path may be no UTF-8; what is in front of it is ASCII.
        let text = String::from_utf8_lossy(line);
        let mut fields = text.split_ascii_whitespace();
        let flags = fields.nth(3)?;
        let inode = fields.nth(2)?;
        let name = fields.next()?;
        // A path may have blanks in it: it is all that is left of the line.
        let at = name.as_ptr().addr() - text.as_ptr().addr();
        let name = Path::new(OsStr::from_bytes(line.get(at..)?));
        // Connections have the listener's path too.
        let is_it = flags == FLAG_LISTENS && written.iter().flatten().any(|path| path == name);
        is_it.then(|| inode.to_owned())
    })?;
    let wanted = format!("socket:[{inode}]");
    holder_of_descriptor(|_, link| link.as_os_str() == wanted.as_str())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    #[test]
    fn a_loopback_address_is_spelled_as_the_kernel_does() {
        if cfg!(target_endian = "little") {
            assert_eq!(spelled("127.0.0.1:22".parse().unwrap()), "0100007F:0016");
            assert_eq!(
                spelled("[::1]:8080".parse().unwrap()),
                "00000000000000000000000001000000:1F90"
            );
        }
        for text in ["127.0.0.1:22", "[::1]:8080", "[fe80::1:2]:65535", "0.0.0.0:1"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(read_address(&spelled(address)), Some(address));
        }
        for wrong in ["", "0:0", "0100007F", "0100007F:", "xx00007F:0016"] {
            assert_eq!(read_address(wrong), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_closed_peer_is_told_from_a_half_closed_one() {
        if !Path::new("/proc/net/tcp").exists() {
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut ours, _) = listener.accept().await.unwrap();
        assert!(!tcp_peer_is_closed(&ours));
        tokio::io::AsyncWriteExt::shutdown(&mut peer).await.unwrap();
        assert_eq!(ours.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(!tcp_peer_is_closed(&ours), "half-closed");
        drop(peer);
        assert!(tcp_peer_is_closed(&ours), "closed");
    }

    #[test]
    fn a_wildcard_is_every_address() {
        for (listener, wanted, rank) in [
            ("127.0.0.1", "127.0.0.1", Some(0)),
            ("0.0.0.0", "127.0.0.1", Some(1)),
            ("127.0.0.1", "0.0.0.0", Some(2)),
            ("::", "127.0.0.1", Some(3)),
            ("0.0.0.0", "::", Some(3)),
            ("::", "::1", Some(1)),
            ("::ffff:127.0.0.1", "127.0.0.1", Some(0)),
            ("127.0.0.2", "127.0.0.1", None),
            ("::1", "127.0.0.1", None),
            ("0.0.0.0", "::1", None),
        ] {
            let (listener, wanted) = (listener.parse().unwrap(), wanted.parse().unwrap());
            assert_eq!(keeps_from(listener, wanted), rank, "{listener} {wanted}");
        }
    }

    #[tokio::test]
    async fn the_holder_of_a_port_is_named() {
        if !Path::new("/proc/net/tcp").exists() {
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let holder = tcp_holder(listener.local_addr().unwrap()).unwrap();
        assert_eq!(holder.pid, Some(std::process::id()));
        let own = format!("(pid {})", std::process::id());
        assert!(holder.text.ends_with(&own), "{}", holder.text);
    }

    #[test]
    fn the_holder_of_a_socket_is_named_whatever_else_is_in_the_table() {
        if !Path::new("/proc/net/unix").exists() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(OsStr::from_bytes(b"no \xff UTF-8"));
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let plain = folder.path().join("plain");
        let _socket = std::os::unix::net::UnixListener::bind(&plain).unwrap();
        // Other tests change the table while it is read.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        for path in [path, plain] {
            while unix_holder(&path).and_then(|holder| holder.pid) != Some(std::process::id()) {
                assert!(std::time::Instant::now() < until, "{path:?}");
                std::thread::yield_now();
            }
        }
    }
}
