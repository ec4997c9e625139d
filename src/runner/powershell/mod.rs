//! Our PowerShell scripts on a host: which PowerShell, how the script reaches it, what its answer says.

mod clixml;
pub mod files;
pub mod helper;
mod local;
mod over;
mod reply;
mod sys;

pub use local::local;
pub use over::{SSH, Way, by, over};
