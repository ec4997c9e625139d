//! A Linux guest: what is seen of it, and the steps that make it ready for kernel debugging.

pub mod boot;
pub mod boot_loader;
pub mod by_hand;
pub mod entries;
pub mod facts;
pub mod getty;
pub mod grub;
pub mod live;
pub mod show;
pub mod verdict;

pub use facts::LinuxFacts;
