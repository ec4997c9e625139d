//! Planning changes of a VM that runs and has QMP. Pure: it has no runner.

use super::step::{step, stub_notes};
use super::{chardev_fact, fact};
use crate::model::{
    Address, EndpointSpec, FailureKind, GdbStubSpec, HostPath, Observed, ObservedPort, PortSpec, PowerState,
    Problem, Role, TargetSpec,
};
use crate::plan::{Action, Condition, Effect, PlanContext, QmpCommand, Step, Undo};
use crate::render::qemu::chardev::{Backend, backend, null_backend, parse_filename};
use serde_json::{Value, json};

/// Plans all ports and the gdb stub.
pub(super) fn live(
    wanted: &TargetSpec,
    socket: &HostPath,
    observed: &Observed,
    context: &PlanContext,
) -> Result<Vec<Step>, Problem> {
    if let Some(reason) = observed.facts.get(fact::QMP_FAILURE) {
        return Err(Problem::new(FailureKind::Precondition, reason.clone()));
    }
    if observed.power == PowerState::Off {
        return Err(Problem::new(
            FailureKind::Precondition,
            format!(
                "the VM `{}` does not run: nobody answers at its QMP socket `{socket}`",
                wanted.vm
            ),
        )
        .hint("Start it, or name the socket of its `-qmp unix:PATH,server=on,wait=off`."));
    }
    let mut steps = Vec::new();
    for port in &wanted.ports {
        steps.extend(live_port(wanted, socket, port, observed, context.remove)?);
    }
    if let Some(stub) = &wanted.gdb_stub {
        steps.extend(live_stub(wanted, socket, stub, observed, context.remove)?);
    }
    Ok(steps)
}

fn live_port(
    wanted: &TargetSpec,
    socket: &HostPath,
    port: &PortSpec,
    observed: &Observed,
    remove: bool,
) -> Result<Option<Step>, Problem> {
    let (new, text) = match (&port.attach, remove) {
        (_, true) => (null_backend(), "nothing".to_owned()),
        (Some(endpoint), false) => (backend(endpoint)?, format!("`{endpoint}`")),
        (None, false) => return Ok(None),
    };
    let seen = observed.ports.iter().find(|seen| seen.port == port.port);
    let chardev = observed.facts.get(&chardev_fact(port.port));
    let (Some(seen), Some(chardev)) = (seen, chardev) else {
        let chardevs = observed.facts.get(fact::CHARDEVS).map_or("none", String::as_str);
        return Err(Problem::new(
            FailureKind::NotFound,
            format!("the VM `{}` has no port {} that QMP could change; its chardevs: {chardevs}", wanted.name, port.port),
        )
        .hint("A running VM cannot be given a port. Start it with one (`vmserial setup qemu` without `--qmp` prints the arguments), or name the port's chardev: `--chardev ID`."));
    };
    let same = if remove {
        parse_filename(&seen.text) == Backend::Null
    } else {
        port.attach.as_ref().is_some_and(|endpoint| is_at(endpoint, seen))
    };
    if same {
        return Ok(None);
    }
    let change = |backend: Value| QmpCommand {
        socket: socket.clone(),
        execute: "chardev-change".to_owned(),
        arguments: json!({ "id": chardev, "backend": backend }),
    };
    let undo = match old_backend(&seen.text) {
        Some(old) => Undo::Qmp(change(old)),
        None => Undo::Nothing {
            reason: format!("vmserial cannot write the backend `{}` again", seen.text),
        },
    };
    let mut step = step(
        wanted,
        format!(
            "attach port {} ({}) of `{}` to {text}",
            port.port,
            port.port.linux_name(),
            wanted.name
        ),
        Action::Qmp(change(new)),
        undo,
        Effect::Live,
    );
    step.notes.push(format!(
        "It was at `{}`; whoever is connected there is disconnected.",
        seen.text
    ));
    step.notes
        .push("QEMU forgets this when the VM is powered off.".to_owned());
    Ok(Some(step))
}

fn is_at(endpoint: &EndpointSpec, seen: &ObservedPort) -> bool {
    match endpoint.address {
        // Which pseudo terminal it is, is QEMU's choice.
        Address::Pty { .. } => seen.text.starts_with("pty"),
        Address::Tcp { port: 0, .. } | Address::Telnet { port: 0, .. } => seen
            .endpoint
            .as_ref()
            .is_some_and(|now| now.role == endpoint.role && now.address.kind() == endpoint.address.kind()),
        _ => seen.endpoint.as_ref() == Some(endpoint),
    }
}

fn old_backend(text: &str) -> Option<Value> {
    if text.starts_with("pty") {
        return Some(json!({ "type": "pty", "data": {} }));
    }
    match parse_filename(text) {
        Backend::Endpoint(endpoint) => backend(&endpoint).ok(),
        Backend::Null => Some(null_backend()),
        Backend::Other(_) => None,
    }
}

fn live_stub(
    wanted: &TargetSpec,
    socket: &HostPath,
    stub: &GdbStubSpec,
    observed: &Observed,
    remove: bool,
) -> Result<Vec<Step>, Problem> {
    if stub.stop_at_start {
        return Err(Problem::new(
            FailureKind::Precondition,
            format!("`{}` runs already: it cannot stop at its start", wanted.name),
        )
        .hint("Start QEMU with `-S`, or leave `--stop-at-start` out."));
    }
    // As the monitor command takes it (HMP `gdbserver`), which listens on all addresses without a host.
    let host = if stub.allow_remote { "" } else { "127.0.0.1" };
    let new = (!remove).then(|| format!("tcp:{host}:{}", stub.port));
    let now = observed
        .facts
        .get(fact::GDB_STUB)
        .map(|text| match parse_filename(text) {
            Backend::Endpoint(EndpointSpec {
                role: Some(Role::Listen),
                address: Address::Tcp { host, port },
                ..
            }) => format!("tcp:{}:{port}", if is_any(&host) { "" } else { &host }),
            _ => text.clone(),
        });
    if now == new {
        return Ok(Vec::new());
    }
    let gdbserver = |address: Option<&str>| QmpCommand {
        socket: socket.clone(),
        execute: "human-monitor-command".to_owned(),
        arguments: json!({ "command-line": format!("gdbserver {}", address.unwrap_or("none")) }),
    };
    let summary = match &new {
        Some(address) => format!("open the gdb stub of `{}` on `{address}`", wanted.name),
        None => format!("close the gdb stub of `{}`", wanted.name),
    };
    let mut open = step(
        wanted,
        summary,
        Action::Qmp(gdbserver(new.as_deref())),
        Undo::Qmp(gdbserver(now.as_deref())),
        Effect::Live,
    );
    let mut steps = Vec::new();
    if new.is_some() {
        open.notes.extend(stub_notes(stub));
        steps.push(open);
        // The monitor answers a refusal as text, not as an error.
        steps.push(step(
            wanted,
            format!("wait until TCP port {} listens", stub.port),
            Action::WaitFor(Condition::TcpListens { port: stub.port }),
            Undo::Nothing {
                reason: "it only waits".to_owned(),
            },
            Effect::Live,
        ));
    } else {
        steps.push(open);
    }
    Ok(steps)
}

fn is_any(host: &str) -> bool {
    matches!(host, "" | "0.0.0.0" | "::")
}
