//! Looking at a VM: its process, its QMP, its files. Changes nothing, and never connects to a port.

use super::{Access, Qemu, access, chardev_candidates, chardev_fact, fact};
use crate::model::{
    Address, Deadline, EndpointSpec, FailureKind, HostPath, Invocation, Observed, ObservedFile, ObservedPort,
    PortSpec, PowerState, Problem, Role, StartSpec, TargetSpec, Wait,
};
use crate::render::qemu::chardev::{Backend, parse_filename};
use crate::render::qemu::{PROGRAM, RunFiles};
use crate::render::qmp::Command;
use crate::runner::qmp::{QmpFailure, exchange};
use crate::runner::{RunError, Runner};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A QMP server that is free greets within milliseconds; one that another client holds never does.
const QMP_PATIENCE: Duration = Duration::from_secs(2);

/// Looks at one VM.
pub(super) fn vm(
    driver: &Qemu,
    runner: &dyn Runner,
    target: &TargetSpec,
    wait: &Wait,
) -> Result<Observed, Problem> {
    let mut observed = Observed {
        vm: target.vm.clone(),
        power: PowerState::Unknown,
        ports: Vec::new(),
        gdb_stub: None,
        files: Vec::new(),
        facts: BTreeMap::new(),
    };
    match access(target) {
        Access::Starts => {
            let files = driver.files(target);
            let start = target.start.as_ref().expect("the access says so");
            process(runner, &files, &mut observed, wait)?;
            program(runner, start, &mut observed, wait)?;
            inputs(runner, target, start, &files, &mut observed, wait)?;
            qmp(runner, &files.qmp(), target, &mut observed, wait)?;
            // Its process is ours and alive, whoever may hold its QMP.
            if observed.power == PowerState::Off && observed.facts.contains_key(fact::PID) {
                observed.power = PowerState::Unknown;
            }
        }
        Access::Qmp(socket) => qmp(runner, &socket, target, &mut observed, wait)?,
        Access::Config(path) => {
            let file = runner.read(&path, wait).map_err(host_problem)?;
            observed.files.push(ObservedFile {
                path,
                bytes: file.map(|file| file.bytes),
            });
        }
        Access::Nothing => {}
    }
    Ok(observed)
}

/// Finds the QEMU that we started: the process that our file names, if its command line names that file.
fn process(
    runner: &dyn Runner,
    files: &RunFiles,
    observed: &mut Observed,
    wait: &Wait,
) -> Result<(), Problem> {
    let path = files.pid();
    let Some(file) = runner.read(&path, wait).map_err(host_problem)? else {
        return Ok(());
    };
    let Some(pid) = String::from_utf8_lossy(&file.bytes).trim().parse::<u32>().ok() else {
        return Ok(());
    };
    let command_line = HostPath::new(format!("/proc/{pid}/cmdline"));
    let Some(words) = runner.read(&command_line, wait).map_err(host_problem)? else {
        return Ok(());
    };
    let words: Vec<String> = words
        .bytes
        .split(|&byte| byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    // The last word ends with a NUL too.
    let arguments = words.get(1..words.len().saturating_sub(1)).unwrap_or_default();
    if !arguments.iter().any(|word| word == path.as_str()) {
        // The number is another process's by now.
        return Ok(());
    }
    observed.facts.insert(fact::PID.to_owned(), pid.to_string());
    observed.gdb_stub = arguments
        .windows(2)
        .find(|pair| pair[0] == "-gdb")
        .map(|pair| format!("-gdb {}", pair[1]));
    observed.facts.insert(
        fact::ARGUMENTS.to_owned(),
        Value::from(arguments.to_vec()).to_string(),
    );
    Ok(())
}

fn program(
    runner: &dyn Runner,
    start: &StartSpec,
    observed: &mut Observed,
    wait: &Wait,
) -> Result<(), Problem> {
    let program = start.program.as_deref().unwrap_or(PROGRAM);
    match runner.run(&Invocation::reads(program, ["-version"]), wait) {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let line = text.lines().next().unwrap_or_default().to_owned();
            observed.facts.insert(fact::VERSION.to_owned(), line);
        }
        Err(RunError::ProgramNotFound { program, .. }) => {
            observed.facts.insert(fact::PROGRAM_MISSING.to_owned(), program);
        }
        Err(error) => return Err(host_problem(error)),
    }
    Ok(())
}

/// Looks for what QEMU would read, and for regular files where it would make sockets: it removes them without asking.
fn inputs(
    runner: &dyn Runner,
    target: &TargetSpec,
    start: &StartSpec,
    files: &RunFiles,
    observed: &mut Observed,
    wait: &Wait,
) -> Result<(), Problem> {
    let read = start.kernel.iter().chain(&start.initrd).chain(&start.disks);
    for path in read.map(|path| HostPath::new(path.to_string_lossy())) {
        if !runner.exists(&path, wait).map_err(host_problem)? {
            observed
                .facts
                .insert(fact::FILE_MISSING.to_owned(), path.as_str().to_owned());
            break;
        }
    }
    for port in &target.ports {
        let endpoint = files.endpoint(port);
        let Address::Unix(path) = &endpoint.address else {
            continue;
        };
        let path = HostPath::new(path.to_string_lossy());
        // A socket cannot be read; a file can.
        if endpoint.role == Some(Role::Listen) && matches!(runner.read(&path, wait), Ok(Some(_))) {
            observed
                .facts
                .insert(fact::OCCUPIED.to_owned(), path.as_str().to_owned());
        }
    }
    Ok(())
}

fn patience(wait: &Wait) -> Wait {
    let now = Instant::now();
    let mut short = wait.renamed("QEMU to answer by QMP");
    short.deadline = wait.deadline.min(Deadline::after(now, QMP_PATIENCE));
    short
}

fn qmp(
    runner: &dyn Runner,
    socket: &HostPath,
    target: &TargetSpec,
    observed: &mut Observed,
    wait: &Wait,
) -> Result<(), Problem> {
    let commands = [Command::new("query-status"), Command::new("query-chardev")];
    let values = match exchange(runner, socket, commands, &patience(wait)) {
        Ok(values) => values,
        Err(QmpFailure::Absent { .. }) => {
            observed.power = PowerState::Off;
            return Ok(());
        }
        Err(failure @ QmpFailure::Run(RunError::Cancelled { .. })) => return Err(failure.into()),
        Err(failure) => {
            observed
                .facts
                .insert(fact::QMP_FAILURE.to_owned(), Problem::from(failure).message);
            return Ok(());
        }
    };
    observed.power = power(&values[0]);
    let chardevs = chardevs(&values[1]);
    for port in &target.ports {
        let names = chardev_candidates(port);
        if let Some((label, filename)) = names.iter().find_map(|name| chardevs.get_key_value(name)) {
            observed.facts.insert(chardev_fact(port.port), label.to_owned());
            observed.ports.push(ObservedPort {
                port: port.port,
                endpoint: endpoint(filename),
                text: filename.clone(),
            });
        }
    }
    if let Some(stub) = chardevs.get("gdb") {
        observed.facts.insert(fact::GDB_STUB.to_owned(), stub.clone());
    }
    let labels: Vec<&str> = chardevs.keys().map(String::as_str).collect();
    observed
        .facts
        .insert(fact::CHARDEVS.to_owned(), labels.join(", "));
    Ok(())
}

/// Reads `query-status`: `{"status": "running", "running": true}`.
fn power(status: &Value) -> PowerState {
    match status.get("status").and_then(Value::as_str) {
        Some("running") => PowerState::Running,
        Some("shutdown") => PowerState::Off,
        // `paused`, `debug` (a gdb stub stopped it), `prelaunch` (-S), `io-error`, `watchdog` …
        Some(_) => PowerState::Paused,
        None => PowerState::Unknown,
    }
}

fn chardevs(list: &Value) -> BTreeMap<String, String> {
    let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(|entry| Some((text(entry, "label")?, text(entry, "filename")?)))
        .collect()
}

fn endpoint(filename: &str) -> Option<EndpointSpec> {
    match parse_filename(filename) {
        Backend::Endpoint(endpoint) => Some(endpoint),
        Backend::Null | Backend::Other(_) => None,
    }
}

/// Asks a running VM for a port's chardev: its label and file name.
pub(super) fn chardev_of(
    runner: &dyn Runner,
    socket: &HostPath,
    port: &PortSpec,
    wait: &Wait,
) -> Result<Option<(String, String)>, Problem> {
    let values = exchange(runner, socket, [Command::new("query-chardev")], &patience(wait))?;
    let mut chardevs = chardevs(&values[0]);
    Ok(chardev_candidates(port)
        .iter()
        .find_map(|name| chardevs.remove_entry(name)))
}

/// Asks a running VM where a port is.
pub(super) fn port_now(
    runner: &dyn Runner,
    socket: &HostPath,
    port: &PortSpec,
    wait: &Wait,
) -> Result<Option<EndpointSpec>, Problem> {
    let chardev = chardev_of(runner, socket, port, wait)?;
    Ok(chardev.and_then(|(_, filename)| endpoint(&filename)))
}

/// Lets a paused VM go on. A VM that QEMU stopped for a reason of its own (`io-error`) is left alone.
pub(super) fn go_on(runner: &dyn Runner, socket: &HostPath, wait: &Wait) -> Result<Option<String>, Problem> {
    let values = exchange(runner, socket, [Command::new("query-status")], &patience(wait))?;
    let status = values[0]
        .get("status")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !matches!(status, "paused" | "debug" | "prelaunch") {
        return Ok(None);
    }
    exchange(runner, socket, [Command::new("cont")], &patience(wait))?;
    Ok(Some(format!("QEMU goes on (it was `{status}`)")))
}

/// Says a host's failure in its own words.
pub(super) fn host_problem(error: RunError) -> Problem {
    let kind = match &error {
        RunError::Connection(problem) => return Problem::clone(problem),
        RunError::ProgramNotFound { .. } | RunError::NoPowerShell { .. } => FailureKind::NotFound,
        RunError::DeadlinePassed { .. } => FailureKind::Deadline,
        RunError::Cancelled { .. } => FailureKind::Interrupted,
        RunError::Changed { .. } | RunError::Unsupported { .. } => FailureKind::Precondition,
        RunError::Failed { .. } | RunError::Script { .. } | RunError::Io { .. } => FailureKind::Host,
    };
    let mut message = error.to_string();
    if let Some(source) = std::error::Error::source(&error) {
        message = format!("{message}: {source}");
    }
    Problem::new(kind, message)
}
