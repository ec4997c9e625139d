//! How BREAK reaches the guest: `telnet|rfc2217|tty|qmp:PATH[,id=ID]|exec:COMMAND|none`.

use crate::model::endpoint::{
    Address, EndpointError, EndpointSpec, UNIX_PATH_BYTES, Wrong, column, control_character, long_path,
    resolved_path, split_commas,
};
use crate::model::failure::{FailureKind, Problem};
use crate::model::near::nearest;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The chardev that vmserial's QEMU driver writes for port 1, and so the one that a QMP BREAK goes to by default.
pub const DEFAULT_CHARDEV: &str = "ser0";

const EXAMPLE: &str = "qmp:/run/vm/qmp.sock,id=ser0";
const EXEC_EXAMPLE: &str = "exec:send-break vm1";
const EXPECTED: &str = "telnet, rfc2217, tty, qmp:PATH[,id=ID], exec:COMMAND or none";

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

fn error(text: &str, offset: usize, wrong: &Wrong, example: &str) -> EndpointError {
    EndpointError {
        what: "way to send BREAK",
        text: text.to_owned(),
        column: column(text, offset),
        message: wrong.to_string(),
        example: example.to_owned(),
    }
}

impl FromStr for BreakWith {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some((offset, wrong)) = control_character(text) {
            return Err(error(text, offset, &wrong, EXAMPLE));
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
                let wrong = Wrong::new("address", format!(":{rest}"), format!("none after `{kind}`"));
                Err(error(text, kind.len(), &wrong, kind))
            }
            ("qmp", Some(rest)) => qmp(text, rest, rest_offset),
            ("exec", Some(rest)) => match shlex::split(rest) {
                Some(words) if words.first().is_some_and(|program| !program.is_empty()) => {
                    Ok(Self::Exec(words))
                }
                Some(_) => {
                    let wrong = Wrong::new("command", rest.trim(), "a program after `exec:`");
                    Err(error(text, text.len(), &wrong, EXEC_EXAMPLE))
                }
                None => {
                    let wrong = Wrong::new("command", rest, "quotes that match");
                    Err(error(text, rest_offset, &wrong, EXEC_EXAMPLE))
                }
            },
            ("qmp", None) => {
                let wrong = Wrong::new("path", "", "`:` and a QMP socket's path after `qmp`");
                Err(error(text, text.len(), &wrong, EXAMPLE))
            }
            ("exec", None) => {
                let wrong = Wrong::new("command", "", "`:` and a command after `exec`");
                Err(error(text, text.len(), &wrong, EXEC_EXAMPLE))
            }
            _ => Err(error(text, 0, &unknown_way(kind), EXAMPLE)),
        }
    }
}

fn unknown_way(kind: &str) -> Wrong {
    let ways = ["telnet", "rfc2217", "tty", "qmp", "exec", "none"];
    match nearest(&kind.to_lowercase(), ways.into_iter()) {
        Some(near) => Wrong::new("way", kind, format!("{EXPECTED}; did you mean `{near}`?")),
        None => Wrong::new("way", kind, EXPECTED),
    }
}

/// Parses `PATH[,id=ID]`, with `,,` for a literal comma.
fn qmp(text: &str, rest: &str, offset: usize) -> Result<BreakWith, EndpointError> {
    let wrong = |at: usize, wrong: Wrong| Err(error(text, at, &wrong, EXAMPLE));
    let mut pieces = split_commas(rest, offset).into_iter();
    let path = pieces.next().map(|piece| piece.text).unwrap_or_default();
    if path.is_empty() {
        return wrong(offset, Wrong::new("path", "", "a QMP socket's path after `qmp:`"));
    }
    if path.len() > UNIX_PATH_BYTES {
        return wrong(offset, long_path(&path));
    }
    let mut id = None;
    for piece in pieces {
        match piece.text.split_once('=') {
            Some(("id", "")) => {
                return wrong(piece.offset + 3, Wrong::new("option `id`", "", "a chardev's ID"));
            }
            Some(("id", _)) if id.is_some() => {
                return wrong(piece.offset, Wrong::new("option `id`", piece.text, "it once"));
            }
            Some(("id", value)) => id = Some(value.to_owned()),
            _ => {
                let wrong_option = Wrong::new("option", piece.text, "`id=` (a literal comma is `,,`)");
                return wrong(piece.offset, wrong_option);
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
            ("tellnet", 1, "got `tellnet`"),
            ("telnet:x", 7, "address: got `:x`"),
            ("none:", 5, "address: got `:`"),
            ("qmp", 4, "expected `:`"),
            ("qmp:", 5, "QMP socket's path"),
            ("qmp:/q,id=", 11, "chardev's ID"),
            ("qmp:/q,id=a,id=b", 13, "it once"),
            ("qmp:/q,name=a", 8, "option: got `name=a`"),
            ("exec", 5, "expected `:`"),
            ("exec:", 6, "expected a program"),
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
