//! Plans a VM of XenServer or XCP-ng: its setting, its home in a pool, its power.

use super::device::{self, endpoint_of, listening_port};
use super::port::{attaching, no_undo, planned, step, wait_for_ports, wait_step, warnings};
use super::xe::{self, AFFINITY, MARK, OTHER_SERIAL, Parameter, SERIAL};
use super::{fact, secure_boot, wanted_endpoint};
use crate::model::{
    Address, EndpointSpec, FailureKind, Observed, PortIndex, PowerState, Problem, RestartPolicy, Role,
    TargetSpec,
};
use crate::plan::mark::mark;
use crate::plan::{Action, Condition, Effect, PlanContext, PowerChange, Stage, Step};

/// Refuses a port that xapi does not have.
///
/// # Errors
///
/// Any but COM1.
pub(super) fn check_port(port: PortIndex) -> Result<(), Problem> {
    if port == PortIndex::FIRST {
        return Ok(());
    }
    Err(Problem::new(
        FailureKind::Precondition,
        format!("xapi gives a VM one serial port, COM1, and this is port {port}"),
    )
    .hint("Let console and debugger share port 1: `--as console+gdb`."))
}

/// Refuses an endpoint that nobody could reach.
fn check_endpoint(endpoint: &EndpointSpec) -> Result<String, Problem> {
    let refuse = |reason: &str| {
        Err(Problem::new(
            FailureKind::Precondition,
            format!("xapi cannot attach a port to `{endpoint}`: {reason}"),
        )
        .hint("Write `--endpoint listen:tcp:127.0.0.1:7001`, or leave it out for the pseudo terminal that the VM has already; the bridge then serves it in any other way."))
    };
    match (&endpoint.address, endpoint.role) {
        (Address::Telnet { .. }, _) => refuse(
            "it gives QEMU a network only where the value begins with `tcp:`, so a telnet port would listen where nobody can reach it",
        ),
        (Address::Unix(_), _) => refuse(
            "it runs QEMU in a root folder and a user of its own, so the socket would be where nobody can reach it",
        ),
        (Address::Tcp { .. }, Some(Role::Connect)) => refuse(
            "a VM that connects does not start while nobody listens; let the VM listen and the bridge connect",
        ),
        _ => device::device(endpoint),
    }
}

/// Plans the VM from what was observed.
pub(super) fn stages(
    wanted: &TargetSpec,
    observed: &Observed,
    context: &PlanContext,
) -> Result<Vec<Stage>, Problem> {
    let vm = Vm { wanted, observed };
    for port in &wanted.ports {
        check_port(port.port)?;
    }
    let endpoint = wanted_endpoint(wanted, PortIndex::FIRST, vm.present());
    let mut settings = match context.remove {
        true => vm.removal(),
        false => vm.set_up((!wanted.ports.is_empty()).then_some(&endpoint))?,
    };
    let pending =
        !context.remove && (vm.fact(fact::NOT_LIVE).is_some() || secure_boot::is_pending(wanted, observed));
    let restarts = wanted.restart != RestartPolicy::Never;
    let was_running = context.power_at_start == PowerState::Running;
    if settings.is_empty() && !(pending && restarts) && !(was_running && observed.power == PowerState::Off) {
        return Ok(Vec::new());
    }
    vm.check(&endpoint, context)?;
    match observed.power {
        PowerState::Off => {
            let mut stages = vec![planned("settings", settings)];
            if was_running {
                stages.push(planned("start", vm.start(&endpoint, context)));
            }
            Ok(stages)
        }
        PowerState::Running if restarts => Ok(vec![
            planned("power off", vm.power_off()),
            planned("settings", settings),
            planned("start", vm.start(&endpoint, context)),
        ]),
        PowerState::Running => {
            if let Some(first) = settings.first_mut() {
                first.notes.push(
                    "the VM runs: it sees this when it was shut down and started; a reboot from inside may do".to_owned(),
                );
            }
            Ok(vec![planned("settings", settings)])
        }
        PowerState::Suspended => Err(vm.refuse(
            "is suspended, and would come back with its old devices",
            "Resume it with `xe vm-resume`, shut it down, then run this again.",
        )),
        PowerState::Paused => Err(vm.refuse(
            "is paused",
            "Let it go on with `xe vm-unpause`, then run this again.",
        )),
        PowerState::Unknown => Err(vm.refuse(
            "is in a power state that xapi does not tell",
            "Look at it with `xe vm-list`.",
        )),
    }
}

pub(super) struct Vm<'a> {
    wanted: &'a TargetSpec,
    observed: &'a Observed,
}

impl Vm<'_> {
    fn fact(&self, name: &str) -> Option<&str> {
        self.observed.facts.get(name).map(String::as_str)
    }

    fn uuid(&self) -> &str {
        self.fact(fact::UUID).unwrap_or_default()
    }

    /// The value that counts.
    fn value(&self) -> &str {
        self.fact(fact::SERIAL)
            .or(self.fact(fact::OTHER_SERIAL))
            .unwrap_or("pty")
    }

    fn present(&self) -> Option<EndpointSpec> {
        endpoint_of(self.value())
    }

    fn refuse(&self, what: &str, hint: &str) -> Problem {
        let message = format!("the VM `{}` {what}", self.wanted.vm);
        Problem::new(FailureKind::Precondition, message).hint(hint)
    }

    /// Refuses what would not come to a port that can be reached.
    fn check(&self, endpoint: &EndpointSpec, context: &PlanContext) -> Result<(), Problem> {
        if let Some(reason) = self.fact(fact::NO_PORT) {
            let message = format!("the VM `{}` can have no serial port: {reason}", self.wanted.vm);
            return Err(Problem::new(FailureKind::Precondition, message));
        }
        if context.remove {
            return Ok(());
        }
        if let Some(host) = self.fact(fact::ELSEWHERE) {
            return Err(self.refuse(
                &format!("is at home on another host of the pool: {host}"),
                "Its port is on the host that runs it: name that one with `--host`, or move the VM here first.",
            ));
        }
        let Some(port) = listening_port(endpoint) else {
            return Ok(());
        };
        let other = self
            .fact(fact::TAKEN)
            .unwrap_or_default()
            .lines()
            .find_map(|line| {
                let (number, name) = line.split_once(' ')?;
                (number == port.to_string()).then_some(name)
            });
        match other {
            Some(other) => Err(Problem::new(
                FailureKind::Precondition,
                format!("TCP port {port} is set for the VM `{other}` already, and both may run on one host"),
            )
            .hint("Take another port; the second VM would not start.")),
            None => Ok(()),
        }
    }

    pub(super) fn set(
        &self,
        parameter: Parameter,
        value: Option<&str>,
        before: Option<&str>,
        summary: String,
    ) -> Step {
        let effect = match self.observed.power {
            PowerState::Running if self.wanted.restart == RestartPolicy::Never => Effect::NeedsPowerOff,
            _ => Effect::NextBoot,
        };
        step(
            self.wanted,
            summary,
            Action::Run(parameter.set(self.uuid(), value)),
            parameter.undo(self.uuid(), value, before),
            effect,
        )
    }

    /// Sets what is not as it is wanted: Secure Boot, and the port if there is one.
    fn set_up(&self, port: Option<&EndpointSpec>) -> Result<Vec<Step>, Problem> {
        let mut steps: Vec<Step> = secure_boot::step(self.wanted, self.observed, self)
            .into_iter()
            .collect();
        if let Some(endpoint) = port {
            steps.extend(self.port(endpoint)?);
        }
        let words = mark(&self.wanted.name);
        let marked = self.fact(fact::MARK);
        if !steps.is_empty() && marked != Some(words.as_str()) {
            steps.push(self.set(
                MARK,
                Some(&words),
                marked,
                "mark the VM as set up by vmserial".to_owned(),
            ));
        }
        // In a pool the port is where the VM runs, so it must run here.
        if let Some(here) = self.fact(fact::POOL_HOST)
            && self.fact(fact::AFFINITY).is_none()
            && port.and_then(listening_port).is_some()
        {
            steps.push(self.set(
                AFFINITY,
                Some(here),
                None,
                "let the VM start on this host of the pool, where its port is reached".to_owned(),
            ));
        }
        Ok(steps)
    }

    fn port(&self, endpoint: &EndpointSpec) -> Result<Option<Step>, Problem> {
        let value = check_endpoint(endpoint)?;
        if device::is(self.value(), endpoint) {
            return Ok(None);
        }
        let before = self.fact(fact::SERIAL);
        let mut serial = self.set(
            SERIAL,
            Some(&value),
            before,
            attaching(PortIndex::FIRST, endpoint),
        );
        serial.notes = warnings(endpoint);
        serial.notes.extend(secure_boot::kept(self.wanted, self.observed));
        if let Some(other) = self.fact(fact::OTHER_SERIAL) {
            serial.notes.push(format!(
                "`other-config:hvm_serial` says `{other}`; it does not count beside `platform:hvm_serial`, and stays"
            ));
        }
        Ok(Some(serial))
    }

    fn removal(&self) -> Vec<Step> {
        let keys = [
            (
                SERIAL,
                fact::SERIAL,
                "remove port 1 (COM1): xapi's default `pty` is left",
            ),
            (
                OTHER_SERIAL,
                fact::OTHER_SERIAL,
                "remove it where older versions had it",
            ),
            (MARK, fact::MARK, "remove our mark"),
        ];
        let there = keys
            .into_iter()
            .filter_map(|(parameter, name, summary)| Some((parameter, self.fact(name)?, summary)));
        there
            .map(|(parameter, before, summary)| self.set(parameter, None, Some(before), summary.to_owned()))
            .collect()
    }

    fn power_off(&self) -> Vec<Step> {
        let hard = self.wanted.restart == RestartPolicy::Hard;
        let summary = match hard {
            true => format!("pull the plug of `{}`", self.wanted.vm),
            false => format!("shut down `{}`", self.wanted.vm),
        };
        let mut off = step(
            self.wanted,
            summary,
            Action::Run(xe::shut_down(self.uuid(), hard)),
            no_undo(),
            Effect::Live,
        );
        off.power = Some(match hard {
            true => PowerChange::OffHard,
            false => PowerChange::OffGraceful,
        });
        let halted = Condition::OutputHasLine {
            invocation: xe::power_state(self.uuid()),
            line: "halted".to_owned(),
            present: true,
        };
        vec![off, wait_step(self.wanted, "wait until the VM is off", halted)]
    }

    fn start(&self, endpoint: &EndpointSpec, context: &PlanContext) -> Vec<Step> {
        let on = self.fact(fact::POOL_HOST).filter(|_| !context.remove);
        let mut on_step = step(
            self.wanted,
            format!("start `{}` again", self.wanted.vm),
            Action::Run(xe::start(self.uuid(), on)),
            no_undo(),
            Effect::Live,
        );
        on_step.power = Some(PowerChange::On);
        let mut steps = vec![on_step];
        if !context.remove {
            steps.extend(wait_for_ports(self.wanted, std::slice::from_ref(endpoint)));
        }
        steps
    }
}
