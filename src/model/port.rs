//! The emulated UART of a VM and its spelling in guests.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A serial port of a VM. Counts from 1, as COM1 does; vendors that count from 0 use [`PortIndex::zero_based`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct PortIndex(u32);

/// The number is no port's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("port must be a number from 1 to {max}, as COM1 is 1; got `{got}`", max = PortIndex::MAX)]
pub struct PortIndexError {
    got: String,
}

impl PortIndex {
    /// The highest port that any hypervisor offers (ESXi, 32 ports).
    pub const MAX: u32 = 32;

    /// COM1, ttyS0.
    pub const FIRST: Self = Self(1);

    /// Makes a port from the number that people say: COM1 and ttyS0 are 1.
    pub fn new(number: u32) -> Result<Self, PortIndexError> {
        if (1..=Self::MAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(PortIndexError {
                got: number.to_string(),
            })
        }
    }

    /// Returns the number that people say, from 1.
    pub fn number(self) -> u32 {
        self.0
    }

    /// Returns the number from 0, as in `serial0`, `ttyS0` and `uart` tables.
    pub fn zero_based(self) -> u32 {
        self.0 - 1
    }

    /// Returns the name in a Windows guest, `COM1`.
    pub fn windows_name(self) -> String {
        format!("COM{}", self.0)
    }

    /// Returns the name in a Linux guest, `ttyS0`.
    pub fn linux_name(self) -> String {
        format!("ttyS{}", self.zero_based())
    }
}

impl fmt::Display for PortIndex {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

impl FromStr for PortIndex {
    type Err = PortIndexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse()
            .ok()
            .and_then(|number| Self::new(number).ok())
            .ok_or_else(|| PortIndexError { got: text.to_owned() })
    }
}

impl TryFrom<u32> for PortIndex {
    type Error = PortIndexError;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        Self::new(number)
    }
}

impl From<PortIndex> for u32 {
    fn from(port: PortIndex) -> Self {
        port.0
    }
}

impl schemars::JsonSchema for PortIndex {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PortIndex".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "minimum": 1, "maximum": Self::MAX })
    }
}
