//! Plans and applies what a host has once, without any target: `setup helper`.

use crate::model::{FailureKind, HostRef, Problem};
use crate::plan::{HostPlan, Plan, Step};
use crate::session::Front;
use crate::session::apply::{ApplyOptions, tell_copy_trouble, told};
use crate::session::consent::{Consent, consent};
use crate::session::execute::run_step;
use crate::session::journal::{Entry, EntryData, SharedEntry};
use crate::session::lock::lock;
use crate::session::marks::{self, Access};
use crate::session::planning::Hosts;

/// Looks, shows, asks, applies, looks again.
///
/// # Errors
///
/// What stands against it, no consent, a step's failure, or a change that did not take.
pub fn apply_to_host(
    hosts: &dyn Hosts,
    host: &HostRef,
    look: &dyn Fn() -> Result<Vec<Step>, Problem>,
    options: &ApplyOptions,
    front: &mut dyn Front,
) -> Result<(), Problem> {
    let plan = |steps| Plan {
        hosts: vec![HostPlan {
            host: host.clone(),
            steps,
            notes: Vec::new(),
        }],
        ..Plan::default()
    };
    let steps = look()?;
    if options.consent == Consent::ShowOnly || steps.is_empty() {
        let shown = if steps.is_empty() {
            Plan::default()
        } else {
            plan(steps)
        };
        return front
            .planned(&shown)
            .map_err(|error| Problem::new(FailureKind::Host, format!("cannot print the plan: {error}")));
    }
    let mut locks = lock(&options.state, std::iter::empty())?;
    locks.take_host(host)?;
    // What somebody else did meanwhile is seen now, behind the lock.
    let steps = look()?;
    let shown = plan(steps.clone());
    front.show(&crate::plan::show::text(&shown));
    consent(options.consent, &options.confirmed, &shown, &[], front)?;
    let journal = marks::journal(hosts, &options.state, options.host_folder.as_deref())?;
    let mut entry = journal.begin(EntryData::begin())?;
    entry.data.add(steps.iter().cloned(), &[]);
    entry.reach_copies(hosts, Access::Make);
    entry.save()?;
    tell_copy_trouble(&mut entry, front);
    let done = run_steps(hosts, host, &mut entry, &steps, look, options, front);
    done.map_err(|problem| told(problem, Some(&entry)))?;
    front.status(&format!("Done. `vmserial undo {}` takes it back.", entry.id));
    Ok(())
}

/// Runs the steps, and sees that nothing is left to do.
fn run_steps(
    hosts: &dyn Hosts,
    host: &HostRef,
    entry: &mut Entry,
    steps: &[Step],
    look: &dyn Fn() -> Result<Vec<Step>, Problem>,
    options: &ApplyOptions,
    front: &mut dyn Front,
) -> Result<(), Problem> {
    let runner = hosts.runner(host)?;
    for (index, step) in steps.iter().enumerate() {
        front.status(&format!("[{}/{}] {}", index + 1, steps.len(), step.summary));
        run_step(
            &SharedEntry::new(entry),
            index,
            runner.as_ref(),
            &options.interrupt,
        )?;
    }
    if !look()?.is_empty() {
        let message = "the steps ran, and there is still something to be changed";
        return Err(
            Problem::new(FailureKind::Host, message).hint("Somebody else may set it back: look at the host.")
        );
    }
    Ok(())
}
