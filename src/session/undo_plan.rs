//! Plans an undo: looks at everything that an entry changed, and decides for each step how it is taken back, before
//! anything is touched.

use crate::guest::windows::bcd::Elements;
use crate::model::{
    Deadline, Digest, FailureKind, FileEdit, FileFormat, HostPath, HostRef, Invocation, Observed, PowerState,
    Problem, RestartPolicy, ScriptCall, TargetName, TargetSpec, Wait,
};
use crate::plan::diff::unified;
use crate::plan::take_back::{Kept, TakeBack, take_back};
use crate::plan::{
    Action, BootSettingsUndo, Effect, FirewallChange, LiveChange, PowerChange, QmpCommand, Step, Undo,
};
use crate::runner::{FileSnapshot, ProcessRef, Runner};
use crate::session::boot_settings;
use crate::session::execute::refuse_while_held;
use crate::session::firewall;
use crate::session::install;
use crate::session::interrupt::Interrupt;
use crate::session::journal::{Entry, StepRecord, StepState};
use crate::session::planning::{Hosts, observe};
use crate::session::undo_refusal::refusal;
use crate::session::undo_script::decide;
use crate::session::undo_setting::setting_now;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long looking may take.
const OBSERVE: Duration = Duration::from_secs(60);

/// How one step is taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taking {
    /// A file gets other content, if it is still the one that was looked at.
    Replace {
        /// Which.
        path: HostPath,
        /// In which format: it tells whether somebody holds the file.
        format: FileFormat,
        /// What; `None` removes it.
        new: Option<FileSnapshot>,
        /// Digest of what is there.
        expected: Option<Digest>,
        /// The original bytes return; else only our keys are put back.
        original: bool,
        /// For people.
        diff: String,
    },
    /// Rules of a firewall go, under its guard.
    Firewall {
        /// Names this undo to the guard.
        token: String,
        /// The change that is taken back.
        change: Box<FirewallChange>,
        /// What is done to the rules in force.
        live: Vec<LiveChange>,
        /// What is done to the file: [`Taking::Replace`] or [`Taking::Nothing`].
        file: Box<Taking>,
    },
    /// A command runs.
    Run(Invocation),
    /// A QMP command is sent.
    Qmp(QmpCommand),
    /// One of our PowerShell scripts runs.
    PowerShell(ScriptCall),
    /// Boot settings of a Windows guest get the values back that they had before; shown with secrets masked.
    BootSettings {
        /// Which, and what we made of them.
        undo: Box<BootSettingsUndo>,
        /// All of them, as they were.
        before: Elements,
        /// For people.
        shown: String,
    },
    /// A process that we started is ended.
    Stop(ProcessRef),
    /// What is left of a file that was on its way is removed.
    RemoveRest(HostPath),
    /// Nothing is left to do, for this reason.
    Nothing(String),
}

impl Taking {
    /// Tells whether anything is changed by it.
    pub fn changes(&self) -> bool {
        !matches!(self, Self::Nothing(_))
    }
}

/// A step with the way back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoStep {
    /// Its place in the entry.
    pub index: usize,
    /// How it is taken back.
    pub taking: Taking,
}

/// An undo, newest step first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UndoPlan {
    /// Before that, steps that power VMs off which run now. They are taken back last.
    pub first: Vec<Step>,
    /// The steps.
    pub steps: Vec<UndoStep>,
    /// VMs that lose their power by it.
    pub power_offs: BTreeMap<TargetName, PowerChange>,
    /// The restart policies of the entry's targets.
    pub policies: BTreeMap<TargetName, RestartPolicy>,
}

/// Looks, and plans the undo of everything of an entry that is in force. `restart` replaces the targets' restart policies.
///
/// # Errors
///
/// [`FailureKind::Precondition`] with the three versions if somebody else changed what we changed, or if a VM must be
/// off first and its driver cannot do that; a host's refusal. Nothing was touched then.
pub fn plan_undo(
    entry: &Entry,
    hosts: &dyn Hosts,
    restart: Option<RestartPolicy>,
    interrupt: &Interrupt,
) -> Result<UndoPlan, Problem> {
    plan_undo_of(entry, hosts, restart, interrupt, &|_| true)
}

/// The same for some of its steps.
///
/// # Errors
///
/// See [`plan_undo`].
pub(super) fn plan_undo_of(
    entry: &Entry,
    hosts: &dyn Hosts,
    restart: Option<RestartPolicy>,
    interrupt: &Interrupt,
    wanted: &dyn Fn(&StepRecord) -> bool,
) -> Result<UndoPlan, Problem> {
    let wait = Wait::new(
        Deadline::after(Instant::now(), OBSERVE),
        interrupt.soft.clone(),
        "the hosts",
    );
    let mut planner = Planner {
        entry,
        hosts,
        seen: powers(entry, hosts, wanted, &wait)?,
        power: BTreeMap::new(),
        wait,
        files: BTreeMap::new(),
        plan: UndoPlan {
            policies: entry
                .data
                .targets
                .iter()
                .map(|target| (target.name.clone(), restart.unwrap_or(target.restart)))
                .collect(),
            ..UndoPlan::default()
        },
    };
    let powers = planner.seen.iter();
    planner.power = powers.map(|(name, seen)| (name.clone(), seen.power)).collect();
    let mut problems = Vec::new();
    for (index, record) in entry.data.steps.iter().enumerate().rev() {
        if !record.state.is_in_force() || !wanted(record) {
            continue;
        }
        match planner.step(index, record) {
            Ok(taking) => planner.plan.steps.push(UndoStep { index, taking }),
            Err(problem) => problems.push(problem),
        }
    }
    match crate::session::planning::all_of(problems) {
        Some(problem) => Err(problem),
        None => Ok(planner.plan),
    }
}

/// Looks at the power of those VMs for which it matters. A VM that is no more has none.
fn powers(
    entry: &Entry,
    hosts: &dyn Hosts,
    wanted: &dyn Fn(&StepRecord) -> bool,
    wait: &Wait,
) -> Result<BTreeMap<TargetName, Observed>, Problem> {
    let matters = |record: &&StepRecord| {
        let power_by_command = record.step.power.is_some() && record.step.undo != Undo::StopProcess;
        record.state.is_in_force() && wanted(record) && (power_by_command || needs_power_off(record))
    };
    let mut all = BTreeMap::new();
    for target in &entry.data.targets {
        let mut steps = entry.data.steps.iter().filter(matters);
        if !steps.any(|record| record.step.target.as_ref() == Some(&target.name)) {
            continue;
        }
        let spec: TargetSpec = target.spec();
        match observe(hosts, &[spec], wait) {
            Ok(seen) => all.extend(seen.into_iter().map(|observed| (target.name.clone(), observed))),
            Err(problem) if problem.kind == FailureKind::NotFound => {}
            Err(problem) => return Err(problem),
        }
    }
    Ok(all)
}

fn needs_power_off(record: &StepRecord) -> bool {
    record.step.effect == Effect::NeedsPowerOff
        && matches!(record.step.action, Action::Edit(_) | Action::PowerShell(_))
}

struct Planner<'a> {
    entry: &'a Entry,
    hosts: &'a dyn Hosts,
    wait: Wait,
    /// VMs as they were found.
    seen: BTreeMap<TargetName, Observed>,
    /// Their power as it will be when the steps planned so far are taken back.
    power: BTreeMap<TargetName, PowerState>,
    /// Files as they will be when the steps planned so far are taken back.
    files: BTreeMap<(HostRef, HostPath), Option<FileSnapshot>>,
    plan: UndoPlan,
}

impl Planner<'_> {
    fn step(&mut self, index: usize, record: &StepRecord) -> Result<Taking, Problem> {
        let runner = self.hosts.runner(&record.step.host)?;
        if let Some(reason) = self.power_is_there(index, record) {
            return Ok(Taking::Nothing(reason.to_owned()));
        }
        let taking = match (&record.step.undo, &record.step.action) {
            (Undo::Nothing { reason }, _) => Taking::Nothing(reason.clone()),
            (Undo::Keys, Action::Edit(edit)) => self.edit(record, edit, runner.as_ref())?,
            (Undo::File, Action::Install(install)) => {
                install::taking(self.entry, record, install, runner.as_ref(), &self.wait)?
            }
            (Undo::Firewall, Action::Firewall(change)) => {
                self.firewall(index, record, change, runner.as_ref())?
            }
            (Undo::Keys | Undo::File | Undo::Firewall, _) => {
                let message = "a step without a file has nothing to put back";
                return Err(Problem::new(FailureKind::Internal, message));
            }
            (Undo::Run(_) | Undo::PowerShell(_), _) if record.step.power == Some(PowerChange::On) => {
                self.stop_again(record)?
            }
            (Undo::Run(invocation), _) => Taking::Run(invocation.clone()),
            (Undo::Setting(setting), _) => setting_now(setting, runner.as_ref(), &self.wait)?,
            (Undo::BootSettings(_) | Undo::BitLocker { .. }, _) => {
                boot_settings::taking(self.entry, record, runner.as_ref(), &self.wait)?
            }
            (Undo::Qmp(command), _) => Taking::Qmp(command.clone()),
            (Undo::PowerShell(call), _) => {
                let summary = &record.step.summary;
                let taking = decide(call, summary, runner.as_ref(), &self.wait)?;
                if matches!(taking, Taking::PowerShell(_)) {
                    self.check_power(record, &format!("`{summary}` can only be taken back"))?;
                }
                taking
            }
            (Undo::StopProcess, _) => match started_process(record, runner.as_ref(), &self.wait)? {
                Some(process) => Taking::Stop(process),
                None => Taking::Nothing("the process has ended already".to_owned()),
            },
        };
        self.note_power(record, &taking);
        Ok(taking)
    }

    /// Returns why a power step needs no undo.
    fn power_is_there(&self, index: usize, record: &StepRecord) -> Option<&'static str> {
        let target = record.step.target.as_ref()?;
        let (change, found) = (record.step.power?, self.seen.get(target)?.power);
        match change {
            PowerChange::On if found == PowerState::Off => Some("the VM is off already"),
            PowerChange::On => None,
            PowerChange::OffGraceful | PowerChange::OffHard => {
                let later = self.entry.data.steps.get(index + 1..).unwrap_or_default();
                let started_again = later.iter().any(|later| {
                    later.step.target.as_ref() == Some(target)
                        && later.step.power == Some(PowerChange::On)
                        && later.state == StepState::Done
                        && !later.undo_began
                });
                if found == PowerState::Off && started_again {
                    Some("the VM was off when this undo began, and is left so")
                } else if self.power.get(target) != Some(&PowerState::Off) {
                    Some("the VM is on already")
                } else {
                    None
                }
            }
        }
    }

    fn note_power(&mut self, record: &StepRecord, taking: &Taking) {
        let (Some(target), Some(change)) = (&record.step.target, record.step.power) else {
            return;
        };
        match (change, taking) {
            (_, Taking::Nothing(_)) => {}
            (PowerChange::On, taking) => {
                self.power.insert(target.clone(), PowerState::Off);
                // A process that we started ourselves is ours to end; any other VM's power is its policy's.
                if !matches!(taking, Taking::Stop(_)) {
                    let known = self.plan.power_offs.entry(target.clone());
                    known.or_insert(PowerChange::OffGraceful);
                }
            }
            (PowerChange::OffGraceful | PowerChange::OffHard, _) => {
                self.power.insert(target.clone(), PowerState::Running);
            }
        }
    }

    fn firewall(
        &mut self,
        index: usize,
        record: &StepRecord,
        change: &FirewallChange,
        runner: &dyn Runner,
    ) -> Result<Taking, Problem> {
        let live = firewall::ways_back(change, runner, &self.wait)?;
        let file = match &change.file {
            Some(edit) => self.edit(record, edit, runner)?,
            None => Taking::Nothing("no file was changed".to_owned()),
        };
        if live.is_empty() && matches!(file, Taking::Nothing(_)) {
            return Ok(Taking::Nothing("the rules are not there (any more)".to_owned()));
        }
        Ok(Taking::Firewall {
            token: format!("{}-{index}-undo", self.entry.id),
            change: Box::new(change.clone()),
            live,
            file: Box::new(file),
        })
    }

    fn edit(&mut self, record: &StepRecord, edit: &FileEdit, runner: &dyn Runner) -> Result<Taking, Problem> {
        let path = &edit.path;
        let Some(kept) = &record.edit else {
            return Ok(Taking::Nothing("the file was not touched yet".to_owned()));
        };
        let original = match &kept.before {
            Some(name) => Some(self.entry.read_before(name)?),
            None => None,
        };
        let place = (record.step.host.clone(), path.clone());
        let today = match self.files.get(&place) {
            Some(today) => today.clone(),
            None => runner.read(path, &self.wait)?,
        };
        let today_bytes = today.as_ref().map(|today| today.bytes.as_slice());
        let memory = Kept {
            before: original.as_deref(),
            after: kept.after.as_ref(),
            values: &kept.values,
        };
        let decided = take_back(edit, memory, today_bytes).map_err(|error| {
            let message = format!("`{path}` can no longer be edited: {error}");
            Problem::new(FailureKind::Precondition, message)
        })?;
        let (new, original) = match decided {
            TakeBack::Nothing(reason) => return Ok(Taking::Nothing(reason.to_owned())),
            TakeBack::Refused(versions) => return Err(refusal(&format!("`{path}`"), &versions)),
            TakeBack::Original(bytes) => {
                let restored = bytes.map(|bytes| FileSnapshot {
                    bytes,
                    mode: kept.mode,
                    owner: kept.owner,
                });
                (restored, true)
            }
            TakeBack::Keys(bytes) => {
                let edited = bytes.map(|bytes| FileSnapshot {
                    bytes,
                    mode: None,
                    owner: None,
                });
                (edited, false)
            }
        };
        self.check_power(record, &format!("`{path}` can only be changed"))?;
        let target = record.step.target.as_ref();
        let found = |name: &TargetName| self.seen.get(name).map(|seen| seen.power);
        let turned_off_before = target.is_some_and(|name| self.power.get(name).copied() != found(name));
        if !turned_off_before {
            refuse_while_held(edit.format, path, runner, &self.wait)?;
        }
        let new_bytes = new.as_ref().map(|new| new.bytes.as_slice());
        let diff = unified(path.as_str(), today_bytes, new_bytes);
        let expected = today.as_ref().map(FileSnapshot::digest);
        self.files.insert(place, new.clone());
        Ok(Taking::Replace {
            path: path.clone(),
            format: edit.format,
            new,
            expected,
            original,
            diff,
        })
    }

    /// Plans the power-off of a target's VM, as far as its policy goes today; `None` if its driver has no steps for that.
    fn power_off(&self, target: &TargetName) -> Result<Option<Vec<Step>>, Problem> {
        let known = self.entry.data.targets.iter().find(|known| known.name == *target);
        let (Some(known), Some(seen)) = (known, self.seen.get(target)) else {
            return Ok(None);
        };
        let restart = self.plan.policies.get(target).copied();
        let spec = TargetSpec {
            restart: restart.unwrap_or(known.restart),
            ..known.spec()
        };
        self.hosts.driver(known.hypervisor)?.power_off(&spec, seen)
    }

    /// Takes a start back: as far as the policy goes today, else as it was planned then.
    fn stop_again(&mut self, record: &StepRecord) -> Result<Taking, Problem> {
        let target = record.step.target.as_ref();
        let off = match target {
            Some(target) => self.power_off(target)?,
            None => None,
        };
        let planned = off
            .into_iter()
            .flatten()
            .find_map(|step| match (step.action, step.power) {
                (Action::PowerShell(call), Some(power)) => Some((Taking::PowerShell(call), power)),
                (Action::Run(invocation), Some(power)) => Some((Taking::Run(invocation), power)),
                _ => None,
            });
        if let (Some((taking, power)), Some(target)) = (planned, target) {
            self.plan.power_offs.insert(target.clone(), power);
            return Ok(taking);
        }
        Ok(match &record.step.undo {
            Undo::PowerShell(call) => Taking::PowerShell(call.clone()),
            Undo::Run(invocation) => Taking::Run(invocation.clone()),
            _ => Taking::Nothing("it has no way back".to_owned()),
        })
    }

    /// Sees to it that nothing is changed that a VM's hypervisor holds while it runs: it would write its own memory of a
    /// file over it, or refuse the change itself. The VM is powered off first, or it is refused.
    fn check_power(&mut self, record: &StepRecord, what: &str) -> Result<(), Problem> {
        let power = |name: &TargetName| Some((name.clone(), *self.power.get(name)?));
        let Some((target, power)) = record.step.target.as_ref().and_then(power) else {
            return Ok(());
        };
        let known = self.entry.data.targets.iter().find(|known| known.name == target);
        let must_be_off = match known {
            Some(known) => {
                self.hosts
                    .driver(known.hypervisor)?
                    .capabilities()
                    .needs_power_off
            }
            None => true,
        };
        if !needs_power_off(record) || !must_be_off || power == PowerState::Off {
            return Ok(());
        }
        if let Some(steps) = self.power_off(&target)? {
            let change = steps.iter().find_map(|step| step.power);
            self.plan
                .power_offs
                .insert(target.clone(), change.unwrap_or(PowerChange::OffGraceful));
            self.plan.first.extend(steps);
            self.power.insert(target, PowerState::Off);
            return Ok(());
        }
        let message = format!("{what} while the VM of `{target}` is off; it is {power}");
        Err(Problem::new(FailureKind::Precondition, message)
            .hint("Power the VM off, then run `vmserial undo` again."))
    }
}

/// Returns the process that a step started, if it still runs.
///
/// # Errors
///
/// The host's refusal.
pub(super) fn started_process(
    record: &StepRecord,
    runner: &dyn Runner,
    wait: &Wait,
) -> Result<Option<ProcessRef>, Problem> {
    let process = match (&record.process, &record.step.action) {
        (Some(process), _) => Some(process.clone()),
        // Killed between the start and the note of its pid: its log tells which it is.
        (None, Action::Start { log, .. }) => runner.find_started(log, wait)?,
        (None, _) => None,
    };
    match process {
        Some(process) if runner.is_running(&process, wait)? => Ok(Some(process)),
        _ => Ok(None),
    }
}
