//! xapi's command line: what is asked, what is changed, and what its refusals mean.

use super::records::{NOTHING, Record, records};
use crate::model::{FailureKind, Invocation, Problem, Wait};
use crate::plan::{SettingUndo, Undo};
use crate::runner::local::must_succeed;
use crate::runner::{RunError, Runner};

/// The program.
const XE: &str = "xe";

/// What `vm-param-get` says of a key that a map does not have (xapi `cli_operations.ml`); it ends with 1 then.
const ABSENT: &str = "not found in map";

/// A parameter of a VM, or one key of a parameter that is a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parameter {
    /// `NAME`.
    Plain(&'static str),
    /// `MAP:KEY`.
    Key(&'static str, &'static str),
}

/// Where xapi has the port. It beats [`OTHER_SERIAL`] where both are there (xapi `xapi_xenops.ml`).
pub(super) const SERIAL: Parameter = Parameter::Key("platform", "hvm_serial");
/// Where it was before 2013, and still is read.
pub(super) const OTHER_SERIAL: Parameter = Parameter::Key("other-config", "hvm_serial");
/// Whether the VM's UEFI firmware has Secure Boot: `true`, `false`, or `auto`, which is true where the pool has certificates for it.
pub(super) const SECURE_BOOT: Parameter = Parameter::Key("platform", "secureboot");
/// Our mark.
pub(super) const MARK: Parameter = Parameter::Key("other-config", "vmserial");
/// The host of a pool on which the VM starts.
pub(super) const AFFINITY: Parameter = Parameter::Plain("affinity");

impl Parameter {
    fn get(self, uuid: &str) -> Invocation {
        let uuid = format!("uuid={uuid}");
        match self {
            Self::Plain(name) => Invocation::reads(
                XE,
                ["vm-param-get".to_owned(), uuid, format!("param-name={name}")],
            ),
            Self::Key(map, key) => Invocation::reads(
                XE,
                [
                    "vm-param-get".to_owned(),
                    uuid,
                    format!("param-name={map}"),
                    format!("param-key={key}"),
                ],
            ),
        }
    }

    /// Returns the command that gives it a value; `None` makes a key absent, and a parameter empty.
    pub(super) fn set(self, uuid: &str, value: Option<&str>) -> Invocation {
        let uuid = format!("uuid={uuid}");
        match (self, value) {
            (Self::Plain(name), value) => {
                let value = format!("{name}={}", value.unwrap_or_default());
                Invocation::changes(XE, ["vm-param-set".to_owned(), uuid, value])
            }
            (Self::Key(map, key), Some(value)) => Invocation::changes(
                XE,
                ["vm-param-set".to_owned(), uuid, format!("{map}:{key}={value}")],
            ),
            (Self::Key(map, key), None) => Invocation::changes(
                XE,
                [
                    "vm-param-remove".to_owned(),
                    uuid,
                    format!("param-name={map}"),
                    format!("param-key={key}"),
                ],
            ),
        }
    }

    /// Returns the way back from our value to the one before.
    pub(super) fn undo(self, uuid: &str, ours: Option<&str>, before: Option<&str>) -> Undo {
        Undo::Setting(SettingUndo {
            name: self.to_string(),
            look: self.get(uuid),
            // xe writes a reference to nothing out.
            absent: match self {
                Self::Plain(_) => NOTHING.to_owned(),
                Self::Key(..) => ABSENT.to_owned(),
            },
            ours: ours.map(ToOwned::to_owned),
            before: before.map(ToOwned::to_owned),
            restore: self.set(uuid, before),
        })
    }

    /// Asks for its value; `None` is absent.
    pub(super) fn read(
        self,
        runner: &dyn Runner,
        uuid: &str,
        wait: &Wait,
    ) -> Result<Option<String>, Problem> {
        let invocation = self.get(uuid);
        let output = runner.run(&invocation, wait)?;
        if !output.success() && String::from_utf8_lossy(&output.stderr).contains(ABSENT) {
            return Ok(None);
        }
        let output = must_succeed(runner.host(), &invocation, output).map_err(refused)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let value = text.strip_suffix('\n').unwrap_or(&text);
        Ok((value != NOTHING).then(|| value.to_owned()))
    }
}

impl std::fmt::Display for Parameter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain(name) => formatter.write_str(name),
            Self::Key(map, key) => write!(formatter, "{map}:{key}"),
        }
    }
}

/// Parameters of a VM that decide about its port. A xapi that does not know one leaves it out.
const VM_PARAMETERS: &str = "params=uuid,name-label,power-state,is-control-domain,resident-on,affinity,dom-id,HVM-boot-policy,HVM-boot-params,domain-type,platform,other-config";

/// Lists all VMs; `None` if there is no `xe`.
pub(super) fn vms(runner: &dyn Runner, wait: &Wait) -> Result<Option<Vec<Record>>, Problem> {
    list(runner, &Invocation::reads(XE, ["vm-list", VM_PARAMETERS]), wait)
}

/// Lists the hosts of the pool.
pub(super) fn hosts(runner: &dyn Runner, wait: &Wait) -> Result<Vec<Record>, Problem> {
    let invocation = Invocation::reads(XE, ["host-list", "params=uuid,name-label,address"]);
    Ok(list(runner, &invocation, wait)?.unwrap_or_default())
}

fn list(runner: &dyn Runner, invocation: &Invocation, wait: &Wait) -> Result<Option<Vec<Record>>, Problem> {
    let output = match runner.run(invocation, wait) {
        Err(RunError::ProgramNotFound { .. }) => return Ok(None),
        output => output?,
    };
    let output = must_succeed(runner.host(), invocation, output).map_err(refused)?;
    Ok(Some(records(&String::from_utf8_lossy(&output.stdout))))
}

/// Lists the VMs that have a name or an identifier, with where their port is; `None` if there is no `xe`.
pub(super) fn named(runner: &dyn Runner, name: &str, wait: &Wait) -> Result<Option<Vec<Record>>, Problem> {
    let key = if is_uuid(name) { "uuid" } else { "name-label" };
    let words = [
        "vm-list".to_owned(),
        format!("{key}={name}"),
        "params=uuid,dom-id,resident-on,platform,other-config".to_owned(),
    ];
    list(runner, &Invocation::reads(XE, words), wait)
}

/// Tells whether a text is written as identifiers are.
pub(super) fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups
            .iter()
            .all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Returns the command that asks for a VM's power state.
pub(super) fn power_state(uuid: &str) -> Invocation {
    Parameter::Plain("power-state").get(uuid)
}

/// Returns the command that ends a VM: by its guest, or by pulling the plug.
pub(super) fn shut_down(uuid: &str, force: bool) -> Invocation {
    let mut words = vec!["vm-shutdown".to_owned(), format!("uuid={uuid}")];
    if force {
        words.push("--force".to_owned());
    }
    Invocation::changes(XE, words)
}

/// Returns the command that starts a VM, on this host of a pool.
pub(super) fn start(uuid: &str, on: Option<&str>) -> Invocation {
    let mut words = vec!["vm-start".to_owned(), format!("uuid={uuid}")];
    words.extend(on.map(|host| format!("on={host}")));
    Invocation::changes(XE, words)
}

/// Adds to a refusal of xe what to do about it.
fn refused(error: RunError) -> Problem {
    let problem = Problem::from(error);
    if problem.message.contains("regular API calls directly on a") {
        return Problem {
            kind: FailureKind::Precondition,
            ..problem
        }
        .hint("This host is a member of a pool: name the pool's coordinator with `--host`.");
    }
    if problem.message.contains("running management agent") {
        return problem.hint("xapi does not answer on this host: `systemctl status xapi` tells why.");
    }
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_told_from_names() {
        assert!(is_uuid("0c6b1a52-8f37-4d5e-9a7b-2c1d3e4f5a6b"));
        assert!(!is_uuid("win11-dev") && !is_uuid("0c6b1a52-8f37-4d5e-9a7b-2c1d3e4f5a6z"));
    }

    #[test]
    fn commands_are_written_as_xe_reads_them() {
        for (invocation, line) in [
            (
                SERIAL.get("U"),
                "xe vm-param-get 'uuid=U' 'param-name=platform' 'param-key=hvm_serial'",
            ),
            (
                SERIAL.set("U", Some("pty")),
                "xe vm-param-set 'uuid=U' 'platform:hvm_serial=pty'",
            ),
            (
                OTHER_SERIAL.set("U", None),
                "xe vm-param-remove 'uuid=U' 'param-name=other-config' 'param-key=hvm_serial'",
            ),
            (AFFINITY.set("U", None), "xe vm-param-set 'uuid=U' 'affinity='"),
            (start("U", Some("H")), "xe vm-start 'uuid=U' 'on=H'"),
            (shut_down("U", true), "xe vm-shutdown 'uuid=U' --force"),
        ] {
            assert_eq!(invocation.to_string().replace('\'', ""), line.replace('\'', ""));
        }
    }
}
