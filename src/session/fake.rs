//! A host in memory for tests: files, processes, one hypervisor with powers, a fuse that kills vmserial at any effect.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod driver;

use crate::driver::Driver;
use crate::model::{
    Digest, EndpointSpec, HostPath, HostRef, HypervisorKind, Invocation, PortIndex, Problem, RestartPolicy,
    TargetSpec, VmRef, Wait,
};
use crate::runner::{FileSnapshot, Output, ProcessRef, ReadWrite, RunError, Runner, Status};
use crate::session::Front;
use crate::session::apply::ApplyOptions;
use crate::session::consent::Consent;
use crate::session::guest_stage::GuestLook;
use crate::session::interrupt::Interrupt;
use crate::session::planning::Hosts;
use crate::session::undo::UndoOptions;
use driver::FakeDriver;
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
    /// The driver has no steps that power a VM off for an undo.
    pub cannot_power_off: bool,
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
        Ok(Box::new(FakeDriver {
            cannot_power_off: self.disk().cannot_power_off,
        }))
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
            firewall: None,
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
        guests: GuestLook::Leave,
        state: locks.to_owned(),
        host_folder: None,
        interrupt: Interrupt::default(),
    }
}

pub fn undo_options(locks: &Path) -> UndoOptions {
    UndoOptions {
        consent: Consent::Given,
        confirmed: Vec::new(),
        restart: None,
        state: locks.to_owned(),
        interrupt: Interrupt::default(),
    }
}
