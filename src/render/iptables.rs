//! Rules of iptables: how one is written, what it says of a connection, and the files that `iptables-save` writes.
//!
//! Facts (iptables-save(8), iptables-restore(8), iptables-extensions(8), iptables 1.8 `xtables_save_string`).

mod file;
mod pass;
mod rule;

pub use file::{FILTER, RuleFile};
pub use pass::{Connection, Fate, Place, Reach, State, fate, reach};
pub use rule::{Rule, RuleError};

#[cfg(test)]
mod tests;
