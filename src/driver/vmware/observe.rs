//! Looks at `.vmx` files, their locks and what `vmrun` says.

use super::place::{HostStyle, endpoint_of};
use super::power::{self, Listing};
use super::settings::{MAX_PORTS, find_port, stub_lines_of};
use super::{fact, file_of};
use crate::model::{
    EndpointSpec, FailureKind, HostPath, Observed, ObservedFile, ObservedHost, ObservedPort, PortIndex,
    PowerState, Problem, TargetSpec, Wait,
};
use crate::render::edit::EditError;
use crate::render::vmx::{VmxFile, lock_of};
use crate::runner::{RunError, Runner};
use std::collections::BTreeMap;
use std::io::ErrorKind;

/// Looks at all VMs of a host; `vmrun` is asked once.
pub(super) fn host(runner: &dyn Runner, wanted: &[TargetSpec], wait: &Wait) -> Result<ObservedHost, Problem> {
    let mut files = Vec::new();
    for target in wanted {
        let path = file_of(target);
        let (bytes, file) = read(runner, &path, wait)?;
        files.push((target, path, bytes, file));
    }
    let windows = files
        .iter()
        .any(|(_, path, _, _)| HostStyle::of(path) == HostStyle::Windows);
    let listing = match files.is_empty() {
        true => Listing::NoProgram,
        false => power::running_vms(runner, windows, wait)?,
    };
    let vms = files
        .into_iter()
        .map(|(target, path, bytes, file)| {
            let lock = lock_of(&path);
            let mut facts = BTreeMap::new();
            power::note(&listing, &path, &mut facts);
            if runner.exists(&lock, wait)? {
                facts.insert(fact::LOCK.to_owned(), lock.to_string());
            }
            Ok(Observed {
                vm: target.vm.clone(),
                power: power_state(&facts, || is_suspended(runner, &path, &file, wait))?,
                ports: ports(&file),
                gdb_stub: stub_text(&file),
                files: vec![ObservedFile {
                    path,
                    bytes: Some(bytes),
                }],
                facts,
            })
        })
        .collect::<Result<_, Problem>>()?;
    Ok(ObservedHost {
        host: runner.host().clone(),
        vms,
        refused: Vec::new(),
        facts: BTreeMap::new(),
    })
}

/// Reads a VM's file.
///
/// # Errors
///
/// It is not there, is no file, or is no `.vmx` that can be edited.
fn read(runner: &dyn Runner, path: &HostPath, wait: &Wait) -> Result<(Vec<u8>, VmxFile), Problem> {
    let snapshot = match runner.read(path, wait) {
        Ok(snapshot) => snapshot,
        Err(RunError::Io { source, .. })
            if matches!(source.kind(), ErrorKind::InvalidInput | ErrorKind::IsADirectory) =>
        {
            return Err(
                Problem::new(FailureKind::Precondition, format!("`{path}` is no file"))
                    .hint("Name the VM's .vmx file, which lies in the VM's folder."),
            );
        }
        Err(error) => return Err(error.into()),
    };
    let Some(snapshot) = snapshot else {
        return Err(
            Problem::new(FailureKind::NotFound, format!("there is no file `{path}`"))
                .hint("Name the VM by the path of its .vmx file; VMware shows it in the VM's settings, and `vmrun list` for VMs that run."),
        );
    };
    let file = parse(path, &snapshot.bytes)?;
    Ok((snapshot.bytes, file))
}

/// Takes a VM's file apart.
pub(super) fn parse(path: &HostPath, bytes: &[u8]) -> Result<VmxFile, Problem> {
    let file = VmxFile::parse(bytes).map_err(|error| malformed(path, &error))?;
    if file.has_settings() {
        return Ok(file);
    }
    Err(Problem::new(
        FailureKind::Configuration,
        format!("`{path}` has no setting, so it is no VM's file"),
    ))
}

/// Says that a VM's file cannot be edited, and what to do.
pub(super) fn malformed(path: &HostPath, error: &dyn std::fmt::Display) -> Problem {
    Problem::new(
        FailureKind::Configuration,
        format!("cannot edit `{path}`: {error}"),
    )
    .hint("Nothing was changed. Mend the file with VMware or a text editor while the VM is off.")
}

fn power_state(
    facts: &BTreeMap<String, String>,
    is_suspended: impl FnOnce() -> Result<bool, Problem>,
) -> Result<PowerState, Problem> {
    Ok(if facts.contains_key(fact::LISTED_AS) {
        PowerState::Running
    } else if is_suspended()? {
        PowerState::Suspended
    } else if facts.contains_key(fact::LOCK) {
        PowerState::Unknown
    } else {
        PowerState::Off
    })
}

/// A suspended VM names its state file, which lies beside its `.vmx`. Copied VMs name one that is not there.
fn is_suspended(runner: &dyn Runner, path: &HostPath, file: &VmxFile, wait: &Wait) -> Result<bool, Problem> {
    let named = file.value("checkpoint.vmState").ok().flatten();
    let Some(name) = named.filter(|name| !name.is_empty()) else {
        return Ok(false);
    };
    let folder = path
        .as_str()
        .rfind(['/', '\\'])
        .map_or("", |at| &path.as_str()[..=at]);
    let is_absolute = name.starts_with(['/', '\\']) || name.get(1..2) == Some(":");
    let state = if is_absolute {
        name
    } else {
        format!("{folder}{name}")
    };
    Ok(runner.exists(&HostPath::new(state), wait)?)
}

fn stub_text(file: &VmxFile) -> Option<String> {
    // A stub that is written twice is told when somebody plans to change it.
    stub_lines_of(file).ok().flatten()
}

fn ports(file: &VmxFile) -> Vec<ObservedPort> {
    (1..=MAX_PORTS)
        .filter_map(|number| PortIndex::new(number).ok())
        .filter_map(|port| match find_port(file, port) {
            Ok(None) => None,
            Ok(Some(found)) => Some(ObservedPort {
                port,
                endpoint: endpoint_of(&found).map(|(endpoint, _)| endpoint),
                text: found.lines.join("\n"),
            }),
            // Of interest only to whoever wants this port; planning it says so.
            Err(error @ (EditError::Duplicate { .. } | EditError::Value(_))) => Some(ObservedPort {
                port,
                endpoint: None,
                text: error.to_string(),
            }),
            Err(_) => None,
        })
        .collect()
}

/// Returns where a port is now, with the VM's role.
///
/// # Errors
///
/// The VM has no such port, or it is nothing that a bridge can reach.
pub(super) fn locate(
    runner: &dyn Runner,
    wanted: &TargetSpec,
    port: PortIndex,
    wait: &Wait,
) -> Result<EndpointSpec, Problem> {
    let path = file_of(wanted);
    let (_, file) = read(runner, &path, wait)?;
    let hint = "Set it up with `vmserial setup vmware` or `vmserial apply`.";
    let found = find_port(&file, port).map_err(|error| malformed(&path, &error))?;
    let Some(found) = found.filter(|found| found.present) else {
        return Err(Problem::new(FailureKind::NotFound, format!("`{path}` has no port {port}")).hint(hint));
    };
    let Some((endpoint, role_is_known)) = endpoint_of(&found) else {
        return Err(Problem::new(
            FailureKind::Precondition,
            format!(
                "port {port} of `{path}` is no pipe: its type is `{}`",
                found.file_type
            ),
        )
        .hint(hint));
    };
    if role_is_known {
        return Ok(endpoint);
    }
    let attach = wanted.port(port).and_then(|spec| spec.attach.clone());
    attach
        .filter(|attach| attach.address == endpoint.address)
        .ok_or_else(|| {
            Problem::new(
                FailureKind::Precondition,
                format!("`{path}` does not say which end of its pipe port {port} is"),
            )
            .hint(hint)
        })
}
