//! VMs that a session started end with it.

use crate::model::Problem;
use crate::plan::Action;
use crate::session::Front;
use crate::session::apply::ApplyOptions;
use crate::session::execute::undo_step;
use crate::session::interrupt::Interrupt;
use crate::session::journal::{Found, Journal, StepState};
use crate::session::planning::Hosts;

/// Ends the processes that the steps of a journal entry started, and says so in the entry. Everything else of the entry
/// stays in force.
///
/// # Errors
///
/// A process could not be ended; the entry still has it, so `vmserial undo` can.
pub fn end_started(
    id: &str,
    hosts: &dyn Hosts,
    options: &ApplyOptions,
    front: &mut dyn Front,
) -> Result<(), Problem> {
    let journal = Journal::new(&options.state, options.host_folder.as_deref());
    let found = journal.entries()?.into_iter().find_map(|found| match found {
        Found::Entry(entry) if entry.id == id => Some(entry),
        _ => None,
    });
    let Some(mut entry) = found else { return Ok(()) };
    // Ctrl-C has ended the session already; it must not keep a VM alive.
    let interrupt = Interrupt::default();
    for index in (0..entry.data.steps.len()).rev() {
        let record = entry.data.steps[index].clone();
        let started = matches!(record.step.action, Action::Start { .. })
            && matches!(record.state, StepState::Started | StepState::Done);
        if started {
            let runner = hosts.runner(&record.step.host)?;
            let done = undo_step(&record, &entry, runner.as_ref(), &interrupt)?;
            front.status(&done);
            entry.data.steps[index].state = StepState::Undone;
            entry.save()?;
        }
    }
    Ok(())
}
