//! Nouns: values that can be parsed, formatted and compared. No I/O, no clock, no environment.

pub mod base64;
pub mod break_with;
pub mod check;
pub mod deadline;
pub mod digest;
pub mod edit;
pub mod endpoint;
pub mod failure;
pub mod firewall;
pub mod host;
pub mod invocation;
pub mod join;
pub mod log;
pub mod near;
pub mod observed;
pub mod policy;
pub mod port;
pub mod port_range;
pub mod profile;
pub mod script;
pub mod target;
pub mod vm;

pub use break_with::{BreakWith, NativeBreak};
pub use check::{Check, CheckState};
pub use deadline::{Cancel, Deadline, Wait};
pub use digest::Digest;
pub use edit::{EditOperation, FileEdit, FileFormat};
pub use endpoint::{
    Address, ClientSpec, EndpointError, EndpointSpec, ExecCommand, FlowControl, Parity, Role, SshHop,
    TargetOrEndpoint, TtySettings,
};
pub use failure::{FailureKind, Problem};
pub use firewall::{AddressRange, Family, FirewallSpec, FirewallWanted, Source};
pub use host::{HostLogin, HostPath, HostRef};
pub use invocation::{Invocation, Purpose};
pub use log::{LogSpec, Rotation};
pub use observed::{Observed, ObservedFile, ObservedHost, ObservedPort};
pub use policy::{ClientPrefix, Policy};
pub use port::PortIndex;
pub use port_range::PortRange;
pub use script::{ScriptCall, SecretValues};
pub use target::{
    BreakIn, DebuggerKind, DebuggerSpec, GdbStubSpec, PortSpec, RestartPolicy, StartSpec, TargetName,
    TargetSpec,
};
pub use vm::{HypervisorKind, PowerState, VmRef};
