//! Takes back what the journal says was done: newest step first, only what is still ours.

use crate::model::{Deadline, FailureKind, Problem, RestartPolicy, ScriptCall, Wait};
use crate::plan::{Action, Step, Undo};
use crate::render::powershell::cmdlet_lines;
use crate::runner::Runner;
use crate::runner::local::must_succeed;
use crate::runner::qmp::qmp;
use crate::runner::ssh::options as logins;
use crate::session::Front;
use crate::session::boot_settings;
use crate::session::consent::{self, Consent};
use crate::session::execute::{refuse_while_held, run_step, step_wait};
use crate::session::firewall;
use crate::session::interrupt::Interrupt;
use crate::session::journal::{Entry, Found, Journal, SharedEntry, StepRecord, StepState};
use crate::session::lock::lock;
use crate::session::marks::Access;
use crate::session::planning::Hosts;
use crate::session::undo_plan::{Taking, UndoPlan, plan_undo};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a process may take to end before it is killed. QEMU writes its disks and ends within one.
const STOP: Duration = Duration::from_secs(10);

/// How an undo is wanted.
#[derive(Debug, Clone)]
pub struct UndoOptions {
    /// Show, ask or go on.
    pub consent: Consent,
    /// Names of steps whose undo is confirmed beforehand (`--confirm`).
    pub confirmed: Vec<String>,
    /// `--restart`; `None` is the policy that each target had.
    pub restart: Option<RestartPolicy>,
    /// State folder, for the locks.
    pub state: PathBuf,
    /// Ctrl-C.
    pub interrupt: Interrupt,
}

/// Finds the entry to undo: by its name or the beginning of it, else the newest that is not wholly undone. `None` if
/// there is nothing to undo.
///
/// # Errors
///
/// There is no such entry ([`FailureKind::NotFound`]), several begin so ([`FailureKind::Usage`]), or it, or one newer
/// than it, is of an unknown format ([`FailureKind::Configuration`]).
pub fn find(journal: &Journal, id: Option<&str>) -> Result<Option<Entry>, Problem> {
    let entries = journal.entries()?;
    let unknown = |id: &str, reason: &str, hint: &str| {
        let message = format!("the journal entry {id} cannot be undone: {reason}");
        Problem::new(FailureKind::Configuration, message)
            .hint("Undo it with the version of vmserial that wrote it.")
            .hint(hint)
    };
    let Some(wanted) = id else {
        for found in entries {
            match found {
                Found::Entry(entry) if entry.data.is_in_force() => return Ok(Some(*entry)),
                Found::Entry(_) => {}
                // It may have changed on top of what older entries did.
                Found::Unknown { id, reason } => {
                    let hint = "Name an older entry to undo that one all the same: `vmserial undo ID`.";
                    return Err(unknown(&id, &reason, hint));
                }
            }
        }
        return Ok(None);
    };
    let mut matching: Vec<Found> = entries
        .into_iter()
        .filter(|found| found.id().starts_with(wanted))
        .collect();
    match (matching.pop(), matching.len()) {
        (None, _) => Err(Problem::new(
            FailureKind::NotFound,
            format!("the journal has no entry `{wanted}`"),
        )
        .hint("`vmserial journal` lists them.")),
        (Some(Found::Entry(entry)), 0) => Ok(Some(*entry)),
        (Some(Found::Unknown { id, reason }), 0) => Err(unknown(
            &id,
            &reason,
            "`vmserial journal` shows what can be undone.",
        )),
        (Some(_), more) => {
            let message = format!("{} journal entries begin with `{wanted}`", more + 1);
            Err(Problem::new(FailureKind::Usage, message).hint("Write more of the name."))
        }
    }
}

/// Writes an undo as people read it, newest step first.
pub fn text(entry: &Entry, plan: &UndoPlan) -> String {
    let mut text = format!(
        "undo of {} ({}, `{}`):\n",
        entry.id, entry.data.time, entry.data.command
    );
    for step in plan.first.iter().filter(|step| step.power.is_some()) {
        text.push_str(&format!("  first: {}\n", step.summary));
        for line in action_lines(&step.action) {
            text.push_str(&format!("      {line}\n"));
        }
    }
    for step in &plan.steps {
        let record = &entry.data.steps[step.index];
        if matches!(record.step.action, Action::WaitFor(_)) {
            continue;
        }
        let uncertain = if record.state == StepState::Started {
            " (was begun; looked at now)"
        } else {
            ""
        };
        text.push_str(&format!(
            "  {}. take back: {}{uncertain}\n",
            step.index + 1,
            record.step.summary
        ));
        for line in taking_text(&step.taking).lines() {
            text.push_str(&format!("      {line}\n"));
        }
        if let (Some(name), true) = (&record.step.confirm, step.taking.changes()) {
            text.push_str(&format!(
                "      confirm: on the terminal, or with `--confirm {name}`; `--yes` does not cover it\n"
            ));
            for note in &record.step.notes {
                text.push_str(&format!("      note: {note}\n"));
            }
        }
    }
    for step in plan.first.iter().filter(|step| step.power.is_some()) {
        text.push_str(&format!("  last: take back: {}\n", step.summary));
        for line in undo_lines(&step.undo) {
            text.push_str(&format!("      {line}\n"));
        }
    }
    text
}

fn action_lines(action: &Action) -> Vec<String> {
    match action {
        Action::PowerShell(call) => powershell_lines(call),
        Action::Run(invocation) => vec![format!("$ {invocation}")],
        _ => Vec::new(),
    }
}

fn undo_lines(undo: &Undo) -> Vec<String> {
    match undo {
        Undo::PowerShell(call) => powershell_lines(call),
        Undo::Run(invocation) => vec![format!("$ {invocation}")],
        _ => Vec::new(),
    }
}

fn powershell_lines(call: &ScriptCall) -> Vec<String> {
    let lines = cmdlet_lines(call);
    lines.iter().map(|line| format!("PS> {line}")).collect()
}

/// An undo as data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UndoData {
    /// What is done before it: VMs that are powered off, each with `summary` and `do` in words.
    pub first: Vec<Value>,
    /// The steps that are taken back, newest first: `number`, `summary`, `state` as the journal has it, `undo` in words.
    pub steps: Vec<Value>,
    /// What of `first` is taken back at its end, with `summary` and `undo` in words.
    pub last: Vec<Value>,
}

/// Returns an undo as data.
pub fn data(entry: &Entry, plan: &UndoPlan) -> UndoData {
    let powers = || plan.first.iter().filter(|step| step.power.is_some());
    let first = powers().map(
        |step| json!({ "target": step.target, "summary": step.summary, "do": action_lines(&step.action) }),
    );
    let last = powers().map(
        |step| json!({ "target": step.target, "summary": step.summary, "undo": undo_lines(&step.undo) }),
    );
    UndoData {
        first: first.collect(),
        steps: steps_data(entry, plan),
        last: last.collect(),
    }
}

fn steps_data(entry: &Entry, plan: &UndoPlan) -> Vec<Value> {
    plan.steps
        .iter()
        .map(|step| (step, &entry.data.steps[step.index]))
        .filter(|(_, record)| !matches!(record.step.action, Action::WaitFor(_)))
        .map(|(step, record)| {
            json!({
                "number": step.index + 1, "summary": record.step.summary, "state": record.state,
                "undo": taking_text(&step.taking),
            })
        })
        .collect()
}

fn taking_text(taking: &Taking) -> String {
    match taking {
        Taking::Replace {
            new: None,
            path,
            diff,
            ..
        } => format!("removes `{path}`, which is as we made it\n{diff}"),
        Taking::Replace {
            original: true, diff, ..
        } => format!("the original bytes return\n{diff}"),
        Taking::Replace { diff, .. } => {
            format!("the file changed meanwhile: only our keys are put back\n{diff}")
        }
        Taking::Firewall { live, file, .. } => {
            let mut lines: Vec<String> = live.iter().map(|change| format!("$ {}", change.run)).collect();
            if matches!(**file, Taking::Replace { .. }) {
                lines.push(taking_text(file));
            }
            lines.join("\n")
        }
        Taking::Run(invocation) => format!("$ {invocation}"),
        Taking::Qmp(command) => format!(
            "QMP {} {} at {}",
            command.execute, command.arguments, command.socket
        ),
        Taking::PowerShell(call) => powershell_lines(call).join("\n"),
        Taking::BootSettings { shown, .. } => shown.trim_end().to_owned(),
        Taking::Stop(process) => format!("ends the process {}", process.pid),
        Taking::RemoveRest(path) => {
            format!("removes what had arrived of `{path}`, which itself was not touched yet")
        }
        Taking::Nothing(reason) => format!("nothing to do: {reason}"),
    }
}

/// Takes an entry back: looks, shows, asks, then acts, newest step first. Returns the steps as data, see [`data`].
///
/// # Errors
///
/// No consent, or something stands against it: nothing was touched then. A step that fails on the way: the steps after
/// it (older ones) stay as they are, and the next undo begins there.
pub fn undo(
    mut entry: Entry,
    hosts: &dyn Hosts,
    options: &UndoOptions,
    front: &mut dyn Front,
) -> Result<UndoData, Problem> {
    for (destination, login) in &entry.data.logins {
        // What the profile of today says comes first.
        if logins::login(destination).is_plain() {
            logins::set_login(destination, login.clone());
        }
    }
    let locks = match options.consent {
        Consent::ShowOnly => None,
        Consent::Ask | Consent::Given => Some(lock(&options.state, &entry.data.targets)?),
    };
    let mut plan = plan_undo(&entry, hosts, options.restart, &options.interrupt)?;
    let shown = text(&entry, &plan);
    let listed = data(&entry, &plan);
    if options.consent == Consent::ShowOnly {
        front
            .undo_planned(&shown)
            .map_err(|error| Problem::new(FailureKind::Host, error.to_string()))?;
        return Ok(listed);
    }
    front.show(&shown);
    consent::power(&plan.power_offs, &plan.policies, front)?;
    let named = named(&entry, &plan);
    let steps = named
        .iter()
        .filter_map(|step| Some((step, step.confirm.as_deref()?)));
    consent::by_name(&options.confirmed, steps, front)?;
    consent::yes(options.consent, "Take these steps back?", front)?;
    entry.reach_copies(hosts, Access::Look);
    let go_on = format!("Go on with `vmserial undo {}`.", entry.id);
    if !plan.first.is_empty() {
        power_off(&mut entry, &plan.first, hosts, &options.interrupt, front)
            .map_err(|problem| problem.hint(&go_on))?;
        // From what is there now; that the VMs are off is a step like any other, which is taken back last.
        plan = plan_undo(&entry, hosts, options.restart, &options.interrupt)
            .map_err(|problem| problem.hint(&go_on))?;
    }
    for step in &plan.steps {
        if options.interrupt.soft.is_cancelled() {
            let message = "interrupted: no further step was taken back";
            return Err(Problem::new(FailureKind::Interrupted, message).hint(go_on));
        }
        take(
            &mut entry,
            step.index,
            &step.taking,
            hosts,
            &options.interrupt,
            front,
        )
        .map_err(|problem| problem.hint(&go_on))?;
    }
    if let Some(problem) = entry.take_copy_trouble() {
        front.warning(&format!(
            "a host's own copy of the journal stays as it is: {problem}"
        ));
    }
    drop(locks);
    front.status("Taken back.");
    Ok(listed)
}

/// Returns the steps whose undo wants to be confirmed by its name.
fn named(entry: &Entry, plan: &UndoPlan) -> Vec<Step> {
    let changing = plan.steps.iter().filter(|step| step.taking.changes());
    let steps = changing.map(|step| &entry.data.steps[step.index].step);
    let named = steps.filter(|step| step.confirm.is_some());
    named
        .map(|step| Step {
            summary: format!("take back: {}", step.summary),
            ..step.clone()
        })
        .collect()
}

/// Powers VMs off for an undo. The steps become the entry's oldest, so that undo starts the VMs again last, also after a
/// kill in the middle.
fn power_off(
    entry: &mut Entry,
    steps: &[Step],
    hosts: &dyn Hosts,
    interrupt: &Interrupt,
    front: &mut dyn Front,
) -> Result<(), Problem> {
    let records = steps.iter().cloned().map(StepRecord::pending);
    entry.data.steps.splice(..0, records);
    entry.save()?;
    for (index, step) in steps.iter().enumerate() {
        front.status(&format!("First: {}", step.summary));
        let runner = hosts.runner(&step.host)?;
        run_step(&SharedEntry::new(entry), index, runner.as_ref(), interrupt)?;
    }
    Ok(())
}

/// Takes one step of an entry back, and notes it there.
pub(super) fn take(
    entry: &mut Entry,
    index: usize,
    taking: &Taking,
    hosts: &dyn Hosts,
    interrupt: &Interrupt,
    front: &mut dyn Front,
) -> Result<(), Problem> {
    let record = &entry.data.steps[index];
    let runner = hosts.runner(&record.step.host)?;
    let what = format!("undo of: {}", record.step.summary);
    if !matches!(record.step.action, Action::WaitFor(_)) && !matches!(taking, Taking::Nothing(_)) {
        front.status(&format!("Taking back: {}", record.step.summary));
    }
    let wait = step_wait(&record.step, &what, &interrupt.hard);
    if record.step.power.is_some() {
        entry.data.steps[index].undo_began = true;
        entry.save()?;
    }
    act(taking, runner.as_ref(), &wait)?;
    entry.mark(index, StepState::Undone)
}

/// Takes one step back.
pub(super) fn act(taking: &Taking, runner: &dyn Runner, wait: &Wait) -> Result<(), Problem> {
    match taking {
        Taking::Firewall {
            token,
            change,
            live,
            file,
        } => {
            if let Taking::Replace { new, .. } = &**file {
                firewall::test_file(change.test.as_ref(), new.as_ref(), runner, wait)?;
            }
            let replace_file = |wait: &Wait| act(file, runner, wait);
            firewall::guarded(token, change, live, runner, wait, &replace_file)
                .map_err(|not_done| not_done.problem)
        }
        Taking::Replace {
            path,
            format,
            new,
            expected,
            ..
        } => {
            refuse_while_held(*format, path, runner, wait)?;
            Ok(runner.replace(path, new.as_ref(), expected.as_ref(), wait)?)
        }
        Taking::Run(invocation) => {
            let output = runner.run(invocation, wait)?;
            must_succeed(runner.host(), invocation, output)?;
            Ok(())
        }
        Taking::PowerShell(call) => boot_settings::run_script(call, runner, wait),
        Taking::BootSettings { undo, before, .. } => boot_settings::take_back(undo, before, runner, wait),
        Taking::Qmp(command) => Ok(qmp(runner, command, wait).map(|_| ())?),
        Taking::Stop(process) => {
            let wait = Wait {
                deadline: Deadline::after(Instant::now(), STOP),
                ..wait.clone()
            };
            Ok(runner.stop(process, &wait)?)
        }
        Taking::RemoveRest(path) => Ok(runner.remove_rest(path, wait)?),
        Taking::Nothing(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
