//! Observe, plan, show, confirm, apply, observe again.

use crate::model::{Deadline, FailureKind, Observed, Problem, TargetSpec, Wait};
use crate::plan::plan_of_targets::{check_conflicts, check_power};
use crate::plan::{Plan, PlanContext, show};
use crate::session::Front;
use crate::session::execute::run_step;
use crate::session::interrupt::Interrupt;
use crate::session::journal::{Entry, EntryData, FORMAT, Journal, StepRecord, StepState};
use crate::session::lock::lock;
use crate::session::planning::{Hosts, check_served, first_context, observe, plan};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long looking at all hosts may take.
const OBSERVE: Duration = Duration::from_secs(60);

/// More rounds than this of stages that follow from stages is a defect of a driver.
const MOST_ROUNDS: usize = 8;

/// What an apply does with its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// Only show it (`--plan`).
    ShowOnly,
    /// Ask on the terminal.
    Ask,
    /// Given beforehand (`--yes`).
    Given,
}

/// How an apply is wanted.
#[derive(Debug, Clone)]
pub struct ApplyOptions {
    /// Show, ask or go on.
    pub consent: Consent,
    /// Take ports away instead of setting them up (`setup --remove`).
    pub remove: bool,
    /// Start VMs that the profile describes wholly (`debug`, `up`).
    pub start_vm: bool,
    /// State folder.
    pub state: PathBuf,
    /// Where a host keeps copies of its entries.
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
    /// The targets as they were seen last.
    pub observed: Vec<Observed>,
}

/// Looks at the targets and plans them; changes nothing.
///
/// # Errors
///
/// What stands against it: conflicts, keys that are not served, a host's refusal.
pub fn plan_only(
    hosts: &dyn Hosts,
    targets: &[TargetSpec],
    options: &ApplyOptions,
) -> Result<(Plan, Vec<Observed>, Vec<PlanContext>), Problem> {
    check_served(targets)?;
    check_conflicts(targets)?;
    let observed = look(hosts, targets, options)?;
    let contexts: Vec<PlanContext> = observed
        .iter()
        .map(|observed| first_context(observed, options.remove, options.start_vm))
        .collect();
    let plan = plan(hosts, targets, &observed, &contexts)?;
    Ok((plan, observed, contexts))
}

fn look(hosts: &dyn Hosts, targets: &[TargetSpec], options: &ApplyOptions) -> Result<Vec<Observed>, Problem> {
    let deadline = Deadline::after(Instant::now(), OBSERVE);
    observe(
        hosts,
        targets,
        &Wait::new(deadline, options.interrupt.soft.clone(), "the hosts"),
    )
}

/// Brings the targets to what is wanted. Success is claimed only when a last look finds nothing left to change.
///
/// # Errors
///
/// No consent ([`FailureKind::Precondition`] without a terminal, [`FailureKind::AnsweredNo`]), a step's failure, or a
/// change that did not take. What was done by then is in the journal.
pub fn plan_and_apply(
    hosts: &dyn Hosts,
    targets: &[TargetSpec],
    options: &ApplyOptions,
    front: &mut dyn Front,
) -> Result<Applied, Problem> {
    let (first, mut observed, contexts) = plan_only(hosts, targets, options)?;
    if first.is_empty() {
        front.status("Nothing to change.");
        return Ok(Applied {
            plan: first,
            journal: None,
            observed,
        });
    }
    if options.consent == Consent::ShowOnly {
        front.show(&show::text(&first));
        return Ok(Applied {
            plan: first,
            journal: None,
            observed,
        });
    }
    let _locks = lock(&options.state, targets)?;
    let journal = Journal::new(&options.state, options.host_folder.as_deref());
    let mut entry: Option<Entry> = None;
    let mut round = first.clone();
    for _ in 0..MOST_ROUNDS {
        front.show(&show::text(&round));
        confirm(&round, targets, options, front)?;
        let ran = run_round(&round, hosts, &journal, &mut entry, options, front);
        if let Err(problem) = ran {
            return Err(told(problem, entry.as_ref()));
        }
        observed = look(hosts, targets, options).map_err(|problem| told(problem, entry.as_ref()))?;
        let had_later = round.has_later_stages();
        round =
            plan(hosts, targets, &observed, &contexts).map_err(|problem| told(problem, entry.as_ref()))?;
        if round.is_empty() {
            let journal = entry.map(|entry| entry.id);
            if let Some(id) = &journal {
                front.status(&format!("Done. `vmserial undo {id}` takes it back."));
            }
            return Ok(Applied {
                plan: first,
                journal,
                observed,
            });
        }
        if !had_later {
            break;
        }
    }
    front.show(&show::text(&round));
    let problem = Problem::new(
        FailureKind::Host,
        "the steps ran, and this is still to be changed (shown above)",
    )
    .hint("Somebody else may set it back: look at the host.");
    Err(told(problem, entry.as_ref()))
}

/// Adds how to take back what was done before a failure.
fn told(problem: Problem, entry: Option<&Entry>) -> Problem {
    match entry {
        Some(entry) if entry.data.is_in_force() => problem.hint(format!(
            "What was done until then is taken back by `vmserial undo {}`.",
            entry.id
        )),
        _ => problem,
    }
}

fn confirm(
    plan: &Plan,
    targets: &[TargetSpec],
    options: &ApplyOptions,
    front: &mut dyn Front,
) -> Result<(), Problem> {
    let no = || Problem::new(FailureKind::AnsweredNo, "nothing was changed: the answer was no");
    let broken = |error: std::io::Error| Problem::new(FailureKind::Host, format!("cannot ask: {error}"));
    for name in check_power(plan, targets)? {
        match front
            .ask(&format!(
                "`{name}` will be powered off and started again. Do that?"
            ))
            .map_err(broken)?
        {
            Some(true) => {}
            Some(false) => return Err(no()),
            None => {
                return Err(Problem::new(
                    FailureKind::Precondition,
                    format!("`{name}` must be powered off, and there is no terminal to ask on"),
                )
                .hint("Power it off yourself, or allow it with `--restart graceful`."));
            }
        }
    }
    if options.consent == Consent::Given {
        return Ok(());
    }
    match front.ask("Apply these steps?").map_err(broken)? {
        Some(true) => Ok(()),
        Some(false) => Err(no()),
        None => Err(Problem::new(
            FailureKind::Precondition,
            "changes need a yes, and there is no terminal to ask on",
        )
        .hint("Look at the plan with `--plan`, then run this with `--yes`.")),
    }
}

fn run_round(
    plan: &Plan,
    hosts: &dyn Hosts,
    journal: &Journal,
    entry: &mut Option<Entry>,
    options: &ApplyOptions,
    front: &mut dyn Front,
) -> Result<(), Problem> {
    let steps: Vec<_> = plan.ready_steps().cloned().collect();
    let first = match entry {
        Some(entry) => entry.data.steps.len(),
        None => 0,
    };
    let open = match entry {
        Some(open) => open,
        None => entry.insert(journal.begin(new_id(), new_entry())?),
    };
    for step in &steps {
        let record = StepRecord {
            state: StepState::Pending,
            step: step.clone(),
            edit: None,
            process: None,
            error: None,
        };
        open.data.steps.push(record);
        if !open.data.hosts.contains(&step.host) {
            open.data.hosts.push(step.host.clone());
        }
        if let Some(target) = &step.target
            && !open.data.targets.contains(target)
        {
            open.data.targets.push(target.clone());
        }
    }
    open.save()?;
    for (offset, step) in steps.iter().enumerate() {
        if options.interrupt.soft.is_cancelled() {
            return Err(Problem::new(
                FailureKind::Interrupted,
                "interrupted: no further step was started",
            ));
        }
        let runner = hosts.runner(&step.host)?;
        front.status(&format!("[{}/{}] {}", offset + 1, steps.len(), step.summary));
        run_step(open, first + offset, runner.as_ref(), &options.interrupt)?;
    }
    Ok(())
}

fn new_entry() -> EntryData {
    EntryData {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        time: jiff::Timestamp::now().to_string(),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        hosts: Vec::new(),
        targets: Vec::new(),
        steps: Vec::new(),
    }
}

/// `<UTC>-<8 hex>`; the time in a form that sorts, the rest so that two applies of one moment differ.
fn new_id() -> String {
    let now = jiff::Timestamp::now();
    let seed = format!("{}{}", now.as_nanosecond(), std::process::id());
    let digest = crate::model::Digest::of(seed.as_bytes());
    format!("{}-{}", now.strftime("%Y%m%dT%H%M%S%3fZ"), &digest.as_str()[..8])
}

/// Returns the folder in which this machine keeps copies of what was done to it: for everybody if we may write there,
/// else for this user.
pub fn host_folder(home_data: Option<&Path>) -> Option<PathBuf> {
    let system = Path::new("/var/lib/vmserial");
    if crate::session::sys::private_folder(system).is_ok() {
        return Some(system.to_owned());
    }
    home_data.map(|folder| folder.join("vmserial"))
}
