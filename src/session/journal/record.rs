//! What `entry.json` holds.

use crate::model::{
    Digest, HostLogin, HostRef, HypervisorKind, RestartPolicy, TargetName, TargetSpec, VmRef,
};
use crate::plan::{Action, PowerChange, Step};
use crate::runner::ProcessRef;
use crate::runner::ssh::options::login;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of `entry.json` that this program writes and undoes.
pub const FORMAT: u32 = 1;

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Not begun.
    Pending,
    /// Begun; whether it happened must be observed.
    Started,
    /// Done.
    Done,
    /// Taken back.
    Undone,
    /// It failed and changed nothing.
    Failed,
}

impl StepState {
    /// Returns the word of `entry.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Started => "started",
            Self::Done => "done",
            Self::Undone => "undone",
            Self::Failed => "failed",
        }
    }

    /// Tells whether the step is in force, or may be.
    pub fn is_in_force(self) -> bool {
        matches!(self, Self::Started | Self::Done)
    }
}

/// The file that an edit found, and what it left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditRecord {
    /// `before/N`, or `None` if there was no file.
    pub before: Option<String>,
    /// Mode bits of the file that was there.
    pub mode: Option<u32>,
    /// User and group of the file that was there.
    pub owner: Option<(u32, u32)>,
    /// Our keys before: `None` is absent.
    pub values: BTreeMap<String, Option<String>>,
    /// Digest of what we left; `None` if we removed the file.
    pub after: Option<Digest>,
}

/// One step in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// How far.
    pub state: StepState,
    /// The step.
    pub step: Step,
    /// For edits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edit: Option<EditRecord>,
    /// For started processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessRef>,
    /// An undo began to take it back. Written before a VM's power is touched, so that an undo that was killed knows
    /// who turned the VM off.
    #[serde(default)]
    pub undo_began: bool,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl StepRecord {
    /// Makes the record of a step that has not begun.
    pub fn pending(step: Step) -> Self {
        Self {
            state: StepState::Pending,
            step,
            edit: None,
            process: None,
            undo_began: false,
            error: None,
        }
    }
}

/// A target of an entry: enough to look at its VM again when the profile is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetRecord {
    /// Its name.
    pub name: TargetName,
    /// Where its hypervisor runs.
    pub host: HostRef,
    /// Which hypervisor.
    pub hypervisor: HypervisorKind,
    /// Which VM.
    pub vm: VmRef,
    /// How far to go with its power.
    pub restart: RestartPolicy,
}

impl TargetRecord {
    /// Returns the target without its ports, for an observation of its power.
    pub fn spec(&self) -> TargetSpec {
        TargetSpec {
            name: self.name.clone(),
            host: self.host.clone(),
            hypervisor: self.hypervisor,
            vm: self.vm.clone(),
            restart: self.restart,
            ports: Vec::new(),
            gdb_stub: None,
            nested: false,
            secure_boot: Default::default(),
            guest: None,
            host_sysrq_off: false,
            start: None,
            debugger: None,
            unserved: Vec::new(),
        }
    }
}

impl From<&TargetSpec> for TargetRecord {
    fn from(target: &TargetSpec) -> Self {
        Self {
            name: target.name.clone(),
            host: target.host.clone(),
            hypervisor: target.hypervisor,
            vm: target.vm.clone(),
            restart: target.restart,
        }
    }
}

/// What `entry.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryData {
    /// See [`FORMAT`].
    pub format: u32,
    /// Version of the program that wrote it.
    pub version: String,
    /// When the apply began, RFC 3339 in UTC.
    pub time: String,
    /// The command line.
    pub command: String,
    /// Hosts of its steps.
    pub hosts: Vec<HostRef>,
    /// How those behind SSH are logged in to, where that is anything in particular. No secrets: only where they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub logins: BTreeMap<String, HostLogin>,
    /// Targets of its steps, with their hosts and VMs.
    pub targets: Vec<TargetRecord>,
    /// In the order in which they are done.
    pub steps: Vec<StepRecord>,
}

impl EntryData {
    /// Begins the data of an apply that begins now.
    pub fn begin() -> Self {
        let words: Vec<String> = std::env::args().collect();
        Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            time: jiff::Timestamp::now().to_string(),
            command: shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" ")),
            hosts: Vec::new(),
            logins: BTreeMap::new(),
            targets: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// Returns `<UTC>-<8 hex>`: the time in a form that sorts, the rest so that two applies of one moment differ.
    pub(super) fn new_id(&self) -> String {
        let now = jiff::Timestamp::now();
        let seed = format!("{}{}{}", now.as_nanosecond(), std::process::id(), self.command);
        let digest = Digest::of(seed.as_bytes());
        format!("{}-{}", now.strftime("%Y%m%dT%H%M%S%6fZ"), &digest.as_str()[..8])
    }

    /// Adds steps that are about to be done, with their hosts and targets.
    pub fn add(&mut self, steps: impl IntoIterator<Item = Step>, targets: &[TargetSpec]) {
        for step in steps {
            if !self.hosts.contains(&step.host) {
                self.hosts.push(step.host.clone());
            }
            let behind = match &step.host {
                HostRef::Direct { host, .. } => host.login_key(),
                _ => None,
            };
            for key in step.host.login_key().into_iter().chain(behind) {
                let login = login(&key);
                if !login.is_plain() {
                    self.logins.insert(key, login);
                }
            }
            let named = targets
                .iter()
                .find(|target| Some(&target.name) == step.target.as_ref());
            if let Some(target) = named
                && !self.targets.iter().any(|record| record.name == target.name)
            {
                self.targets.push(target.into());
            }
            self.steps.push(StepRecord::pending(step));
        }
    }

    /// Returns what one host shall know of it: its own steps and targets, and how it is logged in to.
    pub(super) fn of_host(&self, host: &HostRef) -> Self {
        let mut own = self.clone();
        own.hosts.retain(|one| one == host);
        own.logins
            .retain(|destination, _| *host == HostRef::Ssh(destination.clone()));
        own.targets.retain(|target| target.host == *host);
        own.steps.retain(|record| record.step.host == *host);
        own
    }

    /// Returns a host's own copy as it is for somebody who calls that host `host`.
    pub(super) fn seen_as(mut self, host: &HostRef) -> Self {
        self.hosts = vec![host.clone()];
        self.targets
            .iter_mut()
            .for_each(|target| target.host = host.clone());
        self.steps
            .iter_mut()
            .for_each(|record| record.step.host = host.clone());
        let login = std::mem::take(&mut self.logins).into_values().next();
        if let (HostRef::Ssh(destination), Some(login)) = (host, login) {
            self.logins.insert(destination.clone(), login);
        }
        self
    }

    /// Returns the targets that it powered off and did not see on again.
    pub fn left_off(&self) -> Vec<&TargetName> {
        let mut off = Vec::new();
        for record in self.steps.iter().filter(|record| record.state == StepState::Done) {
            let Some(target) = &record.step.target else {
                continue;
            };
            match record.step.power {
                Some(PowerChange::On) => off.retain(|left| *left != target),
                Some(PowerChange::OffGraceful | PowerChange::OffHard) => off.push(target),
                None => {}
            }
        }
        off
    }

    /// Tells whether something of it is still in force, or may be.
    pub fn is_in_force(&self) -> bool {
        self.steps
            .iter()
            .any(|step| step.state.is_in_force() && !matches!(step.step.action, Action::WaitFor(_)))
    }
}
