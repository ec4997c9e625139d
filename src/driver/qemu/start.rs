//! Planning the start of a VM that vmserial describes wholly. Pure: it has no runner.

use super::step::{planned, step, stub_notes};
use super::{Qemu, fact};
use crate::model::{FailureKind, HostPath, Invocation, Observed, PowerState, Problem, StartSpec, TargetSpec};
use crate::plan::{Action, Condition, Effect, PlanContext, Stage, Step, Undo};
use crate::render::qemu::{Version, invocation};

/// Plans the start, or nothing when the VM runs as wanted.
pub(super) fn started_by_us(
    driver: &Qemu,
    wanted: &TargetSpec,
    start: &StartSpec,
    observed: &Observed,
    context: &PlanContext,
) -> Result<Vec<Stage>, Problem> {
    if context.remove {
        return Err(Problem::new(
            FailureKind::Precondition,
            format!("the ports of `{}` are given to it at each start", wanted.name),
        )
        .hint("Take the port out of the profile or the command line, then start the VM again."));
    }
    let files = driver.files(wanted);
    let version = observed
        .facts
        .get(fact::VERSION)
        .and_then(|text| Version::parse(text));
    // Written also when there is nothing to start, so that a plan finds what QEMU would refuse.
    let command = invocation(wanted, start, &files, version)?;
    if let Some(arguments) = observed.facts.get(fact::ARGUMENTS) {
        check_same(wanted, observed, arguments, &command)?;
        return Ok(Vec::new());
    }
    if !context.start_vm {
        return Ok(Vec::new());
    }
    can_start(wanted, observed)?;
    Ok(planned(
        "start",
        start_steps(wanted, &files.qmp(), &files.log(), command),
    ))
}

fn can_start(wanted: &TargetSpec, observed: &Observed) -> Result<(), Problem> {
    if let Some(program) = observed.facts.get(fact::PROGRAM_MISSING) {
        return Err(
            Problem::new(FailureKind::NotFound, format!("`{program}` is not installed"))
                .hint("Install QEMU (Debian, Ubuntu: `apt-get install qemu-system-x86`; Fedora: `dnf install qemu-system-x86`).")
                .hint("Or name the program: `vm: {program: /path/to/qemu-system-x86_64}`."),
        );
    }
    if let Some(path) = observed.facts.get(fact::FILE_MISSING) {
        let problem = Problem::new(
            FailureKind::NotFound,
            format!("`{path}`, which the VM `{}` starts from, is not there", wanted.vm),
        );
        return Err(if path.contains("vmserial/guest") {
            problem.hint("Build the test guest with `cargo xtask guest`.")
        } else {
            problem.hint("Correct its path in the profile (`kernel:`, `initrd:`, `disks:` under `vm:`), or put it there.")
        });
    }
    if let Some(path) = observed.facts.get(fact::OCCUPIED) {
        return Err(Problem::new(
            FailureKind::Precondition,
            format!("`{path}` is a regular file, and QEMU would remove it to make its socket there"),
        )
        .hint("Move the file away, or name another endpoint."));
    }
    let held = observed.facts.get(fact::QMP_FAILURE);
    if observed.power != PowerState::Off || held.is_some() {
        let why = held.map_or_else(String::new, |reason| format!(": {reason}"));
        return Err(Problem::new(
            FailureKind::Precondition,
            format!(
                "a QEMU that vmserial did not start uses the sockets of `{}`{why}",
                wanted.name
            ),
        )
        .hint("End it, or use another state folder (`--state DIR`)."));
    }
    Ok(())
}

fn start_steps(wanted: &TargetSpec, qmp: &HostPath, log: &HostPath, command: Invocation) -> Vec<Step> {
    let mut ports = Vec::new();
    for port in &wanted.ports {
        ports.push(format!("{} ({})", port.port.linux_name(), port.policy));
    }
    let with = if ports.is_empty() {
        String::new()
    } else {
        format!(" with {}", ports.join(", "))
    };
    let mut start = step(
        wanted,
        format!("start the QEMU VM `{}`{with}", wanted.vm),
        Action::Start {
            invocation: command,
            log: log.clone(),
        },
        Undo::StopProcess,
        Effect::Live,
    );
    if let Some(stub) = &wanted.gdb_stub {
        start.notes.extend(stub_notes(stub));
    }
    let wait = step(
        wanted,
        format!("wait until `{}` answers by QMP", wanted.vm),
        Action::WaitFor(Condition::QmpAnswers { socket: qmp.clone() }),
        Undo::Nothing {
            reason: "it only waits".to_owned(),
        },
        Effect::Live,
    );
    vec![start, wait]
}

fn check_same(
    wanted: &TargetSpec,
    observed: &Observed,
    arguments: &str,
    command: &Invocation,
) -> Result<(), Problem> {
    let running: Vec<String> = serde_json::from_str(arguments).unwrap_or_default();
    if running == command.arguments {
        return Ok(());
    }
    let missing = |from: &[String], other: &[String]| {
        from.iter()
            .filter(|word| !other.contains(word))
            .map(|word| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let pid = observed
        .facts
        .get(fact::PID)
        .map(String::as_str)
        .unwrap_or("unknown");
    let (now, new) = (
        missing(&running, &command.arguments),
        missing(&command.arguments, &running),
    );
    Err(Problem::new(
        FailureKind::Precondition,
        format!(
            "`{}` runs already (pid {pid}), with other arguments: now {}, wanted {}",
            wanted.name,
            if now.is_empty() { "fewer" } else { &now },
            if new.is_empty() { "fewer" } else { &new },
        ),
    )
    .hint(format!(
        "Stop it with `vmserial down {}`, then start it again.",
        wanted.name
    )))
}
