//! What both toolstacks share: is a port there while its VM runs, steps, power.

use super::device::{listening_port, seen_from_host};
use crate::model::{
    Address, EndpointSpec, FailureKind, HostPath, Invocation, Observed, ObservedHost, PortIndex, Problem,
    Role, TargetSpec, TtySettings, Wait,
};
use crate::plan::{Action, Condition, Effect, Stage, StageContent, Step, Undo};
use crate::runner::listening::tcp_listens;
use crate::runner::{RunError, Runner};
use std::collections::BTreeMap;

/// Where QEMU's pseudo terminal of a port is published. xenopsd and libxl write it only for ports that are one.
fn published(domain: &str, port: PortIndex) -> Invocation {
    let key = format!("/local/domain/{domain}/serial/{}/tty", port.zero_based());
    Invocation::reads("xenstore-read", [key])
}

/// Reads where the pseudo terminal of a port is now: it moves at every start. `None` if there is none.
pub(super) fn pty_of(
    runner: &dyn Runner,
    domain: &str,
    port: PortIndex,
    wait: &Wait,
) -> Result<Option<String>, Problem> {
    let output = runner.run(&published(domain, port), wait)?;
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok((output.success() && path.starts_with('/')).then_some(path))
}

/// Tells whether a port of a VM that runs is there, without connecting to it; true where nobody can tell.
pub(super) fn is_live(
    runner: &dyn Runner,
    domain: &str,
    port: PortIndex,
    endpoint: &EndpointSpec,
    wait: &Wait,
) -> Result<bool, Problem> {
    if let Some(tcp) = listening_port(endpoint) {
        return Ok(tcp_listens(tcp, runner, wait)?);
    }
    match &endpoint.address {
        Address::Unix(path) if endpoint.role == Some(Role::Listen) => {
            Ok(runner.exists(&HostPath::new(path.to_string_lossy()), wait)?)
        }
        Address::Pty { .. } => match pty_of(runner, domain, port, wait) {
            Ok(path) => Ok(path.is_some()),
            Err(problem) if problem.kind == FailureKind::NotFound => Ok(true),
            Err(problem) => Err(problem),
        },
        _ => Ok(true),
    }
}

/// Returns where a port's stream is now, as this host sees it.
pub(super) fn located(
    runner: &dyn Runner,
    domain: Option<&str>,
    port: PortIndex,
    endpoint: EndpointSpec,
    wait: &Wait,
) -> Result<EndpointSpec, Problem> {
    if !matches!(endpoint.address, Address::Pty { .. }) {
        return Ok(seen_from_host(endpoint));
    }
    let Some(domain) = domain else {
        let message = format!("port {port} has its pseudo terminal only while the VM runs");
        return Err(Problem::new(FailureKind::Precondition, message));
    };
    let Some(device) = pty_of(runner, domain, port, wait)? else {
        let message = format!("the running VM has no pseudo terminal for port {port}");
        return Err(Problem::new(FailureKind::Precondition, message)
            .hint("Its setting is younger than its start: shut it down and start it again."));
    };
    let address = Address::Tty {
        device,
        settings: TtySettings::default(),
    };
    Ok(EndpointSpec::new(None, address))
}

/// Looks at the VMs of a host. What stands against one of them is its own; what the host itself lacks ends the look.
pub(super) fn each_by_itself(
    runner: &dyn Runner,
    wanted: &[TargetSpec],
    look: impl Fn(&TargetSpec) -> Result<Observed, Problem>,
) -> Result<ObservedHost, Problem> {
    let (mut vms, mut refused) = (Vec::new(), Vec::new());
    for target in wanted {
        match look(target) {
            Ok(seen) => vms.push(seen),
            Err(problem) => match problem.kind {
                FailureKind::NotFound | FailureKind::Precondition | FailureKind::Configuration => {
                    refused.push((target.name.clone(), problem));
                }
                _ => return Err(problem),
            },
        }
    }
    Ok(ObservedHost {
        host: runner.host().clone(),
        vms,
        refused,
        facts: BTreeMap::new(),
    })
}

/// Makes a step of a target without power, notes and names.
pub(super) fn step(target: &TargetSpec, summary: String, action: Action, undo: Undo, effect: Effect) -> Step {
    Step {
        summary,
        host: target.host.clone(),
        target: Some(target.name.clone()),
        action,
        undo,
        effect,
        power: None,
        notes: Vec::new(),
        confirm: None,
    }
}

/// Power is left by an undo as it finds it.
pub(super) fn no_undo() -> Undo {
    Undo::Nothing {
        reason: "an undo leaves the VM's power as it finds it".to_owned(),
    }
}

/// Makes the step that waits for a condition.
pub(super) fn wait_step(target: &TargetSpec, summary: &str, condition: Condition) -> Step {
    let nothing = Undo::Nothing {
        reason: "it only looks".to_owned(),
    };
    let action = Action::WaitFor(condition);
    step(target, summary.to_owned(), action, nothing, Effect::Live)
}

/// Makes the steps that wait until the ports of a VM that was started are there.
pub(super) fn wait_for_ports(target: &TargetSpec, endpoints: &[EndpointSpec]) -> Vec<Step> {
    let conditions = endpoints.iter().filter_map(|endpoint| {
        if let Some(port) = listening_port(endpoint) {
            return Some(Condition::TcpListens { port });
        }
        match (&endpoint.address, endpoint.role) {
            (Address::Unix(path), Some(Role::Listen)) => Some(Condition::PathExists {
                path: HostPath::new(path.to_string_lossy()),
            }),
            _ => None,
        }
    });
    conditions
        .map(|condition| wait_step(target, "wait until the VM's port is there", condition))
        .collect()
}

/// Makes a stage.
pub(super) fn planned(name: &str, steps: Vec<Step>) -> Stage {
    Stage {
        name: name.to_owned(),
        content: StageContent::Planned(steps),
    }
}

/// Says what the VM does with a port and what we do.
pub(super) fn attaching(port: PortIndex, endpoint: &EndpointSpec) -> String {
    let names = format!("({}, {})", port.windows_name(), port.linux_name());
    let place = EndpointSpec {
        role: None,
        ..endpoint.clone()
    };
    match endpoint.role {
        Some(Role::Listen) => {
            format!("attach port {port} {names}: the VM listens on {place}, vmserial connects")
        }
        Some(Role::Connect) => {
            format!("attach port {port} {names}: the VM connects to {place}, vmserial listens")
        }
        None => format!("attach port {port} {names} to a pseudo terminal of the host, which vmserial opens"),
    }
}

/// Warns of a port that others than this host can reach.
pub(super) fn warnings(endpoint: &EndpointSpec) -> Vec<String> {
    let open = listening_port(endpoint).is_some() && !endpoint.address.is_local();
    let warning = "warning: the port is not on loopback. Whoever reaches it types on the console and, with a kernel debugger there, owns the VM; it asks for no password";
    open.then(|| warning.to_owned()).into_iter().collect()
}

/// Tells a missing program from its other failures.
pub(super) fn unless_missing<T>(result: Result<T, RunError>) -> Result<Option<T>, RunError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(RunError::ProgramNotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
