//! The profile exactly as it is written in YAML, every key of the design. Unknown keys are errors.

mod defaults;
mod guest;
mod scalars;
mod vm;

pub use defaults::{DEFAULT_GDB, DEFAULT_HOLD, DEFAULT_MEMORY, DEFAULT_QEMU, DEFAULT_REPLAY};
pub use guest::{Bitlocker, BootEntrySpec, ConsoleMode, GuestOs, GuestProfile, HostSysrq, Secret};
pub use scalars::{MemorySize, VariableName, VariableNameError};
pub use vm::{VmDescription, VmProfile};

use crate::model::BreakWith;
use crate::model::PortRange;
use crate::model::endpoint::{ClientSpec, EndpointSpec};
use crate::model::policy::Policy;
use crate::model::port::PortIndex;
use crate::model::target::{BreakIn, DebuggerKind, RestartPolicy, TargetName};
use crate::model::vm::HypervisorKind;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The version of the profile format that this program reads.
pub const PROFILE_VERSION: u32 = 1;

/// A vmserial profile: hosts, targets, and cables between them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "vmserial profile")]
pub struct Profile {
    /// Format version: 1.
    pub version: u32,
    /// Hosts by name. A hypervisor's name needs no entry: it is this machine.
    #[serde(default)]
    pub hosts: BTreeMap<String, HostProfile>,
    /// Targets by name: `[A-Za-z0-9][A-Za-z0-9._-]*`, with `{{ n }}` in it where the target has a `range`.
    #[serde(default)]
    #[schemars(schema_with = "targets_schema")]
    pub targets: BTreeMap<TargetName, TargetProfile>,
    /// Virtual cables between two VMs' ports.
    #[serde(default)]
    pub joins: Vec<JoinProfile>,
}

/// Target names as they are written, ranges included; [`TargetName`] is what they are once the numbers are in.
fn targets_schema(generator: &mut SchemaGenerator) -> Schema {
    let target = generator.subschema_for::<TargetProfile>();
    json_schema!({
        "type": "object",
        "additionalProperties": false,
        "patternProperties": { r"^([A-Za-z0-9]|\{\{.*\}\})([A-Za-z0-9._-]|\{\{.*\}\})*$": target }
    })
}

/// A machine that runs VMs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostProfile {
    /// Which hypervisor it runs.
    pub hypervisor: HypervisorKind,
    /// `[user@]host[:port]`; absent: this machine.
    #[serde(default)]
    pub ssh: Option<String>,
    /// Password for SSH, where no key does.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Run commands on the host with sudo.
    #[serde(default)]
    pub sudo: bool,
}

/// A VM whose kernel is debugged or whose console is watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetProfile {
    /// A name of `hosts`, or a hypervisor's name for this machine.
    pub host: String,
    /// Name, UUID or path; or a description of a QEMU VM that vmserial starts.
    pub vm: VmProfile,
    /// How far to go when a change needs the VM powered off.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// Serial ports.
    #[serde(default)]
    pub ports: Vec<PortProfile>,
    /// How the debugger reaches the kernel, if not through a serial port.
    #[serde(default)]
    pub transport: Option<TransportProfile>,
    /// What is changed inside the guest.
    #[serde(default)]
    pub guest: Option<GuestProfile>,
    /// The debugger.
    #[serde(default)]
    pub debugger: Option<DebuggerProfile>,
    /// Nested virtualization for the guest.
    #[serde(default)]
    pub nested: bool,
    /// Secure Boot of the VM's firmware.
    #[serde(default)]
    pub secure_boot: SecureBoot,
    /// The host's own SysRq while a session lasts.
    #[serde(default)]
    pub host_sysrq: Option<HostSysrq>,
    /// Makes many targets of this one: `{{ n }}` in its name and its texts counts through it. Absent in a profile that was
    /// read: each number has its own target then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<RangeProfile>,
}

/// What becomes of the Secure Boot of a VM's firmware, which some debug settings of a guest need off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SecureBoot {
    /// Switched off, with undo, where a port with a debug policy needs it off and the hypervisor has a switch for it.
    #[default]
    Auto,
    /// Not touched.
    Keep,
    /// Switched off, with undo.
    Off,
}

/// The numbers that `{{ n }}` takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RangeProfile {
    /// First.
    pub from: u32,
    /// Last.
    pub to: u32,
}

/// One serial port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortProfile {
    /// Port number from 1, as COM1 is 1.
    pub port: PortIndex,
    /// Flow policy.
    #[serde(rename = "as")]
    pub policy: Policy,
    /// The VM's end, with the VM's role; absent: the driver's default.
    #[serde(default)]
    pub attach: Option<EndpointSpec>,
    /// What the bridge serves, with our roles.
    #[serde(default)]
    pub serve: Vec<ClientSpec>,
    /// Raw log of what the target sends.
    #[serde(default)]
    pub log: Option<PathBuf>,
    /// The same with times, offsets and boots, one JSON object a line.
    #[serde(default)]
    pub log_json: Option<PathBuf>,
    /// The size at which a log makes room for the next; absent: it grows for ever.
    #[serde(default)]
    pub log_max: Option<MemorySize>,
    /// How many full logs are kept beside the one that is written; needs `log_max`.
    #[serde(default)]
    pub log_keep: Option<u32>,
    /// Bytes kept for the next client while nobody is attached (`raw` only).
    #[serde(default)]
    pub hold: Option<MemorySize>,
    /// Bytes of history that a console gets at attach.
    #[serde(default)]
    pub replay: Option<MemorySize>,
    /// One console writes at a time; who comes later reads, and writes once that one left.
    #[serde(default)]
    pub one_writer: bool,
    /// How BREAK reaches the guest; absent: the driver's default.
    #[serde(default)]
    pub break_with: Option<BreakWith>,
    /// How our side reaches the VM's end on another host.
    #[serde(default)]
    pub tunnel: Option<Tunnel>,
    /// Opens the port to others instead of a tunnel.
    #[serde(default)]
    pub firewall: Option<FirewallProfile>,
}

/// How a stream crosses the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tunnel {
    /// Through the host's SSH connection.
    Ssh,
}

/// An open port on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirewallProfile {
    /// Source address ranges with commas between them (`10.0.0.0/24`), or `any`, which must be written out.
    pub allow_from: String,
    /// The TCP ports that are opened (`7001:7010`); absent: the port's own.
    #[serde(default)]
    pub ports: Option<PortRange>,
    /// Only in force, and closed at the end of the session (`debug`, the cables of `up`) or by `down`.
    #[serde(default)]
    pub temporary: bool,
}

/// A way to the kernel beside serial ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TransportProfile {
    /// The hypervisor's own gdb stub.
    Gdbstub(GdbStubProfile),
}

/// The hypervisor's own gdb stub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GdbStubProfile {
    /// TCP port.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Stop at the first instruction and wait for the debugger.
    #[serde(default)]
    pub stop_at_start: bool,
    /// Hardware breakpoints only, invisible to the guest.
    #[serde(default)]
    pub hide_breakpoints: bool,
    /// Listen on all addresses instead of loopback.
    #[serde(default)]
    pub allow_remote: bool,
}

/// The debugger and its symbols.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DebuggerProfile {
    /// Which one.
    pub kind: DebuggerKind,
    /// Program; absent: by kind.
    #[serde(default)]
    pub program: Option<String>,
    /// Kernel image with symbols.
    #[serde(default)]
    pub vmlinux: Option<PathBuf>,
    /// Path in the debug information: path here.
    #[serde(default)]
    pub source: BTreeMap<String, PathBuf>,
    /// Folders with modules that have symbols.
    #[serde(default)]
    pub modules: Vec<PathBuf>,
    /// Ways of breaking in, tried in this order.
    #[serde(default)]
    pub break_in: Vec<BreakIn>,
}

/// A virtual cable between two VMs' ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinProfile {
    /// `TARGET/PORT`: the end with the debugger.
    pub a: String,
    /// `TARGET/PORT`: the end of the VM that is debugged.
    pub b: String,
    /// Flow policy.
    #[serde(rename = "as")]
    pub policy: Policy,
}
