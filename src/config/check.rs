//! Checks a document's nodes against the schema of profiles: all errors at once, each with its place and field path.
//!
//! Only the parts of JSON Schema that our types make are known; a test checks that no other appears.

use crate::config::node::{Content, Issue, Key, Node, Place, ScalarType};
use crate::model::profile::MemorySize;
use crate::model::{BreakWith, ClientSpec, EndpointSpec, TargetName};
use serde_json::Value;
use std::collections::BTreeMap;

/// The schema's keywords that [`check`] knows, and those that say nothing about what is right.
#[cfg(test)]
const KNOWN: [&str; 22] = [
    "$schema",
    "$defs",
    "$ref",
    "title",
    "description",
    "default",
    "examples",
    "format",
    "type",
    "properties",
    "required",
    "additionalProperties",
    "patternProperties",
    "items",
    "oneOf",
    "anyOf",
    "enum",
    "const",
    "minimum",
    "maximum",
    "pattern",
    "uint",
];

/// Checks a document.
pub fn check(schema: &Value, document: &Node) -> Vec<Issue> {
    let mut checker = Checker {
        root: schema,
        issues: Vec::new(),
    };
    checker.node(schema, document, &mut Vec::new());
    checker.issues
}

struct Checker<'a> {
    root: &'a Value,
    issues: Vec<Issue>,
}

impl<'a> Checker<'a> {
    fn issue(&mut self, place: Place, path: &[String], message: String) {
        let path = path.concat().trim_start_matches('.').to_owned();
        self.issues.push(Issue { place, path, message });
    }

    fn resolve(&self, mut schema: &'a Value) -> &'a Value {
        while let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            match self.root.pointer(reference.trim_start_matches('#')) {
                Some(found) => schema = found,
                None => break,
            }
        }
        schema
    }

    fn node(&mut self, schema: &'a Value, node: &Node, path: &mut Vec<String>) {
        let schema = self.resolve(schema);
        if let Some(choices) = schema
            .get("anyOf")
            .or_else(|| schema.get("oneOf"))
            .and_then(Value::as_array)
        {
            return self.choose(choices, node, path);
        }
        let types = types(schema);
        if types.contains(&"null") && node.scalar_type() == Some(ScalarType::Null) {
            return;
        }
        match &node.content {
            Content::Mapping(entries) if types.contains(&"object") => {
                self.mapping(schema, node, entries, path)
            }
            Content::Sequence(items) if types.contains(&"array") => {
                for (index, item) in items.iter().enumerate() {
                    path.push(format!("[{index}]"));
                    if let Some(schema) = schema.get("items") {
                        self.node(schema, item, path);
                    }
                    path.pop();
                }
            }
            Content::Scalar { text, .. } => self.scalar(schema, &types, node, text, path),
            _ => {
                let message = format!("got {}, expected {}", node.describe(), expected(schema));
                self.issue(node.place, path, message);
            }
        }
    }

    /// Returns the alternatives with those inside them in their place.
    fn alternatives(&self, choices: &'a [Value]) -> Vec<&'a Value> {
        let inner = |choice: &'a Value| {
            choice
                .get("anyOf")
                .or_else(|| choice.get("oneOf"))
                .and_then(Value::as_array)
        };
        choices
            .iter()
            .map(|choice| self.resolve(choice))
            .flat_map(|choice| inner(choice).map_or_else(|| vec![choice], |inner| self.alternatives(inner)))
            .collect()
    }

    /// Picks the alternative that the node can be meant as, so that the errors speak of that one.
    fn choose(&mut self, choices: &'a [Value], node: &Node, path: &mut Vec<String>) {
        let choices = self.alternatives(choices);
        let words: Vec<&str> = choices
            .iter()
            .flat_map(|choice| {
                let listed = choice.get("enum").and_then(Value::as_array).into_iter().flatten();
                choice
                    .get("const")
                    .into_iter()
                    .chain(listed)
                    .filter_map(Value::as_str)
            })
            .collect();
        if let Content::Scalar { text, .. } = &node.content {
            if words.contains(&text.as_str()) {
                return;
            }
            if !words.is_empty() {
                let mut message = format!("got {}, expected one of {}", node.describe(), words.join(", "));
                if let Some(near) = nearest(text, words.iter().copied()) {
                    message.push_str(&format!("; did you mean `{near}`?"));
                }
                return self.issue(node.place, path, message);
            }
        }
        let fitting: Vec<&Value> = choices
            .iter()
            .copied()
            .filter(|choice| fits(self.resolve(choice), node))
            .collect();
        // A map with one key that names its variant, as `{env: NAME}`.
        let by_key = fitting
            .iter()
            .copied()
            .find(|choice| match (&node.content, choice.get("required")) {
                (Content::Mapping(entries), Some(Value::Array(required))) => required.iter().all(|name| {
                    entries
                        .iter()
                        .any(|(key, _)| Some(key.text.as_str()) == name.as_str())
                }),
                _ => false,
            });
        match (by_key, fitting.as_slice()) {
            (Some(choice), _) => self.node(choice, node, path),
            (None, [choice]) => self.node(choice, node, path),
            _ => {
                let expected: Vec<String> = choices
                    .iter()
                    .filter(|choice| types(choice) != ["null"])
                    .map(|choice| expected(choice))
                    .collect();
                let message = format!("got {}, expected {}", node.describe(), expected.join(" or "));
                self.issue(node.place, path, message);
            }
        }
    }

    fn mapping(&mut self, schema: &'a Value, node: &Node, entries: &[(Key, Node)], path: &mut Vec<String>) {
        let mut seen: BTreeMap<&str, Place> = BTreeMap::new();
        let properties = schema.get("properties").and_then(Value::as_object);
        for (key, value) in entries {
            path.push(format!(".{}", key.text));
            if let Some(first) = seen.insert(&key.text, key.place) {
                self.issue(
                    key.place,
                    path,
                    format!("the key stands on line {} already", first.line),
                );
            }
            if let Some(schema) = properties.and_then(|properties| properties.get(&key.text)) {
                self.node(schema, value, path);
            } else if let Some(patterns) = schema.get("patternProperties").and_then(Value::as_object) {
                if let Err(error) = key.text.parse::<TargetName>() {
                    self.issue(key.place, path, error.to_string());
                }
                for schema in patterns.values() {
                    self.node(schema, value, path);
                }
            } else {
                match schema.get("additionalProperties") {
                    Some(Value::Bool(false)) => {
                        let known: Vec<&str> = properties
                            .into_iter()
                            .flat_map(|known| known.keys().map(String::as_str))
                            .collect();
                        let mut message = "unknown key".to_owned();
                        match nearest(&key.text, known.iter().copied()) {
                            Some(near) => message.push_str(&format!("; did you mean `{near}`?")),
                            None => message.push_str(&format!(", expected one of {}", known.join(", "))),
                        }
                        self.issue(key.place, path, message);
                    }
                    Some(schema) if schema.is_object() => self.node(schema, value, path),
                    _ => {}
                }
            }
            path.pop();
        }
        for name in schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            if !seen.contains_key(name) {
                self.issue(node.place, path, format!("the key `{name}` is missing"));
            }
        }
    }

    fn scalar(&mut self, schema: &'a Value, types: &[&str], node: &Node, text: &str, path: &[String]) {
        let fits = match node.scalar_type() {
            Some(ScalarType::Boolean(_)) => types.contains(&"boolean"),
            Some(ScalarType::Integer(_)) => types.contains(&"integer") || types.contains(&"number"),
            Some(ScalarType::Number) => types.contains(&"number"),
            Some(ScalarType::String) => types.contains(&"string"),
            Some(ScalarType::Null) | None => false,
        };
        if !fits {
            let mut message = format!("got {}, expected {}", node.describe(), expected(schema));
            if types.contains(&"string") && !matches!(node.scalar_type(), Some(ScalarType::Null)) {
                message.push_str(&format!("; write it in quotes: \"{text}\""));
            }
            return self.issue(node.place, path, message);
        }
        if let Some(ScalarType::Integer(number)) = node.scalar_type() {
            let bound = |name: &str| schema.get(name).and_then(Value::as_i64).map(i128::from);
            let unsigned = schema
                .get("format")
                .and_then(Value::as_str)
                .is_some_and(|format| format.starts_with("uint"));
            let (low, high) = (bound("minimum").or(unsigned.then_some(0)), bound("maximum"));
            if low.is_some_and(|low| number < low) || high.is_some_and(|high| number > high) {
                let range = match (low, high) {
                    (Some(low), Some(high)) => format!("from {low} to {high}"),
                    (Some(low), None) => format!("of at least {low}"),
                    (None, _) => "that is smaller".to_owned(),
                };
                self.issue(
                    node.place,
                    path,
                    format!("got {number}, expected a number {range}"),
                );
            }
        }
        let grammar = match schema.get("format").and_then(Value::as_str) {
            Some("Endpoint") => text.parse::<EndpointSpec>().err().map(|error| error.to_string()),
            Some("Client") => text.parse::<ClientSpec>().err().map(|error| error.to_string()),
            Some("BreakWith") => text.parse::<BreakWith>().err().map(|error| error.to_string()),
            Some("MemorySize") => text.parse::<MemorySize>().err().map(|error| error.to_string()),
            _ => None,
        };
        if let Some(message) = grammar {
            self.issue(node.place, path, message);
        }
    }
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn fits(schema: &Value, node: &Node) -> bool {
    let types = types(schema);
    match &node.content {
        Content::Mapping(_) => types.contains(&"object"),
        Content::Sequence(_) => types.contains(&"array"),
        Content::Scalar { .. } => match node.scalar_type() {
            Some(ScalarType::Null) => types.contains(&"null"),
            // A name that looks like a number is told to be put in quotes by the check of the string.
            _ => types.contains(&"string") || types.contains(&"integer") || types.contains(&"boolean"),
        },
    }
}

fn expected(schema: &Value) -> String {
    let words: Vec<&str> = types(schema)
        .into_iter()
        .filter(|name| *name != "null")
        .map(|name| match name {
            "object" => "a map",
            "array" => "a list",
            "integer" => "a whole number",
            "boolean" => "true or false",
            "number" => "a number",
            _ => "a text",
        })
        .collect();
    if words.is_empty() {
        "something else".to_owned()
    } else {
        words.join(" or ")
    }
}

/// Returns the word that is nearest to a mistyped one, if one is near.
pub fn nearest<'w>(wrong: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    words
        .map(|word| (distance(wrong, word), word))
        .filter(|(distance, word)| *distance <= 1 + word.chars().count() / 4)
        .min()
        .map(|(_, word)| word)
}

/// The number of insertions, deletions, changes and swaps of neighbours between two words.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut rows = vec![(0..=other.len()).collect::<Vec<usize>>()];
    for (i, left) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, right) in other.iter().enumerate() {
            let change = rows[i][j] + usize::from(left != right);
            let mut best = change.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && one[i - 1] == *right && *left == other[j - 1] {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows.last()
        .and_then(|row| row.last())
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keywords(value: &Value, inside_names: bool, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    if !inside_names {
                        found.push(key.clone());
                    }
                    let names =
                        !inside_names && matches!(key.as_str(), "properties" | "patternProperties" | "$defs");
                    if !matches!(key.as_str(), "default" | "examples") || inside_names {
                        keywords(value, names, found);
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| keywords(item, false, found)),
            _ => {}
        }
    }

    #[test]
    fn every_keyword_of_our_schema_is_known() {
        let schema =
            serde_json::to_value(schemars::schema_for!(crate::model::profile::Profile)).expect("it is JSON");
        let mut found = Vec::new();
        keywords(&schema, false, &mut found);
        for keyword in found {
            assert!(KNOWN.contains(&keyword.as_str()), "{keyword}");
        }
    }

    #[test]
    fn near_words_are_suggested() {
        assert_eq!(nearest("serv", ["serve", "port"].into_iter()), Some("serve"));
        assert_eq!(nearest("xyz", ["serve", "port"].into_iter()), None);
    }
}
