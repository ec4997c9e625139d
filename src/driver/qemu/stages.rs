//! Planning a QEMU VM from what was observed. Pure: it has no runner.

use super::live::live;
use super::start::started_by_us;
use super::step::{planned, step};
use super::{Access, Qemu, access};
use crate::model::{
    EditOperation, FailureKind, FileEdit, FileFormat, HostPath, HostRef, Observed, Problem, TargetSpec,
};
use crate::plan::{Action, Effect, PlanContext, Stage, Step, Undo};
use crate::render::qemu::config;

/// Plans one VM.
pub(super) fn stages(
    driver: &Qemu,
    wanted: &TargetSpec,
    observed: &Observed,
    context: &PlanContext,
) -> Result<Vec<Stage>, Problem> {
    check_served(wanted)?;
    let steps = match access(wanted) {
        Access::Starts => {
            let start = wanted.start.as_ref().expect("the access says so");
            return started_by_us(driver, wanted, start, observed, context);
        }
        Access::Qmp(socket) => live(wanted, &socket, observed, context)?,
        Access::Config(path) => file(wanted, &path, observed, context)?,
        Access::Nothing => {
            if wanted.gdb_stub.is_some() {
                return Err(Problem::new(
                    FailureKind::Precondition,
                    format!("the gdb stub of `{}` can only be set up through QMP", wanted.vm),
                )
                .hint("Name the VM's QMP socket, or start QEMU with `-gdb tcp:127.0.0.1:PORT`."));
            }
            Vec::new()
        }
    };
    Ok(planned("settings", steps))
}

fn check_served(wanted: &TargetSpec) -> Result<(), Problem> {
    let refuse = |what: &str, hint: &str| {
        Err(Problem::new(
            FailureKind::Precondition,
            format!("the QEMU driver does not serve {what} (target `{}`)", wanted.name),
        )
        .hint(hint))
    };
    if wanted.nested {
        return refuse("`nested`", "Pass QEMU's own arguments (`-cpu host` with KVM).");
    }
    if wanted.start.is_some() && wanted.host != HostRef::Local {
        return refuse(
            "`start: true` on another host",
            "Run vmserial on that host, or start the VM there by hand.",
        );
    }
    match &wanted.gdb_stub {
        Some(stub) if stub.port == 0 => refuse(
            "gdb stub port 0",
            "QEMU would take a free port and tell nobody: name one.",
        ),
        _ => Ok(()),
    }
}

fn file(
    wanted: &TargetSpec,
    path: &HostPath,
    observed: &Observed,
    context: &PlanContext,
) -> Result<Vec<Step>, Problem> {
    if wanted.gdb_stub.is_some() {
        return Err(Problem::new(
            FailureKind::Precondition,
            "a configuration file cannot hold QEMU's gdb stub",
        )
        .hint("Add `-gdb tcp:127.0.0.1:PORT` to QEMU's arguments."));
    }
    let file = observed.files.iter().find(|file| file.path == *path);
    let before = file.and_then(|file| file.bytes.clone());
    let now = before
        .as_deref()
        .map(|bytes| config::parse(path.as_str(), &String::from_utf8_lossy(bytes)))
        .transpose()?
        .unwrap_or_default();
    let mut ports = now.clone();
    for port in &wanted.ports {
        match &port.attach {
            _ if context.remove => {
                ports.remove(&port.port);
            }
            Some(endpoint) => {
                ports.insert(port.port, endpoint.clone());
            }
            None => {}
        }
    }
    if ports == now {
        return Ok(Vec::new());
    }
    let key = String::new();
    let operation = if ports.is_empty() {
        EditOperation::Remove { key }
    } else {
        EditOperation::Set {
            key,
            value: config::text(&ports)?,
        }
    };
    let verb = if ports.is_empty() { "remove" } else { "write" };
    let mut edit = step(
        wanted,
        format!("{verb} the QEMU configuration `{path}`"),
        Action::Edit(FileEdit {
            path: path.clone(),
            format: FileFormat::Whole,
            planned_on: file.and_then(crate::model::ObservedFile::digest),
            operations: vec![operation],
            before,
        }),
        Undo::Keys,
        Effect::NeedsPowerOff,
    );
    if !ports.is_empty() {
        edit.notes.push(format!(
            "Start QEMU with `-readconfig {path}` besides its other arguments."
        ));
    }
    Ok(vec![edit])
}
