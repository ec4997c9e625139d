//! The address of an endpoint, by kind.

use super::{Parser, Piece, UNIX_PATH_BYTES, Wrong, example};
use crate::model::endpoint::{Address, EndpointError, Role, TtySettings};
use std::path::PathBuf;

/// The longest name of a Windows pipe after `\pipe\` (CreateNamedPipe's documentation).
const PIPE_NAME_CHARACTERS: usize = 256;

/// What no host's name has in it, and is often written by mistake: a URL's slash, a user, a wildcard, a copied quote.
const NEVER_IN_A_HOST: [char; 9] = ['/', '\\', '@', '*', '[', ']', '"', '\'', '='];

/// Where in the address it goes wrong, and what is wrong there.
type WrongAt = (usize, Wrong);

/// Parses the address of a kind.
pub(super) fn parse(
    parser: &Parser<'_>,
    kind: &str,
    role: Option<Role>,
    piece: &Piece,
) -> Result<Address, EndpointError> {
    address(kind, role, &piece.text).map_err(|(at, wrong)| {
        // Written twice, a comma is one character of the address: a column behind one is the address's.
        let at = if parser.text[piece.offset..].starts_with(&piece.text) {
            at
        } else {
            0
        };
        parser.error(piece.offset + at, &wrong, example(kind, role))
    })
}

fn address(kind: &str, role: Option<Role>, text: &str) -> Result<Address, WrongAt> {
    if text.is_empty() && !matches!(kind, "stdio" | "pty") {
        let what = match kind {
            "unix" => "the path of a Unix socket",
            "tcp" | "telnet" | "rfc2217" => host_and_port_expected(role),
            "pipe" => r"`NAME` or `\\.\pipe\NAME`",
            "tty" => "a terminal device, `/dev/ttyUSB0` or `COM3`",
            _ => "the path of a file",
        };
        return Err((0, Wrong::new("address", "", what)));
    }
    Ok(match kind {
        "unix" => {
            if text.len() > UNIX_PATH_BYTES {
                return Err((0, long_path(text)));
            }
            Address::Unix(PathBuf::from(text))
        }
        "tcp" | "telnet" | "rfc2217" => {
            let (host, port) = host_and_port(text, role)?;
            match kind {
                "tcp" => Address::Tcp { host, port },
                "telnet" => Address::Telnet { host, port },
                _ => Address::Rfc2217 {
                    host,
                    port,
                    settings: TtySettings::default(),
                },
            }
        }
        "pipe" => pipe(text, role)?,
        "pty" => Address::Pty {
            link: (!text.is_empty()).then(|| PathBuf::from(text)),
        },
        "tty" => Address::Tty {
            device: text.to_owned(),
            settings: TtySettings::default(),
        },
        "file" => Address::File(PathBuf::from(text)),
        _ if text.is_empty() => Address::Stdio,
        _ => return Err((0, Wrong::new("address", text, "none after `stdio`"))),
    })
}

/// Says that a socket's path is too long.
pub(crate) fn long_path(path: &str) -> Wrong {
    let expected = format!(
        "at most {UNIX_PATH_BYTES} bytes for a Unix socket, and it has {}",
        path.len()
    );
    Wrong::new("path", path, expected)
}

fn host_and_port_expected(role: Option<Role>) -> &'static str {
    match role {
        Some(Role::Listen) => "`HOST:PORT`, or `PORT` for this machine only",
        _ => "`HOST:PORT`",
    }
}

/// Parses `HOST:PORT`, `[IPv6]:PORT`, and `PORT` alone for a listener on loopback.
fn host_and_port(text: &str, role: Option<Role>) -> Result<(String, u16), WrongAt> {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((host, after)) = rest.split_once(']') else {
            return Err((
                0,
                Wrong::new("host", text, "`[IPv6]:PORT`, and the `]` is missing"),
            ));
        };
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err((1, Wrong::new("host", host, "an IPv6 address in the brackets")));
        }
        let at = host.len() + 2;
        let Some(port) = after.strip_prefix(':') else {
            return Err((at, Wrong::new("port", after, "`:PORT` after the brackets")));
        };
        return Ok((host.to_owned(), port_number(port, at + 1, role)?));
    }
    let (host, port, at) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port, host.len() + 1),
        None if role == Some(Role::Listen) => ("127.0.0.1", text, 0),
        None => return Err((text.len(), Wrong::new("port", "", "`:PORT` after the host"))),
    };
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        let expected = format!("brackets around an IPv6 address, `[{host}]:{port}` or `[{text}]:PORT`");
        return Err((0, Wrong::new("host", text, expected)));
    }
    if host.is_empty() {
        let expected = "a host before `:`, `127.0.0.1` for this machine only";
        return Err((0, Wrong::new("host", "", expected)));
    }
    if host == "*" {
        let expected = "`0.0.0.0` for every IPv4 interface, `[::]` for every IPv6 one";
        return Err((0, Wrong::new("host", host, expected)));
    }
    if host.contains(':') {
        let expected = "one `HOST:PORT`; an IPv6 address stands in brackets, `[::1]:7001`";
        return Err((0, Wrong::new("host", host, expected)));
    }
    if host.contains(|character: char| character.is_whitespace() || NEVER_IN_A_HOST.contains(&character)) {
        return Err((0, Wrong::new("host", host, "a host's name or address")));
    }
    Ok((host.to_owned(), port_number(port, at, role)?))
}

fn port_number(text: &str, at: usize, role: Option<Role>) -> Result<u16, WrongAt> {
    let all_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u16>().ok().filter(|_| all_digits) {
        Some(0) if role == Some(Role::Connect) => {
            let expected = "a number from 1 to 65535 (0 takes a free port and is for `listen:` only)";
            Err((at, Wrong::new("port", text, expected)))
        }
        Some(number) => Ok(number),
        None => {
            let least = if role == Some(Role::Listen) { 0 } else { 1 };
            Err((
                at,
                Wrong::new("port", text, format!("a number from {least} to 65535")),
            ))
        }
    }
}

/// Parses `NAME`, `\\.\pipe\NAME` and, to connect, `\\HOST\pipe\NAME`.
fn pipe(text: &str, role: Option<Role>) -> Result<Address, WrongAt> {
    let forms = match role {
        Some(Role::Listen) => r"`NAME` or `\\.\pipe\NAME`",
        _ => r"`NAME`, `\\.\pipe\NAME` or `\\HOST\pipe\NAME`",
    };
    let (host, name) = match text.strip_prefix(r"\\") {
        None => (None, text),
        Some(rest) => {
            let parts: Vec<&str> = rest.splitn(3, '\\').collect();
            match parts.as_slice() {
                [".", pipe, name] if pipe.eq_ignore_ascii_case("pipe") => (None, *name),
                [host, pipe, name] if pipe.eq_ignore_ascii_case("pipe") && !host.is_empty() => {
                    (Some((*host).to_owned()), *name)
                }
                _ => return Err((0, Wrong::new("pipe name", text, forms))),
            }
        }
    };
    let at = text.len() - name.len();
    if let Some(host) = &host
        && role != Some(Role::Connect)
    {
        let expected = format!("{forms}: a pipe of another host can only be connected to");
        return Err((2, Wrong::new("host", host, expected)));
    }
    if name.is_empty() {
        return Err((at, Wrong::new("pipe name", "", r"a name after `\pipe\`")));
    }
    if name.contains(['\\', '/']) {
        return Err((
            at,
            Wrong::new(
                "pipe name",
                name,
                format!(r"{forms}, and no `\` or `/` in the name"),
            ),
        ));
    }
    let length = name.chars().count();
    if length > PIPE_NAME_CHARACTERS {
        let expected = format!("at most {PIPE_NAME_CHARACTERS} characters, and it has {length}");
        return Err((at, Wrong::new("pipe name", name, expected)));
    }
    let is_device = name
        .get(..3)
        .is_some_and(|start| start.eq_ignore_ascii_case("com"))
        && name.len() > 3
        && name.bytes().skip(3).all(|byte| byte.is_ascii_digit());
    if is_device {
        let expected = format!(
            "another name: `{name}` is reserved for Windows' own ports (such a port is `tty:{name}`)"
        );
        return Err((at, Wrong::new("pipe name", name, expected)));
    }
    Ok(Address::Pipe {
        host,
        name: name.to_owned(),
    })
}
