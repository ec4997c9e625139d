//! What rules make of a connection that somebody opens. What cannot be told from the rules is said to be so.

use super::file::RuleFile;
use super::rule::{Part, Rule, addresses};
use crate::model::{AddressRange, Family, PortRange};

/// Whether a connection is opened or goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its first packet.
    New,
    /// All later ones.
    Established,
}

/// Connections that come from the network: from any of these addresses to any of these TCP ports of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// From where.
    pub source: AddressRange,
    /// To which address of the host, if that is known.
    pub destination: Option<AddressRange>,
    /// To which ports.
    pub ports: PortRange,
    /// How far they are.
    pub state: State,
}

impl Connection {
    /// Makes the connections of those who open one.
    pub fn new(source: AddressRange, ports: PortRange) -> Self {
        Self {
            source,
            destination: None,
            ports,
            state: State::New,
        }
    }

    /// Makes the connections that a rule of ours lets in; `None` if the rule is for more than ports and addresses.
    pub(super) fn of(rule: &Rule) -> Option<Self> {
        let source = match rule.value("-s") {
            Some(text) => addresses(text)?,
            None => AddressRange::all(Family::V4),
        };
        let ports = rule.value("--dport").and_then(|text| text.parse().ok())?;
        Some(Self::new(source, ports))
    }
}

/// How much of the connections a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// None of them.
    Nothing,
    /// Some of them, or nobody can tell.
    Some,
    /// All of them.
    All,
}

impl Reach {
    fn not(self) -> Self {
        match self {
            Self::Nothing => Self::All,
            Self::Some => Self::Some,
            Self::All => Self::Nothing,
        }
    }

    fn of_set(contains: bool, overlaps: bool) -> Self {
        match (contains, overlaps) {
            (true, _) => Self::All,
            (false, true) => Self::Some,
            (false, false) => Self::Nothing,
        }
    }
}

/// Where a rule stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its chain.
    pub chain: String,
    /// How many rules of the chain stand before it; `None`: what the chain does at its end.
    pub index: Option<usize>,
}

/// What becomes of connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    /// All that nothing before decided on are let in (`true`) or refused.
    pub open: bool,
    /// What decided that.
    pub by: Place,
    /// Rules before it that refuse some of them, or may.
    pub refused_in_part: Vec<Place>,
    /// Rules before it that let some of them in, or may.
    pub let_in_in_part: Vec<Place>,
}

impl Fate {
    /// Tells whether all of them come in, whatever the rules do that cannot be told from here.
    pub fn is_surely_open(&self) -> bool {
        self.open && self.refused_in_part.is_empty()
    }

    /// Tells whether none of them comes in.
    pub fn is_surely_closed(&self) -> bool {
        !self.open && self.let_in_in_part.is_empty()
    }
}

/// Modules that bring options and are no condition themselves.
const QUIET_MODULES: [&str; 6] = ["tcp", "conntrack", "state", "comment", "multiport", "addrtype"];

/// Targets after which the next rule is looked at.
const GOING_ON: [&str; 14] = [
    "LOG",
    "NFLOG",
    "ULOG",
    "MARK",
    "CONNMARK",
    "SECMARK",
    "CONNSECMARK",
    "TRACE",
    "AUDIT",
    "CT",
    "TOS",
    "DSCP",
    "SET",
    "CLASSIFY",
];

/// Tells how much of the connections a rule is for.
pub fn reach(rule: &Rule, connection: &Connection) -> Reach {
    let each = rule.parts().iter().map(|part| {
        let reach = part_reach(part, connection);
        if part.negated { reach.not() } else { reach }
    });
    each.min().unwrap_or(Reach::All)
}

fn part_reach(part: &Part, connection: &Connection) -> Reach {
    let first = part.values.first().map(String::as_str).unwrap_or_default();
    let family = connection.source.family();
    match part.name.as_str() {
        // Not conditions: what is done, and words for people.
        "-j" | "-g" | "--goto" | "--comment" | "--reject-with" | "--log-prefix" | "--log-level" => Reach::All,
        "-4" | "--ipv4" => Reach::of_set(family == Family::V4, false),
        "-6" | "--ipv6" => Reach::of_set(family == Family::V6, false),
        "-p" => match first {
            "tcp" | "6" | "all" | "0" => Reach::All,
            _ => Reach::Nothing,
        },
        "-m" if QUIET_MODULES.contains(&first) => Reach::All,
        // Its options say that it is for another protocol.
        "-m" if matches!(first, "udp" | "icmp" | "icmp6") => Reach::Nothing,
        "-s" => set_of_addresses(first, connection.source),
        "-d" => match connection.destination {
            Some(destination) => set_of_addresses(first, destination),
            None => set_of_addresses(first, AddressRange::all(family)),
        },
        "-i" if first == "lo" => match connection.source.is_loopback() {
            true => Reach::All,
            false => Reach::Nothing,
        },
        "-i" if first == "+" => Reach::All,
        "-i" if connection.source.is_loopback() => Reach::Nothing,
        "-o" | "-f" | "--fragment" | "--icmp-type" | "--icmpv6-type" => Reach::Nothing,
        "--dport" | "--dports" => set_of_ports(first, connection.ports),
        "--ctstate" | "--state" => {
            let word = match connection.state {
                State::New => "NEW",
                State::Established => "ESTABLISHED",
            };
            Reach::of_set(first.split(',').any(|state| state == word), false)
        }
        // `--tcp-flags FIN,SYN,RST,ACK SYN` is how `--syn` is saved.
        "--syn" => Reach::of_set(connection.state == State::New, false),
        "--tcp-flags" if part.values == ["FIN,SYN,RST,ACK", "SYN"] => {
            Reach::of_set(connection.state == State::New, false)
        }
        _ => Reach::Some,
    }
}

fn set_of_addresses(text: &str, wanted: AddressRange) -> Reach {
    let mut all = Reach::Nothing;
    for one in text.split(',') {
        let reach = match addresses(one) {
            Some(range) => Reach::of_set(range.contains(wanted), range.overlaps(wanted)),
            // A name, or a mask with holes.
            None => Reach::Some,
        };
        all = all.max(reach);
    }
    all
}

fn set_of_ports(text: &str, wanted: PortRange) -> Reach {
    let mut all = Reach::Nothing;
    for one in text.split(',') {
        // An open end: `:1023`, `1024:`.
        let (first, last) = one.split_once(':').unwrap_or((one, one));
        let end = |text: &str, open: u16| {
            if text.is_empty() {
                Some(open)
            } else {
                text.parse().ok()
            }
        };
        let reach = match (end(first, 0), end(last, u16::MAX)) {
            (Some(first), Some(last)) => {
                let range = PortRange::between(first, last);
                Reach::of_set(range.contains(wanted), range.overlaps(wanted))
            }
            // A service's name.
            _ => Reach::Some,
        };
        all = all.max(reach);
    }
    all
}

/// How a chain ends for connections that come to it.
enum Way {
    Decided { open: bool, by: Place },
    Through,
}

/// More chains than this within each other are a circle, which iptables refuses.
const DEEPEST: usize = 32;

/// Follows connections through the table `filter`, from its chain `INPUT`. Without such a chain everybody is let in.
pub fn fate(file: &RuleFile, connection: &Connection) -> Fate {
    let mut walk = Walk {
        file,
        connection,
        refused: Vec::new(),
        let_in: Vec::new(),
    };
    let (open, by) = match walk.chain("INPUT", 0) {
        Way::Decided { open, by } => (open, by),
        Way::Through => (
            !matches!(file.policy("INPUT"), Some("DROP" | "REJECT")),
            Place {
                chain: "INPUT".to_owned(),
                index: None,
            },
        ),
    };
    Fate {
        open,
        by,
        refused_in_part: walk.refused,
        let_in_in_part: walk.let_in,
    }
}

struct Walk<'a> {
    file: &'a RuleFile,
    connection: &'a Connection,
    refused: Vec<Place>,
    let_in: Vec<Place>,
}

impl Walk<'_> {
    fn chain(&mut self, chain: &str, depth: usize) -> Way {
        if depth > DEEPEST {
            return Way::Through;
        }
        for (index, rule) in self.file.rules(chain).into_iter().enumerate() {
            let reach = reach(rule, self.connection);
            let goes_to = rule.value("-g").or(rule.value("--goto"));
            let Some(target) = rule.value("-j").or(goes_to).filter(|_| reach != Reach::Nothing) else {
                continue;
            };
            let place = Place {
                chain: chain.to_owned(),
                index: Some(index),
            };
            let way = match target {
                "ACCEPT" => Way::Decided {
                    open: true,
                    by: place,
                },
                "DROP" | "REJECT" => Way::Decided {
                    open: false,
                    by: place,
                },
                "RETURN" if reach == Reach::All => return Way::Through,
                target if self.file.policy(target).is_some() => self.chain(target, depth + 1),
                // Some go back, and may fare otherwise than those that stay.
                "RETURN" => {
                    self.refused.push(place.clone());
                    self.let_in.push(place);
                    Way::Through
                }
                target if GOING_ON.contains(&target) => Way::Through,
                // A target that decides in ways of its own: perhaps it refuses.
                _ => {
                    self.refused.push(place);
                    Way::Through
                }
            };
            match way {
                Way::Through if goes_to.is_some() && reach == Reach::All => return Way::Through,
                Way::Through => {}
                way @ Way::Decided { .. } if reach == Reach::All => return way,
                Way::Decided { open: true, by } => self.let_in.push(by),
                Way::Decided { open: false, by } => self.refused.push(by),
            }
        }
        Way::Through
    }
}
