//! The VM and the hypervisor that runs it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A VM by name, identifier or path, as the user wrote it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VmRef(String);

impl VmRef {
    /// Makes a reference from what the user wrote.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns what the user wrote.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VmRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A hypervisor. Only `driver/mod.rs` decides anything by it; everybody else asks the driver's capabilities.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum HypervisorKind {
    /// Microsoft Hyper-V.
    Hyperv,
    /// Xen with xapi or xl.
    Xen,
    /// VMware Workstation, Player, Fusion or ESXi.
    Vmware,
    /// Oracle VirtualBox.
    Virtualbox,
    /// QEMU without a manager.
    Qemu,
    /// libvirt.
    Libvirt,
    /// Proxmox VE.
    Proxmox,
}

impl HypervisorKind {
    /// All kinds, in the order in which help lists them.
    pub const ALL: [Self; 7] = [
        Self::Hyperv,
        Self::Xen,
        Self::Vmware,
        Self::Virtualbox,
        Self::Qemu,
        Self::Libvirt,
        Self::Proxmox,
    ];

    /// Tells whether vmserial starts VMs of this hypervisor from a description in the profile.
    pub fn starts_described_vms(self) -> bool {
        self == Self::Qemu
    }

    /// Tells whether vmserial turns Secure Boot of this hypervisor's VMs off.
    pub fn has_secure_boot_switch(self) -> bool {
        matches!(self, Self::Hyperv | Self::Xen)
    }

    /// Tells whether its VMs have windows on the host's own screen.
    pub fn has_windows(self) -> bool {
        matches!(self, Self::Vmware | Self::Virtualbox | Self::Qemu | Self::Libvirt)
    }

    /// Tells whether the host reaches into its Windows guests without their network (PowerShell Direct).
    pub fn has_powershell_direct(self) -> bool {
        self == Self::Hyperv
    }

    /// Returns the name used on the command line and in profiles.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hyperv => "hyperv",
            Self::Xen => "xen",
            Self::Vmware => "vmware",
            Self::Virtualbox => "virtualbox",
            Self::Qemu => "qemu",
            Self::Libvirt => "libvirt",
            Self::Proxmox => "proxmox",
        }
    }
}

impl fmt::Display for HypervisorKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The name is no hypervisor's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown hypervisor `{0}`, expected one of hyperv, xen, vmware, virtualbox, qemu, libvirt, proxmox")]
pub struct UnknownHypervisor(String);

impl FromStr for HypervisorKind {
    type Err = UnknownHypervisor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| UnknownHypervisor(text.to_owned()))
    }
}

/// What a VM is doing, as its hypervisor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PowerState {
    /// Powered off: files and settings may be changed.
    Off,
    /// Running.
    Running,
    /// Paused, its memory still held (also: stopped by a gdb stub).
    Paused,
    /// Suspended to disk: settings must not be changed.
    Suspended,
    /// The hypervisor would not say.
    Unknown,
}

impl fmt::Display for PowerState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Off => "off",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Suspended => "suspended",
            Self::Unknown => "unknown",
        })
    }
}
