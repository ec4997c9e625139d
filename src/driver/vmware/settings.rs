//! VMware's names for a port, the gdb stub and nested virtualization: which operations a file still needs.

use crate::model::{EditOperation, GdbStubSpec, PortIndex};
use crate::render::edit::EditError;
use crate::render::environment::{RenderError, render};
use crate::render::quote::vmx_value;
use crate::render::vmx::{VmxFile, operations};
use serde::Serialize;

/// Serial ports of a VM on the hosted products (libvirt `vmx.c`: `serial0` to `serial3`).
pub(super) const MAX_PORTS: u32 = 4;

const LISTEN: &str = "debugStub.listen.guest64";
const LISTEN_REMOTE: &str = "debugStub.listen.guest64.remote";

/// What a key means that is absent: VMware's documented defaults. Others are not known or not what is wanted.
const DEFAULTS: [(&str, &str); 2] = [("startconnected", "TRUE"), ("debugstub.port.guest64", "8864")];

/// What a file needs could not be told.
#[derive(Debug, thiserror::Error)]
pub(super) enum SettingsError {
    /// The file.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// A value that no line can hold.
    #[error("{}: {}", .0, .0.source)]
    Render(#[from] RenderError),
}

/// A port as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FoundPort {
    /// Whether the VM has it.
    pub present: bool,
    /// `pipe`, `file`, `device`, `network`, `thinprint`; a port without it is a device.
    pub file_type: String,
    /// Path or name.
    pub file_name: Option<String>,
    /// `server` or `client`.
    pub end_point: Option<String>,
    /// Its lines as they would be written, for people.
    pub lines: Vec<String>,
}

fn prefix(port: PortIndex) -> String {
    format!("serial{}.", port.zero_based())
}

fn is_true(value: Option<&str>) -> bool {
    value.is_some_and(|value| value.eq_ignore_ascii_case("TRUE"))
}

/// Reads a port; `None` if the file has none of its keys.
pub(super) fn find_port(file: &VmxFile, port: PortIndex) -> Result<Option<FoundPort>, EditError> {
    let prefix = prefix(port);
    let value = |name: &str| file.value(&format!("{prefix}{name}"));
    let keys = file.keys_with_prefix(&prefix);
    if keys.is_empty() {
        return Ok(None);
    }
    let mut lines = Vec::new();
    for key in keys {
        let value = file.value(&key)?.unwrap_or_default();
        lines.push(format!("{key} = {}", vmx_value(&value)?));
    }
    Ok(Some(FoundPort {
        present: is_true(value("present")?.as_deref()),
        file_type: value("fileType")?.unwrap_or_else(|| "device".to_owned()),
        file_name: value("fileName")?,
        end_point: value("pipe.endPoint")?,
        lines,
    }))
}

/// Returns the gdb stub's lines as they would be written, for people; `None` if no stub listens.
pub(super) fn stub_lines_of(file: &VmxFile) -> Result<Option<String>, EditError> {
    let on = |key: &str| Ok::<_, EditError>(is_true(file.value(key)?.as_deref()));
    if !on(LISTEN)? && !on(LISTEN_REMOTE)? {
        return Ok(None);
    }
    let mut lines = Vec::new();
    for key in file.keys_with_prefix("debugStub.") {
        let value = file.value(&key)?.unwrap_or_default();
        lines.push(format!("{key} = {}", vmx_value(&value)?));
    }
    Ok(Some(lines.join("\n")))
}

#[derive(Serialize)]
struct SerialContext<'a> {
    index: String,
    file_name: &'a str,
    end_point: &'a str,
}

#[derive(Serialize)]
struct StubContext {
    port: String,
    allow_remote: bool,
    hide_breakpoints: bool,
    stop_at_start: bool,
}

fn written(template: &str, context: &impl Serialize) -> Result<Vec<EditOperation>, SettingsError> {
    Ok(operations(&render(template, context)?)?)
}

fn is_mark(operation: &EditOperation) -> bool {
    operation.key().starts_with('#')
}

/// Returns what the file still needs for a port at this address.
pub(super) fn missing_port(
    file: &VmxFile,
    port: PortIndex,
    file_name: &str,
    end_point: &str,
) -> Result<Vec<EditOperation>, SettingsError> {
    let present = file.value(&format!("{}present", prefix(port)))?;
    let wanted = serial_lines(port, file_name, end_point)?;
    Ok(unmet(file, wanted, is_true(present.as_deref()))?)
}

fn serial_lines(
    port: PortIndex,
    file_name: &str,
    end_point: &str,
) -> Result<Vec<EditOperation>, SettingsError> {
    let context = SerialContext {
        index: port.zero_based().to_string(),
        file_name,
        end_point,
    };
    written("vmware/serial.vmx", &context)
}

fn stub_lines(stub: &GdbStubSpec) -> Result<Vec<EditOperation>, SettingsError> {
    let context = StubContext {
        port: stub.port.to_string(),
        allow_remote: stub.allow_remote,
        hide_breakpoints: stub.hide_breakpoints,
        stop_at_start: stub.stop_at_start,
    };
    written("vmware/gdbstub.vmx", &context)
}

/// The lines of a stub with everything switched on.
fn all_stub_lines(stub: &GdbStubSpec) -> Result<Vec<EditOperation>, SettingsError> {
    stub_lines(&GdbStubSpec {
        allow_remote: true,
        hide_breakpoints: true,
        stop_at_start: true,
        ..stub.clone()
    })
}

/// Returns what the file still needs for the gdb stub; switches that are on and not wanted are removed.
pub(super) fn missing_stub(file: &VmxFile, stub: &GdbStubSpec) -> Result<Vec<EditOperation>, SettingsError> {
    let on = |key: &str| Ok::<_, EditError>(is_true(file.value(key)?.as_deref()));
    let (local, remote) = (on(LISTEN)?, on(LISTEN_REMOTE)?);
    let mut wanted = stub_lines(stub)?;
    if remote && stub.allow_remote {
        // As users write it: `….remote` alone listens.
        wanted.retain(|operation| operation.key() != LISTEN);
    }
    let mut needed = unmet(file, wanted.clone(), local || remote)?;
    for operation in all_stub_lines(stub)? {
        let key = operation.key();
        let unwanted = !is_mark(&operation) && wanted.iter().all(|wanted| wanted.key() != key);
        if unwanted && key != LISTEN && on(key)? {
            needed.push(EditOperation::Remove { key: key.to_owned() });
        }
    }
    Ok(needed)
}

/// Returns what the file still needs for nested virtualization.
pub(super) fn missing_nested(file: &VmxFile) -> Result<Vec<EditOperation>, SettingsError> {
    Ok(unmet(file, written("vmware/nested.vmx", &())?, true)?)
}

/// Returns the operations that take a port out of the file, whoever set it, with our mark.
pub(super) fn remove_port(file: &VmxFile, port: PortIndex) -> Result<Vec<EditOperation>, SettingsError> {
    let keys = file.keys_with_prefix(&prefix(port));
    Ok(removals(file, &serial_lines(port, "", "")?, keys)?)
}

/// Returns the operations that take the gdb stub out of the file, whoever set it, with our mark.
pub(super) fn remove_stub(file: &VmxFile, stub: &GdbStubSpec) -> Result<Vec<EditOperation>, SettingsError> {
    let lines = all_stub_lines(stub)?;
    let keys = lines.iter().filter(|line| !is_mark(line));
    let keys = keys.map(|line| line.key().to_owned()).collect();
    Ok(removals(file, &lines, keys)?)
}

/// The removals of these keys and of the marks among the lines, as far as the file has them.
fn removals(
    file: &VmxFile,
    lines: &[EditOperation],
    keys: Vec<String>,
) -> Result<Vec<EditOperation>, EditError> {
    let marks = lines
        .iter()
        .filter(|line| is_mark(line))
        .map(|line| line.key().to_owned());
    let mut found = Vec::new();
    for key in marks.chain(keys) {
        if file.value(&key)?.is_some() {
            found.push(EditOperation::Remove { key });
        }
    }
    Ok(found)
}

/// Keeps the operations whose effect the file does not have yet. `there`: the thing itself is switched on already, so
/// that an absent key means its default. Our mark is written only with something else.
fn unmet(file: &VmxFile, wanted: Vec<EditOperation>, there: bool) -> Result<Vec<EditOperation>, EditError> {
    let mut needed = Vec::new();
    for operation in wanted {
        let value = operation.value().unwrap_or_default();
        let met = match file.value(operation.key())? {
            Some(now) => means_the_same(operation.key(), &now, value),
            None => there && default_of(operation.key()) == Some(value),
        };
        if !met {
            needed.push(operation);
        }
    }
    if needed.iter().all(is_mark) {
        needed.clear();
    }
    Ok(needed)
}

fn default_of(key: &str) -> Option<&'static str> {
    let key = key.to_ascii_lowercase();
    DEFAULTS
        .iter()
        .find(|(name, _)| key == *name || key.ends_with(&format!(".{name}")))
        .map(|(_, value)| *value)
}

/// Paths on Unix hosts are compared as they are; words (`TRUE`, `pipe`, `server`) and Windows pipes without case.
fn means_the_same(key: &str, now: &str, wanted: &str) -> bool {
    let is_path = key.ends_with(".fileName") && !wanted.starts_with(r"\\");
    now == wanted || (!is_path && now.eq_ignore_ascii_case(wanted))
}
