//! A change of a host's firewall: rules in force and the file that the host reads when it starts, under a guard of the host.

use crate::model::{Digest, FileEdit, HostPath, Invocation};
use serde::{Deserialize, Serialize};

/// Changes of the rules in force and of their file, done as one: all of it or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallChange {
    /// What is done to the rules in force, in order.
    pub live: Vec<LiveChange>,
    /// What is done to the file.
    pub file: Option<FileEdit>,
    /// Takes the new file on standard input, and tells whether its rules could be put in force.
    pub test: Option<Invocation>,
    /// The rules in force that the change was planned on.
    pub planned_on: Option<LiveDigest>,
    /// How the host takes everything back by itself.
    pub guard: Guard,
    /// It is taken back when the session ends.
    #[serde(default)]
    pub temporary: bool,
}

/// One change of the rules in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveChange {
    /// Does it.
    pub run: Invocation,
    /// Takes it back.
    pub back: Invocation,
    /// Ends with 0 if the rule is there.
    pub look: Invocation,
    /// The rule is there afterwards; else it is gone.
    pub adds: bool,
    /// The rule as `iptables-save` writes it, where it is one of iptables.
    pub rule: Option<String>,
}

impl LiveChange {
    /// Returns the change that takes this one back.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            run: self.back.clone(),
            back: self.run.clone(),
            adds: !self.adds,
            ..self.clone()
        }
    }
}

/// What a command printed: lines that tell times and counts are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveDigest {
    /// The command.
    pub look: Invocation,
    /// Of what it printed, see [`LiveDigest::of`].
    pub digest: Digest,
}

impl LiveDigest {
    /// Returns the digest of what `iptables-save` printed, without comments and counters: they change by themselves.
    pub fn of(printed: &str) -> Digest {
        let lines = printed.lines().filter(|line| !line.starts_with('#'));
        let lines = lines.map(|line| match line.strip_prefix(':') {
            Some(chain) => chain.split(" [").next().unwrap_or(chain).to_owned(),
            None => line.to_owned(),
        });
        Digest::of(lines.collect::<Vec<_>>().join("\n").trim_end().as_bytes())
    }
}

/// A timer on the host that restores what was there before, unless a new connection confirms the change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// After so many seconds.
    pub seconds: u64,
    /// The file that is restored.
    pub file: Option<HostPath>,
    /// Program that prints the rules in force.
    pub save: Option<String>,
    /// Program that puts such rules in force.
    pub restore: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_times_are_no_change() {
        let one = LiveDigest::of("# now\n*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j DROP\nCOMMIT\n# done");
        let other = LiveDigest::of("# later\n*filter\n:INPUT ACCEPT [12:900]\n-A INPUT -j DROP\nCOMMIT");
        assert_eq!(one, other);
        let changed = LiveDigest::of("*filter\n:INPUT DROP [0:0]\n-A INPUT -j DROP\nCOMMIT");
        assert_ne!(one, changed);
    }
}
