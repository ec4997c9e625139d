//! What is said to a guest's shell over its serial console: the login, and then commands with their output and status.
//!
//! Pure: bytes and time in, bytes out. Kernel messages may stand anywhere between the guest's own words, bytes may be lost, and
//! the guest may reboot in the middle. Nothing that is sent is ever logged.

mod agent;
mod cmd;
mod frame;
mod login;
mod machine;
mod sac;
mod text;

pub use agent::{Agent, AgentFailure, Said};
pub use cmd::{CmdAgent, CmdFailure, CmdSaid};
pub use frame::Mark;
pub use login::{Credentials, Hidden, LoggedIn, Login, LoginFailure};
pub use machine::{Dialogue, Shell};
pub use sac::{SacLogin, shows_sac};
