//! Plans an undo: looks at everything that an entry changed, and decides for each step how it is taken back, before
//! anything is touched.

use crate::model::{
    Deadline, Digest, FailureKind, FileEdit, FileFormat, HostPath, HostRef, Invocation, PowerState, Problem,
    RestartPolicy, ScriptCall, TargetName, TargetSpec, Wait,
};
use crate::plan::diff::unified;
use crate::plan::take_back::{Kept, TakeBack, ThreeVersions, take_back};
use crate::plan::{Action, Effect, PowerChange, QmpCommand, SettingUndo, Undo};
use crate::runner::local::must_succeed;
use crate::runner::{FileSnapshot, ProcessRef, Runner};
use crate::session::execute::refuse_while_held;
use crate::session::install;
use crate::session::interrupt::Interrupt;
use crate::session::journal::{Entry, StepRecord, StepState};
use crate::session::planning::{Hosts, observe};
use crate::session::undo_script::decide;
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
    /// A command runs.
    Run(Invocation),
    /// A QMP command is sent.
    Qmp(QmpCommand),
    /// One of our PowerShell scripts runs.
    PowerShell(ScriptCall),
    /// A process that we started is ended.
    Stop(ProcessRef),
    /// Nothing is left to do, for this reason.
    Nothing(String),
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
    /// The steps.
    pub steps: Vec<UndoStep>,
    /// VMs that lose their power by it.
    pub power_offs: BTreeMap<TargetName, PowerChange>,
    /// The restart policies of the entry's targets.
    pub policies: BTreeMap<TargetName, RestartPolicy>,
}

/// Looks, and plans the undo of everything of an entry that is in force.
///
/// # Errors
///
/// [`FailureKind::Precondition`] with the three versions if somebody else changed what we changed, or if a VM must be
/// off first; a host's refusal. Nothing was touched then.
pub fn plan_undo(entry: &Entry, hosts: &dyn Hosts, interrupt: &Interrupt) -> Result<UndoPlan, Problem> {
    let wait = Wait::new(
        Deadline::after(Instant::now(), OBSERVE),
        interrupt.soft.clone(),
        "the hosts",
    );
    let mut planner = Planner {
        entry,
        hosts,
        power: powers(entry, hosts, &wait)?,
        power_found: BTreeMap::new(),
        wait,
        files: BTreeMap::new(),
        plan: UndoPlan {
            policies: entry
                .data
                .targets
                .iter()
                .map(|target| (target.name.clone(), target.restart))
                .collect(),
            ..UndoPlan::default()
        },
    };
    planner.power_found = planner.power.clone();
    let mut problems = Vec::new();
    for (index, record) in entry.data.steps.iter().enumerate().rev() {
        if !record.state.is_in_force() {
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
    wait: &Wait,
) -> Result<BTreeMap<TargetName, PowerState>, Problem> {
    let matters = |record: &&StepRecord| {
        let power_by_command = record.step.power.is_some() && record.step.undo != Undo::StopProcess;
        record.state.is_in_force() && (power_by_command || needs_power_off(record))
    };
    let mut powers = BTreeMap::new();
    for target in &entry.data.targets {
        let mut steps = entry.data.steps.iter().filter(matters);
        if !steps.any(|record| record.step.target.as_ref() == Some(&target.name)) {
            continue;
        }
        let spec: TargetSpec = target.spec();
        match observe(hosts, &[spec], wait) {
            Ok(seen) => {
                let power = seen.first().map(|observed| observed.power);
                powers.insert(target.name.clone(), power.unwrap_or(PowerState::Unknown));
            }
            Err(problem) if problem.kind == FailureKind::NotFound => {}
            Err(problem) => return Err(problem),
        }
    }
    Ok(powers)
}

fn needs_power_off(record: &StepRecord) -> bool {
    record.step.effect == Effect::NeedsPowerOff
        && matches!(record.step.action, Action::Edit(_) | Action::PowerShell(_))
}

struct Planner<'a> {
    entry: &'a Entry,
    hosts: &'a dyn Hosts,
    wait: Wait,
    /// The power of VMs as it will be when the steps planned so far are taken back.
    power: BTreeMap<TargetName, PowerState>,
    /// As it was found.
    power_found: BTreeMap<TargetName, PowerState>,
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
            (Undo::Keys | Undo::File, _) => {
                let message = "a step without a file has nothing to put back";
                return Err(Problem::new(FailureKind::Internal, message));
            }
            (Undo::Run(invocation), _) => Taking::Run(invocation.clone()),
            (Undo::Setting(setting), _) => setting_now(setting, runner.as_ref(), &self.wait)?,
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
        let (change, found) = (record.step.power?, *self.power_found.get(target)?);
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
                } else if found != PowerState::Off && self.power.get(target) == Some(&found) {
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
                    self.plan
                        .power_offs
                        .insert(target.clone(), PowerChange::OffGraceful);
                }
            }
            (PowerChange::OffGraceful | PowerChange::OffHard, _) => {
                self.power.insert(target.clone(), PowerState::Running);
            }
        }
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
        let turned_off_before = target.is_some_and(|name| self.power.get(name) != self.power_found.get(name));
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

    /// Refuses to change what a VM's hypervisor holds while it runs: it would write its own memory of a file over it, or
    /// refuse the change itself.
    fn check_power(&self, record: &StepRecord, what: &str) -> Result<(), Problem> {
        let Some((target, power)) = record
            .step
            .target
            .as_ref()
            .and_then(|name| self.power.get_key_value(name))
        else {
            return Ok(());
        };
        let known = self.entry.data.targets.iter().find(|known| known.name == *target);
        let must_be_off = match known {
            Some(known) => {
                self.hosts
                    .driver(known.hypervisor)?
                    .capabilities()
                    .needs_power_off
            }
            None => true,
        };
        if !needs_power_off(record) || !must_be_off || *power == PowerState::Off {
            return Ok(());
        }
        let message = format!("{what} while the VM of `{target}` is off; it is {power}");
        Err(Problem::new(FailureKind::Precondition, message)
            .hint("Power the VM off, then run `vmserial undo` again."))
    }
}

/// Decides from a setting's value today.
///
/// # Errors
///
/// It cannot be read, or somebody else changed it after us.
fn setting_now(setting: &SettingUndo, runner: &dyn Runner, wait: &Wait) -> Result<Taking, Problem> {
    let output = runner.run(&setting.look, wait)?;
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let now = if String::from_utf8_lossy(&said).contains(&setting.absent) {
        None
    } else {
        let output = must_succeed(runner.host(), &setting.look, output)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Some(text.strip_suffix('\n').unwrap_or(&text).to_owned())
    };
    if now == setting.before {
        return Ok(Taking::Nothing(format!("`{}` is as it was before", setting.name)));
    }
    if now == setting.ours {
        return Ok(Taking::Run(setting.restore.clone()));
    }
    let versions = ThreeVersions {
        key: setting.name.clone(),
        before: setting.before.clone(),
        ours: setting.ours.clone(),
        now,
    };
    Err(refusal("the settings of its host", &[versions]))
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

/// Shows what was there, what we wrote and what is there now.
fn refusal(place: &str, versions: &[ThreeVersions]) -> Problem {
    let shown: Vec<String> = versions.iter().map(three_versions).collect();
    let message = format!(
        "somebody else changed what we set in {place}, so nothing is taken back:{}",
        shown.concat()
    );
    Problem::new(FailureKind::Precondition, message)
        .hint("Put the values right by hand, or set them to ours and run `vmserial undo` again.")
}

fn three_versions(versions: &ThreeVersions) -> String {
    if versions.key.is_empty() {
        let bytes = |text: &Option<String>| text.as_ref().map(|text| text.as_bytes().to_vec());
        let (before, ours, now) = (
            bytes(&versions.before),
            bytes(&versions.ours),
            bytes(&versions.now),
        );
        let ours_diff = unified("before → ours", before.as_deref(), ours.as_deref());
        let now_diff = unified("ours → now", ours.as_deref(), now.as_deref());
        let lines = ours_diff.lines().chain(now_diff.lines());
        return lines.map(|line| format!("\n    {line}")).collect();
    }
    let shown = |value: &Option<String>| match value {
        Some(value) => format!("`{value}`"),
        None => "(absent)".to_owned(),
    };
    format!(
        "\n    {}: before {}, ours {}, now {}",
        versions.key,
        shown(&versions.before),
        shown(&versions.ours),
        shown(&versions.now)
    )
}
