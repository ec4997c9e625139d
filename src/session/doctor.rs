//! What is missing before a hypervisor's VMs can be set up from here, and the command that mends it.

use crate::model::{Check, CheckState, HostRef, HypervisorKind, Problem, Wait};
use crate::runner::helper::HelperPlaces;
use crate::session::planning::Hosts;

/// Looks at a host, and at the way of bytes from here to it.
///
/// # Errors
///
/// The hypervisor or the host is not served.
pub fn doctor(
    hosts: &dyn Hosts,
    kind: HypervisorKind,
    host: &HostRef,
    wait: &Wait,
) -> Result<Vec<Check>, Problem> {
    let driver = hosts.driver(kind)?;
    let runner = hosts.runner(host)?;
    let mut checks = driver.doctor(runner.as_ref(), wait);
    if driver.capabilities().named_pipes && *host == HostRef::Local && !crate::runner::sys::HAS_NAMED_PIPES {
        checks.push(helper(&HelperPlaces::of_this_machine()));
    }
    Ok(checks)
}

/// Linux has no named pipes: a `vmserial.exe` on the Windows side opens them.
fn helper(places: &HelperPlaces) -> Check {
    let name = "helper";
    match places.find() {
        Ok(path) => Check::new(name, CheckState::Good, format!("`{}`", path.display())),
        Err(error) => Check::new(name, CheckState::Missing, error.to_string())
            .mend("Install it for WSL: `vmserial setup helper --from PATH-OF-VMSERIAL.EXE`. docs/guide/wsl.md has the places."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_that_is_nowhere_is_told_with_its_places() {
        let places = HelperPlaces {
            path: "/nonexistent".into(),
            ..HelperPlaces::default()
        };
        let check = helper(&places);
        assert_eq!(check.state, CheckState::Missing);
        assert!(check.found.contains("VMSERIAL_EXE is not set"), "{}", check.found);
        assert!(check.mend[0].contains("setup helper"), "{:?}", check.mend);
    }
}
