//! A Windows guest: what is seen of it, and the steps that make it ready for kernel debugging.

pub mod bcd;
pub mod bitlocker;
pub mod by_hand;
pub mod facts;
pub mod program;
pub mod refusal;
pub mod restore;
pub mod show;
pub mod steps;
pub mod verdict;

pub use facts::WindowsFacts;
