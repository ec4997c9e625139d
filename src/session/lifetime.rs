//! VMs that a session started end with it, and those that were kept end with `vmserial down`.

use crate::model::{Problem, TargetName};
use crate::plan::Action;
use crate::session::Front;
use crate::session::apply::ApplyOptions;
use crate::session::execute::step_wait;
use crate::session::interrupt::Interrupt;
use crate::session::journal::{Entry, Found, Journal, StepRecord, StepState};
use crate::session::marks;
use crate::session::planning::Hosts;
use crate::session::undo::act;
use crate::session::undo_plan::{Taking, started_process};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

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

    /// Ends the processes that were started since, whether that apply succeeded or not, and says so in its entry.
    /// Everything else of the entry stays in force.
    ///
    /// # Errors
    ///
    /// A process could not be ended; the entry still has it, so `vmserial undo` can.
    pub fn end(&self, target: &TargetName, hosts: &dyn Hosts, front: &mut dyn Front) -> Result<(), Problem> {
        for mut entry in entries(&self.journal)? {
            if !self.before.contains(&entry.id) {
                let wanted = |name: Option<&TargetName>| name == Some(target);
                if end_processes(&mut entry, wanted, hosts, front)? > 0 {
                    clear(&self.run.join(target.as_str()));
                }
            }
        }
        Ok(())
    }
}

/// Ends every VM of these targets that vmserial started and that still runs. Returns how many that were.
///
/// # Errors
///
/// The journal cannot be read, or a process cannot be ended.
pub fn end_vms(
    targets: &[TargetName],
    hosts: &dyn Hosts,
    options: &ApplyOptions,
    front: &mut dyn Front,
) -> Result<usize, Problem> {
    let mut count = 0;
    for mut entry in entries(&journal(hosts, options)?)? {
        let wanted = |name: Option<&TargetName>| name.is_some_and(|name| targets.contains(name));
        count += end_processes(&mut entry, wanted, hosts, front)?;
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
        .flat_map(|entry| &entry.data.steps)
        .filter(|record| is_started(record))
        .filter_map(|record| record.step.target.clone())
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

fn is_started(record: &StepRecord) -> bool {
    matches!(record.step.action, Action::Start { .. }) && record.state.is_in_force()
}

fn end_processes(
    entry: &mut Entry,
    wanted: impl Fn(Option<&TargetName>) -> bool,
    hosts: &dyn Hosts,
    front: &mut dyn Front,
) -> Result<usize, Problem> {
    // Ctrl-C has ended the session already; it must not keep a VM alive.
    let interrupt = Interrupt::default();
    let mut count = 0;
    for index in (0..entry.data.steps.len()).rev() {
        let record = entry.data.steps[index].clone();
        if is_started(&record) && wanted(record.step.target.as_ref()) {
            let runner = hosts.runner(&record.step.host)?;
            let wait = step_wait(&record.step, &record.step.summary, &interrupt.hard);
            match started_process(&record, runner.as_ref(), &wait)? {
                Some(process) => {
                    let pid = process.pid;
                    act(&Taking::Stop(process), runner.as_ref(), &wait)?;
                    front.status(&format!("Ended the process {pid}."));
                    count += 1;
                }
                None => front.status("The process has ended already."),
            }
            entry.mark(index, StepState::Undone)?;
        }
    }
    Ok(count)
}
