//! A host in memory for tests: files, processes, one hypervisor with powers, a fuse that kills vmserial at any effect.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::driver::{Capabilities, Driver};
use crate::model::{
    Digest, EditOperation, EndpointSpec, FailureKind, FileEdit, FileFormat, HostPath, HostRef,
    HypervisorKind, Invocation, Observed, ObservedFile, ObservedHost, PortIndex, PowerState, Problem,
    RestartPolicy, TargetSpec, VmRef, Wait,
};
use crate::plan::{Action, Condition, Effect, PlanContext, PowerChange, Stage, StageContent, Step, Undo};
use crate::runner::{FileSnapshot, Output, ProcessRef, ReadWrite, RunError, Runner, Status};
use crate::session::Front;
use crate::session::apply::ApplyOptions;
use crate::session::consent::Consent;
use crate::session::interrupt::Interrupt;
use crate::session::planning::Hosts;
use crate::session::undo::UndoOptions;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// What is on the host.
#[derive(Debug, Default)]
pub struct Disk {
    pub files: BTreeMap<String, Vec<u8>>,
    /// pid → log.
    pub processes: BTreeMap<u32, String>,
    /// Effects that still happen; `None`: all.
    fuse: Option<usize>,
    /// The last effect of the fuse happens, and nobody learns of it.
    pub last_effect_happens: bool,
    next_pid: u32,
    /// Paths that cannot be written, by their beginning.
    pub read_only: Vec<String>,
    /// A process that is started writes this and ends.
    pub dies_at_start: Option<String>,
    /// Done once, before a file outside the journal is written: somebody else at work.
    pub meanwhile: Option<fn(&mut Disk)>,
}

/// The host, shared by all its runners.
#[derive(Debug, Clone, Default)]
pub struct FakeHosts(Arc<Mutex<Disk>>);

impl FakeHosts {
    pub fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }

    /// After this many effects everything fails, as if we had been killed.
    pub fn burn_after(&self, effects: Option<usize>) {
        self.disk().fuse = effects;
    }

    pub fn burnt(&self) -> bool {
        self.disk().fuse == Some(0)
    }

    /// Everything but the journals: what an undo must bring back.
    pub fn world(&self) -> (BTreeMap<String, Vec<u8>>, BTreeMap<u32, String>) {
        let disk = self.disk();
        let files = disk.files.clone().into_iter();
        let files = files.filter(|(path, _)| !path.contains("/journal/"));
        (files.collect(), disk.processes.clone())
    }

    pub fn file(&self, path: &str) -> Option<String> {
        let disk = self.disk();
        disk.files
            .get(path)
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    pub fn set_file(&self, path: &str, text: &str) {
        self.disk().files.insert(path.to_owned(), text.into());
    }
}

impl Hosts for FakeHosts {
    fn runner(&self, _host: &HostRef) -> Result<Box<dyn Runner>, Problem> {
        Ok(Box::new(self.clone()))
    }

    fn driver(&self, _kind: HypervisorKind) -> Result<Box<dyn Driver>, Problem> {
        Ok(Box::new(FakeDriver))
    }
}

fn killed() -> RunError {
    RunError::Io {
        what: "go on, killed".to_owned(),
        source: std::io::ErrorKind::Interrupted.into(),
    }
}

impl FakeHosts {
    fn effect<T>(&self, work: impl FnOnce(&mut Disk) -> Result<T, RunError>) -> Result<T, RunError> {
        let mut disk = self.disk();
        match disk.fuse {
            None => work(&mut disk),
            Some(0) => Err(killed()),
            Some(1) => {
                disk.fuse = Some(0);
                if disk.last_effect_happens {
                    work(&mut disk)?;
                }
                Err(killed())
            }
            Some(left) => {
                disk.fuse = Some(left - 1);
                work(&mut disk)
            }
        }
    }
}

impl Runner for FakeHosts {
    fn host(&self) -> &HostRef {
        &HostRef::Local
    }

    fn run(&self, invocation: &Invocation, _wait: &Wait) -> Result<Output, RunError> {
        self.effect(|disk| {
            let vm = invocation.arguments.first().cloned().unwrap_or_default();
            let status = match invocation.program.as_str() {
                "power-on" => {
                    disk.files.insert(format!("{vm}.on"), Vec::new());
                    Status::Exited(0)
                }
                "power-off" => {
                    disk.files.remove(&format!("{vm}.on"));
                    Status::Exited(0)
                }
                _ => Status::Exited(1),
            };
            Ok(Output {
                status,
                stdout: Vec::new(),
                stderr: Vec::new(),
                elapsed: Duration::ZERO,
            })
        })
    }

    fn start(&self, _invocation: &Invocation, log: &HostPath, _wait: &Wait) -> Result<ProcessRef, RunError> {
        self.effect(|disk| {
            disk.next_pid += 1;
            let pid = disk.next_pid;
            if let Some(words) = disk.dies_at_start.clone() {
                disk.files.insert(log.to_string(), words.into_bytes());
                return Ok(ProcessRef { pid, start_time: 1 });
            }
            disk.processes.insert(pid, log.to_string());
            disk.files.insert(format!("{log}.sock"), Vec::new());
            Ok(ProcessRef { pid, start_time: 1 })
        })
    }

    fn is_running(&self, process: &ProcessRef, _wait: &Wait) -> Result<bool, RunError> {
        Ok(self.disk().processes.contains_key(&process.pid))
    }

    fn stop(&self, process: &ProcessRef, _wait: &Wait) -> Result<(), RunError> {
        self.effect(|disk| {
            if let Some(log) = disk.processes.remove(&process.pid) {
                disk.files.remove(&format!("{log}.sock"));
            }
            Ok(())
        })
    }

    fn read(&self, path: &HostPath, _wait: &Wait) -> Result<Option<FileSnapshot>, RunError> {
        Ok(self.disk().files.get(path.as_str()).map(|bytes| FileSnapshot {
            bytes: bytes.clone(),
            mode: Some(0o600),
            owner: None,
        }))
    }

    fn replace(
        &self,
        path: &HostPath,
        new: Option<&FileSnapshot>,
        expected: Option<&Digest>,
        _wait: &Wait,
    ) -> Result<(), RunError> {
        self.effect(|disk| {
            let name = path.as_str();
            if !name.contains("/journal/")
                && let Some(meanwhile) = disk.meanwhile.take()
            {
                meanwhile(disk);
            }
            if disk
                .read_only
                .iter()
                .any(|start| name.starts_with(start.as_str()))
            {
                return Err(RunError::Io {
                    what: format!("write beside `{path}`"),
                    source: std::io::ErrorKind::PermissionDenied.into(),
                });
            }
            let present = disk.files.get(name).map(|bytes| Digest::of(bytes));
            if present.as_ref() != expected {
                return Err(RunError::Changed { path: path.clone() });
            }
            match new {
                Some(new) => disk.files.insert(name.to_owned(), new.bytes.clone()),
                None => disk.files.remove(name),
            };
            Ok(())
        })
    }

    fn find_started(&self, log: &HostPath, _wait: &Wait) -> Result<Option<ProcessRef>, RunError> {
        let disk = self.disk();
        let mut processes = disk.processes.iter();
        let found = processes.find(|(_, its_log)| its_log.as_str() == log.as_str());
        Ok(found.map(|(&pid, _)| ProcessRef { pid, start_time: 1 }))
    }

    fn make_folder(&self, _path: &HostPath, _wait: &Wait) -> Result<(), RunError> {
        Ok(())
    }

    fn list(&self, path: &HostPath, _wait: &Wait) -> Result<Vec<String>, RunError> {
        let start = format!("{path}/");
        let disk = self.disk();
        let within = disk.files.keys().filter_map(|file| file.strip_prefix(&start));
        let mut names: Vec<String> = within
            .filter_map(|rest| rest.split('/').next().map(ToOwned::to_owned))
            .collect();
        names.dedup();
        Ok(names)
    }

    fn exists(&self, path: &HostPath, _wait: &Wait) -> Result<bool, RunError> {
        Ok(self.disk().files.contains_key(path.as_str()))
    }

    fn open(&self, _endpoint: &EndpointSpec, _wait: &Wait) -> Result<Box<dyn ReadWrite>, RunError> {
        Err(killed())
    }
}

/// A hypervisor whose VMs are vmx files that can be changed while they are off. The wanted value of `serial0.fileName`
/// is the target's `attach`; a VM with `start` is a process.
struct FakeDriver;

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
            let off = step(
                wanted,
                "power off",
                Action::Run(command("power-off", wanted)),
                Undo::Run(command("power-on", wanted)),
                Some(PowerChange::OffGraceful),
            );
            stages.push(planned("power off", vec![off]));
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

/// What was shown and said; answers every question alike.
#[derive(Debug, Default)]
pub struct FakeFront {
    pub shown: Vec<String>,
    pub said: Vec<String>,
    pub asked: Vec<String>,
    pub answer: Option<bool>,
}

impl Front for FakeFront {
    fn show(&mut self, text: &str) {
        self.shown.push(text.to_owned());
    }

    fn status(&mut self, line: &str) {
        self.said.push(line.to_owned());
    }
    fn warning(&mut self, line: &str) {
        self.said.push(format!("warning: {line}"));
    }
    fn ask(&mut self, question: &str) -> std::io::Result<Option<bool>> {
        self.asked.push(question.to_owned());
        Ok(self.answer)
    }
}

pub fn target(name: &str, attach: &str) -> TargetSpec {
    let record = crate::session::journal::TargetRecord {
        name: name.parse().unwrap(),
        host: HostRef::Local,
        hypervisor: HypervisorKind::Vmware,
        vm: VmRef::new(format!("/{name}.vmx")),
        restart: RestartPolicy::Graceful,
    };
    TargetSpec {
        ports: vec![crate::model::PortSpec {
            port: PortIndex::new(1).unwrap(),
            policy: crate::model::Policy::Raw,
            attach: Some(attach.parse().unwrap()),
            serve: Vec::new(),
            log: crate::model::LogSpec::default(),
            hold_bytes: 0,
            replay_bytes: 0,
            one_writer: false,
            tunnel: None,
            break_with: None,
        }],
        ..record.spec()
    }
}

/// Journals are in memory too; locks are real, in `locks`.
pub fn options(locks: &Path) -> ApplyOptions {
    ApplyOptions {
        confirmed: Vec::new(),
        consent: Consent::Given,
        remove: false,
        start_vm: false,
        state: locks.to_owned(),
        host_folder: None,
        interrupt: Interrupt::default(),
    }
}

pub fn undo_options(locks: &Path) -> UndoOptions {
    UndoOptions {
        consent: Consent::Given,
        restart: None,
        state: locks.to_owned(),
        interrupt: Interrupt::default(),
    }
}
