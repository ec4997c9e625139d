//! Plans one VM: its COM ports, Secure Boot, and the power-off and cold start that Hyper-V asks for. All values are known
//! beforehand, so all stages are planned at once; the scripts refuse to write over what changed meanwhile.

use super::facts::{ComPort, ComSetting, SecureBootSetting, VmFacts, pipe_path};
use super::scripts::{self, Stop};
use crate::driver::secure_boot::{CONFIRM, recovery_key};
use crate::model::profile::{GuestOs, SecureBoot};
use crate::model::{
    Address, EndpointSpec, FailureKind, Observed, Policy, PortSpec, PowerState, Problem, RestartPolicy, Role,
    TargetSpec,
};
use crate::plan::{Action, Condition, Effect, PlanContext, PowerChange, Stage, StageContent, Step, Undo};
use serde_json::json;

/// The template under which Windows boots; Linux boots under Microsoft's UEFI certificate authority.
const WINDOWS_TEMPLATE: &str = "MicrosoftWindows";

/// Plans the VM from what was observed.
pub(super) fn stages(
    wanted: &TargetSpec,
    observed: &Observed,
    context: &PlanContext,
) -> Result<Vec<Stage>, Problem> {
    let facts = VmFacts::of(observed)?;
    let planner = Planner {
        wanted,
        facts: &facts,
    };
    let settings = match context.remove {
        true => planner.removal(),
        false => planner.set_up()?,
    };
    let ran = context.power_at_start == PowerState::Running;
    let runs_after = ran || context.start_vm;
    // What is as it is wanted matters only to a session, which needs the VM running.
    if settings.is_empty() && !(context.start_vm || ran && observed.power == PowerState::Off) {
        return Ok(Vec::new());
    }
    match observed.power {
        PowerState::Running if settings.is_empty() => Ok(Vec::new()),
        PowerState::Running => Ok(vec![
            planned("power off", planner.power_off()),
            planned("settings", settings),
            planned("start", planner.power_on(ran)),
        ]),
        PowerState::Off => {
            let mut stages = vec![planned("settings", settings)];
            stages.extend(runs_after.then(|| planned("start", planner.power_on(ran))));
            Ok(stages)
        }
        state if settings.is_empty() => Err(planner.not_running(state)),
        PowerState::Suspended => Err(planner.not_off(
            "saved",
            "Start it, shut it down, then run this again. `Remove-VMSavedState` throws the saved state away.",
        )),
        PowerState::Paused => Err(planner.not_off("paused", "Resume it, shut it down, then run this again.")),
        PowerState::Unknown => Err(planner.not_off(
            &format!("`{}`", facts.vm.state),
            "Wait until it is off or runs, then run this again.",
        )),
    }
}

/// Plans the power-off of a VM that runs; undone, its steps start it again.
pub(super) fn power_off(wanted: &TargetSpec, observed: &Observed) -> Result<Option<Vec<Step>>, Problem> {
    if observed.power != PowerState::Running {
        return Ok(None);
    }
    let facts = VmFacts::of(observed)?;
    let planner = Planner {
        wanted,
        facts: &facts,
    };
    Ok(Some(planner.power_off()))
}

fn planned(name: &str, steps: Vec<Step>) -> Stage {
    Stage {
        name: name.to_owned(),
        content: StageContent::Planned(steps),
    }
}

/// What becomes of a VM that was off, by the policy for its power.
fn at_the_end(policy: RestartPolicy) -> &'static str {
    match policy {
        RestartPolicy::Never => "it was off; its restart policy is `never`, so it is left running",
        RestartPolicy::Ask => {
            "it was off; `debug` asks at its end whether to shut it down, after `up` `vmserial down` does it"
        }
        RestartPolicy::Graceful => {
            "it was off; `debug` shuts it down at its end, after `up` `vmserial down` does"
        }
        RestartPolicy::Hard => {
            "it was off; `debug` pulls its plug at its end, after `up` `vmserial down` does"
        }
    }
}

struct Planner<'a> {
    wanted: &'a TargetSpec,
    facts: &'a VmFacts,
}

impl Planner<'_> {
    fn not_off(&self, state: &str, hint: &str) -> Problem {
        Problem::new(
            FailureKind::Precondition,
            format!(
                "the VM `{}` is {state}, and Hyper-V changes its ports only while it is off",
                self.wanted.vm
            ),
        )
        .hint(hint)
    }

    /// A session needs a VM that runs, and only one that is off can be started cold.
    fn not_running(&self, state: PowerState) -> Problem {
        let (state, hint) = match state {
            PowerState::Suspended => (
                "saved".to_owned(),
                "Start it: it goes on from where it was saved, with the ports that it had then. Or shut it down first, for a cold start.",
            ),
            PowerState::Paused => ("paused".to_owned(), "Resume it, then run this again."),
            _ => (
                format!("`{}`", self.facts.vm.state),
                "Wait until it is off or runs, then run this again.",
            ),
        };
        let message = format!(
            "the VM `{}` is {state}, and a session needs it running",
            self.wanted.vm
        );
        Problem::new(FailureKind::Precondition, message).hint(hint)
    }

    fn step(&self, summary: String, action: Action, undo: Undo, effect: Effect) -> Step {
        Step {
            summary,
            host: self.wanted.host.clone(),
            target: Some(self.wanted.name.clone()),
            action,
            undo,
            effect,
            power: None,
            notes: Vec::new(),
            confirm: None,
        }
    }

    fn wait_for(&self, summary: &str, state: &str) -> Step {
        let condition = Condition::Script {
            call: scripts::power(&self.facts.vm.id),
            field: "state".to_owned(),
            value: json!(state),
        };
        let undo = Undo::Nothing {
            reason: "it only waits".to_owned(),
        };
        self.step(summary.to_owned(), Action::WaitFor(condition), undo, Effect::Live)
    }

    fn stop(&self) -> (Stop, PowerChange, &'static str) {
        match self.wanted.restart {
            RestartPolicy::Hard => (Stop::Hard, PowerChange::OffHard, "pull the plug of"),
            _ => (Stop::Graceful, PowerChange::OffGraceful, "shut down"),
        }
    }

    fn power_off(&self) -> Vec<Step> {
        let vm = &self.facts.vm;
        let (how, power, summary) = self.stop();
        let off = Step {
            power: Some(power),
            ..self.step(
                format!("{summary} `{}`", vm.name),
                Action::PowerShell(scripts::stop(&vm.id, how)),
                Undo::PowerShell(scripts::start(&vm.id)),
                Effect::Live,
            )
        };
        vec![off, self.wait_for("wait until the VM is off", "Off")]
    }

    /// A cold start: the guest sees its COM ports after no other. One that did not run before is a session's, and ends
    /// with it.
    fn power_on(&self, ran: bool) -> Vec<Step> {
        let vm = &self.facts.vm;
        let (how, _, _) = self.stop();
        let again = if ran { " again" } else { "" };
        let mut on = Step {
            power: Some(PowerChange::On),
            ..self.step(
                format!("start `{}`{again}", vm.name),
                Action::PowerShell(scripts::start(&vm.id)),
                Undo::PowerShell(scripts::stop(&vm.id, how)),
                Effect::Live,
            )
        };
        if !ran {
            on.notes.push(at_the_end(self.wanted.restart).to_owned());
        }
        vec![on, self.wait_for("wait until the VM runs", "Running")]
    }

    fn com(&self, spec: &PortSpec) -> Option<&ComPort> {
        let number = spec.port.number();
        self.facts.ports.iter().find(|com| com.number == number)
    }

    fn com_step(&self, summary: String, com: &ComPort, to: &ComSetting) -> Step {
        // Only what changes is ours, to set and to take back.
        let from = ComSetting {
            path: to.path.is_some().then(|| com.path.clone()),
            debugger_mode: to.debugger_mode.is_some().then(|| com.debugger_mode.clone()),
        };
        let id = &self.facts.vm.id;
        self.step(
            summary,
            Action::PowerShell(scripts::set_com_port(id, com.number, &from, to)),
            Undo::PowerShell(scripts::set_com_port(id, com.number, to, &from)),
            Effect::NeedsPowerOff,
        )
    }

    fn removal(&self) -> Vec<Step> {
        let ports = self.wanted.ports.iter().filter_map(|spec| {
            let com = self.com(spec).filter(|com| !com.path.is_empty())?;
            let to = ComSetting {
                path: Some(String::new()),
                debugger_mode: None,
            };
            let summary = format!(
                "take port {} ({}) off `{}`",
                spec.port,
                spec.port.windows_name(),
                com.path
            );
            Some(self.com_step(summary, com, &to))
        });
        ports.collect()
    }

    fn set_up(&self) -> Result<Vec<Step>, Problem> {
        let unserved = |what: &str, hint: &str| {
            let message = format!("Hyper-V cannot give the VM `{}` {what}", self.wanted.vm);
            Err(Problem::new(FailureKind::Precondition, message).hint(hint))
        };
        if self.wanted.gdb_stub.is_some() {
            return unserved(
                "a gdb stub",
                "Give a port `as: gdb` and debug a Linux kernel with kgdb.",
            );
        }
        if self.wanted.nested {
            return unserved(
                "nested virtualization from here",
                "Set it while the VM is off: `Set-VMProcessor -VMName … -ExposeVirtualizationExtensions $true`.",
            );
        }
        let mut steps: Vec<Step> = self.secure_boot().into_iter().collect();
        for spec in &self.wanted.ports {
            steps.extend(self.port(spec)?);
        }
        Ok(steps)
    }

    fn port(&self, spec: &PortSpec) -> Result<Option<Step>, Problem> {
        let port = spec.port;
        let Some(com) = self.com(spec) else {
            return Err(Problem::new(
                FailureKind::Precondition,
                format!(
                    "the VM `{}` has {} COM ports, and this is port {port}",
                    self.wanted.vm,
                    self.facts.ports.len()
                ),
            )
            .hint("Ports count from 1: `COM 1` is port 1."));
        };
        let endpoint = self.endpoint(spec, com);
        let path = pipe_path(&endpoint)?;
        self.check_clash(spec, &path)?;
        let is_there = com.path.eq_ignore_ascii_case(&path);
        let wants_mode = spec.policy == Policy::Kd && com.debugger_mode != "On";
        if is_there && !wants_mode {
            return Ok(None);
        }
        let to = ComSetting {
            path: (!is_there).then_some(path),
            debugger_mode: wants_mode.then(|| "On".to_owned()),
        };
        let place = EndpointSpec {
            role: None,
            ..endpoint
        };
        let names = format!("port {port} ({}, {})", port.windows_name(), port.linux_name());
        let summary = match (is_there, wants_mode) {
            (true, _) => format!("switch the debugger mode of {names} on"),
            (false, true) => {
                format!("attach {names}, in debugger mode: the VM listens on {place}, vmserial connects")
            }
            (false, false) => format!("attach {names}: the VM listens on {place}, vmserial connects"),
        };
        let mut step = self.com_step(summary, com, &to);
        if !is_there && !com.path.is_empty() {
            step.notes.push(format!("port {port} is on `{}` now", com.path));
        }
        if spec.policy.is_debug() && self.wanted.secure_boot == SecureBoot::Keep && self.has_secure_boot() {
            step.notes.push(
                "Secure Boot stays on (`secure_boot: keep`): under it Linux locks its kernel against kgdb, and Windows refuses debug settings"
                    .to_owned(),
            );
        }
        Ok(Some(step))
    }

    /// As the profile or the command line says; else as it is; else a pipe that is named after the target.
    fn endpoint(&self, spec: &PortSpec, com: &ComPort) -> EndpointSpec {
        let named = || {
            let name = format!("{}-com{}", self.wanted.name, spec.port);
            EndpointSpec::new(Some(Role::Listen), Address::Pipe { host: None, name })
        };
        spec.attach
            .clone()
            .or_else(|| com.endpoint())
            .unwrap_or_else(named)
    }

    /// Two VMs with one pipe: the second does not start.
    fn check_clash(&self, spec: &PortSpec, path: &str) -> Result<(), Problem> {
        let number = spec.port.number();
        let own = self.facts.ports.iter().filter(|com| {
            // A port that is wanted elsewhere lets its pipe go in the same plan.
            let moves = self
                .wanted
                .ports
                .iter()
                .any(|wanted| wanted.port.number() == com.number);
            com.number != number && !moves
        });
        let all = self.facts.others.iter().chain(own);
        match all.into_iter().find(|com| com.path.eq_ignore_ascii_case(path)) {
            None => Ok(()),
            Some(com) => Err(Problem::new(
                FailureKind::Precondition,
                format!(
                    "the pipe `{path}` is taken by COM {} of the VM `{}`",
                    com.number, com.name
                ),
            )
            .hint("Take another name: a pipe has one VM.")),
        }
    }

    fn has_secure_boot(&self) -> bool {
        self.facts.vm.secure_boot.as_deref() == Some("On")
    }

    fn is_windows(&self) -> bool {
        let template = self.facts.vm.secure_boot_template.as_deref();
        match self.wanted.guest_os() {
            Some(os) => os == GuestOs::Windows,
            None => {
                self.wanted.ports.iter().any(|port| port.policy == Policy::Kd)
                    || template == Some(WINDOWS_TEMPLATE)
            }
        }
    }

    /// What only a person in the guest can do: the host has no way to it, but it tells of the TPM.
    fn recovery_key(&self) -> String {
        let measured = match self.facts.vm.tpm {
            Some(true) => "the VM has a virtual TPM: BitLocker in the guest measures Secure Boot and",
            _ => "BitLocker in the guest may measure Secure Boot and then",
        };
        recovery_key(measured, self.facts.vm.power())
    }

    fn secure_boot(&self) -> Option<Step> {
        let is_debugged = self.wanted.ports.iter().any(|port| port.policy.is_debug());
        let goes_off = match self.wanted.secure_boot {
            SecureBoot::Off => true,
            SecureBoot::Auto => is_debugged,
            SecureBoot::Keep => false,
        };
        if !goes_off || !self.has_secure_boot() {
            return None;
        }
        let id = &self.facts.vm.id;
        let template = self.facts.vm.secure_boot_template.clone();
        let on = SecureBootSetting {
            secure_boot: "On".to_owned(),
            template: template.filter(|template| !template.is_empty()),
        };
        let off = SecureBootSetting {
            secure_boot: "Off".to_owned(),
            template: None,
        };
        let mut step = self.step(
            "switch Secure Boot off: no kernel can be debugged under it".to_owned(),
            Action::PowerShell(scripts::set_secure_boot(id, &on, &off)),
            Undo::PowerShell(scripts::set_secure_boot(id, &off, &on)),
            Effect::NeedsPowerOff,
        );
        if self.is_windows() {
            match self.facts.vm.tpm {
                Some(false) => step.notes.push(
                    "the VM has no virtual TPM, so BitLocker in its guest cannot measure Secure Boot and asks for nothing"
                        .to_owned(),
                ),
                Some(true) | None => {
                    step.confirm = Some(CONFIRM.to_owned());
                    step.notes.push(self.recovery_key());
                }
            }
        }
        Some(step)
    }
}
