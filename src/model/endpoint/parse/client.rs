//! Clients: an endpoint with a word for what it is for.

use super::{EndpointError, Wrong, meant, starts_with_kind};
use crate::model::endpoint::{ClientSpec, EndpointSpec};
use crate::model::near::nearest;
use crate::model::policy::ClientPrefix;
use std::str::FromStr;

const EXPECTED: &str = "one of console=, gdb=, kd=, ro=";

impl FromStr for ClientSpec {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        for prefix in ClientPrefix::ALL {
            if let Some(rest) = text
                .strip_prefix(prefix.name())
                .and_then(|rest| rest.strip_prefix('='))
            {
                let skipped = text.chars().count() - rest.chars().count();
                let endpoint = rest.parse().map_err(|error: EndpointError| EndpointError {
                    what: "client",
                    text: text.to_owned(),
                    column: error.column + skipped,
                    example: format!("{}={}", prefix.name(), error.example),
                    ..error
                })?;
                return Ok(Self {
                    prefix: Some(prefix),
                    endpoint,
                });
            }
        }
        if let Some((prefix, rest)) = text.split_once('=')
            && prefix
                .bytes()
                .all(|byte| byte.is_ascii_alphabetic() || byte == b'+' || byte == b'-')
            && (starts_with_kind(rest) || meant(rest).is_some())
        {
            return Err(unknown_prefix(text, prefix, rest));
        }
        Ok(Self {
            prefix: None,
            endpoint: text.parse()?,
        })
    }
}

fn unknown_prefix(text: &str, prefix: &str, rest: &str) -> EndpointError {
    let near = nearest(
        &prefix.to_lowercase(),
        ClientPrefix::ALL.into_iter().map(ClientPrefix::name),
    );
    let expected = match near {
        Some(near) => format!("{EXPECTED}; did you mean `{near}=`?"),
        None => EXPECTED.to_owned(),
    };
    let right = match rest.parse::<EndpointSpec>() {
        Ok(_) => rest.to_owned(),
        Err(error) => error.example,
    };
    EndpointError {
        what: "client",
        text: text.to_owned(),
        column: 1,
        message: Wrong::new("prefix", format!("{prefix}="), expected).to_string(),
        example: format!("{}={right}", near.unwrap_or("gdb")),
    }
}
