//! A port of a host that others may reach: which TCP ports, from where, for how long.

use crate::model::endpoint::{Address, EndpointSpec, Role};
use crate::model::port_range::PortRange;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

/// A text that is none of this file's words, with what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FirewallError(pub(super) String);

/// The two worlds of addresses, each with rules of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Returns how many bits an address has.
    pub fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Addresses with the same first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressRange {
    address: IpAddr,
    prefix: u8,
}

impl AddressRange {
    /// Makes the range of one address.
    pub fn one(address: IpAddr) -> Self {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        Self { address, prefix }
    }

    /// Makes the range of all addresses that have the same first bits as this one; bits behind them do not count.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let range = Self { address, prefix };
        (prefix <= range.family().bits()).then_some(range)
    }

    /// Makes the range of all addresses.
    pub fn all(family: Family) -> Self {
        let address = match family {
            Family::V4 => IpAddr::from([0_u8; 4]),
            Family::V6 => IpAddr::from([0_u8; 16]),
        };
        Self { address, prefix: 0 }
    }

    /// Returns the family of its addresses.
    pub fn family(self) -> Family {
        match self.address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// Tells whether all of `other` is in it.
    pub fn contains(self, other: Self) -> bool {
        self.family() == other.family()
            && self.prefix <= other.prefix
            && self.first() == other.cut(self.prefix)
    }

    /// Tells whether the two have an address in common: then one contains the other.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other) || other.contains(self)
    }

    /// Tells whether it has only addresses of the machine itself.
    pub fn is_loopback(self) -> bool {
        let loopback = match self.family() {
            Family::V4 => Self::new(IpAddr::from([127, 0, 0, 0]), 8),
            Family::V6 => Some(Self::one(std::net::Ipv6Addr::LOCALHOST.into())),
        };
        loopback.is_some_and(|loopback| loopback.contains(self))
    }

    fn cut(self, prefix: u8) -> u128 {
        let number = match self.address {
            IpAddr::V4(address) => u128::from(u32::from(address)),
            IpAddr::V6(address) => u128::from(address),
        };
        let behind = u32::from(self.family().bits() - prefix.min(self.family().bits()));
        number.checked_shr(behind).unwrap_or(0)
    }

    fn first(self) -> u128 {
        self.cut(self.prefix)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for AddressRange {
    type Err = FirewallError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse()? {
            Source::Range(range) => Ok(range),
            Source::Any => Err(FirewallError(format!(
                "`{text}` is no range of addresses, expected one as in `10.0.0.0/24`"
            ))),
        }
    }
}

impl TryFrom<String> for AddressRange {
    type Error = FirewallError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<AddressRange> for String {
    fn from(range: AddressRange) -> Self {
        range.to_string()
    }
}

/// Who may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    /// Everybody: `any`, which must be written out.
    Any,
    /// These addresses.
    Range(AddressRange),
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => formatter.write_str("any"),
            Self::Range(range) => range.fmt(formatter),
        }
    }
}

impl FromStr for Source {
    type Err = FirewallError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "any" {
            return Ok(Self::Any);
        }
        let wrong = || {
            FirewallError(format!(
                "`{text}` is no range of addresses, expected one as in `10.0.0.0/24`, or `any`"
            ))
        };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let one = AddressRange::one(address.parse().map_err(|_| wrong())?);
        let Some(bits) = bits else {
            return Ok(Self::Range(one));
        };
        let bits: u8 = bits.parse().map_err(|_| wrong())?;
        let range = AddressRange::new(one.address, bits).ok_or_else(wrong)?;
        if bits == 0 {
            return Err(FirewallError(format!(
                "`{text}` is everybody: write `any` if that is meant"
            )));
        }
        // Bits behind the prefix: a firewall would silently drop them, and the range be another than it looks.
        let behind = range.family().bits() - bits;
        if one.first() != range.first().checked_shl(u32::from(behind)).unwrap_or(0) {
            return Err(FirewallError(format!(
                "`{text}` has bits behind its first {bits}: expected the range's first address"
            )));
        }
        Ok(Self::Range(range))
    }
}

impl Source {
    /// Reads several, with commas between them.
    ///
    /// # Errors
    ///
    /// One of them is none.
    pub fn list(text: &str) -> Result<Vec<Self>, FirewallError> {
        text.split(',').map(|one| one.trim().parse()).collect()
    }
}

impl TryFrom<String> for Source {
    type Error = FirewallError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.to_string()
    }
}

impl schemars::JsonSchema for Source {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Source".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "Source" })
    }
}

/// What a port wants of its host's firewall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallSpec {
    /// Which ports, for whom.
    pub wanted: FirewallWanted,
    /// How long the host waits for a new connection of ours before it restores its old rules.
    pub confirm_within: Duration,
}

impl FirewallSpec {
    /// Twice the time that a slow login takes.
    pub const CONFIRM_WITHIN: Duration = Duration::from_secs(30);

    /// Makes the wish that a VM's end can be reached by these, on these ports or on its own.
    ///
    /// # Errors
    ///
    /// Nobody but the host itself can reach it, it is not among the ports, or nobody is named.
    pub fn open(
        endpoint: Option<&EndpointSpec>,
        ports: Option<PortRange>,
        allow_from: Vec<Source>,
    ) -> Result<Self, FirewallError> {
        let shown = endpoint.map_or_else(|| "no endpoint".to_owned(), |endpoint| format!("`{endpoint}`"));
        let refuse = |what: String| Err(FirewallError(what));
        let own = match endpoint.map(|endpoint| (endpoint.role, &endpoint.address)) {
            Some((
                Some(Role::Listen),
                address @ (Address::Tcp { port, .. } | Address::Telnet { port, .. }),
            )) => {
                if address.is_local() {
                    return refuse(format!(
                        "{shown} is reached by its host alone, so there is nothing to open: expected another address, as in `listen:tcp:0.0.0.0:7001`"
                    ));
                }
                *port
            }
            _ => {
                return refuse(format!(
                    "a firewall opens a TCP port on which the VM listens: got {shown}, expected one as in `listen:tcp:0.0.0.0:7001`"
                ));
            }
        };
        let ports = ports.unwrap_or_else(|| PortRange::one(own));
        if !ports.contains(PortRange::one(own)) {
            return refuse(format!("the VM's port {own} is not among the ports {ports}"));
        }
        if allow_from.is_empty() {
            return refuse("nobody is named for whom the port is opened".to_owned());
        }
        Ok(Self {
            wanted: FirewallWanted::Open {
                ports,
                allow_from,
                temporary: false,
            },
            confirm_within: Self::CONFIRM_WITHIN,
        })
    }
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirewallWanted {
    /// The ports are open for these.
    Open {
        /// Which ports.
        ports: PortRange,
        /// For whom; never empty.
        allow_from: Vec<Source>,
        /// Only until the session ends.
        temporary: bool,
    },
    /// What vmserial opened for the target is closed (`setup --remove`).
    Closed,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn range(text: &str) -> AddressRange {
        text.parse().unwrap()
    }

    #[test]
    fn sources() {
        for (right, shown) in [
            ("any", "any"),
            ("10.0.0.0/24", "10.0.0.0/24"),
            ("10.0.0.7", "10.0.0.7/32"),
            ("fd00::/8", "fd00::/8"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(right.parse::<Source>().unwrap().to_string(), shown);
        }
        for (wrong, part) in [
            ("", "no range"),
            ("everybody", "no range"),
            ("10.0.0.0/33", "no range"),
            ("10.0.0.0/-1", "no range"),
            ("0.0.0.0/0", "write `any`"),
            ("::/0", "write `any`"),
            ("10.0.0.7/24", "bits behind"),
            ("fd00::1/8", "bits behind"),
        ] {
            let error = wrong.parse::<Source>().unwrap_err().to_string();
            assert!(error.contains(part), "{wrong}: {error}");
        }
    }

    #[test]
    fn only_a_port_that_others_reach_is_opened() {
        let open = |endpoint: &str, ports: Option<&str>| {
            let endpoint: Option<EndpointSpec> = (!endpoint.is_empty()).then(|| endpoint.parse().unwrap());
            let ports = ports.map(|ports| ports.parse().unwrap());
            FirewallSpec::open(
                endpoint.as_ref(),
                ports,
                Source::list("10.0.0.0/24, 10.1.0.7").unwrap(),
            )
        };
        let spec = open("listen:tcp:0.0.0.0:7001", Some("7001:7010")).unwrap();
        let FirewallWanted::Open {
            ports, allow_from, ..
        } = spec.wanted
        else {
            panic!("it is to be opened");
        };
        assert_eq!((ports.to_string().as_str(), allow_from.len()), ("7001:7010", 2));
        for (endpoint, ports, part) in [
            ("", None, "got no endpoint"),
            ("pty", None, "got `pty`"),
            ("connect:tcp:192.0.2.1:7001", None, "expected one as in"),
            ("listen:tcp:127.0.0.1:7001", None, "reached by its host alone"),
            (
                "listen:tcp:0.0.0.0:7001",
                Some("7002:7010"),
                "not among the ports",
            ),
        ] {
            let error = open(endpoint, ports).unwrap_err().to_string();
            assert!(error.contains(part), "{endpoint}: {error}");
        }
        assert!(Source::list("").is_err() && Source::list("any,").is_err());
    }

    #[test]
    fn ranges_of_addresses_contain_each_other() {
        assert!(range("10.0.0.0/8").contains(range("10.1.0.0/16")));
        assert!(!range("10.1.0.0/16").contains(range("10.0.0.0/8")));
        assert!(range("10.1.0.0/16").overlaps(range("10.0.0.0/8")));
        assert!(!range("10.0.0.0/8").overlaps(range("11.0.0.0/8")));
        assert!(AddressRange::all(Family::V4).contains(range("10.0.0.1")));
        assert!(!AddressRange::all(Family::V4).contains(range("::1")));
        assert!(range("127.0.0.5").is_loopback() && range("::1").is_loopback());
        assert!(!range("10.0.0.1").is_loopback() && !AddressRange::all(Family::V4).is_loopback());
    }

    proptest! {
        #[test]
        fn a_range_reads_back_as_it_is_shown(number in any::<u32>(), bits in 1_u8..=32) {
            let address = number.checked_shr(32 - u32::from(bits)).unwrap() << (32 - bits);
            let range = AddressRange::new(std::net::Ipv4Addr::from(address).into(), bits).unwrap();
            prop_assert_eq!(range.to_string().parse::<AddressRange>().unwrap(), range);
            prop_assert!(range.contains(range));
        }
    }
}
