//! What a look at a host's firewall brings.

use crate::model::{AddressRange, Family, HostPath, ObservedFile, PortRange};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Our own connection, as the host sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SshWay {
    /// Where we come from.
    pub from: IpAddr,
    /// Which address of the host we reached.
    pub to: IpAddr,
    /// The port of its SSH server.
    pub port: u16,
}

impl SshWay {
    /// Reads `SSH_CONNECTION`: our address and port, the host's address and port.
    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [from, _, to, port] = words.as_slice() else {
            return None;
        };
        let address = |text: &str| text.split('%').next().and_then(|text| text.parse().ok());
        Some(Self {
            from: address(from)?,
            to: address(to)?,
            port: port.parse().ok()?,
        })
    }

    /// Returns the family of its addresses.
    pub fn family(&self) -> Family {
        AddressRange::one(self.from).family()
    }
}

/// Rules of one family of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// For which addresses.
    pub family: Family,
    /// The program that changes them.
    pub program: String,
    /// The one that prints them.
    pub save: String,
    /// The one that puts them in force.
    pub restore: String,
    /// What is in force, or why that cannot be seen.
    pub live: Result<String, String>,
    /// The file that the host reads when it starts, if there is one.
    pub file: Option<ObservedFile>,
}

/// A firewalld that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firewalld {
    /// Its program.
    pub program: String,
    /// The zone of connections for which nothing else is said.
    pub zone: String,
    /// Ports in force (`7001/tcp 80/tcp`).
    pub ports: String,
    /// Rules in force, one a line.
    pub rules: String,
    /// Ports after its next start.
    pub kept_ports: String,
    /// Rules after its next start.
    pub kept_rules: String,
}

/// A host's firewall.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObservedFirewall {
    /// How we came; `None` if we are on the host itself.
    pub ssh: Option<SshWay>,
    /// What iptables has, IPv4 first.
    pub rules: Vec<Rules>,
    /// A firewalld that runs: it owns the rules then.
    pub firewalld: Option<Firewalld>,
    /// The host's own helper.
    pub helper: Option<String>,
    /// Somebody's change waits to be confirmed: it is about to be taken back.
    pub waits: bool,
}

impl ObservedFirewall {
    /// Reads what the script printed, without the files that it names. Parts that are damaged are left out.
    pub fn parse(printed: &[u8]) -> Self {
        let parts = parts(printed);
        let text = |name: &str| parts.get(name).map(|(_, text)| text.clone());
        let or_nothing = |name: &str| text(name).unwrap_or_default();
        let rules = |family: Family, name: &str| {
            let (status, live) = parts.get(&format!("{name}-save"))?.clone();
            Some(Rules {
                family,
                program: text(name)?,
                save: text(&format!("{name}-save-program"))?,
                restore: text(&format!("{name}-restore-program"))?,
                live: if status == 0 { Ok(live) } else { Err(live) },
                file: text(&format!("{name}-file")).map(|path| ObservedFile {
                    path: HostPath::new(path),
                    bytes: None,
                }),
            })
        };
        let of_families = [(Family::V4, "iptables"), (Family::V6, "ip6tables")];
        Self {
            ssh: text("ssh").and_then(|text| SshWay::parse(&text)),
            rules: of_families
                .into_iter()
                .filter_map(|(family, name)| rules(family, name))
                .collect(),
            firewalld: text("firewalld").map(|program| Firewalld {
                program,
                zone: or_nothing("firewalld-zone"),
                ports: or_nothing("firewalld-ports"),
                rules: or_nothing("firewalld-rules"),
                kept_ports: or_nothing("firewalld-kept-ports"),
                kept_rules: or_nothing("firewalld-kept-rules"),
            }),
            helper: text("helper"),
            waits: parts.contains_key("waits"),
        }
    }

    /// Returns the rules of a family.
    pub fn of(&self, family: Family) -> Option<&Rules> {
        self.rules.iter().find(|rules| rules.family == family)
    }

    /// Tells whether the host's own connection with us uses one of these ports.
    pub fn is_own_way(&self, ports: PortRange) -> bool {
        self.ssh
            .is_some_and(|way| ports.contains(PortRange::one(way.port)))
    }
}

/// Takes `NAME STATUS LENGTH` sections apart.
fn parts(mut printed: &[u8]) -> BTreeMap<String, (i32, String)> {
    let mut parts = BTreeMap::new();
    while let Some(end) = printed.iter().position(|&byte| byte == b'\n') {
        let head = String::from_utf8_lossy(&printed[..end]).into_owned();
        let words: Vec<&str> = head.split(' ').collect();
        let [name, status, length] = words.as_slice() else {
            break;
        };
        let (Ok(status), Ok(length)) = (status.parse(), length.parse::<usize>()) else {
            break;
        };
        let rest = &printed[end + 1..];
        let Some(text) = rest.get(..length) else {
            break;
        };
        let text = String::from_utf8_lossy(text).into_owned();
        parts.insert((*name).to_owned(), (status, text));
        printed = rest.get(length + 1..).unwrap_or_default();
    }
    parts
}
