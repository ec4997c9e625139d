//! Runs one step. Makes no choices: everything is in the step and in the journal.

use crate::model::{
    Cancel, Deadline, Digest, EditOperation, FailureKind, FileEdit, FileFormat, HostPath, Invocation,
    Problem, Wait,
};
use crate::plan::show::condition_text;
use crate::plan::{Action, FirewallChange, PowerChange, Step, Undo};
use crate::render::edit;
use crate::runner::local::{must_succeed, tail};
use crate::runner::qmp::qmp;
use crate::runner::{FileSnapshot, RunError, Runner};
use crate::session::boot_settings::{self, run_script};
use crate::session::condition::{Needed, wait_for};
use crate::session::firewall;
use crate::session::install;
use crate::session::interrupt::Interrupt;
use crate::session::journal::{EditRecord, SharedEntry, StepState};
use std::time::{Duration, Instant};

/// How long a step that changes something may take.
const STEP: Duration = Duration::from_secs(120);

/// How long a program may take to a host, a piece at a time.
const INSTALL: Duration = Duration::from_secs(600);

/// How long a guest may take to shut down: Windows with updates to install takes minutes.
pub(super) const SHUTDOWN: Duration = Duration::from_secs(300);

/// How long a condition is waited for: a VM's start on a loaded host.
const CONDITION: Duration = Duration::from_secs(120);

/// Makes the wait of a step, or of its undo.
pub(super) fn step_wait(step: &Step, what: &str, cancel: &Cancel) -> Wait {
    let time = match (&step.action, step.power) {
        (_, Some(PowerChange::OffGraceful)) => SHUTDOWN,
        (Action::WaitFor(_), _) => CONDITION,
        (Action::Install(_), _) => INSTALL,
        _ => STEP,
    };
    Wait::new(Deadline::after(Instant::now(), time), cancel.clone(), what)
}

/// Runs step `index` of the entry, journalled before and after.
///
/// # Errors
///
/// The step's failure; its record says `failed` then if it changed nothing, else `started`: undo observes it.
pub fn run_step(
    entry: &SharedEntry<'_>,
    index: usize,
    runner: &dyn Runner,
    interrupt: &Interrupt,
) -> Result<(), Problem> {
    let step = entry.record(index).step;
    let wait = step_wait(&step, &step.summary, &interrupt.hard);
    let result = match &step.action {
        Action::Edit(edit) => run_edit(entry, index, edit, runner, &wait),
        Action::Firewall(change) => run_firewall(entry, index, change, runner, &wait),
        Action::Install(install) => install::run(entry, index, install, runner, &wait),
        Action::Run(invocation) => entry.mark(index, StepState::Started).and_then(|()| {
            let output = runner.run(invocation, &wait)?;
            must_succeed(runner.host(), invocation, output)?;
            Ok(())
        }),
        Action::RunWithLog { invocation, log } => entry
            .mark(index, StepState::Started)
            .and_then(|()| run_with_log(invocation, log, runner, &wait)),
        Action::Start { invocation, log } => start(entry, index, invocation, log, runner, &wait),
        Action::Qmp(command) => entry
            .mark(index, StepState::Started)
            .and_then(|()| qmp(runner, command, &wait).map(|_| ()).map_err(Problem::from)),
        Action::PowerShell(call) => keep_first(entry, index, &step, runner, &wait).and_then(|()| {
            entry.mark(index, StepState::Started)?;
            run_script(call, runner, &wait)
        }),
        Action::WaitFor(condition) => {
            let wait = step_wait(&step, &condition_text(condition), &interrupt.soft);
            entry
                .mark(index, StepState::Started)
                .and_then(|()| wait_for(condition, &needed(entry, &step), runner, &wait))
        }
    };
    match result {
        Ok(()) => entry.mark(index, StepState::Done),
        Err(problem) => {
            entry.note(index, |record| record.error = Some(problem.message.clone()));
            let may_have_happened =
                entry.record(index).state == StepState::Started && !matches!(step.action, Action::WaitFor(_));
            let state = if may_have_happened {
                StepState::Started
            } else {
                StepState::Failed
            };
            // The step's own failure is the one to be told; a journal that cannot be written now says `started`,
            // which is observed.
            let _ = entry.mark(index, state);
            Err(problem)
        }
    }
}

/// Keeps what a step's undo puts back and no plan holds.
fn keep_first(
    entry: &SharedEntry<'_>,
    index: usize,
    step: &Step,
    runner: &dyn Runner,
    wait: &Wait,
) -> Result<(), Problem> {
    match &step.undo {
        Undo::BootSettings(settings) => boot_settings::keep(entry, index, settings, runner, wait),
        _ => Ok(()),
    }
}

/// Returns the processes that this apply started for the same target.
fn needed(entry: &SharedEntry<'_>, step: &Step) -> Vec<Needed> {
    let records = entry.records();
    let same_target = records
        .iter()
        .filter(|record| record.step.target == step.target && record.step.host == step.host);
    same_target
        .filter_map(|record| match (&record.step.action, &record.process) {
            (Action::Start { invocation, log }, Some(process)) => Some(Needed {
                process: process.clone(),
                log: log.clone(),
                command: invocation.program.clone(),
            }),
            _ => None,
        })
        .collect()
}

/// Reads the file, checks that it is the planned one, and keeps it. Returns what it becomes.
fn prepare_edit(
    entry: &SharedEntry<'_>,
    index: usize,
    edit: &FileEdit,
    runner: &dyn Runner,
    wait: &Wait,
) -> Result<Option<FileSnapshot>, Problem> {
    refuse_while_held(edit.format, &edit.path, runner, wait)?;
    let before = runner.read(&edit.path, wait)?;
    if before.as_ref().map(FileSnapshot::digest) != edit.planned_on {
        return Err(Problem::from(RunError::Changed {
            path: edit.path.clone(),
        }));
    }
    let bytes = before.as_ref().map(|snapshot| snapshot.bytes.as_slice());
    let malformed = |error: edit::EditError| {
        Problem::new(
            FailureKind::Configuration,
            format!("cannot edit `{}`: {error}", edit.path),
        )
    };
    let after = edit::apply(edit.format, bytes, &edit.operations).map_err(malformed)?;
    let keys: Vec<&str> = edit.operations.iter().map(EditOperation::key).collect();
    let values = edit::values(edit.format, bytes, &keys).map_err(malformed)?;
    let kept = match &before {
        Some(snapshot) => Some(entry.keep_before(index, snapshot)?),
        None => None,
    };
    let edited = EditRecord {
        before: kept,
        mode: before.as_ref().and_then(|snapshot| snapshot.mode),
        owner: before.as_ref().and_then(|snapshot| snapshot.owner),
        values,
        after: after.as_deref().map(Digest::of),
    };
    entry.note(index, |record| record.edit = Some(edited));
    Ok(after.map(|bytes| FileSnapshot {
        bytes,
        mode: None,
        owner: None,
    }))
}

fn run_edit(
    entry: &SharedEntry<'_>,
    index: usize,
    edit: &FileEdit,
    runner: &dyn Runner,
    wait: &Wait,
) -> Result<(), Problem> {
    let new = prepare_edit(entry, index, edit, runner, wait)?;
    entry.mark(index, StepState::Started)?;
    match runner.replace(&edit.path, new.as_ref(), edit.planned_on.as_ref(), wait) {
        Err(error @ RunError::Changed { .. }) => {
            entry.note(index, |record| record.state = StepState::Pending);
            Err(error.into())
        }
        result => Ok(result?),
    }
}

/// Changes the firewall: rules in force and their file, or nothing.
fn run_firewall(
    entry: &SharedEntry<'_>,
    index: usize,
    change: &FirewallChange,
    runner: &dyn Runner,
    wait: &Wait,
) -> Result<(), Problem> {
    firewall::check_planned(change, runner, wait)?;
    let new = match &change.file {
        Some(edit) => prepare_edit(entry, index, edit, runner, wait)?,
        None => None,
    };
    firewall::test_file(change.test.as_ref(), new.as_ref(), runner, wait)?;
    entry.mark(index, StepState::Started)?;
    let replace_file = |wait: &Wait| match &change.file {
        Some(edit) => Ok(runner.replace(&edit.path, new.as_ref(), edit.planned_on.as_ref(), wait)?),
        None => Ok(()),
    };
    let token = format!("{}-{index}", entry.id());
    let result = firewall::guarded(&token, change, &change.live, runner, wait, &replace_file);
    result.map_err(|not_done| {
        if not_done.restored {
            entry.note(index, |record| record.state = StepState::Pending);
        }
        not_done.problem
    })
}

/// Refuses an edit of a file that somebody holds in memory: it would be written over without a word.
///
/// # Errors
///
/// [`FailureKind::Precondition`] if it is held.
pub(super) fn refuse_while_held(
    format: FileFormat,
    path: &HostPath,
    runner: &dyn Runner,
    wait: &Wait,
) -> Result<(), Problem> {
    let Some(lock) = edit::lock_of(format, path) else {
        return Ok(());
    };
    if !runner.exists(&lock, wait)? {
        return Ok(());
    }
    Err(Problem::new(
        FailureKind::Precondition,
        format!("`{path}` is in use: `{lock}` is there"),
    )
    .hint("Power the VM off and close its tab: its program writes the file over at power-off. Then run this again."))
}

/// Runs a command whose failure's reason stands in a log of the host.
fn run_with_log(
    invocation: &Invocation,
    log: &HostPath,
    runner: &dyn Runner,
    wait: &Wait,
) -> Result<(), Problem> {
    // A log that cannot be read takes nothing from the command's own words.
    let read = || runner.read(log, wait).ok().flatten();
    let before = read();
    let output = runner.run(invocation, wait)?;
    let Err(error) = must_succeed(runner.host(), invocation, output) else {
        return Ok(());
    };
    let mut problem = Problem::from(error);
    if let Some(file) = read() {
        // A command that failed early wrote none: what is there may be of another start.
        let age = match before.is_some_and(|before| before.bytes == file.bytes) {
            true => ", which is as it was before",
            false => "",
        };
        let lines = tail(&file.bytes);
        problem.message = format!("{}\n  the last lines of `{log}`{age}:{lines}", problem.message);
    }
    Err(problem)
}

fn start(
    entry: &SharedEntry<'_>,
    index: usize,
    invocation: &Invocation,
    log: &HostPath,
    runner: &dyn Runner,
    wait: &Wait,
) -> Result<(), Problem> {
    entry.mark(index, StepState::Started)?;
    match runner.start(invocation, log, wait) {
        Ok(process) => {
            entry.note(index, |record| record.process = Some(process));
            Ok(())
        }
        Err(error @ RunError::ProgramNotFound { .. }) => {
            entry.note(index, |record| record.state = StepState::Pending);
            Err(error.into())
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::runner::local::Local;

    #[test]
    fn a_failure_is_told_with_the_last_lines_of_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("qemu-dm-dev.log");
        std::fs::write(&log, "started\nFailed to connect to '/x'\n").unwrap();
        // The tests' own program, which does not know this flag.
        let program = std::env::current_exe().unwrap();
        let invocation = Invocation::changes(program.to_string_lossy(), ["--no-such-flag"]);
        let log = HostPath::new(log.to_string_lossy());
        let wait = Wait::new(Deadline::after(Instant::now(), STEP), Cancel::new(), "a failure");
        let problem = run_with_log(&invocation, &log, &Local::new(), &wait).unwrap_err();
        assert_eq!(problem.kind, FailureKind::Host);
        assert!(problem.message.contains("no-such-flag"), "{problem}");
        // This one wrote nothing.
        let words = format!(
            "the last lines of `{log}`, which is as it was before:\n    started\n    Failed to connect to '/x'"
        );
        assert!(problem.message.ends_with(&words), "{problem}");
    }
}
