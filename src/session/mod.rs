//! One session from start to clean end: plan and apply, journal, owner lock, bridge, debugger.

pub mod front;

pub use front::Front;
