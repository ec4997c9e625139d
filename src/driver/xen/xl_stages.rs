//! Plans a VM of plain Xen: its file, its power.

use super::device::{self, endpoint_of};
use super::port::{attaching, no_undo, planned, step, wait_for_ports, warnings};
use super::xl::{Cfg, SERIAL, malformed, of_port, parse, present};
use super::{MAX_PORTS, fact, wanted_endpoint};
use crate::model::profile::SecureBoot;
use crate::model::{
    EditOperation, EndpointSpec, FailureKind, FileEdit, FileFormat, HostPath, Invocation, Observed,
    ObservedFile, PortSpec, PowerState, Problem, RestartPolicy, Role, TargetSpec,
};
use crate::plan::{Action, Effect, PlanContext, PowerChange, Stage, Step, Undo};
use crate::render::environment::render;
use crate::render::xl_cfg::{operations, with_device, without_device};
use serde::Serialize;

#[derive(Serialize)]
struct SerialContext<'a> {
    value: &'a str,
}

/// What the file still needs.
#[derive(Default)]
struct Change {
    operations: Vec<EditOperation>,
    parts: Vec<String>,
    notes: Vec<String>,
    /// What all ports are then.
    endpoints: Vec<EndpointSpec>,
}

/// Plans the VM from what was observed.
pub(super) fn stages(
    wanted: &TargetSpec,
    observed: &Observed,
    context: &PlanContext,
) -> Result<Vec<Stage>, Problem> {
    let seen = observed.files.first();
    let Some((path, bytes)) = seen.and_then(|file| Some((file.path.clone(), file.bytes.clone()?))) else {
        let message = format!("there is no file for the VM `{}`", wanted.vm);
        return Err(Problem::new(FailureKind::NotFound, message));
    };
    let cfg = parse(path, bytes)?;
    if wanted.secure_boot == SecureBoot::Off {
        let message = format!(
            "`{}`: `secure_boot: off` cannot be served: xl has no switch for Secure Boot",
            wanted.name
        );
        return Err(Problem::new(FailureKind::Precondition, message)
            .hint("Leave `secure_boot` out. xapi (XenServer, XCP-ng) has one, `platform:secureboot`."));
    }
    let change = match context.remove {
        true => removal(wanted, &cfg)?,
        false => set_up(wanted, &cfg)?,
    };
    let fact = |name: &str| observed.facts.get(name).map(String::as_str);
    // A VM that connects does not start while nobody listens.
    let heard: Vec<&str> = fact(fact::HEARD).unwrap_or_default().split(' ').collect();
    let ports = wanted.ports.iter().zip(&change.endpoints);
    let connects = ports.into_iter().any(|(port, endpoint)| {
        endpoint.role == Some(Role::Connect) && !heard.contains(&port.port.to_string().as_str())
    });
    let restarts = wanted.restart != RestartPolicy::Never && !connects;
    let pending = !context.remove && restarts && fact(fact::NOT_LIVE).is_some();
    let was_running = context.power_at_start == PowerState::Running;
    let start_again = was_running && observed.power == PowerState::Off;
    if change.operations.is_empty() && !pending && !start_again {
        return Ok(Vec::new());
    }
    if let Some(reason) = fact(fact::NO_PORT) {
        let message = format!("the VM `{}` can have no serial port: {reason}", wanted.vm);
        return Err(Problem::new(FailureKind::Precondition, message));
    }
    let running = observed.power == PowerState::Running;
    let endpoints = change.endpoints.clone();
    let settings = edit(wanted, &cfg, seen, change, running && !restarts, connects);
    match observed.power {
        PowerState::Off => {
            let mut stages = vec![planned("settings", settings)];
            if start_again {
                stages.push(planned("start", power_on(wanted, &cfg, &endpoints)));
            }
            Ok(stages)
        }
        PowerState::Running if restarts => Ok(vec![
            planned("power off", power_off(wanted, &cfg.name)),
            planned("settings", settings),
            planned("start", power_on(wanted, &cfg, &endpoints)),
        ]),
        PowerState::Running => Ok(vec![planned("settings", settings)]),
        power => Err(Problem::new(
            FailureKind::Precondition,
            format!("the domain `{}` is {power}, neither running nor off", cfg.name),
        )
        .hint(
            "`xl unpause` lets a paused one go on, `xl destroy` ends one that hangs; then run this again.",
        )),
    }
}

fn edit(
    wanted: &TargetSpec,
    cfg: &Cfg,
    seen: Option<&ObservedFile>,
    change: Change,
    later: bool,
    connects: bool,
) -> Vec<Step> {
    if change.operations.is_empty() {
        return Vec::new();
    }
    let action = Action::Edit(FileEdit {
        path: cfg.path.clone(),
        format: FileFormat::XlCfg,
        planned_on: seen.and_then(ObservedFile::digest),
        operations: change.operations,
        before: Some(cfg.bytes.clone()),
    });
    let effect = if later {
        Effect::NeedsPowerOff
    } else {
        Effect::NextBoot
    };
    let mut step = step(wanted, change.parts.join("; "), action, Undo::Keys, effect);
    step.notes = change.notes;
    if later {
        step.notes
            .push("the VM runs: it sees this when it was shut down and created again; a reboot from inside is not enough".to_owned());
    }
    if connects {
        step.notes.push(
            "the VM connects: it does not start while nobody listens, so start the bridge before the VM"
                .to_owned(),
        );
    }
    vec![step]
}

fn set_up(wanted: &TargetSpec, cfg: &Cfg) -> Result<Change, Problem> {
    let failed = |error| malformed(&cfg.path, &error);
    let mut change = Change::default();
    let there = present(cfg)?;
    let before = cfg.file.value(SERIAL).map_err(failed)?;
    let mut value = before.clone();
    for spec in &wanted.ports {
        let index = index(spec)?;
        let now = of_port(&there, spec.port);
        let endpoint = wanted_endpoint(wanted, spec.port, now.and_then(endpoint_of));
        let device = device::device(&endpoint)?;
        if !now.is_some_and(|now| device::is(now, &endpoint)) {
            value = Some(with_device(value.as_deref(), index, &device).map_err(failed)?);
            change.parts.push(attaching(spec.port, &endpoint));
            change.notes.extend(warnings(&endpoint));
            if let Some(now) = now.filter(|now| !["null", "none"].contains(now)) {
                change.notes.push(format!(
                    "port {} is in use for something else now: `{now}`",
                    spec.port
                ));
            }
        }
        change.endpoints.push(endpoint);
    }
    let lines = cfg.file.lines_of(SERIAL);
    if value == before {
        return Ok(change);
    }
    if lines.len() > 1 {
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        change.notes.push(format!(
            "`serial` stands on the lines {}; xl reads the last one, and that one is changed",
            lines.join(", ")
        ));
    }
    if let Some(value) = &value {
        let text = render("xen/serial.cfg", &SerialContext { value })
            .map_err(|error| Problem::new(FailureKind::Precondition, format!("{error}: {}", error.source)))?;
        change.operations = operations(&text).map_err(failed)?;
    }
    Ok(change)
}

fn removal(wanted: &TargetSpec, cfg: &Cfg) -> Result<Change, Problem> {
    let failed = |error| malformed(&cfg.path, &error);
    let mut change = Change::default();
    let there = present(cfg)?;
    let before = cfg.file.value(SERIAL).map_err(failed)?;
    let mut value = before.clone();
    for spec in &wanted.ports {
        let index = index(spec)?;
        if of_port(&there, spec.port).is_some()
            && let Some(text) = &value
        {
            value = without_device(text, index).map_err(failed)?;
            change.parts.push(format!(
                "remove port {} ({})",
                spec.port,
                spec.port.windows_name()
            ));
        }
    }
    if value == before {
        return Ok(Change::default());
    }
    let key = SERIAL.to_owned();
    match value {
        Some(value) => change.operations.push(EditOperation::Set { key, value }),
        None => {
            let mark = our_mark(cfg).map(|key| EditOperation::Remove { key });
            change.operations.extend(mark);
            change.operations.push(EditOperation::Remove { key });
        }
    }
    Ok(change)
}

/// Returns the line of the template that marks the setting as ours, if the file has it.
fn our_mark(cfg: &Cfg) -> Option<String> {
    let text = render("xen/serial.cfg", &SerialContext { value: "[ ]" }).ok()?;
    let mark = text.lines().find(|line| line.starts_with('#'))?.to_owned();
    matches!(cfg.file.value(&mark), Ok(Some(_))).then_some(mark)
}

fn index(spec: &PortSpec) -> Result<usize, Problem> {
    let index = usize::try_from(spec.port.zero_based()).unwrap_or(usize::MAX);
    if spec.port.number() <= MAX_PORTS {
        return Ok(index);
    }
    Err(Problem::new(
        FailureKind::Precondition,
        format!(
            "a VM of Xen has at most {MAX_PORTS} serial ports, and this is port {}",
            spec.port
        ),
    ))
}

fn power_off(wanted: &TargetSpec, name: &str) -> Vec<Step> {
    let hard = wanted.restart == RestartPolicy::Hard;
    let (summary, invocation, change) = match hard {
        true => (
            format!("destroy the domain `{name}`"),
            Invocation::changes("xl", ["destroy", name]),
            PowerChange::OffHard,
        ),
        // `-F`: by ACPI where the guest has no drivers for Xen; `-w`: returns when it is off.
        false => (
            format!("shut down `{name}`"),
            Invocation::changes("xl", ["shutdown", "-w", "-F", name]),
            PowerChange::OffGraceful,
        ),
    };
    let mut off = step(wanted, summary, Action::Run(invocation), no_undo(), Effect::Live);
    off.power = Some(change);
    vec![off]
}

fn power_on(wanted: &TargetSpec, cfg: &Cfg, endpoints: &[EndpointSpec]) -> Vec<Step> {
    let action = Action::RunWithLog {
        invocation: Invocation::changes("xl", ["create", cfg.path.as_str()]),
        log: HostPath::new(format!("/var/log/xen/qemu-dm-{}.log", cfg.name)),
    };
    let mut on = step(
        wanted,
        format!("create `{}` again", cfg.name),
        action,
        no_undo(),
        Effect::Live,
    );
    on.power = Some(PowerChange::On);
    let mut steps = vec![on];
    steps.extend(wait_for_ports(wanted, endpoints));
    steps
}
