//! Runs one step, or takes one back. Makes no choices: everything is in the step and in the journal.

use crate::model::{Deadline, Digest, FailureKind, FileEdit, HostPath, Invocation, Problem, Wait};
use crate::plan::show::condition_text;
use crate::plan::{Action, Condition, QmpCommand, Undo};
use crate::render::edit;
use crate::runner::local::{must_succeed, tail};
use crate::runner::qmp::qmp;
use crate::runner::{FileSnapshot, ProcessRef, RunError, Runner};
use crate::session::interrupt::Interrupt;
use crate::session::journal::{EditRecord, Entry, StepRecord, StepState};
use std::time::{Duration, Instant};

/// How long a step that changes something may take.
const STEP: Duration = Duration::from_secs(120);

/// How long a condition is waited for: a VM's start or graceful end on a loaded host.
const CONDITION: Duration = Duration::from_secs(120);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Turns a runner's error into what a user meets, with its causes in one text.
pub fn problem(error: RunError) -> Problem {
    let kind = match &error {
        RunError::ProgramNotFound { .. } => FailureKind::NotFound,
        RunError::DeadlinePassed { .. } => FailureKind::Deadline,
        RunError::Cancelled { .. } => FailureKind::Interrupted,
        RunError::Changed { .. } | RunError::Unsupported { .. } => FailureKind::Precondition,
        RunError::Failed { .. } | RunError::Io { .. } => FailureKind::Host,
    };
    let mut message = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        message.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    let problem = Problem::new(kind, message);
    match error {
        RunError::Changed { .. } => problem.hint("Plan again: what is there now may need other steps."),
        RunError::ProgramNotFound { program, .. } if program.starts_with("qemu-system") => {
            problem.hint("Install it (Debian, Ubuntu: `apt-get install qemu-system-x86`).")
        }
        _ => problem,
    }
}

fn wait(what: &str, timeout: Duration, cancel: &crate::model::Cancel) -> Wait {
    Wait::new(Deadline::after(Instant::now(), timeout), cancel.clone(), what)
}

/// Runs step `index` of the entry, journalled before and after.
///
/// # Errors
///
/// The step's failure; its record says `failed` then, and that it changed nothing or what it changed.
pub fn run_step(
    entry: &mut Entry,
    index: usize,
    runner: &dyn Runner,
    interrupt: &Interrupt,
) -> Result<(), Problem> {
    let step = entry.data.steps[index].step.clone();
    let step_wait = wait(&step.summary, STEP, &interrupt.hard);
    let result = match &step.action {
        Action::Edit(edit) => run_edit(entry, index, edit, runner, &step_wait),
        action => {
            set(entry, index, StepState::Started)?;
            match action {
                Action::Run(invocation) => runner
                    .run(invocation, &step_wait)
                    .and_then(|output| must_succeed(runner.host(), invocation, output))
                    .map(|_| ())
                    .map_err(problem),
                Action::Start { invocation, log } => start(entry, index, invocation, log, runner, &step_wait),
                Action::Qmp(command) => qmp(runner, command, &step_wait)
                    .map(|_| ())
                    .map_err(Problem::from),
                Action::WaitFor(condition) => wait_while(
                    condition,
                    last_started(entry, index).as_ref(),
                    runner,
                    &wait(&condition_text(condition), CONDITION, &interrupt.soft),
                ),
                Action::Edit(_) => Ok(()),
            }
        }
    };
    match result {
        Ok(()) => set(entry, index, StepState::Done),
        Err(problem) => {
            entry.data.steps[index].error = Some(problem.message.clone());
            // A started process or an unfinished command may have had its effect: that is observed by undo.
            let uncertain = entry.data.steps[index].state == StepState::Started
                && !matches!(step.action, Action::Edit(_) | Action::WaitFor(_));
            set(
                entry,
                index,
                if uncertain {
                    StepState::Started
                } else {
                    StepState::Failed
                },
            )?;
            Err(problem)
        }
    }
}

fn set(entry: &mut Entry, index: usize, state: StepState) -> Result<(), Problem> {
    entry.data.steps[index].state = state;
    entry.save()
}

fn run_edit(
    entry: &mut Entry,
    index: usize,
    edit: &FileEdit,
    runner: &dyn Runner,
    wait: &Wait,
) -> Result<(), Problem> {
    refuse_while_held(edit, runner, wait)?;
    let before = runner.read(&edit.path, wait).map_err(problem)?;
    if before.as_ref().map(FileSnapshot::digest) != edit.planned_on {
        return Err(problem(RunError::Changed {
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
    let keys: Vec<&str> = edit
        .operations
        .iter()
        .map(crate::model::EditOperation::key)
        .collect();
    let values = edit::values(edit.format, bytes, &keys).map_err(malformed)?;
    let kept = before
        .as_ref()
        .map(|snapshot| entry.keep_before(index, snapshot))
        .transpose()?;
    entry.data.steps[index].edit = Some(EditRecord {
        before: kept,
        mode: before.as_ref().and_then(|snapshot| snapshot.mode),
        owner: before.as_ref().and_then(|snapshot| snapshot.owner),
        values,
        after: after.as_deref().map(Digest::of),
    });
    set(entry, index, StepState::Started)?;
    let new = after.map(|bytes| FileSnapshot {
        bytes,
        mode: None,
        owner: None,
    });
    runner
        .replace(&edit.path, new.as_ref(), edit.planned_on.as_ref(), wait)
        .map_err(problem)
}

/// Refuses an edit of a file that somebody holds in memory: it would be written over without a word.
fn refuse_while_held(edit: &FileEdit, runner: &dyn Runner, wait: &Wait) -> Result<(), Problem> {
    let Some(lock) = edit::lock_of(edit.format, &edit.path) else {
        return Ok(());
    };
    if !runner.exists(&lock, wait).map_err(problem)? {
        return Ok(());
    }
    Err(Problem::new(
        FailureKind::Precondition,
        format!("`{}` is in use: `{lock}` is there", edit.path),
    )
    .hint("Power the VM off and close its tab: its program writes the file over at power-off. Then run this again."))
}

fn start(
    entry: &mut Entry,
    index: usize,
    invocation: &Invocation,
    log: &HostPath,
    runner: &dyn Runner,
    wait: &Wait,
) -> Result<(), Problem> {
    let process = runner.start(invocation, log, wait).map_err(problem)?;
    entry.data.steps[index].process = Some(process);
    entry.save()
}

/// A process that an earlier step of the same apply started.
struct Started {
    process: ProcessRef,
    invocation: Invocation,
    log: HostPath,
}

/// Returns what the step right before was about, if it started a process: its condition is waited for then.
fn last_started(entry: &Entry, index: usize) -> Option<Started> {
    let record = entry.data.steps.get(index.checked_sub(1)?)?;
    let Action::Start { invocation, log } = &record.step.action else {
        return None;
    };
    Some(Started {
        process: record.process.clone()?,
        invocation: invocation.clone(),
        log: log.clone(),
    })
}

/// Waits until a condition is observed, never by connecting to a VM's port.
///
/// # Errors
///
/// The deadline or the user's Ctrl-C.
pub fn wait_for(condition: &Condition, runner: &dyn Runner, wait: &Wait) -> Result<(), Problem> {
    wait_while(condition, None, runner, wait)
}

/// Waits as [`wait_for`], and fails at once with its last words when the process that should bring it about has ended.
fn wait_while(
    condition: &Condition,
    started: Option<&Started>,
    runner: &dyn Runner,
    wait: &Wait,
) -> Result<(), Problem> {
    loop {
        if holds(condition, runner, wait)? {
            return Ok(());
        }
        if let Some(started) = started
            && !runner.is_running(&started.process, wait).map_err(problem)?
        {
            let log = runner.read(&started.log, wait).map_err(problem)?;
            let words = log.map_or_else(String::new, |log| tail(&log.bytes));
            return Err(Problem::new(
                FailureKind::Host,
                format!("`{}` ended at once{words}", started.invocation.program),
            )
            .hint(format!("Its words are in `{}`.", started.log)));
        }
        if wait.cancel.is_cancelled() {
            return Err(problem(RunError::Cancelled {
                what: wait.what.clone(),
            }));
        }
        let left = wait.deadline.remaining(Instant::now());
        if left.is_zero() {
            return Err(Problem::new(
                FailureKind::Deadline,
                format!("gave up waiting until {}", wait.what),
            ));
        }
        std::thread::park_timeout(LOOK.min(left));
    }
}

fn holds(condition: &Condition, runner: &dyn Runner, wait: &Wait) -> Result<bool, Problem> {
    match condition {
        Condition::PathExists { path } => runner.exists(path, wait).map_err(problem),
        Condition::PathAbsent { path } => runner.exists(path, wait).map(|there| !there).map_err(problem),
        Condition::TcpListens { port } => {
            let listing = Invocation::reads("ss", ["-ltnH"]);
            let output = runner.run(&listing, wait).map_err(problem)?;
            let suffix = format!(":{port}");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            Ok(text.lines().any(|line| {
                line.split_whitespace()
                    .nth(3)
                    .is_some_and(|local| local.ends_with(&suffix))
            }))
        }
        Condition::QmpAnswers { socket } => {
            let command = QmpCommand {
                socket: socket.clone(),
                execute: "query-status".to_owned(),
                arguments: serde_json::Value::Null,
            };
            Ok(qmp(runner, &command, &wait.renamed(format!("QMP at `{socket}`"))).is_ok())
        }
        Condition::OutputHasLine {
            invocation,
            line,
            present,
        } => {
            let output = runner.run(invocation, wait).map_err(problem)?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            Ok(text.lines().any(|printed| printed.trim() == line.trim()) == *present)
        }
    }
}

/// Takes one step back. Returns what was done, as a sentence.
///
/// # Errors
///
/// What stands against it: nothing of this step is changed then.
pub fn undo_step(
    record: &StepRecord,
    entry: &Entry,
    runner: &dyn Runner,
    interrupt: &Interrupt,
) -> Result<String, Problem> {
    let step_wait = wait(
        &format!("undo of: {}", record.step.summary),
        STEP,
        &interrupt.hard,
    );
    match (&record.step.undo, &record.step.action) {
        (Undo::Keys, Action::Edit(edit)) => undo_edit(record, edit, entry, runner, &step_wait),
        (Undo::Keys, _) => Err(Problem::new(
            FailureKind::Internal,
            "a step without an edit has no keys to put back",
        )),
        (Undo::Run(invocation), _) => {
            let output = runner.run(invocation, &step_wait).map_err(problem)?;
            must_succeed(runner.host(), invocation, output).map_err(problem)?;
            Ok(format!("Ran `{invocation}`."))
        }
        (Undo::Qmp(command), _) => {
            qmp(runner, command, &step_wait).map_err(Problem::from)?;
            Ok(format!("Sent QMP {}.", command.execute))
        }
        (Undo::StopProcess, _) => stop(record.process.as_ref(), runner, &step_wait),
        (Undo::Nothing { reason }, _) => Ok(format!("Nothing to take back ({reason}).")),
    }
}

fn stop(process: Option<&ProcessRef>, runner: &dyn Runner, wait: &Wait) -> Result<String, Problem> {
    match process {
        Some(process) if runner.is_running(process, wait).map_err(problem)? => {
            runner.stop(process, wait).map_err(problem)?;
            Ok(format!("Ended the process {}.", process.pid))
        }
        _ => Ok("The process has ended already.".to_owned()),
    }
}

fn undo_edit(
    record: &StepRecord,
    edit: &FileEdit,
    entry: &Entry,
    runner: &dyn Runner,
    wait: &Wait,
) -> Result<String, Problem> {
    let path = &edit.path;
    let Some(kept) = &record.edit else {
        return Ok(format!("`{path}` was not touched yet."));
    };
    refuse_while_held(edit, runner, wait)?;
    let original = kept
        .before
        .as_ref()
        .map(|name| entry.read_before(name))
        .transpose()?;
    let present = runner.read(path, wait).map_err(problem)?;
    let present_digest = present.as_ref().map(FileSnapshot::digest);
    if present_digest == edit.planned_on {
        return Ok(format!("`{path}` is as it was before."));
    }
    let restored = |bytes: Vec<u8>| FileSnapshot {
        bytes,
        mode: kept.mode,
        owner: kept.owner,
    };
    if present_digest == kept.after {
        runner
            .replace(
                path,
                original.map(restored).as_ref(),
                present_digest.as_ref(),
                wait,
            )
            .map_err(problem)?;
        return Ok(format!("`{path}` has its original bytes again."));
    }
    let Some(present) = present else {
        return Err(Problem::new(
            FailureKind::Precondition,
            format!("`{path}` is gone, so nothing of ours is in it"),
        ));
    };
    let malformed = |error: edit::EditError| {
        Problem::new(
            FailureKind::Precondition,
            format!("`{path}` can no longer be edited: {error}"),
        )
    };
    let keys: Vec<&str> = edit
        .operations
        .iter()
        .map(crate::model::EditOperation::key)
        .collect();
    let today = edit::values(edit.format, Some(&present.bytes), &keys).map_err(malformed)?;
    let (mut operations, mut conflicts) = (Vec::new(), Vec::new());
    for operation in &edit.operations {
        let key = operation.key();
        let before = kept.values.get(key).cloned().flatten();
        let now = today.get(key).cloned().flatten();
        if now == before {
            continue;
        }
        if now.as_deref() == operation.value() {
            operations.push(match before {
                Some(value) => crate::model::EditOperation::Set {
                    key: key.to_owned(),
                    value,
                },
                None => crate::model::EditOperation::Remove { key: key.to_owned() },
            });
        } else {
            let show =
                |value: Option<&str>| value.map_or("(absent)".to_owned(), |value| format!("`{value}`"));
            let name = if key.is_empty() { "the file" } else { key };
            conflicts.push(format!(
                "\n    {name}: before {}, ours {}, now {}",
                show(before.as_deref()),
                show(operation.value()),
                show(now.as_deref())
            ));
        }
    }
    if !conflicts.is_empty() {
        return Err(Problem::new(
            FailureKind::Precondition,
            format!(
                "somebody else changed what we set in `{path}`; nothing was taken back there:{}",
                conflicts.concat()
            ),
        )
        .hint("Put the values right by hand, or set them to ours and run `vmserial undo` again."));
    }
    let bytes = edit::apply(edit.format, Some(&present.bytes), &operations).map_err(malformed)?;
    let new = bytes.map(|bytes| FileSnapshot {
        bytes,
        mode: None,
        owner: None,
    });
    runner
        .replace(path, new.as_ref(), Some(&present.digest()), wait)
        .map_err(problem)?;
    Ok(format!(
        "`{path}` changed meanwhile: only our keys were put back."
    ))
}
