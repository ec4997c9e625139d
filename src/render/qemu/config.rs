//! A file for `-readconfig` that gives a VM serial ports. The file is wholly ours; a comment before each port holds its
//! endpoint, so that one port can be changed and the others kept.

use crate::model::{Address, EndpointSpec, FailureKind, PortIndex, Problem, Role};
use crate::render::environment::{RenderError, render};
use crate::render::qemu::{MAX_PORTS, chardev, chardev_id};
use serde::Serialize;
use std::collections::BTreeMap;

/// The first line of every file that we write.
const MARK: &str = "# Written by vmserial.";

/// What the comment before a port begins with.
const PORT_MARK: &str = "# vmserial port ";

/// The ports of a file, with the VM's role in each endpoint.
pub type Ports = BTreeMap<PortIndex, EndpointSpec>;

#[derive(Serialize)]
struct Context {
    ports: Vec<Port>,
}

#[derive(Serialize, Default)]
struct Port {
    number: u32,
    index: u32,
    endpoint: String,
    chardev: String,
    device: String,
    backend: &'static str,
    path: Option<String>,
    host: Option<String>,
    tcp_port: Option<u16>,
    server: Option<&'static str>,
    wait: Option<&'static str>,
    telnet: Option<&'static str>,
}

/// Reads the ports of a file that we wrote.
///
/// # Errors
///
/// Fails as a precondition when the file is somebody else's: it would be replaced wholly.
pub fn parse(path: &str, text: &str) -> Result<Ports, Problem> {
    if !text.starts_with(MARK) {
        return Err(Problem::new(
            FailureKind::Precondition,
            format!("`{path}` was not written by vmserial and would be replaced wholly"),
        )
        .hint("Name a file of its own: QEMU takes `-readconfig` more than once."));
    }
    let mut ports = Ports::new();
    for line in text.lines() {
        let Some(rest) = line.strip_prefix(PORT_MARK) else {
            continue;
        };
        let parsed = rest
            .split_once(": ")
            .and_then(|(number, endpoint)| Some((number.parse().ok()?, endpoint.parse().ok()?)));
        let Some((number, endpoint)) = parsed else {
            return Err(Problem::new(
                FailureKind::Precondition,
                format!("`{path}` was changed by hand: expected `{PORT_MARK}NUMBER: ENDPOINT`, got `{line}`"),
            )
            .hint("Undo that change, or remove the file."));
        };
        ports.insert(number, endpoint);
    }
    Ok(ports)
}

/// Writes the file.
///
/// # Errors
///
/// Fails as configuration when QEMU has no such port or backend, or the file format cannot hold a path: it knows no way
/// to write a quotation mark.
pub fn text(ports: &Ports) -> Result<String, Problem> {
    let ports = ports
        .iter()
        .map(|(&index, endpoint)| port(index, endpoint))
        .collect::<Result<Vec<_>, _>>()?;
    render("qemu/readconfig.cfg", &Context { ports }).map_err(|error: RenderError| {
        Problem::new(FailureKind::Configuration, format!("{error}: {}", error.source))
    })
}

fn port(index: PortIndex, endpoint: &EndpointSpec) -> Result<Port, Problem> {
    if index.number() > MAX_PORTS {
        return Err(Problem::new(
            FailureKind::Configuration,
            format!("QEMU has ISA ports 1 to {MAX_PORTS}, got port {index}"),
        ));
    }
    // Refuses what QEMU has no backend for, in the same words as everywhere.
    chardev::backend(endpoint)?;
    let chardev = chardev_id(index);
    let mut port = Port {
        number: index.number(),
        index: index.zero_based(),
        endpoint: endpoint.to_string(),
        device: format!("isa-{chardev}"),
        chardev,
        ..Port::default()
    };
    match &endpoint.address {
        Address::Unix(path) => {
            port.backend = "socket";
            port.path = Some(path.display().to_string());
        }
        Address::Tcp { host, port: number } => {
            port.backend = "socket";
            port.host = Some(host.clone());
            port.tcp_port = Some(*number);
        }
        Address::Telnet { host, port: number } => {
            port.backend = "socket";
            port.host = Some(host.clone());
            port.tcp_port = Some(*number);
            port.telnet = Some("on");
        }
        Address::Tty { device, .. } => {
            port.backend = "serial";
            port.path = Some(device.clone());
        }
        _ => port.backend = "pty",
    }
    match endpoint.role {
        Some(Role::Listen) => (port.server, port.wait) = (Some("on"), Some("off")),
        Some(Role::Connect) => port.server = Some("off"),
        None => {}
    }
    Ok(port)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn ports(list: &[(u32, &str)]) -> Ports {
        list.iter()
            .map(|&(number, endpoint)| (PortIndex::new(number).unwrap(), endpoint.parse().unwrap()))
            .collect()
    }

    #[test]
    fn two_ports() {
        insta::assert_snapshot!(text(&ports(&[
            (1, "listen:unix:/tmp/my vm/a.sock"),
            (2, "connect:telnet:127.0.0.1:7001"),
        ])).unwrap(), @r#"
        # Written by vmserial. Start the VM with: -readconfig and the path of this file

        # vmserial port 1: listen:unix:/tmp/my vm/a.sock
        [chardev "ser0"]
          backend = "socket"
          path = "/tmp/my vm/a.sock"
          server = "on"
          wait = "off"

        [device "isa-ser0"]
          driver = "isa-serial"
          chardev = "ser0"
          index = "0"

        # vmserial port 2: connect:telnet:127.0.0.1:7001
        [chardev "ser1"]
          backend = "socket"
          host = "127.0.0.1"
          port = "7001"
          server = "off"
          telnet = "on"

        [device "isa-ser1"]
          driver = "isa-serial"
          chardev = "ser1"
          index = "1"
        "#);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let ports = ports(&[
            (1, "pty"),
            (2, "listen:unix:/a,,b"),
            (3, "tty:/dev/ttyS1"),
            (4, "listen:tcp:[::1]:7001"),
        ]);
        assert_eq!(parse("f", &text(&ports).unwrap()).unwrap(), ports);
    }

    #[test]
    fn foreign_files_are_refused() {
        let foreign = parse("/etc/vm.cfg", "[machine]\n").unwrap_err();
        assert_eq!(foreign.kind, FailureKind::Precondition);
        let changed = parse("f", "# Written by vmserial.\n# vmserial port x: y\n").unwrap_err();
        assert!(changed.message.contains("port x: y"), "{changed}");
    }

    #[test]
    fn a_quotation_mark_cannot_break_out() {
        let problem = text(&ports(&[(1, "listen:unix:/tmp/a\"b")])).unwrap_err();
        assert_eq!(problem.kind, FailureKind::Configuration);
        assert!(problem.message.contains("quotation mark"), "{problem}");
    }
}
