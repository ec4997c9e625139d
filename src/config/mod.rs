//! Finds, reads, checks and merges profiles.

pub mod check;
pub mod expand;
pub mod expression;
pub mod load;
pub mod merge;
pub mod node;
pub mod validate;
pub mod yaml;

pub use load::{LoadedProfile, Surroundings, find, load};
