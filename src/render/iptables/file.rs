//! The file of `iptables-save`: rules are added and taken away, every other byte stays.

use super::pass::{Connection, Reach, reach};
use super::rule::Rule;
use crate::render::edit::EditError;

/// The table that lets connections in or refuses them.
pub const FILTER: &str = "filter";

/// What a line is.
#[derive(Debug, Clone)]
enum Kind {
    /// `*filter`.
    Table(String),
    /// `:INPUT ACCEPT [0:0]`.
    Chain { name: String, policy: String },
    /// `-A …`.
    Rule(Rule),
    /// `COMMIT`.
    Commit,
    /// Another command than `-A`: what it does cannot be told from here.
    Other,
    /// Comments and blanks.
    Quiet,
}

#[derive(Debug, Clone)]
struct Line {
    /// With its end.
    bytes: Vec<u8>,
    kind: Kind,
}

/// A file of rules.
#[derive(Debug, Clone)]
pub struct RuleFile {
    lines: Vec<Line>,
}

fn malformed(line: usize, message: impl Into<String>) -> EditError {
    EditError::Malformed {
        line,
        message: message.into(),
    }
}

impl RuleFile {
    /// Takes a file apart.
    ///
    /// # Errors
    ///
    /// A rule or a chain outside a table, a table that does not end, a rule with a quote that is not closed.
    pub fn parse(bytes: &[u8]) -> Result<Self, EditError> {
        let mut lines = Vec::new();
        let mut open = None;
        for (index, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let kind = kind(line).map_err(|message| malformed(index + 1, message))?;
            match &kind {
                Kind::Table(name) if open.is_some() => {
                    return Err(malformed(
                        index + 1,
                        format!("`*{name}` begins before the last table's COMMIT"),
                    ));
                }
                Kind::Table(_) => open = Some(index + 1),
                Kind::Quiet => {}
                _ if open.is_none() => return Err(malformed(index + 1, "it stands in no table")),
                Kind::Commit => open = None,
                _ => {}
            }
            lines.push(Line {
                bytes: line.to_vec(),
                kind,
            });
        }
        match open {
            Some(line) => Err(malformed(line, "the table that begins here has no COMMIT")),
            None => Ok(Self { lines }),
        }
    }

    /// Returns the lines of the table `filter` with their numbers from 0.
    fn filter(&self) -> impl Iterator<Item = (usize, &Line)> {
        let mut inside = false;
        self.lines.iter().enumerate().filter(move |(_, line)| {
            match &line.kind {
                Kind::Table(name) => inside = name == FILTER,
                Kind::Commit => return std::mem::take(&mut inside),
                _ => {}
            }
            inside
        })
    }

    fn rules_of(&self, chain: &str) -> impl Iterator<Item = (usize, &Rule)> + use<'_> {
        let chain = chain.to_owned();
        self.filter().filter_map(move |(index, line)| match &line.kind {
            Kind::Rule(rule) if rule.chain() == chain => Some((index, rule)),
            _ => None,
        })
    }

    /// Returns the rules of a chain of the table `filter`, in order.
    pub fn rules(&self, chain: &str) -> Vec<&Rule> {
        self.rules_of(chain).map(|(_, rule)| rule).collect()
    }

    /// Returns all rules of the table `filter`.
    pub fn all_rules(&self) -> impl Iterator<Item = &Rule> {
        self.filter().filter_map(|(_, line)| match &line.kind {
            Kind::Rule(rule) => Some(rule),
            _ => None,
        })
    }

    /// Returns what a chain of the table `filter` does at its end (`ACCEPT`, `DROP`, `-` for those of people); `None` if there
    /// is no such chain.
    pub fn policy(&self, chain: &str) -> Option<&str> {
        self.filter().find_map(|(_, line)| match &line.kind {
            Kind::Chain { name, policy } if name == chain => Some(policy.as_str()),
            _ => None,
        })
    }

    /// Returns the first command of the table `filter` that is no `-A`, with its line from 1: nobody can tell from here where a
    /// rule is then.
    pub fn strange(&self) -> Option<(usize, String)> {
        self.filter().find_map(|(index, line)| match line.kind {
            Kind::Other => Some((index + 1, String::from_utf8_lossy(&line.bytes).trim().to_owned())),
            _ => None,
        })
    }

    fn lines_of(&self, rule: &Rule) -> Vec<usize> {
        let same = self
            .rules_of(rule.chain())
            .filter(|(_, other)| other.says_the_same(rule));
        same.map(|(index, _)| index).collect()
    }

    /// Returns `filter` if the rule is in that table, else `None`.
    ///
    /// # Errors
    ///
    /// The key is no rule.
    pub fn value(&self, key: &str) -> Result<Option<String>, EditError> {
        let rule = parsed(key)?;
        Ok((!self.lines_of(&rule).is_empty()).then(|| FILTER.to_owned()))
    }

    /// Puts a rule in, above the first one of its chain that refuses all that it lets in; else at the chain's end. One that
    /// is there already stays where it is.
    ///
    /// # Errors
    ///
    /// The key is no rule, there is no such chain, or the file changes its rules by other commands than `-A`.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), EditError> {
        let rule = parsed(key)?;
        if value != FILTER {
            return Err(malformed(
                0,
                format!("rules are put into the table `{FILTER}` only, not into `{value}`"),
            ));
        }
        if !self.lines_of(&rule).is_empty() {
            return Ok(());
        }
        if let Some((line, command)) = self.strange() {
            return Err(malformed(
                line,
                format!("`{command}` is no `-A`, so the place of a rule is not known"),
            ));
        }
        if self.policy(rule.chain()).is_none() {
            return Err(malformed(0, format!("there is no chain `{}`", rule.chain())));
        }
        let at = self.place(&rule);
        let end = self.line_end();
        let mut bytes = rule.to_string().into_bytes();
        bytes.extend_from_slice(end);
        let kind = Kind::Rule(rule);
        self.lines.insert(at, Line { bytes, kind });
        Ok(())
    }

    /// Takes a rule away, as often as it is there.
    ///
    /// # Errors
    ///
    /// The key is no rule.
    pub fn remove(&mut self, key: &str) -> Result<(), EditError> {
        let rule = parsed(key)?;
        for index in self.lines_of(&rule).into_iter().rev() {
            self.lines.remove(index);
        }
        Ok(())
    }

    /// Returns the file's bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.lines.into_iter().flat_map(|line| line.bytes).collect()
    }

    /// The line before which a new rule goes.
    fn place(&self, rule: &Rule) -> usize {
        let connection = Connection::of(rule);
        let mut behind = None;
        for (index, other) in self.rules_of(rule.chain()) {
            let refuses = matches!(other.value("-j"), Some("DROP" | "REJECT"));
            if refuses
                && connection
                    .as_ref()
                    .is_some_and(|connection| reach(other, connection) == Reach::All)
            {
                return index;
            }
            behind = Some(index + 1);
        }
        let commit = self.filter().find(|(_, line)| matches!(line.kind, Kind::Commit));
        behind
            .or(commit.map(|(index, _)| index))
            .unwrap_or(self.lines.len())
    }

    fn line_end(&self) -> &'static [u8] {
        let first = self.lines.first().map(|line| line.bytes.as_slice());
        if first.is_some_and(|line| line.ends_with(b"\r\n")) {
            b"\r\n"
        } else {
            b"\n"
        }
    }
}

fn parsed(key: &str) -> Result<Rule, EditError> {
    Rule::parse(key).map_err(|error| malformed(0, error.to_string()))
}

fn kind(line: &[u8]) -> Result<Kind, String> {
    // Only comments may be anything; a rule that is no text is kept and never taken for one of ours.
    let text = String::from_utf8_lossy(line);
    let text = text.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(Kind::Quiet);
    }
    if let Some(table) = text.strip_prefix('*') {
        return Ok(Kind::Table(table.to_owned()));
    }
    if text == "COMMIT" {
        return Ok(Kind::Commit);
    }
    if let Some(chain) = text.strip_prefix(':') {
        let mut words = chain.split_whitespace();
        return match (words.next(), words.next()) {
            (Some(name), Some(policy)) => Ok(Kind::Chain {
                name: name.to_owned(),
                policy: policy.to_owned(),
            }),
            _ => Err(format!("`{text}` is no chain: expected `:NAME POLICY`")),
        };
    }
    let command = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((_, command)) => command.trim_start(),
        None => text,
    };
    if command.starts_with("-A ") || command.starts_with("--append ") {
        return Rule::parse(command)
            .map(Kind::Rule)
            .map_err(|error| error.to_string());
    }
    if command.starts_with('-') {
        return Ok(Kind::Other);
    }
    Err(format!("`{text}` is nothing that iptables-save writes"))
}
