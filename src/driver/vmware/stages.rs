//! Plans one VM: what its file still needs, and the power-off that VMware asks for.

use super::observe::{malformed, parse};
use super::place::{Backing, HostStyle, backing, default_endpoint, endpoint_of};
use super::power::Vmrun;
use super::settings::{self, FoundPort, MAX_PORTS, find_port};
use super::{fact, file_of};
use crate::model::{
    EditOperation, EndpointSpec, FailureKind, FileEdit, FileFormat, HostPath, Observed, PortSpec, PowerState,
    Problem, Role, TargetSpec,
};
use crate::plan::{Action, Effect, PlanContext, Stage, StageContent, Step, Undo};
use crate::render::vmx::VmxFile;

/// What a file still needs, all ports and the stub at once.
#[derive(Debug, Default)]
struct Change {
    operations: Vec<EditOperation>,
    /// Fragments of the step's summary.
    parts: Vec<String>,
    notes: Vec<String>,
    /// `serial1.* keys`, for a stage that is planned later.
    keys: Vec<String>,
}

/// Plans the VM from what was observed.
pub(super) fn stages(
    wanted: &TargetSpec,
    observed: &Observed,
    context: &PlanContext,
) -> Result<Vec<Stage>, Problem> {
    let path = file_of(wanted);
    let seen = observed.files.first();
    let Some(bytes) = seen.and_then(|file| file.bytes.as_deref()) else {
        return Err(Problem::new(
            FailureKind::NotFound,
            format!("there is no file `{path}`"),
        ));
    };
    let file = parse(&path, bytes)?;
    let change = match context.remove {
        true => removal(wanted, &path, &file)?,
        false => set_up(wanted, &path, &file)?,
    };
    let vmrun = Vmrun::of(observed);
    let ran = context.power_at_start == PowerState::Running;
    let start = match (&vmrun, ran && observed.power == PowerState::Off) {
        (Some(vmrun), true) => vec![planned("start", vmrun.power_on(&wanted.host, wanted, &path))],
        _ => Vec::new(),
    };
    if change.operations.is_empty() {
        return Ok(start);
    }
    match (observed.power, vmrun) {
        (PowerState::Off, _) => {
            let edit = FileEdit {
                path: path.clone(),
                format: FileFormat::Vmx,
                planned_on: seen.and_then(crate::model::ObservedFile::digest),
                operations: change.operations,
                before: Some(bytes.to_vec()),
            };
            let step = Step {
                summary: change.parts.join("; "),
                host: wanted.host.clone(),
                target: Some(wanted.name.clone()),
                action: Action::Edit(edit),
                undo: Undo::Keys,
                effect: Effect::NextBoot,
                power: None,
                notes: change.notes,
                confirm: None,
            };
            let mut stages = vec![planned("settings", vec![step])];
            stages.extend(start);
            Ok(stages)
        }
        (PowerState::Running, Some(vmrun)) => Ok(vec![
            planned("power off", vmrun.power_off(&wanted.host, wanted, &path)),
            later("settings", "after power-off, which writes the file", change.keys),
            later(
                "start",
                "after the settings",
                vec!["the VM's power: it is left running, as it was found".to_owned()],
            ),
        ]),
        (PowerState::Suspended, _) => Err(Problem::new(
            FailureKind::Precondition,
            format!(
                "the VM of `{path}` is suspended, and its devices must not change until it was powered off"
            ),
        )
        .hint("Resume it, shut it down, close its tab, then run this again.")),
        _ => Err(in_use(&path, observed)),
    }
}

fn in_use(path: &HostPath, observed: &Observed) -> Problem {
    let fact = |name: &str| observed.facts.get(name).map(String::as_str);
    let lock = fact(fact::LOCK).unwrap_or("its lock");
    let problem = Problem::new(
        FailureKind::Precondition,
        format!("`{path}` is in use: `{lock}` is there"),
    )
    .hint(
        "Power the VM off and close its tab: VMware writes the file over at power-off. Then run this again.",
    );
    match (fact(fact::VMRUN), fact(fact::VMRUN_FAILURE)) {
        (Some(_), _) => problem.hint(
            "`vmrun list` does not name the VM. If no VMware program has it open, the lock was left behind by a crash: remove it.",
        ),
        (None, Some(failure)) => problem.hint(format!("Whether the VM runs is not known: {failure}.")),
        (None, None) => problem.hint(
            "Whether the VM runs is not known, because `vmrun` is not on the PATH; with it, `--restart graceful` powers the VM off and on.",
        ),
    }
}

fn planned(name: &str, steps: Vec<Step>) -> Stage {
    Stage {
        name: name.to_owned(),
        content: StageContent::Planned(steps),
    }
}

fn later(name: &str, after: &str, may_change: Vec<String>) -> Stage {
    Stage {
        name: name.to_owned(),
        content: StageContent::Later {
            after: after.to_owned(),
            may_change,
        },
    }
}

fn removal(wanted: &TargetSpec, path: &HostPath, file: &VmxFile) -> Result<Change, Problem> {
    let mut change = Change::default();
    let failed = |error| malformed(path, &error);
    for spec in &wanted.ports {
        let port = spec.port;
        let operations = settings::remove_port(file, port).map_err(failed)?;
        change.add(
            operations,
            format!("remove port {port} ({})", port.windows_name()),
            port_keys(spec),
        );
    }
    if let Some(stub) = &wanted.gdb_stub {
        let operations = settings::remove_stub(file, stub).map_err(failed)?;
        change.add(
            operations,
            "remove the gdb stub".to_owned(),
            "debugStub.* keys".to_owned(),
        );
    }
    Ok(change)
}

fn set_up(wanted: &TargetSpec, path: &HostPath, file: &VmxFile) -> Result<Change, Problem> {
    let mut change = Change::default();
    let failed = |error| malformed(path, &error);
    for spec in &wanted.ports {
        set_up_port(&mut change, spec, path, file)?;
    }
    if let Some(stub) = &wanted.gdb_stub {
        let operations = settings::missing_stub(file, stub).map_err(failed)?;
        if !operations.is_empty() {
            if stub.allow_remote {
                change.notes.push(
                    "warning: the gdb stub will listen on all addresses, and whoever connects to it owns the VM".to_owned(),
                );
            }
            if stub.stop_at_start {
                change.notes.push(
                    "the VM will stand still at its first instruction until a debugger lets it go".to_owned(),
                );
            }
            if stub.hide_breakpoints {
                change.notes.push(
                    "breakpoints will be hardware's, so at most four, and the guest does not see them"
                        .to_owned(),
                );
            }
        }
        let place = if stub.allow_remote {
            "every address"
        } else {
            "loopback"
        };
        let part = format!("let the gdb stub listen on {place}, TCP port {}", stub.port);
        change.add(operations, part, "debugStub.* keys".to_owned());
    }
    if wanted.nested {
        let operations = settings::missing_nested(file).map_err(failed)?;
        change.add(
            operations,
            "let the guest use hardware virtualization".to_owned(),
            "vhv.enable".to_owned(),
        );
    }
    Ok(change)
}

fn set_up_port(change: &mut Change, spec: &PortSpec, path: &HostPath, file: &VmxFile) -> Result<(), Problem> {
    let port = spec.port;
    if port.number() > MAX_PORTS {
        return Err(Problem::new(
            FailureKind::Precondition,
            format!("VMware gives a VM {MAX_PORTS} serial ports, and this is port {port}"),
        )
        .hint("Ports count from 1: `serial0` is port 1."));
    }
    let found = find_port(file, port).map_err(|error| malformed(path, &error))?;
    let present = found.as_ref().filter(|found| found.present);
    let endpoint = wanted_endpoint(spec, present, path)?;
    let Backing { file_name, end_point } = backing(&endpoint, path)?;
    let operations =
        settings::missing_port(file, port, &file_name, end_point).map_err(|error| malformed(path, &error))?;
    let names = format!("({}, {})", port.windows_name(), port.linux_name());
    let same_place = present
        .and_then(endpoint_of)
        .is_some_and(|(there, role_is_known)| {
            there.address == endpoint.address && (!role_is_known || there.role == endpoint.role)
        });
    let part = if same_place {
        format!(
            "complete port {port} {names} on {}: {}",
            shown(&endpoint),
            differences(file, &operations)
        )
    } else {
        let (vm, ours) = match endpoint.role {
            Some(Role::Connect) => ("connects to", "vmserial listens"),
            _ => ("listens on", "vmserial connects"),
        };
        format!(
            "attach port {port} {names}: the VM {vm} {}, {ours}",
            shown(&endpoint)
        )
    };
    if let Some(there) = present.filter(|_| !same_place && !operations.is_empty()) {
        let name = there.file_name.as_deref().unwrap_or("(no fileName)");
        change.notes.push(format!(
            "port {port} is in use for something else now: {} `{name}`",
            there.file_type
        ));
    }
    if HostStyle::of(path) == HostStyle::Mounted && !operations.is_empty() {
        change.notes.push(
            "the file lies on a Windows drive: VMware on Windows opens named pipes, one in this Linux Unix sockets"
                .to_owned(),
        );
    }
    change.add(operations, part, port_keys(spec));
    Ok(())
}

/// Names the lines that a port lacks, and those that say something else.
fn differences(file: &VmxFile, operations: &[EditOperation]) -> String {
    let keys = operations
        .iter()
        .map(EditOperation::key)
        .filter(|key| !key.starts_with('#'));
    let (there, missing): (Vec<&str>, Vec<&str>) =
        keys.partition(|key| matches!(file.value(key), Ok(Some(_))));
    let words = [("missing", missing), ("different", there)];
    let words = words.iter().filter(|(_, keys)| !keys.is_empty());
    words
        .map(|(word, keys)| format!("{word} {}", keys.join(", ")))
        .collect::<Vec<_>>()
        .join("; ")
}

/// As the profile or the command line says; else as it is; else the VM listens beside its file.
fn wanted_endpoint(
    spec: &PortSpec,
    present: Option<&FoundPort>,
    path: &HostPath,
) -> Result<EndpointSpec, Problem> {
    match (&spec.attach, present.and_then(endpoint_of)) {
        (Some(endpoint), _) => Ok(endpoint.clone()),
        (None, Some((endpoint, _))) => Ok(endpoint),
        (None, None) => default_endpoint(path, spec.port),
    }
}

/// Returns the address without its role.
fn shown(endpoint: &EndpointSpec) -> String {
    EndpointSpec {
        role: None,
        ..endpoint.clone()
    }
    .to_string()
}

fn port_keys(spec: &PortSpec) -> String {
    format!("serial{}.* keys", spec.port.zero_based())
}

impl Change {
    fn add(&mut self, operations: Vec<EditOperation>, part: String, keys: String) {
        if !operations.is_empty() {
            self.operations.extend(operations);
            self.parts.push(part);
            self.keys.push(keys);
        }
    }
}
