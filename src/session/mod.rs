//! One session from start to clean end: plan and apply, journal, owner lock, bridge, debugger.

pub mod banner;
pub mod break_port;
pub mod console;
pub mod debug;
pub mod events;
pub mod front;
pub mod owner;
pub mod planted;
pub mod port_key;
pub mod resume;
pub mod serve;
pub mod state;
pub mod sys;
pub mod target_port;

pub use front::Front;
pub use owner::{Claim, OwnerRecord, Ownership, claim, find_owner};
pub use port_key::PortKey;
pub mod apply;
pub mod bridges;
pub mod execute;
pub mod interrupt;
pub mod join;
pub mod journal;
pub mod lifetime;
pub mod lock;
pub mod planning;
pub mod undo;
