//! Who holds a socket, read from the system's own tables. Linux has them in `/proc`; elsewhere nothing is known.

use std::fs;
use std::net::{IpAddr, SocketAddr};
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
    inode: &'a str,
}

fn tcp_entries(table: &str) -> impl Iterator<Item = TcpEntry<'_>> {
    table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        let remote = fields.next()?;
        let state = fields.next()?;
        let inode = fields.nth(5)?;
        Some(TcpEntry {
            local,
            remote,
            state,
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

/// Names the process that listens on a TCP port of this machine.
pub fn describe_tcp_owner(port: u16) -> Option<String> {
    let suffix = format!(":{port:04X}");
    let tables = tables();
    let inode = tables
        .iter()
        .flat_map(|table| tcp_entries(table))
        .find(|entry| entry.state == STATE_LISTEN && entry.local.ends_with(&suffix))?
        .inode;
    describe_socket_owner(inode)
}

/// Names the process that listens on a Unix socket.
pub(super) fn describe_unix_owner(path: &Path) -> Option<String> {
    let table = fs::read_to_string("/proc/net/unix").ok()?;
    let path = path.to_str()?;
    let inode = table.lines().skip(1).find_map(|line| {
        let (fields, name) = line.split_at_checked(line.find(" /")?)?;
        let mut fields = fields.split_ascii_whitespace();
        // Connections have the listener's path too.
        let listens = fields.nth(3) == Some(FLAG_LISTENS);
        (listens && name.trim_start() == path).then(|| fields.nth(2))?
    })?;
    describe_socket_owner(inode)
}

/// Finds the process that has the socket open. Only processes that we may look into are seen.
fn describe_socket_owner(inode: &str) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let holds = descriptors.flatten().any(|descriptor| {
            fs::read_link(descriptor.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str())
        });
        if holds {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("`{}` (pid {pid})", name.trim_end()));
        }
    }
    None
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

    #[tokio::test]
    async fn the_owner_of_a_port_is_named() {
        if !Path::new("/proc/net/tcp").exists() {
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let owner = describe_tcp_owner(listener.local_addr().unwrap().port()).unwrap();
        assert!(
            owner.ends_with(&format!("(pid {})", std::process::id())),
            "{owner}"
        );
    }
}
