//! How BREAK reaches the guest: `telnet|rfc2217|tty|qmp:PATH[,id=ID]|exec:COMMAND|none`.

use crate::model::endpoint::{Address, EndpointError, EndpointSpec, UNIX_PATH_BYTES, resolved_path};
use crate::model::failure::{FailureKind, Problem};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The chardev that vmserial's QEMU driver writes for port 1, and so the one that a QMP BREAK goes to by default.
pub const DEFAULT_CHARDEV: &str = "ser0";

const EXAMPLE: &str = "qmp:/run/vm/qmp.sock,id=ser0";
const EXPECTED: &str = "expected telnet, rfc2217, tty, qmp:PATH[,id=ID], exec:COMMAND or none";

/// A BREAK that a kind of stream has of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NativeBreak {
    /// Telnet's `IAC BRK` (RFC 854).
    Telnet,
    /// SET-CONTROL BREAK ON and OFF (RFC 2217).
    Rfc2217,
    /// The terminal device's.
    Tty,
}

impl NativeBreak {
    /// Returns the word of the grammar.
    pub fn name(self) -> &'static str {
        match self {
            Self::Telnet => "telnet",
            Self::Rfc2217 => "rfc2217",
            Self::Tty => "tty",
        }
    }
}

/// How BREAK reaches the guest when the endpoint has none of its own (`--break-with`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BreakWith {
    /// The telnet bytes FF F3.
    Telnet,
    /// RFC 2217 SET-CONTROL, on an `rfc2217:` endpoint.
    Rfc2217,
    /// The terminal device's own BREAK, on a `tty:` endpoint.
    Tty,
    /// `chardev-send-break` on a QMP socket.
    Qmp {
        /// The QMP endpoint's path (Unix socket).
        path: PathBuf,
        /// chardev ID; default [`DEFAULT_CHARDEV`].
        id: String,
    },
    /// A command that sends it; never empty.
    Exec(Vec<String>),
    /// There is no way.
    None,
}

impl BreakWith {
    /// Returns the word of the grammar.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Telnet => "telnet",
            Self::Rfc2217 => "rfc2217",
            Self::Tty => "tty",
            Self::Qmp { .. } => "qmp",
            Self::Exec(_) => "exec",
            Self::None => "none",
        }
    }

    /// Checks that the stream it is for (the target's, or the break port's) has what it names.
    ///
    /// # Errors
    ///
    /// Usage: `rfc2217` or `tty` for an endpoint of another kind. (`telnet` is two bytes that any stream carries.)
    pub fn check_for(&self, endpoint: &EndpointSpec) -> Result<(), Problem> {
        let kind = match self {
            Self::Rfc2217 => NativeBreak::Rfc2217,
            Self::Tty => NativeBreak::Tty,
            _ => return Ok(()),
        };
        if endpoint.address.native_breaks().contains(&kind) {
            return Ok(());
        }
        let name = kind.name();
        let problem = Problem::new(
            FailureKind::Usage,
            format!("BREAK by `{name}` goes through `{name}:` endpoints only, got `{endpoint}`"),
        );
        Err(match (&endpoint.address, kind) {
            (Address::Tcp { host, port }, NativeBreak::Rfc2217) => problem.hint(format!(
                "If the server there speaks RFC 2217, write `connect:rfc2217:{host}:{port}`."
            )),
            _ => problem.hint("Name another way: telnet, qmp:PATH[,id=ID] or exec:COMMAND."),
        })
    }

    /// Returns it with a relative path taken from `base` and `~/` from `home`.
    ///
    /// # Errors
    ///
    /// Fails when the path is then too long for a Unix socket.
    pub fn resolved(&self, base: &Path, home: Option<&Path>) -> Result<Self, EndpointError> {
        let Self::Qmp { path, id } = self else {
            return Ok(self.clone());
        };
        let resolved = Self::Qmp {
            path: resolved_path(path, base, home),
            id: id.clone(),
        };
        // Parsing it again checks the length of what came out.
        resolved.to_string().parse()
    }
}

fn error(text: &str, offset: usize, message: impl Into<String>, example: &str) -> EndpointError {
    EndpointError {
        what: "way to send BREAK",
        text: text.to_owned(),
        column: text.get(..offset).map_or(1, |before| before.chars().count() + 1),
        message: message.into(),
        example: example.to_owned(),
    }
}

impl FromStr for BreakWith {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(offset) = text.find(|character: char| character.is_control()) {
            return Err(error(text, offset, "got a control character", EXAMPLE));
        }
        let (kind, rest) = match text.split_once(':') {
            Some((kind, rest)) => (kind, Some(rest)),
            None => (text, None),
        };
        let rest_offset = kind.len() + 1;
        match (kind, rest) {
            ("telnet", None) => Ok(Self::Telnet),
            ("rfc2217", None) => Ok(Self::Rfc2217),
            ("tty", None) => Ok(Self::Tty),
            ("none", None) => Ok(Self::None),
            ("telnet" | "rfc2217" | "tty" | "none", Some(rest)) => {
                let message = format!("`{kind}` has no address, got `{rest}`");
                Err(error(text, kind.len(), message, kind))
            }
            ("qmp", Some(rest)) => qmp(text, rest, rest_offset),
            ("exec", Some(rest)) => match shlex::split(rest) {
                Some(words) if !words.is_empty() => Ok(Self::Exec(words)),
                Some(_) => Err(error(
                    text,
                    text.len(),
                    "expected a command after `exec:`",
                    "exec:send-break vm1",
                )),
                None => Err(error(
                    text,
                    rest_offset,
                    "the command's quotes do not match",
                    "exec:send-break vm1",
                )),
            },
            ("qmp", None) => Err(error(
                text,
                text.len(),
                "expected `:` and a path after `qmp`",
                EXAMPLE,
            )),
            ("exec", None) => Err(error(
                text,
                text.len(),
                "expected `:` and a command after `exec`",
                "exec:send-break vm1",
            )),
            ("", _) => Err(error(text, 0, format!("got nothing, {EXPECTED}"), EXAMPLE)),
            _ => Err(error(
                text,
                0,
                format!("unknown way `{kind}`, {EXPECTED}"),
                EXAMPLE,
            )),
        }
    }
}

/// Parses `PATH[,id=ID]`, with `,,` for a literal comma.
fn qmp(text: &str, rest: &str, offset: usize) -> Result<BreakWith, EndpointError> {
    let wrong = |at: usize, message: String| Err(error(text, at, message, EXAMPLE));
    let mut pieces = crate::model::endpoint::split_commas(rest, offset).into_iter();
    let path = pieces.next().map(|piece| piece.text).unwrap_or_default();
    if path.is_empty() {
        return wrong(
            offset,
            "expected the path of a QMP socket after `qmp:`".to_owned(),
        );
    }
    if path.len() > UNIX_PATH_BYTES {
        let message = format!(
            "a Unix socket's path has at most {UNIX_PATH_BYTES} bytes, got {}",
            path.len()
        );
        return wrong(offset, message);
    }
    let mut id = None;
    for piece in pieces {
        match piece.text.split_once('=') {
            Some(("id", "")) => {
                return wrong(piece.offset + 3, "expected a chardev's ID after `id=`".to_owned());
            }
            Some(("id", _)) if id.is_some() => {
                return wrong(piece.offset, "`id=` is written twice".to_owned());
            }
            Some(("id", value)) => id = Some(value.to_owned()),
            _ => {
                let message = format!(
                    "unknown option `{}`, expected `id=` (a literal comma is `,,`)",
                    piece.text
                );
                return wrong(piece.offset, message);
            }
        }
    }
    Ok(BreakWith::Qmp {
        path: PathBuf::from(path),
        id: id.unwrap_or_else(|| DEFAULT_CHARDEV.to_owned()),
    })
}

impl fmt::Display for BreakWith {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Telnet | Self::Rfc2217 | Self::Tty | Self::None => formatter.write_str(self.kind()),
            Self::Qmp { path, id } => {
                write!(formatter, "qmp:{}", path.to_string_lossy().replace(',', ",,"))?;
                if id != DEFAULT_CHARDEV {
                    write!(formatter, ",id={}", id.replace(',', ",,"))?;
                }
                Ok(())
            }
            Self::Exec(words) => {
                // A NUL cannot come in: the words were split from a string that the parser checked.
                let joined = shlex::try_join(words.iter().map(String::as_str)).map_err(|_| fmt::Error)?;
                write!(formatter, "exec:{joined}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn canonical_forms() {
        for (written, canonical) in [
            ("telnet", "telnet"),
            ("rfc2217", "rfc2217"),
            ("tty", "tty"),
            ("none", "none"),
            ("qmp:/run/q,id=ser0", "qmp:/run/q"),
            ("qmp:/run/q,id=ser1", "qmp:/run/q,id=ser1"),
            ("qmp:/run/a,,b", "qmp:/run/a,,b"),
            ("exec:brk  'a b'", "exec:brk 'a b'"),
        ] {
            let way: BreakWith = written.parse().unwrap();
            assert_eq!(way.to_string(), canonical);
            assert_eq!(canonical.parse::<BreakWith>().unwrap(), way);
        }
    }

    #[test]
    fn every_wrong_string_says_which_part() {
        let long = format!("qmp:/{}", "x".repeat(107));
        for (text, column, part) in [
            ("", 1, "got nothing"),
            ("tellnet", 1, "unknown way `tellnet`"),
            ("telnet:x", 7, "no address"),
            ("none:", 5, "no address"),
            ("qmp", 4, "expected `:`"),
            ("qmp:", 5, "path of a QMP socket"),
            ("qmp:/q,id=", 11, "chardev's ID"),
            ("qmp:/q,id=a,id=b", 13, "twice"),
            ("qmp:/q,name=a", 8, "unknown option `name=a`"),
            ("exec", 5, "expected `:`"),
            ("exec:", 6, "expected a command"),
            ("exec:'a", 6, "quotes"),
            ("qmp:/a\nb", 7, "control character"),
            (long.as_str(), 5, "at most 107 bytes"),
        ] {
            let error = text.parse::<BreakWith>().unwrap_err();
            assert_eq!(error.column, column, "{error}");
            assert!(error.message.contains(part), "{error}");
            assert!(error.example.parse::<BreakWith>().is_ok(), "{error}");
        }
    }

    #[test]
    fn a_stream_must_have_the_break_that_is_named() {
        for (way, endpoint, fits) in [
            ("rfc2217", "connect:rfc2217:h:1", true),
            ("rfc2217", "connect:tcp:h:1", false),
            ("tty", "tty:/dev/ttyS0", true),
            ("tty", "pty", false),
            ("telnet", "connect:tcp:h:1", true),
            ("none", "tty:/dev/ttyS0", true),
        ] {
            let way: BreakWith = way.parse().unwrap();
            assert_eq!(
                way.check_for(&endpoint.parse().unwrap()).is_ok(),
                fits,
                "{way} {endpoint}"
            );
        }
    }

    #[test]
    fn a_relative_path_is_taken_from_the_given_folder() {
        let way: BreakWith = "qmp:run/q".parse().unwrap();
        let resolved = way.resolved(Path::new("/p"), None).unwrap();
        assert_eq!(resolved.to_string(), "qmp:/p/run/q");
        let deep = PathBuf::from(format!("/{}", "d".repeat(120)));
        assert!(
            way.resolved(&deep, None)
                .unwrap_err()
                .message
                .contains("107 bytes")
        );
    }

    proptest! {
        #[test]
        fn display_then_parse_is_the_identity(path in "/[ -~é]{0,40}", id in "[!-~]{1,12}", words in proptest::collection::vec("[ -~]{1,8}", 1..4)) {
            for way in [BreakWith::Qmp { path: PathBuf::from(&path), id: id.clone() }, BreakWith::Exec(words)] {
                prop_assert_eq!(way.to_string().parse::<BreakWith>().unwrap(), way);
            }
        }
    }
}
