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
    fn a_listening_port_is_found_in_both_listings() {
        let ss = "LISTEN 0 128 127.0.0.1:7001 0.0.0.0:*\nLISTEN 0 1 [::]:22 [::]:*\n";
        assert!(in_ss(ss, 7001) && in_ss(ss, 22) && !in_ss(ss, 1) && !in_ss(ss, 701));
        let proc = "  sl  local_address rem_address   st tx_queue\n\
            0: 0100007F:1B59 00000000:0000 0A 00000000:00000000\n\
            1: 0100007F:0016 0100007F:1B58 01 00000000:00000000\n";
        assert!(in_proc(proc, 7001) && !in_proc(proc, 22) && !in_proc(proc, 7000));
    }
}
