//! Checks a document's nodes against the schema of profiles, all errors at once, and makes the values that serde builds from.
//!
//! Only the parts of JSON Schema that our types make are known; a test checks that no other appears.

mod choice;
mod scalar;

use crate::config::node::{Content, FieldPath, Issue, Key, Node, Part, Place, ScalarType};
use crate::model::near::nearest;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The `format` of a secret in the schema: what stands in its place is not shown.
const SECRET: &str = "Secret";

/// What is said of anything wrong in the place of a secret.
const NO_SECRET: &str = "a secret is never in a profile: expected where it is found, `{env: NAME}` with a variable's name or `{command: …}`";

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
    "minItems",
    "oneOf",
    "anyOf",
    "enum",
    "const",
    "minimum",
    "maximum",
    "pattern",
];

/// Checks a document.
///
/// # Errors
///
/// Everything that does not fit the schema.
pub fn check(schema: &Value, document: &Node) -> Result<Value, Vec<Issue>> {
    let mut checker = Checker {
        root: schema,
        path: FieldPath::default(),
        in_secret: false,
        issues: Vec::new(),
    };
    let value = checker.node(schema, document);
    if checker.issues.is_empty() {
        Ok(value)
    } else {
        Err(checker.issues)
    }
}

struct Checker<'a> {
    root: &'a Value,
    /// Where the walk is.
    path: FieldPath,
    /// Whether what stands here may be a secret.
    in_secret: bool,
    issues: Vec<Issue>,
}

impl<'a> Checker<'a> {
    fn issue(&mut self, place: Place, message: impl Into<String>) {
        // Whatever is wrong with a secret, what was written is not repeated.
        let message = if self.in_secret {
            NO_SECRET.to_owned()
        } else {
            message.into()
        };
        self.issues.push(Issue {
            hides: self.in_secret,
            ..Issue::new(place, self.path.clone(), message)
        });
    }

    /// Does something one step further down.
    fn below<T>(&mut self, part: Part, action: impl FnOnce(&mut Self) -> T) -> T {
        self.path.0.push(part);
        let result = action(self);
        self.path.0.pop();
        result
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

    /// Returns the node's value; of a wrong one something that nobody looks at.
    fn node(&mut self, schema: &'a Value, node: &Node) -> Value {
        let schema = self.resolve(schema);
        if choices(schema).is_some() {
            return self.choose(schema, node);
        }
        let types = types(schema);
        if types.contains(&"null") && node.scalar_type() == Some(ScalarType::Null) {
            return Value::Null;
        }
        match &node.content {
            Content::Mapping(entries) if types.contains(&"object") => self.mapping(schema, node, entries),
            Content::Sequence(items) if types.contains(&"array") => self.sequence(schema, node, items),
            Content::Scalar { text, .. } => self.scalar(schema, &types, node, text),
            _ => {
                self.issue(
                    node.place,
                    format!("got {}, expected {}", node.describe(), expected(schema)),
                );
                Value::Null
            }
        }
    }

    fn sequence(&mut self, schema: &'a Value, node: &Node, items: &[Node]) -> Value {
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or_default();
        if (items.len() as u64) < least {
            self.issue(node.place, "the list is empty, expected one item at least");
        }
        if format(schema) == Some("Command") {
            self.command(items);
        }
        let each = schema.get("items");
        items
            .iter()
            .enumerate()
            .map(|(index, item)| match each {
                Some(each) => self.below(Part::Index(index), |checker| checker.node(each, item)),
                None => Value::Null,
            })
            .collect()
    }

    /// A program and its arguments: what no command line can hold is told at its word.
    fn command(&mut self, words: &[Node]) {
        for (index, word) in words.iter().enumerate() {
            let Content::Scalar { text, .. } = &word.content else {
                continue;
            };
            let message = if index == 0 && text.is_empty() {
                "got an empty text, expected a program"
            } else if text.contains('\0') {
                "a word of a command cannot hold a NUL"
            } else {
                continue;
            };
            self.below(Part::Index(index), |checker| checker.issue(word.place, message));
        }
    }

    fn mapping(&mut self, schema: &'a Value, node: &Node, entries: &[(Key, Node)]) -> Value {
        let mut seen: BTreeMap<&str, Place> = BTreeMap::new();
        let mut made = Map::new();
        for (key, value) in entries {
            self.below(Part::Key(key.text.clone()), |checker| {
                if let Some(first) = seen.get(key.text.as_str()) {
                    checker.issue(
                        key.place,
                        format!("the key stands on line {} already", first.line),
                    );
                } else if let Some(value) = checker.entry(schema, key, value) {
                    made.insert(key.text.clone(), value);
                }
            });
            seen.entry(&key.text).or_insert(key.place);
        }
        for name in names(schema, "required") {
            if !seen.contains_key(name) {
                self.issue(node.place, format!("the key `{name}` is missing"));
            }
        }
        Value::Object(made)
    }

    /// Returns the value of a key that may stand in the map.
    fn entry(&mut self, schema: &'a Value, key: &Key, value: &Node) -> Option<Value> {
        let properties = schema.get("properties").and_then(Value::as_object);
        if let Some(schema) = properties.and_then(|properties| properties.get(&key.text)) {
            return Some(self.node(schema, value));
        }
        // Targets: their names are checked by the type, which says more than a pattern.
        if let Some((_, schema)) = schema
            .get("patternProperties")
            .and_then(Value::as_object)
            .and_then(|patterns| patterns.iter().next())
        {
            if let Some(message) = scalar::grammar("TargetName", &key.text) {
                self.issue(key.place, message);
            }
            return Some(self.node(schema, value));
        }
        match schema.get("additionalProperties") {
            Some(schema) if schema.is_object() => Some(self.node(schema, value)),
            _ => {
                let known: Vec<&str> = properties
                    .into_iter()
                    .flat_map(|known| known.keys().map(String::as_str))
                    .collect();
                let message = match nearest(&key.text, known.iter().copied()) {
                    Some(near) => format!("unknown key; did you mean `{near}`?"),
                    None => format!("unknown key, expected one of {}", known.join(", ")),
                };
                self.issue(key.place, message);
                None
            }
        }
    }
}

fn choices(schema: &Value) -> Option<&Vec<Value>> {
    schema
        .get("anyOf")
        .or_else(|| schema.get("oneOf"))
        .and_then(Value::as_array)
}

fn names<'v>(schema: &'v Value, keyword: &str) -> impl Iterator<Item = &'v str> {
    schema
        .get(keyword)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

fn format(schema: &Value) -> Option<&str> {
    schema.get("format").and_then(Value::as_str)
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
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
}
