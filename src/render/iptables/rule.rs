//! One rule, as `iptables-save` and people write it.

use crate::model::{AddressRange, PortRange, Source};
use std::fmt;

/// The text is no rule that can be appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RuleError(String);

/// One condition or action of a rule: an option with its values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Part {
    /// `!` stands before it.
    pub negated: bool,
    /// In its short spelling where it has one.
    pub name: String,
    /// What follows.
    pub values: Vec<String>,
}

/// A rule: `-A CHAIN …`.
#[derive(Debug, Clone)]
pub struct Rule {
    chain: String,
    parts: Vec<Part>,
    /// Its words as they stand, without counters, quotes and `-A CHAIN`.
    words: Vec<String>,
}

/// Long spellings of people's files; `iptables-save` writes the short ones.
const SHORT: [(&str, &str); 13] = [
    ("--append", "-A"),
    ("--protocol", "-p"),
    ("--proto", "-p"),
    ("--source", "-s"),
    ("--src", "-s"),
    ("--destination", "-d"),
    ("--dst", "-d"),
    ("--in-interface", "-i"),
    ("--out-interface", "-o"),
    ("--match", "-m"),
    ("--jump", "-j"),
    ("--destination-port", "--dport"),
    ("--source-port", "--sport"),
];

impl Rule {
    /// Makes the rule that lets these connect, with words by which it is known again.
    pub fn accept(chain: &str, source: Source, ports: PortRange, comment: &str) -> Self {
        let mut words = Vec::new();
        if let Source::Range(range) = source {
            words.extend(["-s".to_owned(), range.to_string()]);
        }
        let ports = ports.to_string();
        let rest = [
            "-p",
            "tcp",
            "-m",
            "tcp",
            "--dport",
            &ports,
            "-m",
            "comment",
            "--comment",
            comment,
            "-j",
            "ACCEPT",
        ];
        words.extend(rest.map(str::to_owned));
        let tokens = words.iter().map(|word| Token {
            is_quoted: word == comment,
            text: word.clone(),
        });
        Self {
            chain: chain.to_owned(),
            parts: parts(tokens.collect()),
            words,
        }
    }

    /// Reads a line that appends a rule: `-A CHAIN …`, with or without `[packets:bytes]` before.
    ///
    /// # Errors
    ///
    /// It appends no rule, or a quote is not closed.
    pub fn parse(line: &str) -> Result<Self, RuleError> {
        let mut tokens = tokens(line)?;
        if tokens.first().is_some_and(|first| first.text.starts_with('[')) {
            tokens.remove(0);
        }
        let mut front = tokens.iter().map(|token| token.text.as_str());
        let chain = match (front.next(), front.next()) {
            (Some("-A" | "--append"), Some(chain)) => chain.to_owned(),
            _ => return Err(RuleError(format!("`{}` appends no rule", line.trim()))),
        };
        tokens.drain(..2);
        Ok(Self {
            chain,
            words: tokens.iter().map(|token| token.text.clone()).collect(),
            parts: parts(tokens),
        })
    }

    /// Returns its chain.
    pub fn chain(&self) -> &str {
        &self.chain
    }

    /// Returns its words behind the chain, for a command.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Returns its comment, if it has one.
    pub fn comment(&self) -> Option<&str> {
        self.value("--comment")
    }

    /// Returns the only value of an option.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let part = self.parts.iter().find(|part| part.name == name)?;
        part.values.first().map(String::as_str)
    }

    /// Tells whether two rules say the same: spelling, order and modules that are implied do not count.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.chain == other.chain && self.essence() == other.essence()
    }

    fn essence(&self) -> Vec<Part> {
        let protocol = self.value("-p").unwrap_or_default().to_owned();
        let mut essence: Vec<Part> = self
            .parts
            .iter()
            .filter(|part| !(part.name == "-m" && part.values == [protocol.as_str()]))
            .map(|part| Part {
                values: match part.name.as_str() {
                    "-s" | "-d" => part
                        .values
                        .iter()
                        .map(|value| canonical_addresses(value))
                        .collect(),
                    _ => part.values.clone(),
                },
                ..part.clone()
            })
            // Everywhere is the same as nothing said.
            .filter(|part| !(matches!(part.name.as_str(), "-s" | "-d") && part.values == ["0.0.0.0/0"]))
            .collect();
        essence.sort();
        essence.dedup();
        essence
    }
}

impl fmt::Display for Rule {
    /// Writes the line of `iptables-save`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "-A {}", quoted(&self.chain))?;
        self.words
            .iter()
            .try_for_each(|word| write!(formatter, " {}", quoted(word)))
    }
}

/// Quotes a word as `iptables-save` does; what it never quotes stays as it is.
fn quoted(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "_-.:/,!+=%@".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut quoted = "\"".to_owned();
    for character in word.chars() {
        if matches!(character, '"' | '\\' | '\'') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    quoted
}

/// `10.0.0.7` is `10.0.0.7/32`, `10.0.0.0/255.255.255.0` is `10.0.0.0/24`.
fn canonical_addresses(value: &str) -> String {
    let each = value
        .split(',')
        .map(|one| addresses(one).map_or_else(|| one.to_owned(), |range| range.to_string()));
    each.collect::<Vec<_>>().join(",")
}

/// Reads addresses as iptables takes them; `None` for names and masks with holes.
pub(super) fn addresses(value: &str) -> Option<AddressRange> {
    let (address, mask) = match value.split_once('/') {
        Some((address, mask)) => (address, Some(mask)),
        None => (value, None),
    };
    let one: std::net::IpAddr = address.parse().ok()?;
    let Some(mask) = mask else {
        return Some(AddressRange::one(one));
    };
    let prefix = match mask.parse::<u8>() {
        Ok(prefix) => prefix,
        Err(_) => {
            let mask = u32::from(mask.parse::<std::net::Ipv4Addr>().ok()?);
            (mask.leading_ones() + mask.trailing_zeros() == 32)
                .then(|| mask.leading_ones())?
                .try_into()
                .ok()?
        }
    };
    AddressRange::new(one, prefix)
}

struct Token {
    text: String,
    is_quoted: bool,
}

fn tokens(line: &str) -> Result<Vec<Token>, RuleError> {
    let mut tokens = Vec::new();
    let mut characters = line.trim().chars().peekable();
    while let Some(&first) = characters.peek() {
        if first.is_whitespace() {
            characters.next();
            continue;
        }
        let (mut text, mut is_quoted) = (String::new(), false);
        while let Some(&character) = characters.peek() {
            if character.is_whitespace() {
                break;
            }
            characters.next();
            // iptables knows double quotes only (`add_param_to_argv`).
            if character != '"' {
                text.push(character);
                continue;
            }
            is_quoted = true;
            loop {
                match characters.next() {
                    None => return Err(RuleError("a quote is not closed".to_owned())),
                    Some('"') => break,
                    Some('\\') => text.extend(characters.next()),
                    Some(other) => text.push(other),
                }
            }
        }
        tokens.push(Token { text, is_quoted });
    }
    Ok(tokens)
}

fn parts(tokens: Vec<Token>) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut negated = false;
    for token in tokens {
        let is_option = !token.is_quoted && token.text.len() > 1 && token.text.starts_with('-');
        if !token.is_quoted && token.text == "!" {
            negated = true;
        } else if is_option {
            let short = SHORT.iter().find(|(long, _)| *long == token.text);
            parts.push(Part {
                negated: std::mem::take(&mut negated),
                name: short.map_or(token.text, |(_, short)| (*short).to_owned()),
                values: Vec::new(),
            });
        } else if let Some(last) = parts.last_mut() {
            // The old way: `-s ! 10.0.0.0/8`.
            last.negated |= std::mem::take(&mut negated);
            last.values.push(token.text);
        }
    }
    parts
}
