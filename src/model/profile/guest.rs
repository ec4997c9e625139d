//! What a profile says of the inside of a guest, and how it names secrets.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A secret by where it comes from; never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Secret {
    /// From this environment variable.
    Env(String),
    /// The first line that this command prints.
    Command(String),
}

/// Which operating system runs in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GuestOs {
    /// Linux.
    Linux,
    /// Windows.
    Windows,
}

/// Whether the console is set up for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConsoleMode {
    /// On every installed and future kernel.
    Persistent,
    /// Not touched.
    Off,
}

/// Whether the host's own SysRq is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HostSysrq {
    /// Switched off while a session lasts.
    Off,
}

/// What is changed inside the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GuestProfile {
    /// Which operating system.
    pub os: GuestOs,
    /// `[user@]host[:port]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<String>,
    /// Use sudo in the guest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sudo: bool,
    /// Password of the guest's user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Kernel console on the serial port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<ConsoleMode>,
    /// A boot entry of its own for debugging.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_entry: Option<BootEntrySpec>,
}

/// A boot entry of its own for debugging.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BootEntrySpec {
    /// Stop at boot and wait for the debugger.
    #[serde(default)]
    pub kgdbwait: bool,
    /// Switch KASLR off.
    #[serde(default)]
    pub nokaslr: bool,
    /// Further kernel arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub append: Option<String>,
}
