//! A YAML document as nodes that know where they stand. A value: `config::load` makes it.

use std::fmt;

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
    /// A scalar.
    Scalar {
        /// After escapes.
        text: String,
        /// How it is written.
        style: Style,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// A map, in the order of the document, duplicates kept.
    Mapping(Vec<(Key, Node)>),
}

/// How a scalar is written, which decides its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Without quotes: its type is what it looks like.
    Plain,
    /// In quotes or as a block: a text, whatever it looks like.
    Quoted,
    /// Wholly made by one `{{ … }}`: of the type that its key wants, because YAML asks for quotes around it.
    Made,
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
        match &self.content {
            Content::Scalar {
                style: Style::Quoted, ..
            } => Some(ScalarType::String),
            Content::Scalar { text, .. } => Some(plain_type(text)),
            Content::Sequence(_) | Content::Mapping(_) => None,
        }
    }

    /// Tells whether a text may stand here although it looks like something else.
    pub fn is_made(&self) -> bool {
        matches!(
            self.content,
            Content::Scalar {
                style: Style::Made,
                ..
            }
        )
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

    /// Returns the value of a key, if this is a map that has it.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match &self.content {
            Content::Mapping(entries) => entries
                .iter()
                .find(|(key, _)| key.text == name)
                .map(|(_, value)| value),
            Content::Sequence(_) | Content::Scalar { .. } => None,
        }
    }

    /// Returns the node at a field path, or the deepest one on the way that is there.
    pub fn at(&self, path: &FieldPath) -> &Self {
        let mut node = self;
        for part in &path.0 {
            let next = match (part, &node.content) {
                (Part::Key(name), _) => node.get(name),
                (Part::Index(index), Content::Sequence(items)) => items.get(*index),
                (Part::Index(_), _) => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }
}

/// The type that a text without quotes has.
fn plain_type(text: &str) -> ScalarType {
    match text {
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
    }
}

/// The way from the document to a node: `targets.dev.ports[1].as`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct FieldPath(pub Vec<Part>);

/// One step of a field path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Into a map.
    Key(String),
    /// Into a list, from 0.
    Index(usize),
}

impl FieldPath {
    /// Returns the path to the value of a key below.
    #[must_use]
    pub fn key(&self, name: &str) -> Self {
        self.with(Part::Key(name.to_owned()))
    }

    /// Returns the path to an item below.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Part::Index(index))
    }

    fn with(&self, part: Part) -> Self {
        let mut path = self.clone();
        path.0.push(part);
        path
    }
}

impl fmt::Display for FieldPath {
    /// Keys with anything but letters, digits, `_` and `-` stand in quotes, so that their dots are not steps.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, part) in self.0.iter().enumerate() {
            match part {
                Part::Index(index) => write!(formatter, "[{index}]")?,
                Part::Key(key) => {
                    if position > 0 {
                        formatter.write_str(".")?;
                    }
                    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
                    if !key.is_empty() && key.bytes().all(word) {
                        formatter.write_str(key)?;
                    } else {
                        write!(formatter, "{key:?}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Something that is wrong in a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Where.
    pub place: Place,
    /// Which field; empty for the document.
    pub path: FieldPath,
    /// What was got and expected.
    pub message: String,
    /// A secret stands from here to the line's end: it is not shown.
    pub hides: bool,
}

impl Issue {
    /// Makes an issue.
    pub fn new(place: Place, path: FieldPath, message: impl Into<String>) -> Self {
        Self {
            place,
            path,
            message: message.into(),
            hides: false,
        }
    }

    /// Makes an issue of the whole document.
    pub fn of_document(place: Place, message: impl Into<String>) -> Self {
        Self::new(place, FieldPath::default(), message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_shows_where_its_steps_are() {
        let path = FieldPath::default()
            .key("targets")
            .key("lab.a")
            .key("ports")
            .index(1)
            .key("as");
        assert_eq!(path.to_string(), r#"targets."lab.a".ports[1].as"#);
        assert_eq!(
            FieldPath::default().key("targets").key("1").to_string(),
            "targets.1"
        );
    }

    #[test]
    fn plain_texts_have_the_types_of_the_core_schema() {
        for (text, expected) in [
            ("", ScalarType::Null),
            ("~", ScalarType::Null),
            ("true", ScalarType::Boolean(true)),
            ("yes", ScalarType::String),
            ("off", ScalarType::String),
            ("12", ScalarType::Integer(12)),
            ("-3", ScalarType::Integer(-3)),
            ("1.5", ScalarType::Number),
            ("1e3", ScalarType::Number),
            ("10.0.0.1", ScalarType::String),
            ("inf", ScalarType::String),
        ] {
            assert_eq!(plain_type(text), expected, "{text}");
        }
    }
}
