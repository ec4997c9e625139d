//! What a driver found on a host: values only, so that planning cannot touch the host.

use crate::model::digest::Digest;
use crate::model::endpoint::EndpointSpec;
use crate::model::failure::Problem;
use crate::model::host::{HostPath, HostRef};
use crate::model::port::PortIndex;
use crate::model::target::TargetName;
use crate::model::vm::{PowerState, VmRef};
use std::collections::BTreeMap;

/// A file as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedFile {
    /// Where.
    pub path: HostPath,
    /// What; `None` if there is no such file.
    pub bytes: Option<Vec<u8>>,
}

impl ObservedFile {
    /// Returns the digest of the file, `None` if there is none.
    pub fn digest(&self) -> Option<Digest> {
        self.bytes.as_deref().map(Digest::of)
    }
}

/// A port as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedPort {
    /// Which.
    pub port: PortIndex,
    /// Where the VM's end is, with the VM's role; `None` if present but in a form that is no endpoint of ours.
    pub endpoint: Option<EndpointSpec>,
    /// The vendor's own spelling of it, for people (`serial1.fileName = …`).
    pub text: String,
}

/// The fact that tells a VM's Secure Boot to people, by a driver that sees it.
pub const SECURE_BOOT_FACT: &str = "secure-boot";

/// A VM as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Which.
    pub vm: VmRef,
    /// Its power state.
    pub power: PowerState,
    /// Its ports.
    pub ports: Vec<ObservedPort>,
    /// Its gdb stub in the vendor's own spelling, for people; `None` if there is none or it cannot be seen.
    pub gdb_stub: Option<String>,
    /// Its files, if the driver edits files.
    pub files: Vec<ObservedFile>,
    /// Facts with no type of their own, by the driver's own names (`lock`, `pid`, `qmp`).
    pub facts: BTreeMap<String, String>,
}

impl Observed {
    /// Returns how its Secure Boot is, for people; `None` where the VM has none or nobody can see it.
    pub fn secure_boot(&self) -> Option<&str> {
        self.facts.get(SECURE_BOOT_FACT).map(String::as_str)
    }
}

/// A host as it is, with all VMs that were asked for, seen in one go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedHost {
    /// Which.
    pub host: HostRef,
    /// VMs in the order in which they were asked for, without those that are refused.
    pub vms: Vec<Observed>,
    /// Targets whose VM stands against it (there is none, its file is broken). The others are seen all the same.
    pub refused: Vec<(TargetName, Problem)>,
    /// Facts of the host itself.
    pub facts: BTreeMap<String, String>,
}
