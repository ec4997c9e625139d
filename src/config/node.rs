//! A YAML document as nodes that know where they stand. A value: `config::load` makes it.

/// Where something stands in the profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// In characters from 1.
    pub column: usize,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where it begins.
    pub place: Place,
    /// What it is.
    pub content: Content,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A scalar; a quoted one is a string whatever it looks like.
    Scalar {
        /// After escapes.
        text: String,
        /// In quotes, or a block.
        quoted: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// A map, in the order of the document, duplicates kept.
    Mapping(Vec<(Key, Node)>),
}

/// A map's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Where it begins.
    pub place: Place,
    /// What it says.
    pub text: String,
}

/// The types of YAML's core schema that a plain scalar can have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ScalarType {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i128),
    /// Any other number.
    Number,
    /// Everything else.
    String,
}

impl Node {
    /// Returns the type of a scalar; `None` if it is none.
    pub fn scalar_type(&self) -> Option<ScalarType> {
        let Content::Scalar { text, quoted } = &self.content else {
            return None;
        };
        if *quoted {
            return Some(ScalarType::String);
        }
        Some(match text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => ScalarType::Null,
            "true" | "True" | "TRUE" => ScalarType::Boolean(true),
            "false" | "False" | "FALSE" => ScalarType::Boolean(false),
            text => {
                let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
                let begins = digits.starts_with(|first: char| first.is_ascii_digit() || first == '.');
                match text.parse() {
                    Ok(number) => ScalarType::Integer(number),
                    Err(_) if begins && text.parse::<f64>().is_ok() => ScalarType::Number,
                    Err(_) => ScalarType::String,
                }
            }
        })
    }

    /// Says what the node is, for an error.
    pub fn describe(&self) -> String {
        match &self.content {
            Content::Sequence(_) => "a list".to_owned(),
            Content::Mapping(_) => "a map".to_owned(),
            Content::Scalar { text, .. } => match self.scalar_type() {
                Some(ScalarType::Null) => "nothing".to_owned(),
                Some(ScalarType::Boolean(_)) => format!("the boolean `{text}`"),
                Some(ScalarType::Integer(_) | ScalarType::Number) => format!("the number `{text}`"),
                _ => format!("`{text}`"),
            },
        }
    }

    /// Returns the node at a path of keys and indexes, or the deepest one that is there.
    pub fn at<'a>(&'a self, path: &[&str]) -> &'a Self {
        let mut node = self;
        for part in path {
            let next = match &node.content {
                Content::Mapping(entries) => entries
                    .iter()
                    .find(|(key, _)| key.text == *part)
                    .map(|(_, value)| value),
                Content::Sequence(items) => part.parse::<usize>().ok().and_then(|index| items.get(index)),
                Content::Scalar { .. } => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }
}

/// Something that is wrong in a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Where.
    pub place: Place,
    /// Field path: `targets.dev.ports[1].as`; empty for the document.
    pub path: String,
    /// What was got and expected.
    pub message: String,
}
