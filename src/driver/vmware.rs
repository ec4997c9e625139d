//! VMware Workstation, Player and Fusion, through a VM's `.vmx` file; no VMware program is needed to edit it.
//!
//! Facts (libvirt `src/vmx/vmx.c` and its test data, open-vm-tools `lib/dict/dictll.c`, GNS3, VMware's manuals):
//!
//! - a port is `serialN.*` with N from 0, so port 2 is `serial1`. `fileType` `pipe` is a Unix socket on Linux and macOS
//!   hosts and a named pipe on Windows; which end the VM is, is `pipe.endPoint`, whose default nobody documents, so it is
//!   always written. `tryNoRxLoss` TRUE says that the other end is an application and not a VM; `yieldOnMsrRead` TRUE
//!   spares the host's CPU while a kernel debugger polls the UART;
//! - the gdb stub listens when `debugStub.listen.guest64` or `….remote` is TRUE, the latter on all addresses;
//! - VMware reads the file when a VM is opened and writes it over at power-off, so it is edited only while the VM is off
//!   and closed: `NAME.vmx.lck` beside it is gone then. Comments and keys that VMware does not know survive its writing;
//! - `vmrun list` tells which VMs run. It complains on standard output and may hang.

mod observe;
mod place;
mod power;
mod settings;
mod stages;

use crate::driver::{Capabilities, Driver};
use crate::model::{
    EndpointSpec, HostPath, HypervisorKind, Observed, ObservedHost, PortIndex, Problem, TargetSpec, Wait,
};
use crate::plan::{PlanContext, Stage};
use crate::runner::Runner;

/// Names of the facts that observing leaves for planning.
mod fact {
    /// The lock beside the file, if it is there.
    pub const LOCK: &str = "lock";
    /// The program that answered `list`.
    pub const VMRUN: &str = "vmrun";
    /// Its `-T` product.
    pub const PRODUCT: &str = "product";
    /// The VM as `list` spells it, if it runs.
    pub const LISTED_AS: &str = "listed-as";
    /// Why `list` gave no answer.
    pub const VMRUN_FAILURE: &str = "vmrun-failure";
}

/// The driver.
#[derive(Debug, Clone, Copy, Default)]
pub struct Vmware;

impl Vmware {
    /// Makes the driver.
    pub fn new() -> Self {
        Self
    }
}

fn file_of(target: &TargetSpec) -> HostPath {
    HostPath::new(target.vm.as_str())
}

impl Driver for Vmware {
    fn kind(&self) -> HypervisorKind {
        HypervisorKind::Vmware
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_ports: settings::MAX_PORTS,
            needs_power_off: true,
            gdb_stub: true,
            starts_vms: false,
            secure_boot: false,
            named_pipes: false,
        }
    }

    fn observe(
        &self,
        runner: &dyn Runner,
        wanted: &[TargetSpec],
        wait: &Wait,
    ) -> Result<ObservedHost, Problem> {
        observe::host(runner, wanted, wait)
    }

    fn stages(
        &self,
        wanted: &TargetSpec,
        observed: &Observed,
        context: &PlanContext,
    ) -> Result<Vec<Stage>, Problem> {
        stages::stages(wanted, observed, context)
    }

    fn locate(
        &self,
        runner: &dyn Runner,
        wanted: &TargetSpec,
        port: PortIndex,
        wait: &Wait,
    ) -> Result<EndpointSpec, Problem> {
        observe::locate(runner, wanted, port, wait)
    }
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
