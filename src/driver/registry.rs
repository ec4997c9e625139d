//! Which driver serves which hypervisor: the only place that decides by its name.

use crate::driver::Driver;
use crate::model::{FailureKind, HypervisorKind, Problem};

/// Returns the driver of a hypervisor.
///
/// # Errors
///
/// The hypervisor is not served yet, which is said by its name.
pub fn driver(kind: HypervisorKind) -> Result<Box<dyn Driver>, Problem> {
    match kind {
        other => Err(Problem::new(FailureKind::Precondition, format!("the hypervisor `{other}` is not served yet"))
            .hint("This version serves qemu and vmware. For any other, give the VM its port by hand and use `vmserial bridge` and `vmserial console`.")),
    }
}
