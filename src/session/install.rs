//! Puts a whole file on a host, and takes it back.

use crate::model::{Digest, FailureKind, FileFormat, Problem, Wait};
use crate::plan::FileInstall;
use crate::runner::local::Local;
use crate::runner::{FileSnapshot, RunError, Runner};
use crate::session::journal::{EditRecord, Entry, SharedEntry, StepRecord, StepState};
use crate::session::undo_plan::Taking;
use std::collections::BTreeMap;

/// Runs the step: keeps what is there, then writes the new file or removes the old one.
///
/// # Errors
///
/// The file, or the one that it is copied from, changed since the plan; a host's refusal.
pub(super) fn run(
    entry: &SharedEntry<'_>,
    index: usize,
    install: &FileInstall,
    runner: &dyn Runner,
    wait: &Wait,
) -> Result<(), Problem> {
    let new = match &install.new {
        None => None,
        Some(source) => {
            let found = Local::new().read(&source.path, wait)?;
            let found = found
                .filter(|found| found.digest() == source.digest)
                .ok_or_else(|| {
                    Problem::from(RunError::Changed {
                        path: source.path.clone(),
                    })
                })?;
            Some(FileSnapshot {
                bytes: found.bytes,
                // Where there are modes, it is a program.
                mode: Some(0o755),
                owner: None,
            })
        }
    };
    let before = runner.read(&install.path, wait)?;
    let changed = || RunError::Changed {
        path: install.path.clone(),
    };
    if before.as_ref().map(FileSnapshot::digest) != install.planned_on {
        return Err(changed().into());
    }
    let kept = match &before {
        Some(snapshot) => Some(entry.keep_before(index, snapshot)?),
        None => None,
    };
    let edited = EditRecord {
        before: kept,
        mode: before.as_ref().and_then(|snapshot| snapshot.mode),
        owner: before.as_ref().and_then(|snapshot| snapshot.owner),
        values: BTreeMap::new(),
        after: new.as_ref().map(FileSnapshot::digest),
    };
    entry.note(index, |record| record.edit = Some(edited));
    entry.mark(index, StepState::Started)?;
    if let (Some(_), Some(folder)) = (&new, install.path.parent()) {
        runner.make_folder(&folder, wait)?;
    }
    match runner.replace(&install.path, new.as_ref(), install.planned_on.as_ref(), wait) {
        Err(error @ RunError::Changed { .. }) => {
            entry.note(index, |record| record.state = StepState::Pending);
            Err(error.into())
        }
        result => Ok(result?),
    }
}

/// Decides how the step is taken back: the file that was there returns, if what is there is ours.
///
/// # Errors
///
/// Precondition: it is neither ours nor what was there before; a host's refusal.
pub(super) fn taking(
    entry: &Entry,
    record: &StepRecord,
    install: &FileInstall,
    runner: &dyn Runner,
    wait: &Wait,
) -> Result<Taking, Problem> {
    let Some(kept) = &record.edit else {
        return Ok(Taking::Nothing("the file was not touched yet".to_owned()));
    };
    let path = &install.path;
    let today = runner.digest(path, wait)?;
    let original = match &kept.before {
        Some(name) => Some(entry.read_before(name)?),
        None => None,
    };
    if today == original.as_deref().map(Digest::of) {
        if record.state == StepState::Started && runner.has_rest(path, wait)? {
            return Ok(Taking::RemoveRest(path.clone()));
        }
        return Ok(Taking::Nothing(format!("`{path}` is as it was before")));
    }
    if today != kept.after {
        let message = format!("somebody else changed `{path}`, so it is left as it is");
        return Err(Problem::new(FailureKind::Precondition, message)
            .hint("Put it right by hand: what was there before is in the journal's folder `before`."));
    }
    Ok(Taking::Replace {
        path: path.clone(),
        format: FileFormat::Whole,
        new: original.map(|bytes| FileSnapshot {
            bytes,
            mode: kept.mode,
            owner: kept.owner,
        }),
        expected: today,
        original: true,
        diff: String::new(),
    })
}
