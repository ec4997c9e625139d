//! A host's firewall: which rules open ports for others, and how ours are put in and taken away.
//!
//! Facts (xapi `scripts/plugins/firewall-port`, the rules of XenServer's package, firewalld's `firewall-cmd(1)`):
//!
//! - XenServer 8 and XCP-ng have iptables: `INPUT` goes to `RH-Firewall-1-INPUT`, whose last rule refuses everything;
//!   `/etc/sysconfig/iptables` is read when the host starts;
//! - the host's own `firewall-port open|close PORT tcp` is for everybody; it writes that file anew from the rules in force,
//!   and comments in it are lost. So our mark is a comment within the rule. Its `check` says the opposite of what is;
//! - a restart of the service loses rules that are in force and not in the file, so ours is put among those in force;
//! - XenServer 9 has firewalld.

mod firewalld;
mod observed;
mod own_way;
mod steps;
mod told;

pub use observed::{Firewalld, ObservedFirewall, Rules, SshWay};
pub use own_way::check_own_way;
pub use steps::{Want, steps};
pub use told::{summary, told, wants_told};

#[cfg(test)]
mod tests;
