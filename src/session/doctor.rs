//! What is missing before a hypervisor's VMs can be set up from here, and the command that mends it.

use crate::host_service::firewall::summary;
use crate::model::{Check, CheckState, HostRef, HypervisorKind, Problem, SshHop, Wait};
use crate::runner::Runner;
use crate::runner::helper::{Heard, HelperPlaces, hear, hear_program};
use crate::runner::sys::HAS_NAMED_PIPES;
use crate::session::planning::Hosts;
use std::path::PathBuf;

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
    if driver.capabilities().named_pipes {
        checks.push(match host {
            HostRef::Ssh(destination) => far_helper(destination),
            HostRef::Local if HAS_NAMED_PIPES => own_helper(HelperPlaces::installed_path()),
            _ => helper(&HelperPlaces::of_this_machine()),
        });
    }
    // Hosts whose ports are named pipes have Windows, and its firewall lets none of them out.
    // Where nothing else is looked at, it says nothing of whether VMs can be set up.
    if !driver.capabilities().named_pipes
        && !checks.is_empty()
        && let Some(check) = firewall(runner.as_ref(), wait)
    {
        checks.push(check);
    }
    // Its VMs have windows on the host's own screen, with the host's keyboard before it.
    if kind.has_windows()
        && let Ok(Some(observed)) = crate::session::host_sysrq::look(runner.as_ref(), wait)
    {
        checks.push(crate::host_service::sysrq::check(&observed));
    }
    Ok(checks)
}

/// Tells what of a host's firewall is ours; `None` where nobody can look.
fn firewall(runner: &dyn Runner, wait: &Wait) -> Option<Check> {
    let observed = crate::session::firewall::look(runner, wait).ok()?;
    let (state, found) = summary(&observed);
    Some(Check::new("firewall", state, found))
}

const HELPER: &str = "helper";

/// Linux has no named pipes: a `vmserial.exe` on the Windows side opens them.
fn helper(places: &HelperPlaces) -> Check {
    let (found, mend) = match places.find() {
        Ok(path) => match hear_program(&path) {
            Ok(heard) => return answers(&heard),
            Err(error) => (
                format!("it does not answer: {error}"),
                "Install another one for WSL",
            ),
        },
        Err(error) => (error.to_string(), "Install it for WSL"),
    };
    Check::new(HELPER, CheckState::Missing, found).mend(format!(
        "{mend}: `vmserial setup helper --from PATH-OF-VMSERIAL.EXE`. docs/guide/wsl.md has the places."
    ))
}

/// A host behind SSH has its pipes opened by a vmserial there.
fn far_helper(destination: &str) -> Check {
    match hear(&[SshHop(destination.to_owned())]) {
        Ok(heard) => answers(&heard),
        Err(error) => Check::new(HELPER, CheckState::Missing, error.to_string()).mend(format!(
            "Install it there: `vmserial setup helper --host {destination} --from PATH-OF-VMSERIAL.EXE`. docs/guide/wsl.md has the places."
        )),
    }
}

/// Windows itself needs none; its WSL and other machines do.
fn own_helper(installed: Option<Result<PathBuf, String>>) -> Check {
    const OWN: &str = "this vmserial opens pipes itself";
    let path = match installed {
        Some(Ok(path)) if path.is_file() => path,
        _ => {
            let found = format!("{OWN}; none is installed for WSL and for other machines");
            return Check::new(HELPER, CheckState::Good, found)
                .mend("If they are to open this machine's pipes: `vmserial setup helper`.");
        }
    };
    match hear_program(&path) {
        Ok(heard) => Check::new(
            HELPER,
            CheckState::Good,
            format!(
                "{OWN}; for WSL and other machines `{}`, vmserial {}",
                heard.name, heard.version
            ),
        ),
        Err(error) => {
            let found = format!("{OWN}; the one for WSL and other machines does not answer: {error}");
            Check::new(HELPER, CheckState::Advice, found)
                .mend("Install this one in its place: `vmserial setup helper`.")
        }
    }
}

fn answers(heard: &Heard) -> Check {
    let found = format!("vmserial {} answers (`{}`)", heard.version, heard.name);
    Check::new(HELPER, CheckState::Good, found)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
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

    #[test]
    fn windows_itself_needs_none_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let check = own_helper(Some(Ok(folder.path().join("vmserial.exe"))));
        assert_eq!(check.state, CheckState::Good);
        assert!(
            check.mend[0].contains("`vmserial setup helper`"),
            "{:?}",
            check.mend
        );
        let path = folder.path().join("broken.exe");
        std::fs::write(&path, "MZ").unwrap();
        let check = own_helper(Some(Ok(path)));
        assert_eq!(check.state, CheckState::Advice);
        assert!(check.found.contains("does not answer"), "{}", check.found);
    }
}
