//! One session from start to clean end: plan and apply, journal, owner lock, bridge, debugger.

pub mod banner;
pub mod debug;
pub mod events;
pub mod front;
pub mod state;

pub use front::Front;
