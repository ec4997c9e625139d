//! Between an endpoint of a VM's port and QEMU's `-serial` words for it, which both toolstacks pass on as they are.

use crate::model::{Address, EndpointSpec, FailureKind, Problem, Role};
use std::path::PathBuf;

/// Puts an endpoint (with the VM's role) into QEMU's words, in the old spelling that every QEMU of Xen reads.
///
/// # Errors
///
/// QEMU has no such device, or it would not be where it is written.
pub(super) fn device(endpoint: &EndpointSpec) -> Result<String, Problem> {
    let refuse = |reason: &str| {
        Err(Problem::new(
            FailureKind::Precondition,
            format!("Xen cannot attach a port to `{endpoint}`: {reason}"),
        )
        .hint("Write `--endpoint pty` or `--endpoint listen:tcp:127.0.0.1:7001`; the bridge then serves it in any other way."))
    };
    if !endpoint.via.is_empty() {
        return refuse("it opens streams of its own host only");
    }
    let listens = endpoint.role != Some(Role::Connect);
    let network = |kind: &str, host: &str, port: u16| {
        let host = match host {
            "0.0.0.0" => String::new(),
            host if host.contains(':') => format!("[{host}]"),
            host => host.to_owned(),
        };
        let role = if listens {
            ",server,nodelay,nowait"
        } else {
            ",nodelay"
        };
        format!("{kind}:{host}:{port}{role}")
    };
    match &endpoint.address {
        Address::Tcp { port: 0, .. } | Address::Telnet { port: 0, .. } => {
            refuse("name the port: nobody would know which one is free")
        }
        Address::Tcp { host, .. } | Address::Telnet { host, .. } if host.contains(',') => {
            refuse("no host has a comma in its name")
        }
        Address::Tcp { host, port } => Ok(network("tcp", host, *port)),
        Address::Telnet { host, port } => Ok(network("telnet", host, *port)),
        Address::Unix(path) => {
            let path = path.to_string_lossy();
            if !path.starts_with('/') {
                return refuse("the path must be absolute");
            }
            let role = if listens { ",server,nowait" } else { "" };
            Ok(format!("unix:{}{role}", path.replace(',', ",,")))
        }
        Address::Pty { link: None } => Ok("pty".to_owned()),
        Address::Pty { link: Some(_) } => refuse("it makes no link to its pseudo terminal"),
        Address::Pipe { .. } => refuse("named pipes are Windows's"),
        _ => refuse("its VMs cannot open that"),
    }
}

/// Returns where a device is, with the VM's role; `None` if it is nothing that a bridge can open.
pub(super) fn endpoint_of(device: &str) -> Option<EndpointSpec> {
    // QEMU writes a comma in a value twice.
    let plain = device.replace(",,", "\0");
    let mut parts = plain.split(',').map(|part| part.replace('\0', ","));
    let place = parts.next()?;
    let options: Vec<String> = parts.collect();
    let on = |name: &str| {
        options
            .iter()
            .any(|option| option == name || *option == format!("{name}=on"))
    };
    let role = Some(if on("server") { Role::Listen } else { Role::Connect });
    if place == "pty" {
        return Some(EndpointSpec::new(None, Address::Pty { link: None }));
    }
    let (kind, rest) = place.split_once(':')?;
    let network = || {
        let (host, port) = rest.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let host = if host.is_empty() { "0.0.0.0" } else { host };
        Some((host.to_owned(), port.parse().ok()?))
    };
    let address = match kind {
        "unix" => Address::Unix(PathBuf::from(rest)),
        "tcp" if !on("telnet") => {
            let (host, port) = network()?;
            Address::Tcp { host, port }
        }
        "tcp" | "telnet" => {
            let (host, port) = network()?;
            Address::Telnet { host, port }
        }
        _ => return None,
    };
    Some(EndpointSpec::new(role, address))
}

/// Tells whether a device is what is wanted, however it is spelled.
pub(super) fn is(device: &str, endpoint: &EndpointSpec) -> bool {
    endpoint_of(device).as_ref() == Some(endpoint)
}

/// Returns the TCP port on which the VM listens, if it does.
pub(super) fn listening_port(endpoint: &EndpointSpec) -> Option<u16> {
    match (&endpoint.address, endpoint.role) {
        (Address::Tcp { port, .. } | Address::Telnet { port, .. }, Some(Role::Listen)) => Some(*port),
        _ => None,
    }
}

/// Returns the address under which the host itself reaches a port of its VM.
pub(super) fn seen_from_host(endpoint: EndpointSpec) -> EndpointSpec {
    let mut seen = endpoint;
    if let (Address::Tcp { host, .. } | Address::Telnet { host, .. }, Some(Role::Listen)) =
        (&mut seen.address, seen.role)
        && (host == "0.0.0.0" || host == "::")
    {
        *host = "127.0.0.1".to_owned();
    }
    seen
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn endpoints_and_devices_are_the_same_in_both_directions() {
        for (endpoint, written) in [
            ("listen:tcp:0.0.0.0:7001", "tcp::7001,server,nodelay,nowait"),
            (
                "listen:tcp:127.0.0.1:7001",
                "tcp:127.0.0.1:7001,server,nodelay,nowait",
            ),
            ("listen:tcp:[::1]:7001", "tcp:[::1]:7001,server,nodelay,nowait"),
            ("connect:tcp:lab:7001", "tcp:lab:7001,nodelay"),
            (
                "listen:telnet:127.0.0.1:7001",
                "telnet:127.0.0.1:7001,server,nodelay,nowait",
            ),
            ("listen:unix:/run/a,,b", "unix:/run/a,,b,server,nowait"),
            ("connect:unix:/tmp/windows-debugger", "unix:/tmp/windows-debugger"),
            ("pty", "pty"),
        ] {
            let endpoint: EndpointSpec = endpoint.parse().unwrap();
            assert_eq!(device(&endpoint).unwrap(), written);
            assert_eq!(endpoint_of(written), Some(endpoint));
        }
    }

    #[test]
    fn other_spellings_are_read() {
        for (device, endpoint) in [
            ("tcp:0.0.0.0:7001,server=on,wait=off", "listen:tcp:0.0.0.0:7001"),
            ("tcp::7001,server,telnet,nowait", "listen:telnet:0.0.0.0:7001"),
            ("unix:/a,server=on,wait=off", "listen:unix:/a"),
        ] {
            assert!(is(device, &endpoint.parse().unwrap()), "{device}");
        }
        for device in [
            "none",
            "null",
            "stdio",
            "vc",
            "file:/x",
            "/dev/ttyS0",
            "tcp:7001",
            "",
        ] {
            assert_eq!(endpoint_of(device), None, "{device}");
        }
    }

    #[test]
    fn what_xen_cannot_open_is_refused() {
        for (endpoint, part) in [
            ("listen:pipe:x", "named pipes"),
            ("listen:tcp:127.0.0.1:0", "name the port"),
            ("pty:/tmp/x", "no link"),
            ("listen:unix:x", "absolute"),
            ("connect:tcp:a:1,via=b", "its own host"),
            ("listen:rfc2217:127.0.0.1:1", "cannot open"),
        ] {
            let problem = device(&endpoint.parse().unwrap()).unwrap_err();
            assert!(problem.message.contains(part), "{problem}");
        }
    }
}
