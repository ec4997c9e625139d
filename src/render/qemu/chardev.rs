//! A port's endpoint in QEMU's three spellings: `-chardev` option, QMP backend, and the file name that `query-chardev`
//! shows. Source: qemu(1), `qapi/char.json`, and what QEMU 7.2 and 11.1 printed.

use crate::model::{Address, EndpointSpec, FailureKind, Problem, Role, TtySettings};
use crate::render::qemu::{Version, check_socket_path, escaped};
use serde_json::{Value, json};

/// Seconds between QEMU's own attempts to connect, where it is the one that connects.
const RECONNECT_SECONDS: u32 = 1;

/// From this version on the time is given in milliseconds; the old option is gone in 10.0.
const RECONNECT_MS_SINCE: Version = Version { major: 9, minor: 2 };

/// Writes the value of `-chardev` for a VM's endpoint.
///
/// # Errors
///
/// Fails as configuration when QEMU has no such backend or the path is too long.
pub fn chardev_option(
    id: &str,
    endpoint: &EndpointSpec,
    version: Option<Version>,
) -> Result<String, Problem> {
    let role = |role: Option<Role>| match role {
        Some(Role::Connect) => format!("server=off,{}", reconnect(version)),
        _ => "server=on,wait=off".to_owned(),
    };
    refuse_hops(endpoint)?;
    Ok(match &endpoint.address {
        Address::Unix(path) => {
            let path = path.display().to_string();
            check_socket_path(&path)?;
            format!("socket,id={id},path={},{}", escaped(&path), role(endpoint.role))
        }
        Address::Tcp { host, port } => {
            let host = escaped(host);
            format!(
                "socket,id={id},host={host},port={port},{},nodelay=on",
                role(endpoint.role)
            )
        }
        Address::Telnet { host, port } => {
            let host = escaped(host);
            format!(
                "socket,id={id},host={host},port={port},{},nodelay=on,telnet=on",
                role(endpoint.role)
            )
        }
        Address::Pty { link: None } => format!("pty,id={id}"),
        Address::Tty { device, settings } if *settings == TtySettings::default() => {
            format!("serial,id={id},path={}", escaped(device))
        }
        _ => return Err(unknown(endpoint)),
    })
}

/// `wait=off` has the counterpart that a VM starts although its other side is not there yet.
fn reconnect(version: Option<Version>) -> String {
    if version.is_some_and(|version| version >= RECONNECT_MS_SINCE) {
        format!("reconnect-ms={}", RECONNECT_SECONDS * 1000)
    } else {
        format!("reconnect={RECONNECT_SECONDS}")
    }
}

/// Writes the backend of `chardev-change` for a VM's endpoint.
///
/// # Errors
///
/// As [`chardev_option`].
pub fn backend(endpoint: &EndpointSpec) -> Result<Value, Problem> {
    refuse_hops(endpoint)?;
    let socket = |address: Value, telnet: bool| {
        let mut data = json!({ "addr": address });
        if endpoint.role == Some(Role::Connect) {
            data["server"] = json!(false);
        } else {
            data["server"] = json!(true);
            data["wait"] = json!(false);
        }
        if telnet {
            data["telnet"] = json!(true);
        }
        json!({ "type": "socket", "data": data })
    };
    let inet =
        |host: &str, port: u16| json!({ "type": "inet", "data": { "host": host, "port": port.to_string() } });
    Ok(match &endpoint.address {
        Address::Unix(path) => {
            let path = path.display().to_string();
            check_socket_path(&path)?;
            socket(json!({ "type": "unix", "data": { "path": path } }), false)
        }
        Address::Tcp { host, port } => socket(inet(host, *port), false),
        Address::Telnet { host, port } => socket(inet(host, *port), true),
        Address::Pty { link: None } => json!({ "type": "pty", "data": {} }),
        Address::Tty { device, settings } if *settings == TtySettings::default() => {
            json!({ "type": "serial", "data": { "device": device } })
        }
        _ => return Err(unknown(endpoint)),
    })
}

/// Writes the backend that throws everything away.
pub fn null_backend() -> Value {
    json!({ "type": "null", "data": {} })
}

fn refuse_hops(endpoint: &EndpointSpec) -> Result<(), Problem> {
    if endpoint.via.is_empty() {
        return Ok(());
    }
    Err(Problem::new(
        FailureKind::Configuration,
        format!("`{endpoint}`: a VM's own end cannot go through SSH"),
    )
    .hint("Write `via=` on the bridge's side."))
}

fn unknown(endpoint: &EndpointSpec) -> Problem {
    Problem::new(
        FailureKind::Configuration,
        format!("QEMU has no serial port on `{endpoint}`"),
    )
    .hint(
        "Expected unix:PATH, tcp:HOST:PORT, telnet:HOST:PORT (with listen: or connect:), pty or tty:DEVICE.",
    )
}

/// A backend as it is, with the way back to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// One that is an endpoint of ours, with the VM's role.
    Endpoint(EndpointSpec),
    /// One that throws everything away.
    Null,
    /// Any other, in QEMU's words.
    Other(String),
}

/// Reads the file name that `query-chardev` shows: `disconnected:unix:/x,server=on`,
/// `tcp:127.0.0.1:7001,server=on <-> 127.0.0.1:50674`, `pty:/dev/pts/3`. A pseudo terminal is returned as the terminal
/// that it is now.
pub fn parse_filename(filename: &str) -> Backend {
    let other = || Backend::Other(filename.to_owned());
    let text = filename.strip_prefix("disconnected:").unwrap_or(filename);
    if text == "null" {
        return Backend::Null;
    }
    if let Some(device) = text.strip_prefix("pty:") {
        return Backend::Endpoint(EndpointSpec::new(
            None,
            Address::Tty {
                device: device.to_owned(),
                settings: TtySettings::default(),
            },
        ));
    }
    // The peer comes after an arrow and is not part of the address.
    let text = text.split(" <-> ").next().unwrap_or(text);
    let (text, role) = match text.strip_suffix(",server=on").or(text.strip_suffix(",server")) {
        Some(text) => (text, Role::Listen),
        None => (text, Role::Connect),
    };
    let address = match text.split_once(':') {
        Some(("unix", path)) if !path.is_empty() => Some(Address::Unix(path.into())),
        Some(("tcp", rest)) => host_and_port(rest).map(|(host, port)| Address::Tcp { host, port }),
        Some(("telnet", rest)) => host_and_port(rest).map(|(host, port)| Address::Telnet { host, port }),
        _ => None,
    };
    address.map_or_else(other, |address| {
        Backend::Endpoint(EndpointSpec::new(Some(role), address))
    })
}

fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    Some((host.to_owned(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn parsed(text: &str) -> EndpointSpec {
        text.parse().unwrap()
    }

    #[test]
    fn options() {
        let new = Some(Version { major: 9, minor: 2 });
        let cases = [
            (
                "listen:unix:/a/b",
                None,
                "socket,id=ser0,path=/a/b,server=on,wait=off",
            ),
            (
                "connect:unix:/a,,b",
                None,
                "socket,id=ser0,path=/a,,b,server=off,reconnect=1",
            ),
            (
                "connect:unix:/a",
                new,
                "socket,id=ser0,path=/a,server=off,reconnect-ms=1000",
            ),
            (
                "listen:tcp:[::1]:7001",
                None,
                "socket,id=ser0,host=::1,port=7001,server=on,wait=off,nodelay=on",
            ),
            (
                "listen:telnet:127.0.0.1:7001",
                None,
                "socket,id=ser0,host=127.0.0.1,port=7001,server=on,wait=off,nodelay=on,telnet=on",
            ),
            ("pty", None, "pty,id=ser0"),
            ("tty:/dev/ttyUSB0", None, "serial,id=ser0,path=/dev/ttyUSB0"),
        ];
        for (endpoint, version, expected) in cases {
            assert_eq!(
                chardev_option("ser0", &parsed(endpoint), version).unwrap(),
                expected
            );
        }
    }

    #[test]
    fn what_qemu_cannot_do_is_refused_in_both_spellings() {
        for text in [
            "listen:pipe:x",
            "listen:rfc2217:h:1",
            "stdio",
            "pty:/link",
            "exec:cat",
            "listen:unix:/a,via=h",
            "tty:/dev/ttyUSB0,baud=9600",
        ] {
            let option = chardev_option("ser0", &parsed(text), None).unwrap_err();
            assert_eq!(option.kind, FailureKind::Configuration);
            assert_eq!(backend(&parsed(text)).unwrap_err(), option);
        }
    }

    #[test]
    fn backends() {
        assert_eq!(
            backend(&parsed("listen:unix:/tmp/t2.sock")).unwrap(),
            json!({"type":"socket","data":{"addr":{"type":"unix","data":{"path":"/tmp/t2.sock"}},"server":true,"wait":false}})
        );
        assert_eq!(
            backend(&parsed("connect:telnet:h:1")).unwrap(),
            json!({"type":"socket","data":{"addr":{"type":"inet","data":{"host":"h","port":"1"}},"server":false,"telnet":true}})
        );
        assert_eq!(backend(&parsed("pty")).unwrap(), json!({"type":"pty","data":{}}));
    }

    #[test]
    fn file_names_that_qemu_printed() {
        let cases = [
            (
                "disconnected:unix:/tmp/a.sock,server=on",
                "listen:unix:/tmp/a.sock",
            ),
            ("unix:/tmp/a.sock,server=on", "listen:unix:/tmp/a.sock"),
            ("unix:/tmp/a.sock", "connect:unix:/tmp/a.sock"),
            ("unix:/tmp/a,b.sock,server=on", "listen:unix:/tmp/a,,b.sock"),
            (
                "telnet:127.0.0.1:14444,server=on <-> 127.0.0.1:50674",
                "listen:telnet:127.0.0.1:14444",
            ),
            ("disconnected:tcp:::1:7001,server=on", "listen:tcp:[::1]:7001"),
            ("pty:/dev/pts/1", "tty:/dev/pts/1"),
        ];
        for (filename, expected) in cases {
            let Backend::Endpoint(endpoint) = parse_filename(filename) else {
                panic!("{filename}");
            };
            assert_eq!(endpoint.to_string(), expected);
        }
        assert_eq!(parse_filename("null"), Backend::Null);
        for filename in ["vc", "stdio", "file", "unix:", "tcp:nothing"] {
            assert_eq!(parse_filename(filename), Backend::Other(filename.to_owned()));
        }
    }

    #[test]
    fn a_backend_that_is_read_can_be_written_again() {
        for filename in ["unix:/x,server=on", "tcp:h:1", "telnet:h:2,server=on"] {
            let Backend::Endpoint(endpoint) = parse_filename(filename) else {
                panic!("{filename}");
            };
            assert!(backend(&endpoint).is_ok());
        }
    }
}
