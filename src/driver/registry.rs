//! Which driver serves which hypervisor: the only place that decides by its name.

use crate::driver::Driver;
use crate::driver::hyperv::{self, Hyperv};
use crate::driver::qemu::Qemu;
use crate::driver::vmware::Vmware;
use crate::driver::xen::Xen;
use crate::model::{FailureKind, HostPath, HypervisorKind, Problem, ScriptCall};
use crate::runner::RunError;

/// Returns the driver of a hypervisor. `run` is the folder for the files of running VMs, `<state>/run`.
///
/// # Errors
///
/// The hypervisor is not served yet, which is said by its name.
pub fn driver(kind: HypervisorKind, run: &HostPath) -> Result<Box<dyn Driver>, Problem> {
    match kind {
        HypervisorKind::Hyperv => Ok(Box::new(Hyperv::new())),
        HypervisorKind::Qemu => Ok(Box::new(Qemu::new(run.clone()))),
        HypervisorKind::Vmware => Ok(Box::new(Vmware::new())),
        HypervisorKind::Xen => Ok(Box::new(Xen::new())),
        other => Err(Problem::new(FailureKind::Precondition, format!("the hypervisor `{other}` is not served yet"))
            .hint("This version serves hyperv, qemu, vmware and xen. For any other, give the VM its port by hand and use `vmserial bridge` and `vmserial console`.")),
    }
}

/// Says what the failure of a PowerShell script means. What a script throws is known to the driver whose folder it is in.
pub fn problem_of_script(call: &ScriptCall, error: RunError) -> Problem {
    match call.script.split_once('/') {
        Some(("hyperv", _)) => hyperv::problem(call, error),
        _ => Problem::from(error),
    }
}
