//! TCP ports in a row.

use crate::model::firewall::FirewallError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// TCP ports from the first to the last: `7001`, `7001:7010`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Makes the range of one port.
    pub fn one(port: u16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }

    /// Makes a range; the ends may stand in any order.
    pub fn between(one: u16, other: u16) -> Self {
        Self {
            first: one.min(other),
            last: one.max(other),
        }
    }

    /// Returns the first port.
    pub fn first(self) -> u16 {
        self.first
    }

    /// Returns the last port.
    pub fn last(self) -> u16 {
        self.last
    }

    /// Tells whether all of `other` is in it.
    pub fn contains(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// Tells whether the two have a port in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(formatter, "{}", self.first),
            false => write!(formatter, "{}:{}", self.first, self.last),
        }
    }
}

impl FromStr for PortRange {
    type Err = FirewallError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            FirewallError(format!(
                "`{text}` is no range of ports, expected one as in `7001:7010`"
            ))
        };
        let port = |text: &str| {
            text.parse::<u16>()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(wrong)
        };
        let (first, last) = match text.split_once(':') {
            Some((first, last)) => (port(first)?, port(last)?),
            None => (port(text)?, port(text)?),
        };
        if first > last {
            return Err(FirewallError(format!(
                "`{text}` ends before it begins: expected `{last}:{first}`"
            )));
        }
        Ok(Self { first, last })
    }
}

impl TryFrom<String> for PortRange {
    type Error = FirewallError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        range.to_string()
    }
}

impl schemars::JsonSchema for PortRange {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PortRange".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "PortRange", "pattern": "^[0-9]+(:[0-9]+)?$" })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn ranges_of_ports() {
        let range = |text: &str| text.parse::<PortRange>().unwrap();
        assert_eq!(range("7001").to_string(), "7001");
        assert_eq!(range("7001:7010").to_string(), "7001:7010");
        assert!(range("7001:7010").contains(range("7010")));
        assert!(!range("7001:7010").contains(range("7010:7011")));
        assert!(range("7001:7010").overlaps(range("7010:7011")));
        for wrong in ["", "0", "x", "7001:", "7001-7010", "70000", "7010:7001"] {
            assert!(wrong.parse::<PortRange>().is_err(), "{wrong}");
        }
    }
}
