//! The parser of the endpoint grammar. Every error names the column, what was got, what was expected, an example.

use super::{Address, ClientSpec, EndpointSpec, ExecCommand, Role, SshHop, TtySettings};
use crate::model::policy::ClientPrefix;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The longest path of a Unix socket: `sockaddr_un` has 108 bytes, one of them a NUL.
pub(crate) const UNIX_PATH_BYTES: usize = 107;

/// The longest name of a Windows pipe after `\pipe\` (CreateNamedPipe's documentation).
const PIPE_NAME_CHARACTERS: usize = 256;

const KINDS: [&str; 10] = [
    "unix", "tcp", "telnet", "rfc2217", "pipe", "pty", "tty", "stdio", "exec", "file",
];

/// The text is no endpoint, client or way to send BREAK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointError {
    /// What the text should have been: `endpoint`.
    pub what: &'static str,
    /// The whole text.
    pub text: String,
    /// Where in the text it goes wrong, in characters from 1.
    pub column: usize,
    /// What is wrong there, with what was expected.
    pub message: String,
    /// An endpoint that would be right.
    pub example: String,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "`{}` is no {}: column {}: {} (for example `{}`)",
            self.text, self.what, self.column, self.message, self.example
        )
    }
}

impl std::error::Error for EndpointError {}

/// Tells whether a text begins with a role or a kind of the grammar, so that it is an endpoint and no target's name.
pub fn starts_with_kind(text: &str) -> bool {
    let text = text
        .strip_prefix("listen:")
        .or_else(|| text.strip_prefix("connect:"))
        .unwrap_or(text);
    text == "stdio"
        || text == "pty"
        || text
            .split_once(':')
            .is_some_and(|(kind, _)| KINDS.contains(&kind))
}

struct Parser<'a> {
    text: &'a str,
}

impl Parser<'_> {
    /// Makes the error at a byte offset of the text.
    fn error(&self, offset: usize, message: impl Into<String>, example: impl Into<String>) -> EndpointError {
        let column = self
            .text
            .get(..offset)
            .map_or(1, |before| before.chars().count() + 1);
        EndpointError {
            what: "endpoint",
            text: self.text.to_owned(),
            column,
            message: message.into(),
            example: example.into(),
        }
    }
}

/// A piece of the text with the byte offset at which it starts.
pub(crate) struct Piece {
    pub(crate) offset: usize,
    pub(crate) text: String,
}

/// Splits at single commas; two commas are a literal one.
pub(crate) fn split_commas(text: &str, offset: usize) -> Vec<Piece> {
    let mut pieces = vec![Piece {
        offset,
        text: String::new(),
    }];
    let mut characters = text.char_indices().peekable();
    while let Some((index, character)) = characters.next() {
        if character == ',' && characters.next_if(|&(_, next)| next == ',').is_none() {
            pieces.push(Piece {
                offset: offset + index + 1,
                text: String::new(),
            });
            continue;
        }
        if let Some(piece) = pieces.last_mut() {
            piece.text.push(character);
        }
    }
    pieces
}

impl FromStr for EndpointSpec {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parser = Parser { text };
        if text.is_empty() {
            return Err(parser.error(
                0,
                "got nothing, expected a kind and an address",
                "connect:unix:/run/vm/ser0.sock",
            ));
        }
        if let Some(offset) = text.find(|character: char| character.is_control()) {
            return Err(parser.error(
                offset,
                "got a control character",
                "connect:unix:/run/vm/ser0.sock",
            ));
        }
        let (role, rest_offset) = if text.starts_with("listen:") {
            (Some(Role::Listen), "listen:".len())
        } else if text.starts_with("connect:") {
            (Some(Role::Connect), "connect:".len())
        } else {
            (None, 0)
        };
        let rest = &text[rest_offset..];
        let kind_end = rest.find([':', ',']).unwrap_or(rest.len());
        let kind = &rest[..kind_end];
        if !KINDS.contains(&kind) {
            let message = format!("unknown kind `{kind}`, expected one of {}", KINDS.join(", "));
            return Err(parser.error(rest_offset, message, "connect:unix:/run/vm/ser0.sock"));
        }
        check_role(&parser, role, kind, rest_offset)?;
        let after_kind = rest_offset + kind_end;
        if kind == "exec" {
            return exec(&parser, after_kind);
        }
        let has_colon = text[after_kind..].starts_with(':');
        let address_offset = after_kind + usize::from(has_colon);
        let mut pieces = split_commas(&text[address_offset..], address_offset).into_iter();
        let address = pieces.next().unwrap_or(Piece {
            offset: address_offset,
            text: String::new(),
        });
        if !has_colon && !matches!(kind, "stdio" | "pty") {
            return Err(parser.error(
                after_kind,
                format!("expected `:` and an address after `{kind}`"),
                example(kind, role),
            ));
        }
        let mut spec = EndpointSpec {
            role,
            address: self::address(&parser, kind, role, &address)?,
            via: Vec::new(),
        };
        for option in pieces {
            apply_option(&parser, &mut spec, &option)?;
        }
        Ok(spec)
    }
}

fn check_role(
    parser: &Parser<'_>,
    role: Option<Role>,
    kind: &str,
    kind_offset: usize,
) -> Result<(), EndpointError> {
    let needs_role = matches!(kind, "unix" | "tcp" | "telnet" | "rfc2217" | "pipe");
    match role {
        None if needs_role => Err(parser.error(
            kind_offset,
            format!("expected a role before `{kind}`: `listen:` if this side waits, `connect:` if it goes to the other"),
            example(kind, Some(Role::Connect)),
        )),
        Some(role) if !needs_role => Err(parser.error(
            0,
            format!("`{kind}` has no role, got `{}:`", role.name()),
            example(kind, None),
        )),
        _ => Ok(()),
    }
}

fn example(kind: &str, role: Option<Role>) -> String {
    let address = match kind {
        "unix" => "unix:/run/vm/ser0.sock",
        "tcp" => "tcp:127.0.0.1:7001",
        "telnet" => "telnet:127.0.0.1:7001",
        "rfc2217" => "rfc2217:127.0.0.1:7001",
        "pipe" => "pipe:kd-win11",
        "pty" => "pty:/tmp/vm-console",
        "tty" => "tty:/dev/ttyUSB0,baud=115200",
        "stdio" => "stdio",
        "exec" => "exec:ssh host nc -U /run/vm/ser0.sock",
        _ => "file:/var/log/vm.log",
    };
    match role {
        Some(role) => format!("{}:{address}", role.name()),
        None => address.to_owned(),
    }
}

fn exec(parser: &Parser<'_>, after_kind: usize) -> Result<EndpointSpec, EndpointError> {
    let command = parser.text[after_kind..].strip_prefix(':').unwrap_or_default();
    match ExecCommand::from_line(command) {
        Some(command) => Ok(EndpointSpec::new(None, Address::Exec(command))),
        None if command.trim().is_empty() => Err(parser.error(
            parser.text.len(),
            "expected a command after `exec:`",
            example("exec", None),
        )),
        None => Err(parser.error(
            after_kind + 1,
            "the command's quotes do not match",
            example("exec", None),
        )),
    }
}

fn address(
    parser: &Parser<'_>,
    kind: &str,
    role: Option<Role>,
    piece: &Piece,
) -> Result<Address, EndpointError> {
    let wrong = |offset: usize, message: String| parser.error(offset, message, example(kind, role));
    let text = piece.text.as_str();
    if text.is_empty() && !matches!(kind, "stdio" | "pty") {
        return Err(wrong(
            piece.offset,
            format!("expected an address after `{kind}:`"),
        ));
    }
    Ok(match kind {
        "unix" => {
            if text.len() > UNIX_PATH_BYTES {
                let message = format!(
                    "a Unix socket's path has at most {UNIX_PATH_BYTES} bytes, got {}",
                    text.len()
                );
                return Err(wrong(piece.offset, message));
            }
            Address::Unix(PathBuf::from(text))
        }
        "tcp" | "telnet" | "rfc2217" => {
            let (host, port) =
                host_and_port(text, role).map_err(|(at, message)| wrong(piece.offset + at, message))?;
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
        "pipe" => pipe(text, role).map_err(|message| wrong(piece.offset, message))?,
        "pty" => Address::Pty {
            link: (!text.is_empty()).then(|| PathBuf::from(text)),
        },
        "tty" => Address::Tty {
            device: text.to_owned(),
            settings: TtySettings::default(),
        },
        "file" => Address::File(PathBuf::from(text)),
        _ if text.is_empty() => Address::Stdio,
        _ => {
            return Err(wrong(
                piece.offset,
                format!("`stdio` has no address, got `{text}`"),
            ));
        }
    })
}

/// Parses `HOST:PORT`, `[IPv6]:PORT`, and `PORT` alone for a listener on loopback. An error has an offset in `text`.
fn host_and_port(text: &str, role: Option<Role>) -> Result<(String, u16), (usize, String)> {
    let (host, port, port_offset) = if let Some(rest) = text.strip_prefix('[') {
        let Some((host, port)) = rest.split_once("]:") else {
            return Err((0, "expected `[IPv6]:PORT`".to_owned()));
        };
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err((1, format!("`{host}` is no IPv6 address")));
        }
        (host, port, host.len() + 3)
    } else if let Some((host, port)) = text.rsplit_once(':') {
        if host.contains(':') {
            return Err((
                0,
                format!("an IPv6 address stands in brackets: `[{host}]:{port}`"),
            ));
        }
        (host, port, host.len() + 1)
    } else if role == Some(Role::Listen) {
        ("127.0.0.1", text, 0)
    } else {
        return Err((text.len(), "expected `HOST:PORT`".to_owned()));
    };
    if host.is_empty() {
        return Err((
            0,
            "expected a host before `:`, `127.0.0.1` for this machine only".to_owned(),
        ));
    }
    if host.contains(char::is_whitespace) {
        return Err((0, format!("`{host}` is no host name")));
    }
    let all_digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let number = port.parse::<u16>().ok().filter(|_| all_digits);
    match number {
        Some(0) if role == Some(Role::Connect) => Err((
            port_offset,
            "port 0 takes a free port and is for `listen:` only".to_owned(),
        )),
        Some(number) => Ok((host.to_owned(), number)),
        None => Err((
            port_offset,
            format!("`{port}` is no port, expected a number from 0 to 65535"),
        )),
    }
}

/// Parses `NAME`, `\\.\pipe\NAME` and, to connect, `\\HOST\pipe\NAME`.
fn pipe(text: &str, role: Option<Role>) -> Result<Address, String> {
    let (host, name) = match text.strip_prefix(r"\\") {
        None => (None, text),
        Some(rest) => {
            let parts: Vec<&str> = rest.splitn(3, '\\').collect();
            match parts.as_slice() {
                [".", pipe, name] if pipe.eq_ignore_ascii_case("pipe") => (None, *name),
                [host, pipe, name] if pipe.eq_ignore_ascii_case("pipe") && !host.is_empty() => {
                    (Some((*host).to_owned()), *name)
                }
                _ => return Err(r"expected `NAME`, `\\.\pipe\NAME` or `\\HOST\pipe\NAME`".to_owned()),
            }
        }
    };
    if host.is_some() && role != Some(Role::Connect) {
        return Err("a pipe of another host can only be connected to".to_owned());
    }
    if name.is_empty() || name.contains(['\\', '/']) {
        return Err(r"a pipe's name is not empty and has no `\` or `/`".to_owned());
    }
    if name.chars().count() > PIPE_NAME_CHARACTERS {
        return Err(format!(
            "a pipe's name has at most {PIPE_NAME_CHARACTERS} characters"
        ));
    }
    let is_device = name
        .get(..3)
        .is_some_and(|start| start.eq_ignore_ascii_case("com"))
        && name.len() > 3
        && name.bytes().skip(3).all(|byte| byte.is_ascii_digit());
    if is_device {
        return Err(format!(
            "`{name}` is a reserved device name of Windows, take another one"
        ));
    }
    Ok(Address::Pipe {
        host,
        name: name.to_owned(),
    })
}

fn apply_option(parser: &Parser<'_>, spec: &mut EndpointSpec, option: &Piece) -> Result<(), EndpointError> {
    let kind = spec.address.kind();
    let sample = example(kind, spec.role);
    let Some((name, value)) = option.text.split_once('=') else {
        let message = format!(
            "expected an option `name=value`, got `{}` (a literal comma is `,,`)",
            option.text
        );
        return Err(parser.error(option.offset, message, sample));
    };
    let value_offset = option.offset + name.len() + 1;
    let sets_a_line = spec.role != Some(Role::Listen);
    if let Address::Tty { settings, .. } | Address::Rfc2217 { settings, .. } = &mut spec.address
        && sets_a_line
        && let Some(result) = settings.apply(name, value)
    {
        return result.map_err(|message| parser.error(value_offset, message, sample));
    }
    match (name, &mut spec.address) {
        (
            "via",
            Address::Unix(_)
            | Address::Tcp { .. }
            | Address::Pipe { .. }
            | Address::Pty { .. }
            | Address::Tty { .. },
        ) => {
            let bad = value.is_empty() || value.starts_with('-') || value.contains(char::is_whitespace);
            if bad {
                let message = format!("`{value}` is no SSH destination, expected `[user@]host[:port]`");
                return Err(parser.error(value_offset, message, format!("{sample},via=root@xcp1.lab")));
            }
            spec.via.push(SshHop(value.to_owned()));
            Ok(())
        }
        _ => {
            let known = match spec.address {
                Address::Tty { .. } => format!("{}, `via=`", TtySettings::OPTIONS),
                Address::Rfc2217 { .. } if sets_a_line => TtySettings::OPTIONS.to_owned(),
                Address::Rfc2217 { .. } => "none (a client that comes to us sets what it likes)".to_owned(),
                Address::Unix(_) | Address::Tcp { .. } | Address::Pipe { .. } | Address::Pty { .. } => {
                    "`via=`".to_owned()
                }
                _ => "none".to_owned(),
            };
            let message =
                format!("unknown option `{name}`, expected for {kind}: {known} (a literal comma is `,,`)");
            Err(parser.error(option.offset, message, sample))
        }
    }
}

impl FromStr for ClientSpec {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        for prefix in ClientPrefix::ALL {
            if let Some(rest) = text
                .strip_prefix(prefix.name())
                .and_then(|rest| rest.strip_prefix('='))
            {
                let skipped = text.chars().count() - rest.chars().count();
                let endpoint = rest.parse().map_err(|error: EndpointError| EndpointError {
                    what: "client",
                    text: text.to_owned(),
                    column: error.column + skipped,
                    ..error
                })?;
                return Ok(Self {
                    prefix: Some(prefix),
                    endpoint,
                });
            }
        }
        if let Some((prefix, rest)) = text.split_once('=')
            && !prefix.is_empty()
            && prefix.bytes().all(|byte| byte.is_ascii_alphabetic())
            && starts_with_kind(rest)
        {
            return Err(EndpointError {
                what: "client",
                text: text.to_owned(),
                column: 1,
                message: format!("unknown prefix `{prefix}=`, expected one of console=, gdb=, kd=, ro="),
                example: format!("gdb={rest}"),
            });
        }
        Ok(Self {
            prefix: None,
            endpoint: text.parse()?,
        })
    }
}

#[cfg(test)]
mod tests;
