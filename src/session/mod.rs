//! One session from start to clean end: plan and apply, journal, owner lock, bridge, debugger.

pub mod apply;
pub mod banner;
pub mod break_port;
pub mod bridges;
pub mod cable;
pub mod condition;
pub mod consent;
pub mod console;
pub mod debug;
pub mod doctor;
pub mod events;
pub mod execute;
#[cfg(test)]
mod fake;
pub mod front;
pub mod guest;
pub mod helper;
pub mod helper_setup;
pub mod host_apply;
mod install;
pub mod interrupt;
pub mod join;
pub mod journal;
pub mod kd;
pub mod lifetime;
pub mod lock;
pub mod marks;
pub mod owner;
pub mod planning;
pub mod planted;
pub mod port_key;
pub mod resume;
pub mod serve;
pub mod state;
pub mod store;
pub mod sys;
pub mod target_port;
pub mod undo;
pub mod undo_plan;
mod undo_refusal;
mod undo_script;

pub use front::Front;
pub use owner::{Claim, OwnerRecord, Ownership, claim, find_owner};
pub use port_key::PortKey;
