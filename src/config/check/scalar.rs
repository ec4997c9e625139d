//! A scalar against its schema: type, range, and the grammar that its format names.

use super::{Checker, expected, format, types};
use crate::config::node::{Node, ScalarType};
use crate::model::profile::{MemorySize, VariableName};
use crate::model::{BreakWith, ClientSpec, EndpointSpec, PortRange, TargetName};
use serde_json::Value;

impl<'a> Checker<'a> {
    pub(super) fn scalar(&mut self, schema: &'a Value, types: &[&str], node: &Node, text: &str) -> Value {
        let text_fits = types.contains(&"string");
        let value = match node.scalar_type() {
            Some(ScalarType::Boolean(value)) if types.contains(&"boolean") => Some(Value::Bool(value)),
            Some(ScalarType::Integer(number)) if types.contains(&"integer") => {
                return self.integer(schema, node, number);
            }
            Some(ScalarType::String) if text_fits => Some(Value::String(text.to_owned())),
            _ if text_fits && node.is_made() => Some(Value::String(text.to_owned())),
            _ => None,
        };
        let Some(value) = value else {
            self.issue(node.place, wrong_type(schema, node, text));
            return Value::Null;
        };
        if let (Value::String(text), Some(name)) = (&value, format(schema))
            && let Some(message) = grammar(name, text)
        {
            self.issue(node.place, message);
        }
        value
    }

    fn integer(&mut self, schema: &'a Value, node: &Node, number: i128) -> Value {
        let bound = |name: &str| schema.get(name).and_then(Value::as_i64).map(i128::from);
        let (least, most) = match format(schema) {
            Some("uint8") => (0, i128::from(u8::MAX)),
            Some("uint16") => (0, i128::from(u16::MAX)),
            Some("uint32") => (0, i128::from(u32::MAX)),
            _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
        };
        let low = bound("minimum").unwrap_or(least).max(least);
        let high = bound("maximum").unwrap_or(most).min(most);
        match i64::try_from(number) {
            Ok(value) if (low..=high).contains(&number) => Value::from(value),
            _ => {
                self.issue(
                    node.place,
                    format!("got {number}, expected a number from {low} to {high}"),
                );
                Value::Null
            }
        }
    }
}

fn wrong_type(schema: &Value, node: &Node, text: &str) -> String {
    let got = node.describe();
    let is_size = format(schema) == Some("MemorySize");
    let is_nothing = node.scalar_type() == Some(ScalarType::Null) && !node.is_made();
    if is_size && !is_nothing {
        return format!("got {got}, expected a size with its unit, as in `64MiB`");
    }
    let mut message = format!("got {got}, expected {}", expected(schema));
    if types(schema).contains(&"string") && !is_nothing {
        message.push_str(&format!("; write it in quotes: \"{text}\""));
    } else if types(schema).contains(&"boolean") {
        match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "y" => message.push_str("; did you mean `true`?"),
            "no" | "off" | "n" => message.push_str("; did you mean `false`?"),
            _ => {}
        }
    }
    message
}

/// Returns what is wrong with a text of a format that has a grammar.
pub(super) fn grammar(name: &str, text: &str) -> Option<String> {
    match name {
        "Endpoint" => text.parse::<EndpointSpec>().err().map(|error| error.to_string()),
        "Client" => text.parse::<ClientSpec>().err().map(|error| error.to_string()),
        "BreakWith" => text.parse::<BreakWith>().err().map(|error| error.to_string()),
        "PortRange" => text.parse::<PortRange>().err().map(|error| error.to_string()),
        "MemorySize" => text.parse::<MemorySize>().err().map(|error| error.to_string()),
        "TargetName" => text.parse::<TargetName>().err().map(|error| error.to_string()),
        "VariableName" => text.parse::<VariableName>().err().map(|error| error.to_string()),
        _ => None,
    }
}
