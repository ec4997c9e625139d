//! A node that may be one of several things: the errors speak of the one that it can be meant as.

use super::{Checker, SECRET, choices, expected, format, names, types};
use crate::config::node::{Content, Key, Node, ScalarType};
use crate::model::near::nearest;
use serde_json::Value;

impl<'a> Checker<'a> {
    pub(super) fn choose(&mut self, schema: &'a Value, node: &Node) -> Value {
        let alternatives = self.alternatives(schema);
        let is_null = node.scalar_type() == Some(ScalarType::Null);
        if is_null && alternatives.iter().any(|choice| types(choice).contains(&"null")) {
            return Value::Null;
        }
        let outside = self.in_secret;
        self.in_secret = outside || self.is_secret(schema);
        let value = self.alternative(&alternatives, node);
        self.in_secret = outside;
        value
    }

    fn alternative(&mut self, alternatives: &[&'a Value], node: &Node) -> Value {
        match &node.content {
            Content::Scalar { text, .. } => {
                let words: Vec<&str> = alternatives.iter().copied().flat_map(words).collect();
                if !words.is_empty() {
                    return self.word(&words, node, text);
                }
            }
            Content::Mapping(entries) => {
                if let Some(value) = self.variant(alternatives, node, entries) {
                    return value;
                }
            }
            Content::Sequence(_) => {}
        }
        let fitting: Vec<&'a Value> = alternatives
            .iter()
            .copied()
            .filter(|choice| fits(choice, node))
            .collect();
        if let [choice] = fitting.as_slice() {
            return self.node(choice, node);
        }
        let mut wanted: Vec<String> = alternatives
            .iter()
            .filter(|choice| types(choice) != ["null"])
            .map(|choice| expected(choice))
            .collect();
        wanted.dedup();
        self.issue(
            node.place,
            format!("got {}, expected {}", node.describe(), wanted.join(" or ")),
        );
        Value::Null
    }

    /// Returns the alternatives, with those inside them in their place.
    fn alternatives(&self, schema: &'a Value) -> Vec<&'a Value> {
        choices(schema)
            .into_iter()
            .flatten()
            .map(|choice| self.resolve(choice))
            .flat_map(|choice| match choices(choice) {
                Some(_) => self.alternatives(choice),
                None => vec![choice],
            })
            .collect()
    }

    fn is_secret(&self, schema: &'a Value) -> bool {
        format(schema) == Some(SECRET)
            || choices(schema)
                .into_iter()
                .flatten()
                .any(|choice| format(self.resolve(choice)) == Some(SECRET))
    }

    fn word(&mut self, words: &[&str], node: &Node, text: &str) -> Value {
        if words.contains(&text) {
            return Value::String(text.to_owned());
        }
        let mut message = format!("got {}, expected one of {}", node.describe(), words.join(", "));
        if let Some(near) = nearest(text, words.iter().copied()) {
            message.push_str(&format!("; did you mean `{near}`?"));
        }
        self.issue(node.place, message);
        Value::Null
    }

    /// A map whose one key names what it is, as `{env: NAME}` does. `None` if maps are not told apart so here.
    fn variant(&mut self, alternatives: &[&'a Value], node: &Node, entries: &[(Key, Node)]) -> Option<Value> {
        let maps = || {
            alternatives
                .iter()
                .copied()
                .filter(|choice| types(choice).contains(&"object"))
        };
        let has = |name: &str| entries.iter().any(|(key, _)| key.text == name);
        if let Some(choice) =
            maps().find(|choice| names(choice, "required").next().is_some_and(&has) && is_variant(choice))
        {
            return Some(self.node(choice, node));
        }
        let known: Vec<&str> = maps()
            .filter(|choice| is_variant(choice))
            .flat_map(|choice| names(choice, "required"))
            .collect();
        if known.is_empty() || maps().count() != known.len() {
            return None;
        }
        let (place, got) = match entries.first() {
            Some((key, _)) => (key.place, format!("unknown key `{}`", key.text)),
            None => (node.place, "got an empty map".to_owned()),
        };
        let message = match entries
            .first()
            .and_then(|(key, _)| nearest(&key.text, known.iter().copied()))
        {
            Some(near) => format!("{got}; did you mean `{near}`?"),
            None => format!("{got}, expected {}", known.join(" or ")),
        };
        self.issue(place, message);
        Some(Value::Null)
    }
}

/// Tells whether a map's schema is that of an enum's variant: one key, which is required.
fn is_variant(schema: &Value) -> bool {
    let count = schema
        .get("properties")
        .and_then(Value::as_object)
        .map_or(0, serde_json::Map::len);
    count == 1 && names(schema, "required").count() == 1
}

/// The words that an enum's schema takes.
fn words(schema: &Value) -> impl Iterator<Item = &str> {
    schema
        .get("const")
        .and_then(Value::as_str)
        .into_iter()
        .chain(names(schema, "enum"))
}

fn fits(schema: &Value, node: &Node) -> bool {
    let types = types(schema);
    match &node.content {
        Content::Mapping(_) => types.contains(&"object"),
        Content::Sequence(_) => types.contains(&"array"),
        Content::Scalar { .. } => match node.scalar_type() {
            Some(ScalarType::Null) => types.contains(&"null"),
            // A name that looks like a number is told to be put in quotes by the check of the string.
            _ => types
                .iter()
                .any(|name| ["string", "integer", "boolean"].contains(name)),
        },
    }
}
