//! Endpoints as strings in YAML and JSON: one spelling everywhere, and a schema that says so. An
//! `exec:` may also be a list of words, `{exec: [PROGRAM, ARGUMENT, …]}`, which needs no quotes.

use super::{Address, ClientSpec, EndpointError, EndpointSpec, ExecCommand};
use crate::model::break_with::BreakWith;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

/// Reads a string of the grammar, or a command as a list.
struct TextOrCommand<T>(PhantomData<T>);

impl<'de, T: FromStr<Err = EndpointError> + From<ExecCommand>> Visitor<'de> for TextOrCommand<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an endpoint, or `exec:` with a list of words")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let key: Option<String> = map.next_key()?;
        if key.as_deref() != Some("exec") {
            return Err(A::Error::unknown_field(key.as_deref().unwrap_or(""), &["exec"]));
        }
        let words = map.next_value()?;
        if map.next_key::<IgnoredAny>()?.is_some() {
            return Err(A::Error::custom("`exec` stands alone"));
        }
        let command = ExecCommand::from_words(words);
        let command =
            command.ok_or_else(|| A::Error::custom("`exec` needs a program, and no word has a NUL"))?;
        Ok(command.into())
    }
}

impl From<ExecCommand> for EndpointSpec {
    fn from(command: ExecCommand) -> Self {
        Self::new(None, Address::Exec(command))
    }
}

impl From<ExecCommand> for BreakWith {
    fn from(command: ExecCommand) -> Self {
        Self::Exec(command.words().to_vec())
    }
}

impl From<ExecCommand> for ClientSpec {
    fn from(command: ExecCommand) -> Self {
        Self {
            prefix: None,
            endpoint: command.into(),
        }
    }
}

/// The schema of [`TextOrCommand`].
fn text_or_command(text: Schema) -> Schema {
    json_schema!({ "anyOf": [text, {
        "type": "object",
        "description": "A command's standard input and output: the program and its arguments",
        "properties": { "exec": { "type": "array", "format": "Command", "items": { "type": "string" }, "minItems": 1 } },
        "required": ["exec"],
        "additionalProperties": false
    }] })
}

fn read_text_or_command<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err = EndpointError> + From<ExecCommand>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_any(TextOrCommand(PhantomData))
}

/// Writes a type that has a grammar as the string of that grammar, and reads a command as a list too.
macro_rules! string_in_files {
    ($type:ty, $name:literal, $description:literal, [$($example:literal),+]) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                read_text_or_command(deserializer)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                Cow::Borrowed($name)
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                text_or_command(json_schema!({ "type": "string", "format": $name, "description": $description, "examples": [$($example),+] }))
            }
        }
    };
}

string_in_files!(
    EndpointSpec,
    "Endpoint",
    "An endpoint, `[listen:|connect:]KIND:ADDRESS[,option=value…]`; docs/reference/endpoints.md has the grammar",
    [
        "listen:unix:/run/vm/ser0.sock",
        "connect:tcp:127.0.0.1:7001",
        "listen:pipe:kd-win11",
        "pty:/tmp/vm-console"
    ]
);
string_in_files!(
    ClientSpec,
    "Client",
    "A client of a bridge, `[console=|gdb=|kd=|ro=]ENDPOINT`, with our role",
    [
        "listen:tcp:127.0.0.1:7002",
        "gdb=listen:tcp:127.0.0.1:0",
        "ro=listen:unix:/tmp/watch.sock"
    ]
);
string_in_files!(
    BreakWith,
    "BreakWith",
    "How BREAK reaches the guest, `telnet|rfc2217|tty|qmp:PATH[,id=ID]|exec:COMMAND|none`",
    ["qmp:/run/vm/qmp.sock,id=ser0", "telnet", "none"]
);

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn files_hold_the_same_strings_as_the_command_line() {
        let endpoint: EndpointSpec = serde_json::from_str(r#""listen:tcp:7001""#).unwrap();
        assert_eq!(
            serde_json::to_string(&endpoint).unwrap(),
            r#""listen:tcp:127.0.0.1:7001""#
        );
        let client: ClientSpec = serde_json::from_str(r#""gdb=listen:tcp:0""#).unwrap();
        assert_eq!(
            serde_json::to_string(&client).unwrap(),
            r#""gdb=listen:tcp:127.0.0.1:0""#
        );
        let way: BreakWith = serde_json::from_str(r#""qmp:/q,id=ser1""#).unwrap();
        assert_eq!(serde_json::to_string(&way).unwrap(), r#""qmp:/q,id=ser1""#);
    }

    #[test]
    fn a_client_that_is_a_command_may_be_a_list_of_words() {
        let client: ClientSpec = serde_json::from_str(r#"{"exec": ["nc", "-U", "a b"]}"#).unwrap();
        assert_eq!(client, "exec:nc -U 'a b'".parse().unwrap());
        assert_eq!(serde_json::to_string(&client).unwrap(), r#""exec:nc -U 'a b'""#);
        for wrong in [
            r#"{"exec": []}"#,
            r#"{"run": ["a"]}"#,
            r#"{"exec": "a"}"#,
            r#"{"exec": ["a"], "x": 1}"#,
            "{}",
        ] {
            assert!(serde_json::from_str::<ClientSpec>(wrong).is_err(), "{wrong}");
            assert!(serde_json::from_str::<EndpointSpec>(wrong).is_err(), "{wrong}");
        }
        let list = r#"{"exec": ["nc", "-U", "a b"]}"#;
        let endpoint: EndpointSpec = serde_json::from_str(list).unwrap();
        assert_eq!(endpoint, "exec:nc -U 'a b'".parse().unwrap());
        let way: BreakWith = serde_json::from_str(list).unwrap();
        assert_eq!(way, "exec:nc -U 'a b'".parse().unwrap());
    }

    #[test]
    fn a_wrong_string_in_a_file_is_told_as_on_the_command_line() {
        let error = serde_json::from_str::<ClientSpec>(r#""gdb=tcp:1""#).unwrap_err();
        assert!(
            error.to_string().contains("column 5: role: got nothing"),
            "{error}"
        );
        assert!(serde_json::from_str::<EndpointSpec>("7001").is_err());
    }

    #[test]
    fn the_schema_is_a_string_whose_examples_parse() {
        let schema = schemars::schema_for!(EndpointSpec).to_value();
        assert_eq!(schema["anyOf"][0]["type"], "string");
        for example in schema["anyOf"][0]["examples"].as_array().unwrap() {
            example.as_str().unwrap().parse::<EndpointSpec>().unwrap();
        }
        let schema = schemars::schema_for!(ClientSpec).to_value();
        for example in schema["anyOf"][0]["examples"].as_array().unwrap() {
            example.as_str().unwrap().parse::<ClientSpec>().unwrap();
        }
        for example in schemars::schema_for!(BreakWith).to_value()["anyOf"][0]["examples"]
            .as_array()
            .unwrap()
        {
            example.as_str().unwrap().parse::<BreakWith>().unwrap();
        }
    }
}
