//! A target as it is wanted: validated, so that nobody after `config::validate` checks again.

use crate::model::break_with::BreakWith;
use crate::model::endpoint::{ClientSpec, EndpointSpec};
use crate::model::firewall::FirewallSpec;
use crate::model::host::HostRef;
use crate::model::log::LogSpec;
use crate::model::policy::Policy;
use crate::model::port::PortIndex;
use crate::model::profile::{GuestOs, GuestProfile, SecureBoot, Tunnel};
use crate::model::vm::{HypervisorKind, VmRef};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A target's name in a profile: `[A-Za-z0-9][A-Za-z0-9._-]*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TargetName(String);

/// The text is no target name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no target name: expected a letter or digit, then letters, digits, `.`, `_` or `-`")]
pub struct TargetNameError(String);

impl TargetName {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TargetName {
    type Err = TargetNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = text.bytes();
        let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if first && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
            Ok(Self(text.to_owned()))
        } else {
            Err(TargetNameError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for TargetName {
    type Error = TargetNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<TargetName> for String {
    fn from(name: TargetName) -> Self {
        name.0
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl schemars::JsonSchema for TargetName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TargetName".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "TargetName", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$" })
    }
}

/// How far vmserial may go when a change needs the VM powered off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RestartPolicy {
    /// Never touch the power.
    Never,
    /// Ask on the terminal; without one the same as `never`.
    #[default]
    Ask,
    /// Shut the guest down and start it again; a missed deadline fails and leaves it running.
    Graceful,
    /// Pull the plug if the guest does not shut down.
    Hard,
}

/// One way of breaking a kernel into its debugger, tried in the order in which a profile lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BreakIn {
    /// BREAK by QMP, then `g`.
    Qmp,
    /// `echo g > /proc/sysrq-trigger` through the console's shell.
    Sysrq,
    /// BREAK of the console's own endpoint, then `g`.
    Break,
}

/// One serial port as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSpec {
    /// Which port.
    pub port: PortIndex,
    /// Flow policy.
    pub policy: Policy,
    /// Where the VM's end is, with the VM's role; `None` is the driver's default.
    pub attach: Option<EndpointSpec>,
    /// What the bridge serves, with our roles; empty is the driver's default.
    pub serve: Vec<ClientSpec>,
    /// Logs of what the target sends.
    pub log: LogSpec,
    /// Bytes kept for the next client when nobody is attached (`raw` only).
    pub hold_bytes: usize,
    /// Bytes of history replayed to a console at attach.
    pub replay_bytes: usize,
    /// One console writes at a time, the others read.
    pub one_writer: bool,
    /// How our side reaches the VM's end on another host; `None` is through SSH for what only the host can reach.
    pub tunnel: Option<Tunnel>,
    /// How BREAK reaches the guest; `None` is the driver's default.
    pub break_with: Option<BreakWith>,
    /// What the port wants of its host's firewall; `None`: it is left alone.
    pub firewall: Option<FirewallSpec>,
}

/// The hypervisor's own gdb stub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GdbStubSpec {
    /// TCP port.
    pub port: u16,
    /// Stop at the first instruction and wait for the debugger.
    pub stop_at_start: bool,
    /// Hardware breakpoints only, invisible to the guest.
    pub hide_breakpoints: bool,
    /// Listen on all addresses instead of loopback.
    pub allow_remote: bool,
}

/// A QEMU VM that vmserial starts itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartSpec {
    /// Leave it running at the session's end.
    pub keep: bool,
    /// Kernel image.
    pub kernel: Option<PathBuf>,
    /// Initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// Kernel command line.
    pub append: Option<String>,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Disk images, with their format guessed by QEMU's own rules only when written.
    pub disks: Vec<PathBuf>,
    /// The program, default `qemu-system-x86_64`.
    pub program: Option<String>,
    /// Further arguments, passed as they are.
    pub extra_arguments: Vec<String>,
}

/// Which debugger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DebuggerKind {
    /// The GNU debugger.
    Gdb,
    /// WinDbg.
    Windbg,
    /// The console debugger kd.
    Kd,
}

/// The debugger and its symbols.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebuggerSpec {
    /// Which one.
    pub kind: DebuggerKind,
    /// Program, default by kind.
    pub program: Option<String>,
    /// Kernel image with symbols.
    pub vmlinux: Option<PathBuf>,
    /// Path in the debug information → path here.
    pub source: BTreeMap<String, PathBuf>,
    /// Folders with modules that have symbols.
    pub modules: Vec<PathBuf>,
    /// Ways of breaking in, in this order; empty is the default order.
    pub break_in: Vec<BreakIn>,
}

/// A target as it is wanted: what drivers plan from and sessions run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetSpec {
    /// Its name in the profile, or one made from the VM's.
    pub name: TargetName,
    /// Where its hypervisor runs.
    pub host: HostRef,
    /// Which hypervisor.
    pub hypervisor: HypervisorKind,
    /// Which VM.
    pub vm: VmRef,
    /// How far to go with its power.
    pub restart: RestartPolicy,
    /// Its ports, in rising order, each once.
    pub ports: Vec<PortSpec>,
    /// The hypervisor's gdb stub (`transport: {gdbstub: …}`).
    pub gdb_stub: Option<GdbStubSpec>,
    /// Nested virtualization for the guest.
    pub nested: bool,
    /// What becomes of the firmware's Secure Boot.
    pub secure_boot: SecureBoot,
    /// What is wanted inside the guest, and how it is reached.
    pub guest: Option<GuestProfile>,
    /// The host's own SysRq is switched off, so that its keyboard's keys reach the guest.
    pub host_sysrq_off: bool,
    /// Present if vmserial starts the VM.
    pub start: Option<StartSpec>,
    /// The debugger.
    pub debugger: Option<DebuggerSpec>,
    /// Keys of the profile that are valid and that no driver or session serves yet, by field path within the target
    /// (`guest.boot_entry`), or from the profile's top for what is not the target's own (`hosts.xcp1.sudo`).
    /// Whoever would have to act on one refuses it by this name; [`TargetSpec::field_path`] spells it out.
    pub unserved: Vec<String>,
}

impl TargetSpec {
    /// Returns the whole field path, as a user finds it in the profile, of one of [`TargetSpec::unserved`].
    pub fn field_path(&self, key: &str) -> String {
        if key.starts_with("hosts.") {
            key.to_owned()
        } else {
            format!("targets.{}.{key}", self.name)
        }
    }

    /// Returns the guest's operating system, where the profile says it.
    pub fn guest_os(&self) -> Option<GuestOs> {
        self.guest.as_ref().map(|guest| guest.os)
    }

    /// Returns the port that the debugger talks through, if a policy says so.
    pub fn debug_port(&self) -> Option<&PortSpec> {
        self.ports.iter().find(|port| port.policy.is_debug())
    }

    /// Returns the port with a console.
    pub fn console_port(&self) -> Option<&PortSpec> {
        self.ports
            .iter()
            .find(|port| matches!(port.policy, Policy::Console | Policy::ConsoleGdb))
    }

    /// Returns one port.
    pub fn port(&self, index: PortIndex) -> Option<&PortSpec> {
        self.ports.iter().find(|port| port.port == index)
    }
}
