//! Takes back what the journal says was done: newest step first, only what is still ours.

use crate::model::{FailureKind, Problem};
use crate::plan::{Action, Undo};
use crate::session::Front;
use crate::session::apply::Consent;
use crate::session::execute::undo_step;
use crate::session::interrupt::Interrupt;
use crate::session::journal::{Entry, Found, Journal, StepState};
use crate::session::planning::Hosts;

/// Finds the entry to undo: by its name or the beginning of it, else the newest that is not wholly undone.
///
/// # Errors
///
/// There is none ([`FailureKind::NotFound`]), several begin so ([`FailureKind::Usage`]), or it is of an unknown format
/// ([`FailureKind::Configuration`]).
pub fn find(journal: &Journal, id: Option<&str>) -> Result<Option<Entry>, Problem> {
    let entries = journal.entries()?;
    let Some(wanted) = id else {
        return Ok(entries.into_iter().find_map(|found| match found {
            Found::Entry(entry) if entry.data.is_in_force() => Some(entry),
            _ => None,
        }));
    };
    let mut matching: Vec<Found> = entries
        .into_iter()
        .filter(|found| match found {
            Found::Entry(entry) => entry.id.starts_with(wanted),
            Found::Unknown { id, .. } => id.starts_with(wanted),
        })
        .collect();
    match (matching.pop(), matching.len()) {
        (None, _) => Err(Problem::new(
            FailureKind::NotFound,
            format!("the journal has no entry `{wanted}`"),
        )
        .hint("`vmserial journal` lists them.")),
        (Some(Found::Entry(entry)), 0) => Ok(Some(entry)),
        (Some(Found::Unknown { id, reason }), 0) => Err(Problem::new(
            FailureKind::Configuration,
            format!("the journal entry `{id}` cannot be undone: {reason}"),
        )
        .hint("Undo it with the version of vmserial that wrote it.")),
        (Some(_), more) => Err(Problem::new(
            FailureKind::Usage,
            format!("{} journal entries begin with `{wanted}`", more + 1),
        )
        .hint("Write more of the name.")),
    }
}

/// Returns the steps that an undo would take back, newest first, as text.
pub fn text(entry: &Entry) -> String {
    let mut text = format!("undo of {} (`{}`)\n", entry.id, entry.data.command);
    for record in entry.data.steps.iter().rev() {
        let word = match record.state {
            StepState::Done => "done",
            StepState::Started => "started, is observed first",
            StepState::Pending | StepState::Undone | StepState::Failed => continue,
        };
        if matches!(record.step.action, Action::WaitFor(_)) {
            continue;
        }
        let how = match &record.step.undo {
            Undo::Keys => "puts our keys back".to_owned(),
            Undo::Run(invocation) => format!("runs `{invocation}`"),
            Undo::Qmp(command) => format!("sends QMP {}", command.execute),
            Undo::StopProcess => "ends the process".to_owned(),
            Undo::Nothing { reason } => format!("nothing ({reason})"),
        };
        text.push_str(&format!(
            "  {} [{}] ({word}): {how}\n",
            record.step.summary, record.step.host
        ));
    }
    text
}

/// Takes an entry back.
///
/// # Errors
///
/// No consent, or a step that cannot be taken back: the steps after it (older ones) stay as they are, and the next
/// undo begins there.
pub fn undo(
    mut entry: Entry,
    hosts: &dyn Hosts,
    consent: Consent,
    interrupt: &Interrupt,
    front: &mut dyn Front,
) -> Result<(), Problem> {
    front.show(&text(&entry));
    match consent {
        Consent::ShowOnly => return Ok(()),
        Consent::Given => {}
        Consent::Ask => {
            let asked = front
                .ask("Take these steps back?")
                .map_err(|error| Problem::new(FailureKind::Host, format!("cannot ask: {error}")))?;
            match asked {
                Some(true) => {}
                Some(false) => {
                    return Err(Problem::new(
                        FailureKind::AnsweredNo,
                        "nothing was taken back: the answer was no",
                    ));
                }
                None => {
                    return Err(Problem::new(
                        FailureKind::Precondition,
                        "an undo needs a yes, and there is no terminal to ask on",
                    )
                    .hint("Look at it with `--plan`, then run it with `--yes`."));
                }
            }
        }
    }
    for index in (0..entry.data.steps.len()).rev() {
        let record = entry.data.steps[index].clone();
        match record.state {
            StepState::Done | StepState::Started => {}
            StepState::Pending | StepState::Undone | StepState::Failed => continue,
        }
        if interrupt.soft.is_cancelled() {
            return Err(Problem::new(
                FailureKind::Interrupted,
                "interrupted: no further step was taken back",
            )
            .hint(format!("Go on with `vmserial undo {}`.", entry.id)));
        }
        if !matches!(record.step.action, Action::WaitFor(_)) {
            let runner = hosts.runner(&record.step.host)?;
            let done = undo_step(&record, &entry, runner.as_ref(), interrupt)?;
            front.status(&done);
        }
        entry.data.steps[index].state = StepState::Undone;
        entry.save()?;
    }
    front.status("Taken back.");
    Ok(())
}
