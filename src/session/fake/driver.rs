//! The hypervisor of a host in memory.

use crate::driver::{Capabilities, Driver};
use crate::model::{
    EditOperation, EndpointSpec, FailureKind, FileEdit, FileFormat, HostPath, HostRef, HypervisorKind,
    Invocation, Observed, ObservedFile, ObservedHost, PortIndex, PowerState, Problem, TargetSpec, Wait,
};
use crate::plan::{Action, Condition, Effect, PlanContext, PowerChange, Stage, StageContent, Step, Undo};
use crate::runner::Runner;
use std::collections::BTreeMap;

/// A hypervisor whose VMs are vmx files that can be changed while they are off. The wanted value of `serial0.fileName`
/// is the target's `attach`; a VM with `start` is a process.
pub(super) struct FakeDriver {
    pub cannot_power_off: bool,
}

fn step(target: &TargetSpec, summary: &str, action: Action, undo: Undo, power: Option<PowerChange>) -> Step {
    let effect = match action {
        Action::Edit(_) => Effect::NeedsPowerOff,
        _ => Effect::Live,
    };
    Step {
        summary: summary.to_owned(),
        host: HostRef::Local,
        target: Some(target.name.clone()),
        action,
        undo,
        effect,
        power,
        notes: Vec::new(),
        confirm: None,
    }
}

fn off(target: &TargetSpec) -> Step {
    step(
        target,
        "power off",
        Action::Run(command("power-off", target)),
        Undo::Run(command("power-on", target)),
        Some(PowerChange::OffGraceful),
    )
}

fn command(program: &str, target: &TargetSpec) -> Invocation {
    Invocation::changes(program, [target.vm.as_str()])
}

impl Driver for FakeDriver {
    fn kind(&self) -> HypervisorKind {
        HypervisorKind::Vmware
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_ports: 4,
            needs_power_off: true,
            gdb_stub: false,
            starts_vms: true,
            secure_boot: false,
            named_pipes: false,
        }
    }

    fn observe(
        &self,
        runner: &dyn Runner,
        wanted: &[TargetSpec],
        wait: &Wait,
    ) -> Result<ObservedHost, Problem> {
        let vms = wanted.iter().map(|target| {
            let path = HostPath::new(target.vm.as_str());
            let bytes = runner.read(&path, wait)?.map(|snapshot| snapshot.bytes);
            let log = HostPath::new(format!("{}.log", target.vm));
            let process = runner.find_started(&log, wait)?;
            let power_file = HostPath::new(format!("{}.on", target.vm));
            let on = process.is_some() || runner.exists(&power_file, wait)?;
            Ok(Observed {
                vm: target.vm.clone(),
                power: if on { PowerState::Running } else { PowerState::Off },
                ports: Vec::new(),
                gdb_stub: None,
                files: vec![ObservedFile { path, bytes }],
                facts: BTreeMap::new(),
            })
        });
        Ok(ObservedHost {
            host: HostRef::Local,
            vms: vms.collect::<Result<_, Problem>>()?,
            refused: Vec::new(),
            facts: BTreeMap::new(),
        })
    }

    fn stages(
        &self,
        wanted: &TargetSpec,
        observed: &Observed,
        context: &PlanContext,
    ) -> Result<Vec<Stage>, Problem> {
        let planned = |name: &str, steps| Stage {
            name: name.to_owned(),
            content: StageContent::Planned(steps),
        };
        let file = &observed.files[0];
        let attach = wanted.ports.first().and_then(|port| port.attach.as_ref());
        let value = attach.map(ToString::to_string).unwrap_or_default();
        let key = "serial0.fileName";
        let now = crate::render::edit::values(FileFormat::Vmx, file.bytes.as_deref(), &[key])
            .map_err(|error| Problem::new(FailureKind::Configuration, error.to_string()))?;
        let differs = now[key].as_deref() != Some(value.as_str());
        let mut stages = Vec::new();
        let running = observed.power == PowerState::Running;
        if differs && running {
            stages.push(planned("power off", vec![off(wanted)]));
            stages.push(Stage {
                name: "settings".to_owned(),
                content: StageContent::Later {
                    after: "after power-off".to_owned(),
                    may_change: vec!["serial keys".to_owned()],
                },
            });
            return Ok(stages);
        }
        if differs {
            let edit = Action::Edit(FileEdit {
                path: file.path.clone(),
                format: FileFormat::Vmx,
                planned_on: file.digest(),
                operations: vec![
                    EditOperation::Set {
                        key: key.to_owned(),
                        value,
                    },
                    EditOperation::Set {
                        key: "serial0.present".to_owned(),
                        value: "TRUE".to_owned(),
                    },
                ],
                before: file.bytes.clone(),
            });
            stages.push(planned(
                "settings",
                vec![step(wanted, "attach port 1", edit, Undo::Keys, None)],
            ));
        }
        if !running && context.power_at_start == PowerState::Running {
            let on = step(
                wanted,
                "power on",
                Action::Run(command("power-on", wanted)),
                Undo::Run(command("power-off", wanted)),
                Some(PowerChange::On),
            );
            stages.push(planned("start", vec![on]));
        }
        if !running && wanted.start.is_some() && context.start_vm {
            let log = HostPath::new(format!("{}.log", wanted.vm));
            let start = Action::Start {
                invocation: command("hypervisor", wanted),
                log: log.clone(),
            };
            let socket = Condition::PathExists {
                path: HostPath::new(format!("{log}.sock")),
            };
            let nothing = Undo::Nothing {
                reason: "waiting changes nothing".to_owned(),
            };
            stages.push(planned(
                "start",
                vec![
                    step(
                        wanted,
                        "start the VM",
                        start,
                        Undo::StopProcess,
                        Some(PowerChange::On),
                    ),
                    step(wanted, "wait for the VM", Action::WaitFor(socket), nothing, None),
                ],
            ));
        }
        Ok(stages)
    }

    fn power_off(&self, wanted: &TargetSpec, observed: &Observed) -> Result<Option<Vec<Step>>, Problem> {
        let can = observed.power == PowerState::Running && !self.cannot_power_off;
        Ok(can.then(|| vec![off(wanted)]))
    }

    fn locate(
        &self,
        _runner: &dyn Runner,
        wanted: &TargetSpec,
        port: PortIndex,
        _wait: &Wait,
    ) -> Result<EndpointSpec, Problem> {
        Ok(wanted.port(port).unwrap().attach.clone().unwrap())
    }
}
