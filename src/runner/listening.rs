//! Which TCP ports listen on a host, without connecting to one: a probe would take a VM's only slot.

use crate::model::{HostPath, Invocation, Wait};
use crate::runner::{RunError, Runner};

/// Tells whether a TCP port listens on any address of a runner's host.
///
/// # Errors
///
/// Nothing on the host tells.
pub fn tcp_listens(port: u16, runner: &dyn Runner, wait: &Wait) -> Result<bool, RunError> {
    match runner.run(&Invocation::reads("ss", ["-ltnH"]), wait) {
        Ok(output) => Ok(in_ss(&String::from_utf8_lossy(&output.stdout), port)),
        // A small container has no iproute2.
        Err(RunError::ProgramNotFound { .. }) => {
            for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
                let listing = runner.read(&HostPath::new(table), wait)?;
                let bytes = listing.map(|listing| listing.bytes).unwrap_or_default();
                if in_proc(&String::from_utf8_lossy(&bytes), port) {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// How a Unix socket of a host stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnixListener {
    /// Nobody listens on it, or nobody can tell.
    None,
    /// Somebody listens, and nobody is connected.
    Waiting,
    /// Somebody is connected to who listens.
    Connected,
}

/// Tells how a Unix socket of a runner's host stands, without connecting to it.
///
/// # Errors
///
/// The host's.
pub fn unix_listener(path: &str, runner: &dyn Runner, wait: &Wait) -> Result<UnixListener, RunError> {
    let table = runner.read(&HostPath::new("/proc/net/unix"), wait)?;
    let bytes = table.map(|table| table.bytes).unwrap_or_default();
    Ok(in_unix(&String::from_utf8_lossy(&bytes), path))
}

/// Looks for a path in `/proc/net/unix` (proc(5)): `Num RefCount Protocol Flags Type St Inode Path`. A listener has the flag
/// `__SO_ACCEPTCON`, a connection that it accepted its path and the state 03.
fn in_unix(table: &str, path: &str) -> UnixListener {
    let rows = table.lines().skip(1).filter_map(|line| {
        // A path may have blanks; the columns before it have none.
        let mut rest = line;
        let mut fields = Vec::new();
        for _ in 0..7 {
            let (field, behind) = rest.trim_start().split_once(' ')?;
            fields.push(field);
            rest = behind;
        }
        (rest.trim_start() == path).then(|| (fields[3] == "00010000", fields[5] == "03"))
    });
    let rows: Vec<(bool, bool)> = rows.collect();
    match (
        rows.iter().any(|(listens, _)| *listens),
        rows.iter().any(|(_, connected)| *connected),
    ) {
        (false, _) => UnixListener::None,
        (true, false) => UnixListener::Waiting,
        (true, true) => UnixListener::Connected,
    }
}

/// Looks for a local port in the fourth column of `ss -ltnH`.
fn in_ss(listing: &str, port: u16) -> bool {
    let suffix = format!(":{port}");
    let local = |line: &str| line.split_whitespace().nth(3).map(ToOwned::to_owned);
    listing
        .lines()
        .filter_map(local)
        .any(|local| local.ends_with(&suffix))
}

/// Looks for a listening socket (state 0A) with this local port in `/proc/net/tcp` (proc(5)): the port is in
/// hexadecimal behind the address.
fn in_proc(table: &str, port: u16) -> bool {
    let suffix = format!(":{port:04X}");
    table.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, state) = (fields.next(), fields.nth(1));
        local.is_some_and(|local| local.ends_with(&suffix)) && state == Some("0A")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unix_socket_is_found_by_its_path() {
        let head = "Num       RefCount Protocol Flags    Type St Inode Path\n";
        let listens = "0000000000000000: 00000002 00000000 00010000 0001 01 30711 /run/a b\n";
        let accepted = "0000000000000000: 00000003 00000000 00000000 0001 03 30712 /run/a b\n";
        let client = "0000000000000000: 00000003 00000000 00000000 0001 03 30713\n";
        let of = |rows: &str| in_unix(&format!("{head}{rows}"), "/run/a b");
        assert_eq!(of(&format!("{listens}{client}")), UnixListener::Waiting);
        assert_eq!(
            of(&format!("{client}{accepted}{listens}")),
            UnixListener::Connected
        );
        assert_eq!(of(client), UnixListener::None);
        assert_eq!(in_unix(&format!("{head}{listens}"), "/run/a"), UnixListener::None);
    }

    #[test]
    fn a_listening_port_is_found_in_both_listings() {
        let ss = "LISTEN 0 128 127.0.0.1:7001 0.0.0.0:*\nLISTEN 0 1 [::]:22 [::]:*\n";
        assert!(in_ss(ss, 7001) && in_ss(ss, 22) && !in_ss(ss, 1) && !in_ss(ss, 701));
        let proc = "  sl  local_address rem_address   st tx_queue\n\
            0: 0100007F:1B59 00000000:0000 0A 00000000:00000000\n\
            1: 0100007F:0016 0100007F:1B58 01 00000000:00000000\n";
        assert!(in_proc(proc, 7001) && !in_proc(proc, 22) && !in_proc(proc, 7000));
    }
}
