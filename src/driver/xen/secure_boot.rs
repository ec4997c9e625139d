//! Secure Boot of a VM of xapi: what the setting is, what the running firmware was told, and the step that switches it off.

use super::fact;
use super::records::{Record, in_map};
use super::xapi::field;
use super::xapi_stages::Vm;
use super::xe::SECURE_BOOT;
use crate::driver::secure_boot::{CONFIRM, recovery_key};
use crate::model::observed::SECURE_BOOT_FACT;
use crate::model::profile::{GuestOs, SecureBoot};
use crate::model::{Invocation, Observed, Policy, Problem, TargetSpec, Wait};
use crate::plan::Step;
use crate::runner::{RunError, Runner};

/// What stands for a key that a VM with UEFI does not have.
const ABSENT: &str = "absent";

/// Tells whether a VM's firmware is UEFI: a BIOS has no Secure Boot, whatever its setting says.
pub(super) fn is_uefi(record: &Record) -> bool {
    let parameters = field(record, "HVM-boot-params").unwrap_or_default();
    in_map(parameters, "firmware") == Some("uefi")
}

/// Notes what there is of Secure Boot. `domain` is the VM's if it runs on this host.
///
/// # Errors
///
/// The host's.
pub(super) fn look(
    runner: &dyn Runner,
    record: &Record,
    setting: Option<String>,
    domain: Option<&str>,
    note: &mut impl FnMut(&str, Option<String>),
    wait: &Wait,
) -> Result<(), Problem> {
    if !is_uefi(record) {
        return Ok(());
    }
    let live = domain.map_or(Ok(None), |domain| live(runner, domain, wait))?;
    note(SECURE_BOOT_FACT, Some(shown(setting.as_deref(), live)));
    note(
        fact::SECURE_BOOT,
        Some(setting.unwrap_or_else(|| ABSENT.to_owned())),
    );
    note(fact::SECURE_BOOT_LIVE, live.map(|on| on.to_string()));
    Ok(())
}

/// Asks what the firmware of a domain was told; `None` where nobody can tell.
fn live(runner: &dyn Runner, domain: &str, wait: &Wait) -> Result<Option<bool>, Problem> {
    let key = format!("/local/domain/{domain}/platform/secureboot");
    match runner.run(&Invocation::reads("xenstore-read", [key]), wait) {
        // Where the key is not there the firmware found nothing, which is off.
        Ok(output) => Ok(Some(
            output.success() && String::from_utf8_lossy(&output.stdout).trim() == "true",
        )),
        Err(RunError::ProgramNotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Writes the setting as xapi has it, for people.
fn shown(setting: Option<&str>, live: Option<bool>) -> String {
    let word = match setting {
        Some("true") => "platform:secureboot=true".to_owned(),
        Some("auto") => "platform:secureboot=auto (on where the pool has certificates for it)".to_owned(),
        Some(other) => format!("platform:secureboot={other}, so it is off"),
        None => "no platform:secureboot, so it is off".to_owned(),
    };
    match live {
        Some(true) => format!("{word}; the VM that runs has it on"),
        Some(false) => format!("{word}; the VM that runs has it off"),
        None => word,
    }
}

fn setting(observed: &Observed) -> Option<&str> {
    let value = observed.facts.get(fact::SECURE_BOOT)?;
    (value != ABSENT).then_some(value)
}

fn live_of(observed: &Observed) -> Option<bool> {
    Some(observed.facts.get(fact::SECURE_BOOT_LIVE)? == "true")
}

/// Tells whether the VM has it at its next start, or may have.
fn is_on(observed: &Observed) -> bool {
    match setting(observed) {
        Some("true") => true,
        // What the pool makes of it was seen at this start.
        Some("auto") => live_of(observed).unwrap_or(true),
        _ => false,
    }
}

fn goes_off(wanted: &TargetSpec, observed: &Observed) -> bool {
    match wanted.secure_boot {
        SecureBoot::Keep => false,
        SecureBoot::Auto => wanted.ports.iter().any(|port| port.policy.is_debug()),
        // `auto` may be on at another start.
        SecureBoot::Off => setting(observed).is_some(),
    }
}

/// Tells whether it is switched off already, but the VM still runs with it.
pub(super) fn is_pending(wanted: &TargetSpec, observed: &Observed) -> bool {
    let is_wanted = match wanted.secure_boot {
        SecureBoot::Keep => false,
        SecureBoot::Auto => goes_off(wanted, observed),
        SecureBoot::Off => true,
    };
    is_wanted && live_of(observed) == Some(true)
}

/// Says that a debugger's port is set up under it.
pub(super) fn kept(wanted: &TargetSpec, observed: &Observed) -> Option<String> {
    let is_debugged = wanted.ports.iter().any(|port| port.policy.is_debug());
    (is_debugged && wanted.secure_boot == SecureBoot::Keep && is_on(observed)).then(|| {
        "Secure Boot stays as it is (`secure_boot: keep`): under it Linux locks its kernel against kgdb, and Windows refuses debug settings"
            .to_owned()
    })
}

/// Makes the step that switches it off, where that is wanted and it is on, or may be.
pub(super) fn step(wanted: &TargetSpec, observed: &Observed, vm: &Vm<'_>) -> Option<Step> {
    let before = setting(observed);
    let may_be_on = match wanted.secure_boot {
        SecureBoot::Off => matches!(before, Some("true" | "auto")),
        _ => is_on(observed),
    };
    if !may_be_on || !goes_off(wanted, observed) {
        return None;
    }
    let summary = "switch Secure Boot off: no kernel can be debugged under it".to_owned();
    let mut step = vm.set(SECURE_BOOT, Some("false"), before, summary);
    if before == Some("auto") {
        step.notes.push(
            "`platform:secureboot` is `auto`: it is on where the pool has certificates for it".to_owned(),
        );
    }
    let is_windows = match wanted.guest_os() {
        Some(os) => os == GuestOs::Windows,
        None => wanted.ports.iter().any(|port| port.policy == Policy::Kd),
    };
    if is_windows {
        step.confirm = Some(CONFIRM.to_owned());
        let measured = "BitLocker in the guest may measure Secure Boot and then";
        step.notes.push(recovery_key(measured, observed.power));
    }
    Some(step)
}
