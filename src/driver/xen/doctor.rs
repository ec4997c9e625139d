//! What a Xen host needs before its VMs can be set up, and the command that mends what is missing.

use super::port::unless_missing;
use super::records::{Record, in_map};
use super::secure_boot::is_uefi;
use super::xapi::{LOG_CONSOLE, field};
use super::{no_toolstack, xe};
use crate::model::{Check, CheckState, Invocation, Problem, Wait};
use crate::runner::Runner;
use crate::runner::local::must_succeed;

/// Looks at a host.
pub(super) fn checks(runner: &dyn Runner, wait: &Wait) -> Vec<Check> {
    let mut checks = match xe::vms(runner, wait) {
        Ok(Some(vms)) => {
            let mut checks = vec![toolstack(&vms)];
            checks.push(pool(runner, wait));
            checks.push(secure_boot(&vms));
            checks
        }
        Ok(None) => vec![xl(runner, wait)],
        Err(problem) => vec![missing("toolstack", &problem)],
    };
    checks.push(xenstore(runner, wait));
    checks
}

/// A failure as a check.
fn missing(name: &str, problem: &Problem) -> Check {
    let check = Check::new(name, CheckState::Missing, problem.message.clone());
    problem.hints.iter().fold(check, |check, hint| check.mend(hint))
}

fn is_vm(record: &&Record) -> bool {
    field(record, "is-control-domain") != Some("true")
}

fn toolstack(vms: &[Record]) -> Check {
    let count = vms.iter().filter(is_vm).count();
    Check::new("toolstack", CheckState::Good, format!("xapi, with {count} VMs"))
}

fn xl(runner: &dyn Runner, wait: &Wait) -> Check {
    let listing = Invocation::reads("xl", ["list"]);
    let asked = || -> Result<(), Problem> {
        let Some(output) = unless_missing(runner.run(&listing, wait))? else {
            return Err(no_toolstack(runner));
        };
        must_succeed(runner.host(), &listing, output)?;
        Ok(())
    };
    match asked() {
        Ok(()) => Check::new("toolstack", CheckState::Good, "xl"),
        Err(problem) => missing("toolstack", &problem),
    }
}

fn pool(runner: &dyn Runner, wait: &Wait) -> Check {
    match xe::hosts(runner, wait) {
        Ok(hosts) if hosts.len() > 1 => Check::new(
            "pool",
            CheckState::Good,
            format!(
                "{} hosts; a VM's port is on the host that runs it, so name that one",
                hosts.len()
            ),
        ),
        Ok(_) => Check::new("pool", CheckState::Good, "one host"),
        Err(problem) => missing("pool", &problem),
    }
}

/// Nobody debugs a kernel under it.
fn secure_boot(vms: &[Record]) -> Check {
    let name = "Secure Boot";
    let having = |value: &str| -> Vec<String> {
        let has = |record: &&Record| {
            let platform = field(record, "platform").unwrap_or_default();
            is_vm(record) && is_uefi(record) && in_map(platform, "secureboot") == Some(value)
        };
        let named = |record: &Record| format!("`{}`", field(record, "name-label").unwrap_or_default());
        vms.iter().filter(has).map(named).collect()
    };
    let (on, auto) = (having("true"), having("auto"));
    if on.is_empty() && auto.is_empty() {
        return Check::new(name, CheckState::Good, "no VM has it on");
    }
    let part =
        |word: &str, names: &[String]| (!names.is_empty()).then(|| format!("{word}: {}", names.join(", ")));
    let parts: Vec<String> = [
        part("on", &on),
        part("where the pool has certificates (`auto`)", &auto),
    ]
    .into_iter()
    .flatten()
    .collect();
    Check::new(name, CheckState::Advice, parts.join("; "))
        .mend("The plan of a port for a debugger switches it off, with undo; `secure_boot: keep` leaves it.")
}

/// The pseudo terminals of VMs are found there.
fn xenstore(runner: &dyn Runner, wait: &Wait) -> Check {
    let name = "xenstore";
    let asked = Invocation::reads("xenstore-read", [LOG_CONSOLE]);
    match unless_missing(runner.run(&asked, wait)) {
        Ok(Some(output)) if output.success() => Check::new(
            name,
            CheckState::Missing,
            format!("the host logs all consoles to files (`{LOG_CONSOLE}`), so no VM has a port"),
        )
        .mend(format!(
            "Take that back: `xenstore-rm {LOG_CONSOLE}`, and start the VMs anew."
        )),
        Ok(Some(_)) => Check::new(
            name,
            CheckState::Good,
            "pseudo terminals are found by xenstore-read",
        ),
        Ok(None) => Check::new(
            name,
            CheckState::Advice,
            "xenstore-read was not found: a VM's pseudo terminal cannot be followed",
        )
        .mend("Install Xen's tools in the host's own system, or give the VMs TCP ports."),
        Err(error) => missing(name, &error.into()),
    }
}
