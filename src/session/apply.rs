//! Observe, plan, show, confirm, apply, observe again.

use crate::model::{Deadline, FailureKind, HostRef, Observed, Problem, TargetName, TargetSpec, Wait};
use crate::plan::conflict::check_conflicts;
use crate::plan::{Action, Plan, PlanContext, Step, show};
use crate::runner::ProcessRef;
use crate::session::Front;
use crate::session::consent::consent;
use crate::session::guest_stage::{self, GuestLook};
use crate::session::interrupt::Interrupt;
use crate::session::journal::{Entry, EntryData, Journal, SharedEntry, TargetRecord};
use crate::session::lock::{Locks, lock};
use crate::session::marks::{self, Access};
use crate::session::planning::{self, Hosts, Seen, check_served, first_context, plan};
use crate::session::side_by_side;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use crate::session::consent::Consent;
pub use crate::session::marks::host_folder;

/// How long looking at all hosts may take.
const OBSERVE: Duration = Duration::from_secs(60);

/// More rounds than this of stages that follow from stages is a defect of a driver.
const MOST_ROUNDS: usize = 8;

/// How an apply is wanted. A `--restart` of the command line is written into the targets before.
#[derive(Debug, Clone)]
pub struct ApplyOptions {
    /// Show, ask or go on.
    pub consent: Consent,
    /// Names of steps that are confirmed beforehand (`--confirm`).
    pub confirmed: Vec<String>,
    /// Take ports away instead of setting them up (`setup --remove`).
    pub remove: bool,
    /// Start VMs that the profile describes wholly, and those that are off (`debug`, `up`).
    pub start_vm: bool,
    /// Whether the insides of guests belong to the plan.
    pub guests: GuestLook,
    /// State folder.
    pub state: PathBuf,
    /// Where this machine keeps copies of what was done to it (see [`marks::host_folder`]).
    pub host_folder: Option<PathBuf>,
    /// Ctrl-C.
    pub interrupt: Interrupt,
}

/// What came of it.
#[derive(Debug)]
pub struct Applied {
    /// The plan as it was first shown.
    pub plan: Plan,
    /// The journal entry, if a step ran.
    pub journal: Option<String>,
    /// The targets as they were seen last, in their order.
    pub observed: Vec<Observed>,
    /// Processes that were started and outlive us: VMs. [`crate::session::lifetime::end_vms`] ends them.
    pub started: Vec<(Option<TargetName>, ProcessRef)>,
}

/// A plan, and what stands against the targets that it leaves out.
#[derive(Debug)]
pub struct Planned {
    /// The plan of the others.
    pub plan: Plan,
    /// Who is left out and why; its kind is [`FailureKind::SomeTargets`].
    pub refused: Option<Problem>,
}

/// Looks at the targets and plans them; changes nothing. A target that cannot be planned does not stop the others.
///
/// # Errors
///
/// What stands against it: conflicts, a host's refusal, a driver's of all targets.
pub fn plan_only(
    hosts: &dyn Hosts,
    targets: &[TargetSpec],
    options: &ApplyOptions,
) -> Result<Planned, Problem> {
    let first = first_plan(hosts, targets, options)?;
    Ok(Planned {
        refused: failed_of(targets.len(), first.refused),
        plan: first.plan,
    })
}

/// What a first look led to.
struct FirstPlan {
    plan: Plan,
    /// The targets that are planned, with their VMs and contexts.
    targets: Vec<TargetSpec>,
    vms: Vec<Observed>,
    contexts: Vec<PlanContext>,
    refused: Vec<(TargetName, Problem)>,
}

fn first_plan(
    hosts: &dyn Hosts,
    targets: &[TargetSpec],
    options: &ApplyOptions,
) -> Result<FirstPlan, Problem> {
    check_conflicts(targets)?;
    let seen = look(hosts, targets, options, false)?;
    let contexts: Vec<PlanContext> = seen
        .vms
        .iter()
        .map(|observed| first_context(observed, options.remove, options.start_vm))
        .collect();
    let (plan, unplanned) = plan(hosts, &seen, &contexts)?;
    let is_planned = |target: &TargetSpec| !unplanned.iter().any(|(name, _)| *name == target.name);
    let keep: Vec<bool> = seen.targets.iter().map(is_planned).collect();
    Ok(FirstPlan {
        plan,
        targets: kept(seen.targets, &keep),
        vms: kept(seen.vms, &keep),
        contexts: kept(contexts, &keep),
        refused: seen.refused.into_iter().chain(unplanned).collect(),
    })
}

/// Makes one problem of those of some targets; `None` if there are none.
fn failed_of(targets: usize, failures: Vec<(TargetName, Problem)>) -> Option<Problem> {
    if failures.is_empty() {
        return None;
    }
    let lines: Vec<String> = failures
        .iter()
        .map(|(target, problem)| format!("\n    {target}: {problem}"))
        .collect();
    let message = format!(
        "{} of {targets} targets failed:{}",
        failures.len(),
        lines.concat()
    );
    let mut problem = Problem::new(FailureKind::SomeTargets, message);
    for hint in failures.into_iter().flat_map(|(_, problem)| problem.hints) {
        if !problem.hints.contains(&hint) {
            problem.hints.push(hint);
        }
    }
    Some(problem)
}

/// Looks at hosts, VMs and guests. `patient`: guests that were just started get their time to boot.
fn look(
    hosts: &dyn Hosts,
    targets: &[TargetSpec],
    options: &ApplyOptions,
    patient: bool,
) -> Result<Seen, Problem> {
    let deadline = Deadline::after(Instant::now(), OBSERVE);
    let wait = Wait::new(deadline, options.interrupt.soft.clone(), "the hosts");
    let mut seen = planning::look(hosts, targets, &wait)?;
    seen.guests = guest_stage::look(hosts, &seen.targets, &seen.vms, options, patient)?;
    Ok(seen)
}

/// Brings the targets to what is wanted. Success is claimed only when a last look finds nothing left to change.
///
/// A target whose step fails is left there; the others go on.
///
/// # Errors
///
/// No consent ([`FailureKind::Precondition`] without a terminal, [`FailureKind::AnsweredNo`]), a step's failure
/// ([`FailureKind::SomeTargets`] where others succeeded), or a change that did not take. What was done by then is in
/// the journal, and the hint says how it is taken back.
pub fn plan_and_apply(
    hosts: &dyn Hosts,
    targets: &[TargetSpec],
    options: &ApplyOptions,
    front: &mut dyn Front,
) -> Result<Applied, Problem> {
    if options.consent == Consent::ShowOnly {
        let first = first_plan(hosts, targets, options)?;
        front
            .planned(&first.plan)
            .map_err(|error| Problem::new(FailureKind::Host, format!("cannot print the plan: {error}")))?;
        return match failed_of(targets.len(), first.refused) {
            Some(problem) => Err(problem),
            None => Ok(Applied {
                plan: first.plan,
                journal: None,
                observed: first.vms,
                started: Vec::new(),
            }),
        };
    }
    check_served(targets)?;
    check_conflicts(targets)?;
    let records: Vec<TargetRecord> = targets.iter().map(TargetRecord::from).collect();
    // Before the look: what somebody else is about to change must not be planned on.
    let locks = lock(&options.state, &records)?;
    let hosts_wanted: BTreeSet<&HostRef> = targets.iter().map(|target| &target.host).collect();
    if hosts_wanted.len() > 1 {
        front.status(&format!(
            "Looking at {} targets on {} hosts.",
            targets.len(),
            hosts_wanted.len()
        ));
    }
    let first = first_plan(hosts, targets, options)?;
    for (target, problem) in &first.refused {
        front.warning(&format!("`{target}` is left out: {problem}"));
    }
    if first.plan.is_empty() {
        if let Some(problem) = failed_of(targets.len(), first.refused) {
            return Err(problem);
        }
        first.plan.notes().for_each(|note| front.status(note));
        front.status("Nothing to change.");
        return Ok(Applied {
            plan: first.plan,
            journal: None,
            observed: first.vms,
            started: Vec::new(),
        });
    }
    let mut apply = Apply {
        hosts,
        options,
        front,
        journal: marks::journal(hosts, &options.state, options.host_folder.as_deref())?,
        locks,
        entry: None,
        refused: first.refused,
        failures: Vec::new(),
        names_targets: targets.len() > 1,
    };
    match apply.rounds(&first.targets, &first.contexts, &first.plan) {
        Ok(observed) => apply.finish(first.plan, observed, targets.len()),
        Err(problem) => Err(apply.told(problem)),
    }
}

/// An apply on its way.
struct Apply<'a> {
    hosts: &'a dyn Hosts,
    options: &'a ApplyOptions,
    front: &'a mut dyn Front,
    journal: Journal,
    locks: Locks,
    entry: Option<Entry>,
    /// Targets that were left out.
    refused: Vec<(TargetName, Problem)>,
    /// Targets of which a step failed.
    failures: Vec<(TargetName, Problem)>,
    /// Progress tells whose step it is.
    names_targets: bool,
}

impl Apply<'_> {
    /// Plans and applies stage after stage until nothing is left to change.
    fn rounds(
        &mut self,
        targets: &[TargetSpec],
        contexts: &[PlanContext],
        first: &Plan,
    ) -> Result<Vec<Observed>, Problem> {
        let mut alive: Vec<TargetSpec> = targets.to_vec();
        let mut contexts = contexts.to_vec();
        let mut round = first.clone();
        for _ in 0..MOST_ROUNDS {
            if round.ready_steps().next().is_none() {
                self.front.show(&show::text(&round));
                let message = "a stage (shown above) still cannot be planned, though all before it are done";
                return Err(Problem::new(FailureKind::Host, message));
            }
            self.front.show(&show::text(&round));
            let confirmed = &self.options.confirmed;
            consent(self.options.consent, confirmed, &round, targets, self.front)?;
            self.round(&round, &alive)?;
            let failed = |target: &TargetSpec| self.failures.iter().any(|(name, _)| *name == target.name);
            let keep: Vec<bool> = alive.iter().map(|target| !failed(target)).collect();
            alive = kept(alive, &keep);
            contexts = kept(contexts, &keep);
            let had_later_stages = round.has_later_stages();
            let promised = guest_stage::are_promised(&round);
            if promised {
                self.front.status("Waiting for what was started, to look inside.");
            }
            let seen = look(self.hosts, &alive, self.options, promised)?;
            let is_seen = |target: &TargetSpec| seen.targets.contains(target);
            contexts = kept(contexts, &alive.iter().map(is_seen).collect::<Vec<_>>());
            self.refused.extend(seen.refused.iter().cloned());
            let (next, unplanned) = plan(self.hosts, &seen, &contexts)?;
            let is_planned = |target: &TargetSpec| !unplanned.iter().any(|(name, _)| *name == target.name);
            let keep: Vec<bool> = seen.targets.iter().map(is_planned).collect();
            self.refused.extend(unplanned.iter().cloned());
            self.failures
                .extend(guest_stage::broken_promises(&round.targets, &next.targets));
            round = next;
            alive = kept(seen.targets, &keep);
            contexts = kept(contexts, &keep);
            if round.is_empty() {
                return Ok(seen.vms);
            }
            if !had_later_stages {
                break;
            }
        }
        self.front.show(&show::text(&round));
        let message = "the steps ran, and this (shown above) is still to be changed";
        Err(Problem::new(FailureKind::Host, message).hint("Somebody else may set it back: look at the host."))
    }

    /// Runs what can be done from one observation. A target's failure is noted; other failures end the apply.
    fn round(&mut self, plan: &Plan, targets: &[TargetSpec]) -> Result<(), Problem> {
        let steps: Vec<Step> = plan.ready_steps().cloned().collect();
        for host in plan.hosts.iter().filter(|host| !host.steps.is_empty()) {
            self.locks.take_host(&host.host)?;
        }
        for guest in guest_stage::guests_of(plan) {
            self.locks.take_host(guest)?;
        }
        let entry = match &mut self.entry {
            Some(entry) => entry,
            None => self.entry.insert(self.journal.begin(EntryData::begin())?),
        };
        let first = entry.data.steps.len();
        entry.data.add(steps.iter().cloned(), targets);
        entry.reach_copies(self.hosts, Access::Make);
        entry.save()?;
        tell_copy_trouble(entry, self.front);
        let ran = side_by_side::run(
            &steps,
            first,
            &SharedEntry::new(entry),
            self.hosts,
            &self.options.interrupt,
            self.names_targets,
            self.front,
        );
        self.failures.extend(ran.failures);
        ran.ended.map_or(Ok(()), Err)
    }

    fn finish(self, plan: Plan, observed: Vec<Observed>, targets: usize) -> Result<Applied, Problem> {
        let mut failures = self.refused;
        failures.extend(self.failures);
        if failures.len() == 1 && targets == 1 {
            let (_, problem) = failures.remove(0);
            return Err(told(problem, self.entry.as_ref()));
        }
        if let Some(problem) = failed_of(targets, failures) {
            return Err(told(problem, self.entry.as_ref()));
        }
        let entry = self.entry.as_ref();
        if let Some(entry) = entry {
            self.front
                .status(&format!("Done. `vmserial undo {}` takes it back.", entry.id));
        }
        Ok(Applied {
            plan,
            journal: entry.map(|entry| entry.id.clone()),
            observed,
            started: entry.map(started).unwrap_or_default(),
        })
    }

    fn told(self, problem: Problem) -> Problem {
        // What a target's step said comes first: the rest follows from it or came later.
        let problem = match self.failures.into_iter().next() {
            Some((_, failure)) if problem.kind != FailureKind::Interrupted => failure,
            _ => problem,
        };
        told(problem, self.entry.as_ref())
    }
}

/// Says, once, that a host will not be undone from a machine without this journal.
pub(super) fn tell_copy_trouble(entry: &mut Entry, front: &mut dyn Front) {
    if let Some(problem) = entry.take_copy_trouble() {
        front.warning(&format!("a host keeps no copy of its journal: {problem}"));
    }
}

fn kept<T>(all: Vec<T>, keep: &[bool]) -> Vec<T> {
    let flagged = all.into_iter().zip(keep);
    flagged.filter_map(|(one, keep)| keep.then_some(one)).collect()
}

fn started(entry: &Entry) -> Vec<(Option<TargetName>, ProcessRef)> {
    let steps = entry.data.steps.iter();
    let starts = steps.filter(|record| matches!(record.step.action, Action::Start { .. }));
    starts
        .filter_map(|record| Some((record.step.target.clone(), record.process.clone()?)))
        .collect()
}

/// Adds how to take back what was done before a failure.
pub(super) fn told(problem: Problem, entry: Option<&Entry>) -> Problem {
    let Some(entry) = entry.filter(|entry| entry.data.is_in_force()) else {
        return problem;
    };
    let problem = problem.hint(format!(
        "What was done until then is taken back by `vmserial undo {}`.",
        entry.id
    ));
    entry.data.left_off().into_iter().fold(problem, |problem, target| {
        problem.hint(format!(
            "The VM of `{target}` was powered off for this and did not come back: start it afterwards, an undo leaves its power as it is."
        ))
    })
}

#[cfg(test)]
mod tests;
