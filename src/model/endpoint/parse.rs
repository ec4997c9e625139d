//! The parser of the endpoint grammar. Every error names the part and its column, what was got, what was expected, an example.

mod address;
mod client;
mod guess;
mod option;

use super::{Address, EndpointSpec, ExecCommand, Role};
use crate::model::policy::ClientPrefix;
use std::fmt;
use std::str::FromStr;

pub(crate) use address::long_path;
pub(super) use guess::meant;

/// The longest path of a Unix socket: `sockaddr_un` has 108 bytes, one of them a NUL.
pub(crate) const UNIX_PATH_BYTES: usize = 107;

const KINDS: [&str; 10] = [
    "unix", "tcp", "telnet", "rfc2217", "pipe", "pty", "tty", "stdio", "exec", "file",
];

/// An endpoint that is right, for messages that have no better one.
pub(super) const SAMPLE: &str = "connect:unix:/run/vm/ser0.sock";

/// The text is no endpoint, client or way to send BREAK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointError {
    /// What the text should have been: `endpoint`.
    pub what: &'static str,
    /// The whole text.
    pub text: String,
    /// Where in the text it goes wrong, in characters from 1.
    pub column: usize,
    /// Which part is wrong there, what was got and what was expected.
    pub message: String,
    /// One that would be right.
    pub example: String,
}

/// Shows a text on one line: control characters are escaped, everything else stays as it can be copied.
struct Visible<'a>(&'a str);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if character.is_control() {
                write!(formatter, "{}", character.escape_default())?;
            } else {
                write!(formatter, "{character}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for EndpointError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "`{}` is no {}: column {}: {} (for example `{}`)",
            Visible(&self.text),
            self.what,
            self.column,
            self.message,
            self.example
        )
    }
}

impl std::error::Error for EndpointError {}

/// What is wrong with a part of the text.
pub(crate) struct Wrong {
    /// The part: `port`, `option \`baud\``.
    pub(crate) part: String,
    /// What stands there; empty for nothing.
    pub(crate) got: String,
    /// What should.
    pub(crate) expected: String,
}

impl Wrong {
    pub(crate) fn new(part: impl Into<String>, got: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            part: part.into(),
            got: got.into(),
            expected: expected.into(),
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: got ", self.part)?;
        if self.got.is_empty() {
            formatter.write_str("nothing")?;
        } else {
            write!(formatter, "`{}`", Visible(&self.got))?;
        }
        write!(formatter, ", expected {}", self.expected)
    }
}

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
    fn error(&self, offset: usize, wrong: &Wrong, example: impl Into<String>) -> EndpointError {
        EndpointError {
            what: "endpoint",
            text: self.text.to_owned(),
            column: column(self.text, offset),
            message: wrong.to_string(),
            example: example.into(),
        }
    }
}

/// Returns the column of a byte offset.
pub(crate) fn column(text: &str, offset: usize) -> usize {
    text.get(..offset).map_or(1, |before| before.chars().count() + 1)
}

/// Finds what no part of an endpoint can hold.
pub(crate) fn control_character(text: &str) -> Option<(usize, Wrong)> {
    let (offset, character) = text
        .char_indices()
        .find(|(_, character)| character.is_control())?;
    let wrong = Wrong::new(
        "control character",
        character.to_string(),
        "none: an endpoint is one line of printable text",
    );
    Some((offset, wrong))
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
            let wrong = Wrong::new("endpoint", "", "a kind and an address");
            return Err(parser.error(0, &wrong, SAMPLE));
        }
        if let Some((offset, wrong)) = control_character(text) {
            return Err(parser.error(offset, &wrong, SAMPLE));
        }
        let (role, rest_offset) = role_of(text);
        let rest = &text[rest_offset..];
        let kind_end = rest.find([':', ',']).unwrap_or(rest.len());
        let kind = &rest[..kind_end];
        if !KINDS.contains(&kind) {
            return Err(unknown_kind(&parser, rest_offset, kind));
        }
        check_role(&parser, role, kind, rest_offset)?;
        let after_kind = rest_offset + kind_end;
        if kind == "exec" {
            return exec(&parser, after_kind);
        }
        let has_colon = text[after_kind..].starts_with(':');
        let address_offset = after_kind + usize::from(has_colon);
        if !has_colon && !matches!(kind, "stdio" | "pty") {
            let got = text[after_kind..].to_owned();
            let wrong = Wrong::new("address", got, format!("`:` and an address after `{kind}`"));
            return Err(parser.error(after_kind, &wrong, example(kind, role)));
        }
        let mut pieces = split_commas(&text[address_offset..], address_offset).into_iter();
        let mut address = pieces.next().unwrap_or(Piece {
            offset: address_offset,
            text: String::new(),
        });
        if !has_colon && address.text.is_empty() {
            // `pty,via=…`: what is before the comma is the kind.
            address.offset = after_kind;
        }
        let mut spec = EndpointSpec {
            role,
            address: address::parse(&parser, kind, role, &address)?,
            via: Vec::new(),
        };
        let mut seen = Vec::new();
        for option in pieces {
            option::apply(&parser, &mut spec, &option, &mut seen)?;
        }
        Ok(spec)
    }
}

/// Returns the role that is written, and where what is behind it begins.
fn role_of(text: &str) -> (Option<Role>, usize) {
    [Role::Listen, Role::Connect]
        .into_iter()
        .find(|role| {
            text.strip_prefix(role.name())
                .is_some_and(|rest| rest.starts_with(':'))
        })
        .map_or((None, 0), |role| (Some(role), role.name().len() + 1))
}

/// Says what stands where a kind should.
fn unknown_kind(parser: &Parser<'_>, offset: usize, kind: &str) -> EndpointError {
    let rest = &parser.text[offset..];
    if let (Some(second), _) = role_of(rest) {
        let wrong = Wrong::new("role", format!("{}:", second.name()), "one role only");
        let right = rest.parse::<EndpointSpec>().is_ok().then(|| rest.to_owned());
        return parser.error(
            offset,
            &wrong,
            right.unwrap_or_else(|| example("unix", Some(second))),
        );
    }
    let prefix = ClientPrefix::ALL
        .into_iter()
        .find_map(|prefix| Some((prefix, rest.strip_prefix(prefix.name())?.strip_prefix('=')?)));
    if let Some((prefix, right)) = prefix {
        let expected = "none here: one word for what a client is for stands before a client's endpoint";
        let wrong = Wrong::new("prefix", format!("{}=", prefix.name()), expected);
        let right = right.parse::<EndpointSpec>().is_ok().then(|| right.to_owned());
        return parser.error(offset, &wrong, right.unwrap_or_else(|| SAMPLE.to_owned()));
    }
    let guess = meant(parser.text);
    let mut expected = format!("one of {}", KINDS.join(", "));
    if let Some(guess) = &guess {
        expected.push_str(&format!("; did you mean `{guess}`?"));
    }
    parser.error(
        offset,
        &Wrong::new("kind", kind, expected),
        guess.unwrap_or_else(|| SAMPLE.to_owned()),
    )
}

fn check_role(
    parser: &Parser<'_>,
    role: Option<Role>,
    kind: &str,
    kind_offset: usize,
) -> Result<(), EndpointError> {
    let needs_role = matches!(kind, "unix" | "tcp" | "telnet" | "rfc2217" | "pipe");
    match role {
        None if needs_role => {
            let expected =
                format!("`listen:` before `{kind}` if this side waits, `connect:` if it goes to the other");
            let right = meant(parser.text).unwrap_or_else(|| example(kind, Some(Role::Connect)));
            Err(parser.error(kind_offset, &Wrong::new("role", "", expected), right))
        }
        Some(role) if !needs_role => {
            let expected = format!("none: `{kind}` has no role");
            let wrong = Wrong::new("role", format!("{}:", role.name()), expected);
            let rest = &parser.text[kind_offset..];
            let right = rest.parse::<EndpointSpec>().is_ok().then(|| rest.to_owned());
            Err(parser.error(0, &wrong, right.unwrap_or_else(|| example(kind, None))))
        }
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
    let rest = &parser.text[after_kind..];
    let command = rest.strip_prefix(':').unwrap_or_default();
    let wrong = |offset, got, expected| {
        Err(parser.error(
            offset,
            &Wrong::new("command", got, expected),
            example("exec", None),
        ))
    };
    match ExecCommand::from_line(command) {
        Some(command) if !command.program().is_empty() => Ok(EndpointSpec::new(None, Address::Exec(command))),
        Some(_) => wrong(after_kind + 1, command, "a program first, and its name is empty"),
        None if command.trim().is_empty() => wrong(
            parser.text.len(),
            command.trim(),
            "a program and its arguments after `exec:`",
        ),
        None => wrong(
            after_kind + 1,
            command,
            "quotes that match (`'`, `\"`), and nothing open behind a `\\`",
        ),
    }
}

#[cfg(test)]
mod tests;
