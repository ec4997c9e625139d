//! What a host has once, for all its VMs. Pure: what was seen goes in, steps come out.

pub mod firewall;
pub mod helper;
pub mod sysrq;
