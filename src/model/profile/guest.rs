//! What a profile says of the inside of a guest, and how it names secrets.

use super::VariableName;
use crate::model::{HostRef, HypervisorKind, PortIndex};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A secret by where it comes from; never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(extend("format" = "Secret"))]
pub enum Secret {
    /// From this environment variable.
    Env(VariableName),
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

impl std::fmt::Display for GuestOs {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Linux => "linux",
            Self::Windows => "windows",
        })
    }
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

/// What becomes of BitLocker in a Windows guest whose boot settings change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Bitlocker {
    /// Not touched.
    Keep,
    /// Suspended in the running guest before the VM is powered off, with undo.
    Suspend,
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
    #[serde(default)]
    pub ssh: Option<String>,
    /// Who logs in where the way in does not say it: a serial console, PowerShell Direct.
    #[serde(default)]
    pub user: Option<String>,
    /// Use sudo in the guest.
    #[serde(default)]
    pub sudo: bool,
    /// Password of the guest's user.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Kernel console on the serial port.
    #[serde(default)]
    pub console: Option<ConsoleMode>,
    /// Whoever reaches the console's port is root there, without a login.
    #[serde(default)]
    pub autologin: bool,
    /// A boot entry of its own for debugging.
    #[serde(default)]
    pub boot_entry: Option<BootEntrySpec>,
    /// BitLocker of a Windows guest.
    #[serde(default)]
    pub bitlocker: Option<Bitlocker>,
    /// Boot manager and boot loader of a Windows guest can be debugged, too.
    #[serde(default)]
    pub boot_debug: bool,
    /// EMS of a Windows guest, with its console (SAC), on this port.
    #[serde(default)]
    pub ems: Option<PortIndex>,
}

impl GuestProfile {
    /// Returns how commands reach the guest without its console: its SSH, else its hypervisor, where that reaches into it and a
    /// login of the guest is named.
    pub fn way(&self, hypervisor: HypervisorKind, vm: &str, host: &HostRef) -> Option<HostRef> {
        if let Some(destination) = &self.ssh {
            return Some(HostRef::Ssh(destination.clone()));
        }
        let direct = self.os == GuestOs::Windows
            && hypervisor.has_powershell_direct()
            && self.user.is_some()
            && self.password.is_some();
        direct.then(|| HostRef::Direct {
            vm: vm.to_owned(),
            host: Box::new(host.clone()),
        })
    }
}

impl GuestProfile {
    /// A guest of which nothing but its system is said.
    pub fn of(os: GuestOs) -> Self {
        Self {
            os,
            ssh: None,
            user: None,
            sudo: false,
            password: None,
            console: None,
            autologin: false,
            boot_entry: None,
            bitlocker: None,
            boot_debug: false,
            ems: None,
        }
    }
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
    #[serde(default)]
    pub append: Option<String>,
}
