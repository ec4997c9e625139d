//! What every hypervisor's driver offers, and what it can do.

use crate::model::{
    BreakWith, Check, EndpointSpec, HypervisorKind, Observed, ObservedHost, PortIndex, PortSpec, Problem,
    TargetSpec, Wait,
};
use crate::plan::{PlanContext, Stage, Step};
use crate::runner::Runner;

/// What a hypervisor can do. The core adapts to it and never asks for the hypervisor's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Highest port number.
    pub max_ports: u32,
    /// Settings can only be changed while the VM is off.
    pub needs_power_off: bool,
    /// Offers a gdb stub of its own.
    pub gdb_stub: bool,
    /// Can start a VM that vmserial describes wholly.
    pub starts_vms: bool,
    /// Can turn Secure Boot off.
    pub secure_boot: bool,
    /// Its ports are Windows' named pipes, which a helper opens for Linux.
    pub named_pipes: bool,
}

/// One hypervisor.
pub trait Driver: Send + Sync {
    /// Returns which hypervisor it is.
    fn kind(&self) -> HypervisorKind;

    /// Returns what it can do.
    fn capabilities(&self) -> Capabilities;

    /// Looks at many VMs of one host in one go. Changes nothing.
    fn observe(
        &self,
        runner: &dyn Runner,
        wanted: &[TargetSpec],
        wait: &Wait,
    ) -> Result<ObservedHost, Problem>;

    /// Plans one VM from what was observed: all its ports at once, at most one edit per file and one power cycle.
    /// Nothing to change is an empty list. Has no runner, so it cannot touch the host. A later stage that cannot be
    /// planned yet is [`crate::plan::StageContent::Later`]; after the earlier stages were applied, the VM is observed
    /// again and this is called again.
    fn stages(
        &self,
        wanted: &TargetSpec,
        observed: &Observed,
        context: &PlanContext,
    ) -> Result<Vec<Stage>, Problem>;

    /// Plans how a VM that runs loses its power, as far as its restart policy goes, each step with the way back to a VM
    /// that runs: an undo needs it where a setting was made while the VM was off. `None` if this driver has no such
    /// steps; somebody else must power the VM off then.
    ///
    /// # Errors
    ///
    /// The observation cannot be read.
    fn power_off(&self, wanted: &TargetSpec, observed: &Observed) -> Result<Option<Vec<Step>>, Problem> {
        let _ = (wanted, observed);
        Ok(None)
    }

    /// Plans host-wide things (firewall) once per host.
    fn host_steps(&self, wanted: &[TargetSpec], observed: &ObservedHost) -> Result<Vec<Step>, Problem> {
        let _ = (wanted, observed);
        Ok(Vec::new())
    }

    /// Returns how BREAK reaches the guest through a port whose profile does not say so; `None` if there is no way.
    fn break_with(&self, wanted: &TargetSpec, port: &PortSpec) -> Option<BreakWith> {
        let _ = (wanted, port);
        None
    }

    /// Returns where the VM tells the owner of a port what happens to it (resets, pauses), by QMP, with the VM's role; `None`
    /// if nobody tells. The owner keeps that connection, so it is one that nobody else needs.
    fn events(&self, wanted: &TargetSpec, port: PortIndex) -> Option<EndpointSpec> {
        let _ = (wanted, port);
        None
    }

    /// Lets a VM go on whose CPUs are paused (by a gdb stub that nobody is attached to). Returns what was done, as a
    /// fragment; `None` if it was not paused, or nobody can tell.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal.
    fn go_on(
        &self,
        runner: &dyn Runner,
        wanted: &TargetSpec,
        wait: &Wait,
    ) -> Result<Option<String>, Problem> {
        let _ = (runner, wanted, wait);
        Ok(None)
    }

    /// Looks at what a host needs before its VMs can be set up. Changes nothing; no checks is an empty list.
    fn doctor(&self, runner: &dyn Runner, wait: &Wait) -> Vec<Check> {
        let _ = (runner, wait);
        Vec::new()
    }

    /// Returns where a port's stream is *now*, with the VM's role. Asked before every dial.
    fn locate(
        &self,
        runner: &dyn Runner,
        wanted: &TargetSpec,
        port: PortIndex,
        wait: &Wait,
    ) -> Result<EndpointSpec, Problem>;
}
