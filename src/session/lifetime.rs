//! VMs that a session started end with it, as far as their policy goes, and those that were kept end with `vmserial down`.

use crate::model::{Cancel, Deadline, FailureKind, PowerState, Problem, RestartPolicy, TargetName, Wait};
use crate::plan::{Action, PowerChange, Undo};
use crate::session::Front;
use crate::session::apply::ApplyOptions;
use crate::session::execute::{SHUTDOWN, step_wait};
use crate::session::interrupt::Interrupt;
use crate::session::journal::{Entry, EntryData, Found, Journal, StepRecord, StepState};
use crate::session::marks::{self, Access};
use crate::session::planning::{Hosts, observe};
use crate::session::undo::act;
use crate::session::undo_plan::{Taking, started_process};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long looking at a VM may take.
const LOOK: Duration = Duration::from_secs(60);

/// What a session starts from now on.
#[derive(Debug)]
pub struct Lifetime {
    journal: Journal,
    run: PathBuf,
    before: BTreeSet<String>,
}

impl Lifetime {
    /// Remembers what the journal holds before the session's own apply.
    ///
    /// # Errors
    ///
    /// The journal cannot be read.
    pub fn begin(hosts: &dyn Hosts, options: &ApplyOptions) -> Result<Self, Problem> {
        let journal = journal(hosts, options)?;
        let before = entries(&journal)?.into_iter().map(|entry| entry.id).collect();
        Ok(Self {
            journal,
            run: options.state.join("run"),
            before,
        })
    }

    /// Ends the VM that was started since, whether that apply succeeded or not, and says so in its entry: a process of ours
    /// is ended, any other VM as far as its restart policy goes. Everything else of the entry stays in force.
    ///
    /// # Errors
    ///
    /// It could not be ended; the entry still has it, so `vmserial undo` and `vmserial down` can.
    pub fn end(&self, target: &TargetName, hosts: &dyn Hosts, front: &mut dyn Front) -> Result<(), Problem> {
        for mut entry in entries(&self.journal)? {
            if !self.before.contains(&entry.id) {
                let wanted = |name: Option<&TargetName>| name == Some(target);
                if end_started(&mut entry, wanted, Asked::No, hosts, front)? > 0 {
                    clear(&self.run.join(target.as_str()));
                }
            }
        }
        Ok(())
    }
}

/// Whether a person asks for the end by name (`vmserial down`): then nobody is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Yes,
    No,
}

/// Ends every VM of these targets that vmserial started and that still runs. Returns how many that were.
///
/// # Errors
///
/// The journal cannot be read, or a VM cannot be ended; one whose restart policy is `never` is not.
pub fn end_vms(
    targets: &[TargetName],
    hosts: &dyn Hosts,
    options: &ApplyOptions,
    front: &mut dyn Front,
) -> Result<usize, Problem> {
    let mut count = 0;
    for mut entry in entries(&journal(hosts, options)?)? {
        let wanted = |name: Option<&TargetName>| name.is_some_and(|name| targets.contains(name));
        count += end_started(&mut entry, wanted, Asked::Yes, hosts, front)?;
    }
    if count > 0 {
        for target in targets {
            clear(&options.state.join("run").join(target.as_str()));
        }
    }
    Ok(count)
}

/// Returns the targets with a VM that vmserial started and did not end.
///
/// # Errors
///
/// The journal cannot be read.
pub fn started_targets(hosts: &dyn Hosts, options: &ApplyOptions) -> Result<BTreeSet<TargetName>, Problem> {
    let entries = entries(&journal(hosts, options)?)?;
    Ok(entries
        .iter()
        .flat_map(|entry| {
            entry
                .data
                .steps
                .iter()
                .enumerate()
                .map(move |(index, _)| (entry, index))
        })
        .filter(|(entry, index)| is_started(&entry.data, *index))
        .filter_map(|(entry, index)| entry.data.steps[index].step.target.clone())
        .collect())
}

fn journal(hosts: &dyn Hosts, options: &ApplyOptions) -> Result<Journal, Problem> {
    marks::journal(hosts, &options.state, options.host_folder.as_deref())
}

fn entries(journal: &Journal) -> Result<Vec<Entry>, Problem> {
    let found = journal.entries()?;
    Ok(found
        .into_iter()
        .filter_map(|found| match found {
            Found::Entry(entry) => Some(*entry),
            Found::Unknown { .. } => None,
        })
        .collect())
}

/// Removes what a VM leaves in its run-time folder that had no time to do it itself: it was ended while it still started.
/// The log stays. What cannot be removed does no harm: the next start replaces it.
fn clear(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path
            .extension()
            .is_some_and(|ending| ending == "sock" || ending == "pid")
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::debug!(path = %path.display(), %error, "left behind");
        }
    }
}

/// Tells whether a step started a VM that did not run before: a process of ours, or a power-on without a power-off of the
/// same apply before it.
fn is_started(data: &EntryData, index: usize) -> bool {
    let record = &data.steps[index];
    if !record.state.is_in_force() {
        return false;
    }
    if matches!(record.step.action, Action::Start { .. }) {
        return true;
    }
    let is_off = |earlier: &StepRecord| {
        let off = matches!(
            earlier.step.power,
            Some(PowerChange::OffGraceful | PowerChange::OffHard)
        );
        off && earlier.step.target == record.step.target
    };
    let can_end = !matches!(record.step.undo, Undo::Nothing { .. });
    record.step.power == Some(PowerChange::On) && can_end && !data.steps[..index].iter().any(is_off)
}

fn end_started(
    entry: &mut Entry,
    wanted: impl Fn(Option<&TargetName>) -> bool,
    asked: Asked,
    hosts: &dyn Hosts,
    front: &mut dyn Front,
) -> Result<usize, Problem> {
    // Ctrl-C has ended the session already; it must not keep a VM alive.
    let interrupt = Interrupt::default();
    let mut count = 0;
    for index in (0..entry.data.steps.len()).rev() {
        let record = entry.data.steps[index].clone();
        if !is_started(&entry.data, index) || !wanted(record.step.target.as_ref()) {
            continue;
        }
        let runner = hosts.runner(&record.step.host)?;
        let what = format!("the end of: {}", record.step.summary);
        let wait = step_wait(&record.step, &what, &interrupt.hard);
        if matches!(record.step.action, Action::Start { .. }) {
            match started_process(&record, runner.as_ref(), &wait)? {
                Some(process) => {
                    let pid = process.pid;
                    act(&Taking::Stop(process), runner.as_ref(), &wait)?;
                    front.status(&format!("Ended the process {pid}."));
                    count += 1;
                }
                None => front.status("The process has ended already."),
            }
        } else if !end_vm(&record, entry, asked, hosts, front)? {
            continue;
        } else {
            count += 1;
        }
        entry.reach_copies(hosts, Access::Look);
        entry.mark(index, StepState::Undone)?;
    }
    Ok(count)
}

/// Ends a VM of somebody's hypervisor as far as its restart policy goes. Returns whether it is off now.
fn end_vm(
    record: &StepRecord,
    entry: &Entry,
    asked: Asked,
    hosts: &dyn Hosts,
    front: &mut dyn Front,
) -> Result<bool, Problem> {
    let Some(target) =
        (entry.data.targets.iter()).find(|known| record.step.target.as_ref() == Some(&known.name))
    else {
        return Ok(false);
    };
    let name = &target.name;
    let wait = Wait::new(
        Deadline::after(Instant::now(), LOOK),
        Cancel::new(),
        format!("the VM of `{name}`"),
    );
    match observe(hosts, &[target.spec()], &wait) {
        Ok(seen) if seen.iter().all(|seen| seen.power == PowerState::Off) => {
            front.status(&format!("The VM of `{name}` is off already."));
            return Ok(true);
        }
        Err(problem) if problem.kind == FailureKind::NotFound => return Ok(true),
        seen => drop(seen?),
    }
    let left = format!("The VM of `{name}`, which this started, runs on; `vmserial down {name}` ends it.");
    let consent = match (target.restart, asked) {
        (RestartPolicy::Never, Asked::Yes) => {
            let message = format!("`{name}` is not powered off: its restart policy is `never`");
            return Err(Problem::new(FailureKind::Precondition, message).hint(
                "Shut it down in the guest, or raise `restart` in the profile and run `vmserial up` again.",
            ));
        }
        (RestartPolicy::Never, Asked::No) => false,
        (RestartPolicy::Ask, Asked::No) => {
            let question = format!("The VM of `{name}` was off before. Shut it down?");
            front.ask(&question).ok().flatten().unwrap_or(false)
        }
        (RestartPolicy::Graceful | RestartPolicy::Hard, _) | (RestartPolicy::Ask, Asked::Yes) => true,
    };
    if !consent {
        front.status(&left);
        return Ok(false);
    }
    let taking = match &record.step.undo {
        Undo::PowerShell(call) => Taking::PowerShell(call.clone()),
        Undo::Run(invocation) => Taking::Run(invocation.clone()),
        Undo::Qmp(command) => Taking::Qmp(command.clone()),
        _ => return Ok(false),
    };
    front.status(&format!("Powering the VM of `{name}` off again."));
    let runner = hosts.runner(&record.step.host)?;
    let wait = Wait::new(
        Deadline::after(Instant::now(), SHUTDOWN),
        Cancel::new(),
        format!("the VM of `{name}` to end"),
    );
    act(&taking, runner.as_ref(), &wait).map_err(|problem| problem.hint(left))?;
    Ok(true)
}
