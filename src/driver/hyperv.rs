//! Microsoft Hyper-V, through its PowerShell module, on this machine, from WSL or over SSH: the runner knows the way.
//!
//! Facts (Microsoft's reference of the Hyper-V module and its pages on kernel debugging; openvmm; users' scripts):
//!
//! - a VM has COM 1 and COM 2; each may have a named pipe, whose server is the VM, and which is there only while the VM
//!   runs. A pipe of ours to which the VM connects is possible, but the VM stops trying after the first disconnect, so it
//!   is refused here;
//! - `Set-VMComPort`, `Set-VMFirmware` want the VM off; the guest sees the change after a cold start, never after a reboot
//!   (`Restart-VM` is a hard reset and is not used);
//! - names of VMs are not unique and `-VMName` takes wildcards, so a VM is bound by its GUID;
//! - debugger mode (Windows 10, Server 2016 and later) serves a Windows kernel debugger, and its default is not uniformly
//!   off: it is switched on for `as: kd` and else left as it is;
//! - a kernel cannot be debugged under Secure Boot: Linux locks down, Windows refuses the boot settings;
//! - who is neither elevated nor in "Hyper-V Administrators" gets a refusal from some hosts, and no VM at all from others.

mod doctor;
mod facts;
mod observe;
mod refusal;
mod scripts;
mod stages;

pub(super) use refusal::problem;

use crate::driver::{Capabilities, Driver};
use crate::model::{
    Check, EndpointSpec, HypervisorKind, Observed, ObservedHost, PortIndex, Problem, TargetSpec, Wait,
};
use crate::plan::{PlanContext, Stage, Step};
use crate::runner::Runner;

/// WMI has four COM ports, of which the module's own VMs show two; a VM's own number of them is looked at.
const MAX_PORTS: u32 = 4;

/// The driver.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hyperv;

impl Hyperv {
    /// Makes the driver.
    pub fn new() -> Self {
        Self
    }
}

impl Driver for Hyperv {
    fn kind(&self) -> HypervisorKind {
        HypervisorKind::Hyperv
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_ports: MAX_PORTS,
            needs_power_off: true,
            gdb_stub: false,
            starts_vms: false,
            secure_boot: true,
            named_pipes: true,
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

    fn power_off(&self, wanted: &TargetSpec, observed: &Observed) -> Result<Option<Vec<Step>>, Problem> {
        stages::power_off(wanted, observed)
    }

    fn doctor(&self, runner: &dyn Runner, wait: &Wait) -> Vec<Check> {
        doctor::checks(runner, wait)
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
