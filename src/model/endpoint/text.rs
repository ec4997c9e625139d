//! Endpoints as strings in YAML and JSON: one spelling everywhere, and a schema that says so.

use super::{ClientSpec, EndpointError, EndpointSpec};
use crate::model::break_with::BreakWith;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

/// Writes a type that has a grammar as the string of that grammar.
macro_rules! string_in_files {
    ($type:ty, $name:literal, $description:literal, [$($example:literal),+]) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(|error: EndpointError| D::Error::custom(error))
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
                json_schema!({ "type": "string", "format": $name, "description": $description, "examples": [$($example),+] })
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
    fn a_wrong_string_in_a_file_is_told_as_on_the_command_line() {
        let error = serde_json::from_str::<ClientSpec>(r#""gdb=tcp:1""#).unwrap_err();
        assert!(error.to_string().contains("column 5: expected a role"), "{error}");
        assert!(serde_json::from_str::<EndpointSpec>("7001").is_err());
    }

    #[test]
    fn the_schema_is_a_string_whose_examples_parse() {
        let schema = schemars::schema_for!(EndpointSpec).to_value();
        assert_eq!(schema["type"], "string");
        for example in schema["examples"].as_array().unwrap() {
            example.as_str().unwrap().parse::<EndpointSpec>().unwrap();
        }
        for example in schemars::schema_for!(ClientSpec).to_value()["examples"]
            .as_array()
            .unwrap()
        {
            example.as_str().unwrap().parse::<ClientSpec>().unwrap();
        }
        for example in schemars::schema_for!(BreakWith).to_value()["examples"]
            .as_array()
            .unwrap()
        {
            example.as_str().unwrap().parse::<BreakWith>().unwrap();
        }
    }
}
