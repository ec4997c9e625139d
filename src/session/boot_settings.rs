//! Boot settings of a Windows guest: kept before they change, looked at before they are taken back, and looked at again until they
//! are as they were.

use crate::driver::registry::problem_of_script;
use crate::guest::windows::bcd::{Elements, HIDDEN, is_secret};
use crate::guest::windows::bitlocker;
use crate::guest::windows::facts::{BitLocker, WindowsFacts};
use crate::guest::windows::program::{self, SCRIPT, Said};
use crate::guest::windows::refusal::Refusal;
use crate::guest::windows::restore::{State, read, runs, shown, state};
use crate::model::{FailureKind, Problem, ScriptCall, Wait};
use crate::plan::{BootSettingsUndo, Undo};
use crate::runner::{RunError, Runner};
use crate::session::journal::{EditRecord, Entry, SharedEntry, StepRecord};
use crate::session::undo_plan::Taking;
use crate::session::undo_refusal::refusal;
use std::collections::BTreeMap;

/// The first round sets a connection, the second mends what that left; a third has nothing to do.
const ROUNDS: usize = 3;

/// Runs one of our scripts for a step or its undo. One that runs programs fails when a program does: bcdedit's refusals come with a
/// status and words alone.
///
/// # Errors
///
/// What the script threw, or the program's refusal with what to do.
pub(super) fn run_script(call: &ScriptCall, runner: &dyn Runner, wait: &Wait) -> Result<(), Problem> {
    let answer = runner
        .powershell(call, wait)
        .map_err(|error| problem_of_script(call, error))?;
    if call.script != SCRIPT {
        return Ok(());
    }
    for (run, said) in program::runs(call)
        .unwrap_or_default()
        .iter()
        .zip(answered(&answer, runner)?)
    {
        if said.status != 0 {
            return Err(not_done(run, &said));
        }
    }
    Ok(())
}

/// Runs programs and returns what they said, whatever their status is.
///
/// # Errors
///
/// The way to the guest failed.
pub(super) fn ask(call: &ScriptCall, runner: &dyn Runner, wait: &Wait) -> Result<Vec<Said>, Problem> {
    let answer = runner.powershell(call, wait).map_err(|error| match error {
        RunError::NoPowerShell { host, .. } => Problem::new(
            FailureKind::Precondition,
            format!("there is no PowerShell on {host}: it is no Windows guest"),
        )
        .hint("A Linux guest is prepared by `vmserial guest linux`."),
        error => problem_of_script(call, error),
    })?;
    answered(&answer, runner)
}

fn answered(answer: &serde_json::Value, runner: &dyn Runner) -> Result<Vec<Said>, Problem> {
    program::said(answer).ok_or_else(|| {
        let message = format!("{} gave another answer than it should", runner.host());
        Problem::new(FailureKind::Host, message)
    })
}

fn not_done(run: &[String], said: &Said) -> Problem {
    let words: Vec<String> = run
        .iter()
        .map(|word| match word.split_once(':') {
            Some((name, _)) if is_secret(name) => format!("{name}:{HIDDEN}"),
            _ => word.clone(),
        })
        .collect();
    let line = words.join(" ");
    if run.first().is_some_and(|program| program == "bcdedit") {
        return Refusal::of(said).problem(&format!("run `{line}`"));
    }
    Problem::new(
        FailureKind::Host,
        format!("`{line}` ended with {} and said: {}", said.status, said.words()),
    )
    .hint("Is the login an elevated administrator's? `vmserial guest windows --show` tells.")
}

/// Returns the elements that an undo is about, as they are now.
fn now(undo: &BootSettingsUndo, runner: &dyn Runner, wait: &Wait) -> Result<(String, Elements), Problem> {
    let said = ask(&undo.look, runner, wait)?
        .into_iter()
        .next()
        .unwrap_or_default();
    if said.status != 0 {
        return Err(Refusal::of(&said).problem(&format!("look at what is to be changed: {}", undo.name)));
    }
    let elements = read(&undo.object, &said.text);
    Ok((said.text, elements))
}

/// Keeps what is there, before the change, in this journal alone: among it may be a key.
///
/// # Errors
///
/// It is no longer what the plan was made on; it cannot be read or kept.
pub(super) fn keep(
    entry: &SharedEntry<'_>,
    index: usize,
    undo: &BootSettingsUndo,
    runner: &dyn Runner,
    wait: &Wait,
) -> Result<(), Problem> {
    let (text, elements) = now(undo, runner, wait)?;
    let is_planned = undo
        .before
        .iter()
        .all(|(name, before)| elements.get(name) == before.as_deref());
    if !is_planned {
        let message = format!(
            "these boot settings changed since the plan was made: {}",
            undo.name
        );
        return Err(Problem::new(FailureKind::Precondition, message)
            .hint("Run this again: what is there now is looked at then."));
    }
    let kept = entry.keep_secret(index, text.as_bytes())?;
    let before = EditRecord {
        before: Some(kept),
        mode: None,
        owner: None,
        values: BTreeMap::new(),
        after: None,
    };
    entry.note(index, |record| record.edit = Some(before));
    Ok(())
}

fn kept(entry: &Entry, record: &StepRecord, undo: &BootSettingsUndo) -> Result<Elements, Problem> {
    let name = record.edit.as_ref().and_then(|edit| edit.before.as_deref());
    let name = name.ok_or_else(|| {
        Problem::new(
            FailureKind::Internal,
            "a step that changed boot settings has not kept what was there",
        )
    })?;
    let bytes = entry.read_before(name)?;
    Ok(read(&undo.object, &String::from_utf8_lossy(&bytes)))
}

/// Decides how what a step did inside a Windows guest is taken back, from how it is now.
///
/// # Errors
///
/// [`FailureKind::Precondition`] with the three versions if somebody else changed it after us; the guest's refusal.
pub(super) fn taking(
    entry: &Entry,
    record: &StepRecord,
    runner: &dyn Runner,
    wait: &Wait,
) -> Result<Taking, Problem> {
    match &record.step.undo {
        Undo::BootSettings(undo) => settings_taking(entry, record, undo, runner, wait),
        Undo::BitLocker { drive, look } => bitlocker_taking(drive, look, runner, wait),
        _ => Err(Problem::new(
            FailureKind::Internal,
            "a step that is none of a Windows guest is taken back as one",
        )),
    }
}

/// Decides how boot settings are taken back, from how they are now.
///
/// # Errors
///
/// [`FailureKind::Precondition`] with the three versions if somebody else changed them after us; the guest's refusal.
fn settings_taking(
    entry: &Entry,
    record: &StepRecord,
    undo: &BootSettingsUndo,
    runner: &dyn Runner,
    wait: &Wait,
) -> Result<Taking, Problem> {
    let (_, elements) = now(undo, runner, wait)?;
    match state(undo, &elements) {
        State::Before => Ok(Taking::Nothing("it is as it was before".to_owned())),
        State::Foreign(versions) => Err(refusal("the boot settings of its guest", &versions)),
        State::Ours => {
            let before = kept(entry, record, undo)?;
            Ok(Taking::BootSettings {
                shown: shown(undo, &before, &elements),
                undo: Box::new(undo.clone()),
                before,
            })
        }
    }
}

/// Decides how BitLocker's suspension is taken back: see [`bitlocker::take_back`].
///
/// # Errors
///
/// The way to the guest failed.
fn bitlocker_taking(
    drive: &str,
    look: &ScriptCall,
    runner: &dyn Runner,
    wait: &Wait,
) -> Result<Taking, Problem> {
    let said = ask(look, runner, wait)?.into_iter().next().unwrap_or_default();
    let mut facts = WindowsFacts::default();
    facts.take_bitlocker(&said);
    if facts.bitlocker == BitLocker::Unknown {
        let message = format!(
            "whether BitLocker guards {drive} of the guest cannot be told: {}",
            said.words()
        );
        return Err(Problem::new(FailureKind::Host, message)
            .hint("Is the login an elevated administrator's? `vmserial guest windows --show` tells."));
    }
    let run = bitlocker::take_back(drive, facts.bitlocker);
    Ok(Taking::PowerShell(program::run(&[run])))
}

/// Takes boot settings back, and looks until they are as they were.
///
/// # Errors
///
/// The guest's refusal, or they are still not as they were.
pub(super) fn take_back(
    undo: &BootSettingsUndo,
    before: &Elements,
    runner: &dyn Runner,
    wait: &Wait,
) -> Result<(), Problem> {
    for round in 0..ROUNDS {
        let (_, elements) = now(undo, runner, wait)?;
        let wanted = runs(undo, before, &elements, round == 0);
        if wanted.is_empty() {
            return Ok(());
        }
        if round + 1 == ROUNDS {
            break;
        }
        for run in &wanted {
            if let Some(word) = run.iter().find(|word| !program::is_plain(word)) {
                let name = word.split_once(':').map_or(word.as_str(), |(name, _)| name);
                let message = format!("a value that was there cannot be written by bcdedit again: `{name}`");
                return Err(Problem::new(FailureKind::Host, message).hint(
                    "Set it in the guest by hand; the journal's folder holds what bcdedit printed of it.",
                ));
            }
            run_script(&program::hidden(run), runner, wait)?;
        }
    }
    let message = format!(
        "bcdedit ran, and these boot settings are still not as they were: {}",
        undo.name
    );
    Err(Problem::new(FailureKind::Host, message)
        .hint("`vmserial guest windows --show` shows them; `vmserial undo` goes on where it stopped."))
}
