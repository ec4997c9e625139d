//! The flow policy of a bridge: what happens when nobody is attached, when a client stalls, when the target is away.

use crate::model::near::nearest;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How bytes flow through a bridge (`--as`, profile key `as`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Policy {
    /// One client, back-pressure, nothing looked at.
    #[serde(rename = "raw")]
    Raw,
    /// Any number of clients and a bounded history.
    #[serde(rename = "console")]
    Console,
    /// gdb on a kgdb that has the port for itself.
    #[serde(rename = "gdb")]
    Gdb,
    /// WinDbg or kd.
    #[serde(rename = "kd")]
    Kd,
    /// Consoles and one gdb share the port.
    #[serde(rename = "console+gdb")]
    ConsoleGdb,
}

impl Policy {
    /// All policies, in the order in which help lists them.
    pub const ALL: [Self; 5] = [Self::Console, Self::Gdb, Self::Kd, Self::ConsoleGdb, Self::Raw];

    /// Returns the name used on the command line and in profiles.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Console => "console",
            Self::Gdb => "gdb",
            Self::Kd => "kd",
            Self::ConsoleGdb => "console+gdb",
        }
    }

    /// Tells whether a debugger talks through this port.
    pub fn is_debug(self) -> bool {
        matches!(self, Self::Gdb | Self::Kd | Self::ConsoleGdb)
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The name is no policy's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy: got `{0}`, expected one of console, gdb, kd, console+gdb, raw{1}")]
pub struct UnknownPolicy(String, String);

impl FromStr for Policy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.name() == text)
            .ok_or_else(|| {
                let near = nearest(&text.to_lowercase(), Self::ALL.into_iter().map(Self::name));
                let hint = near.map(|near| format!("; did you mean `{near}`?"));
                UnknownPolicy(text.to_owned(), hint.unwrap_or_default())
            })
    }
}

/// What a client of a bridge is for, written as a prefix of its endpoint: `gdb=listen:tcp:127.0.0.1:0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientPrefix {
    /// Reads and writes the console.
    Console,
    /// Reads the console only.
    Ro,
    /// Speaks the gdb remote serial protocol.
    Gdb,
    /// Speaks KD.
    Kd,
}

impl ClientPrefix {
    /// All prefixes, in the order in which help lists them.
    pub const ALL: [Self; 4] = [Self::Console, Self::Gdb, Self::Kd, Self::Ro];

    /// Returns the prefix without its `=`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Ro => "ro",
            Self::Gdb => "gdb",
            Self::Kd => "kd",
        }
    }
}
