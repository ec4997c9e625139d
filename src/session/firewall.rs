//! Looks at a host's firewall, and changes it so that nobody is locked out: the host itself restores what was there unless
//! we come back by a new connection and say that all is well.

pub use crate::host_service::firewall::told;
use crate::host_service::firewall::{ObservedFirewall, check_own_way};
use crate::model::{Deadline, FailureKind, Invocation, Problem, Wait};
use crate::plan::{FirewallChange, Guard, LiveChange, LiveDigest};
use crate::render::iptables::{FILTER, RuleFile};
use crate::render::quote::shell_word;
use crate::runner::local::{must_succeed, tail};
use crate::runner::{FileSnapshot, Output, RunError, Runner, Status};
use std::time::{Duration, Instant};

const LOOK: &str = include_str!("../../templates/sh/firewall-look.sh");
const GUARD: &str = include_str!("../../templates/sh/firewall-guard.sh");

/// Between two looks at a host that is about to restore its rules.
const PAUSE: Duration = Duration::from_millis(500);

/// A guard's own steps, beyond the time that it waits.
const SLACK: Duration = Duration::from_secs(20);

/// With this status the guard's script says that somebody else's change waits to be confirmed.
const BUSY: Status = Status::Exited(11);

/// With this one that everything was restored before.
const TOO_LATE: Status = Status::Exited(12);

fn script(
    text: &str,
    words: impl IntoIterator<Item = String>,
    purpose: fn(Vec<String>) -> Invocation,
) -> Invocation {
    let front = ["-c", text, "sh"].into_iter().map(str::to_owned);
    purpose(front.chain(words).collect())
}

fn reads(words: Vec<String>) -> Invocation {
    Invocation::reads("sh", words)
}

fn changes(words: Vec<String>) -> Invocation {
    Invocation::changes("sh", words)
}

/// Looks at a host's firewall. A change that waits to be confirmed is waited for: it is about to be restored.
///
/// # Errors
///
/// The host's.
pub fn look(runner: &dyn Runner, wait: &Wait) -> Result<ObservedFirewall, Problem> {
    let invocation = script(LOOK, [], reads);
    let wait = &wait.renamed(format!(
        "{} to restore the firewall that nobody confirmed",
        runner.host()
    ));
    let mut observed = loop {
        let output = must_succeed(runner.host(), &invocation, runner.run(&invocation, wait)?)?;
        let observed = ObservedFirewall::parse(&output.stdout);
        if !observed.waits {
            break observed;
        }
        pause(wait)?;
    };
    for file in observed.rules.iter_mut().filter_map(|rules| rules.file.as_mut()) {
        file.bytes = runner.read(&file.path, wait)?.map(|snapshot| snapshot.bytes);
    }
    Ok(observed)
}

/// Waits until no change waits to be confirmed.
fn settle(runner: &dyn Runner, wait: &Wait) -> Result<(), Problem> {
    let wait = wait.renamed(format!(
        "{} to restore the firewall that nobody confirmed",
        runner.host()
    ));
    loop {
        let output = guard(runner, ["look".to_owned()], "", &wait)?;
        if output.stdout.is_empty() {
            return Ok(());
        }
        pause(&wait)?;
    }
}

fn pause(wait: &Wait) -> Result<(), Problem> {
    let what = wait.what.clone();
    if wait.cancel.is_cancelled() {
        return Err(RunError::Cancelled { what }.into());
    }
    let left = wait.deadline.remaining(Instant::now());
    if left.is_zero() {
        return Err(RunError::DeadlinePassed { what }.into());
    }
    std::thread::park_timeout(PAUSE.min(left));
    Ok(())
}

fn guard(
    runner: &dyn Runner,
    words: impl IntoIterator<Item = String>,
    stdin: &str,
    wait: &Wait,
) -> Result<Output, RunError> {
    let mut invocation = script(GUARD, words, changes);
    invocation.stdin = Some(stdin.to_owned());
    runner.run(&invocation, wait)
}

/// Refuses a change that was planned on other rules than those that are in force.
///
/// # Errors
///
/// Precondition.
pub(super) fn check_planned(
    change: &FirewallChange,
    runner: &dyn Runner,
    wait: &Wait,
) -> Result<(), Problem> {
    let Some(planned) = &change.planned_on else {
        return Ok(());
    };
    let output = must_succeed(runner.host(), &planned.look, runner.run(&planned.look, wait)?)?;
    if LiveDigest::of(&String::from_utf8_lossy(&output.stdout)) == planned.digest {
        return Ok(());
    }
    let message = format!(
        "the firewall's rules in force on {} changed since the plan was made",
        runner.host()
    );
    Err(Problem::new(FailureKind::Precondition, message).hint("Plan again: the rules are looked at anew."))
}

/// Asks the host whether the rules of a new file could be put in force.
///
/// # Errors
///
/// Its words; configuration if the file is no text.
pub(super) fn test_file(
    test: Option<&Invocation>,
    new: Option<&FileSnapshot>,
    runner: &dyn Runner,
    wait: &Wait,
) -> Result<(), Problem> {
    let (Some(test), Some(new)) = (test, new) else {
        return Ok(());
    };
    let text = std::str::from_utf8(&new.bytes).map_err(|_| {
        Problem::new(
            FailureKind::Configuration,
            "the file of rules is no UTF-8, so it cannot be tested",
        )
    })?;
    let with_text = Invocation {
        stdin: Some(text.to_owned()),
        ..test.clone()
    };
    let output = runner.run(&with_text, wait)?;
    if output.success() {
        return Ok(());
    }
    let words = tail(&output.stderr);
    let message = format!("`{test}` does not take the new rules, so nothing was changed:{words}");
    Err(Problem::new(FailureKind::Host, message))
}

/// A change that did not come about.
#[derive(Debug)]
pub(super) struct NotDone {
    /// Why.
    pub problem: Problem,
    /// Everything is as it was before, seen on the host.
    pub restored: bool,
}

impl From<Problem> for NotDone {
    /// Nothing was begun.
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            restored: true,
        }
    }
}

/// Changes the firewall under its guard: arms it, does the file's part and the rules in force, and confirms by a new
/// connection. Whatever fails, the host's old rules come back.
///
/// # Errors
///
/// What failed, and whether the old rules are back for sure.
pub(super) fn guarded(
    token: &str,
    change: &FirewallChange,
    live: &[LiveChange],
    runner: &dyn Runner,
    wait: &Wait,
    replace_file: &dyn Fn(&Wait) -> Result<(), Problem>,
) -> Result<(), NotDone> {
    arm(token, &change.guard, live, runner, wait)?;
    // Longer than that nothing may take: the host has restored everything then.
    let window = Wait {
        deadline: Deadline::after(Instant::now(), Duration::from_secs(change.guard.seconds))
            .min(wait.deadline),
        ..wait.clone()
    };
    let result = replace_file(&window).and_then(|()| {
        for one in live {
            let output = runner.run(&one.run, &window)?;
            must_succeed(runner.host(), &one.run, output)?;
        }
        confirm(token, runner, &window)
    });
    result.map_err(|problem| given_back(token, problem, &change.guard, runner, wait))
}

fn arm(
    token: &str,
    guarding: &Guard,
    live: &[LiveChange],
    runner: &dyn Runner,
    wait: &Wait,
) -> Result<(), Problem> {
    let or_none = |text: Option<&str>| text.unwrap_or("-").to_owned();
    let words = [
        "arm".to_owned(),
        token.to_owned(),
        guarding.seconds.to_string(),
        or_none(guarding.file.as_ref().map(|file| file.as_str())),
        or_none(guarding.save.as_deref()),
        or_none(guarding.restore.as_deref()),
        GUARD.to_owned(),
    ];
    // Where all rules are restored at once, nothing else is to be taken back.
    let back = match guarding.save {
        Some(_) => String::new(),
        None => back_lines(live)?,
    };
    let output = guard(runner, words, &back, wait)?;
    if output.status == BUSY {
        let message = format!(
            "somebody else's change of the firewall on {} waits to be confirmed",
            runner.host()
        );
        return Err(Problem::new(FailureKind::Precondition, message).hint("Run this again in a minute."));
    }
    if !output.success() {
        let message = format!(
            "the rules on {} could not be kept, so nothing was changed:{}",
            runner.host(),
            tail(&output.stderr)
        );
        return Err(Problem::new(FailureKind::Host, message));
    }
    Ok(())
}

/// Writes the commands that take changes back, for a shell, the newest first.
fn back_lines(live: &[LiveChange]) -> Result<String, Problem> {
    let mut lines = String::new();
    for change in live.iter().rev() {
        let words = std::iter::once(&change.back.program).chain(&change.back.arguments);
        let quoted: Result<Vec<String>, _> = words.map(|word| shell_word(word)).collect();
        let quoted = quoted.map_err(|error| Problem::new(FailureKind::Internal, error.to_string()))?;
        lines.push_str(&quoted.join(" "));
        lines.push('\n');
    }
    Ok(lines)
}

/// Tells the host that we are there, by a connection that was opened under the new rules.
fn confirm(token: &str, runner: &dyn Runner, wait: &Wait) -> Result<(), Problem> {
    runner.renew();
    let wait = wait.renamed("a new connection under the new rules");
    let output = guard(runner, ["confirm".to_owned(), token.to_owned()], "", &wait)?;
    match output.status {
        Status::Exited(0) => Ok(()),
        TOO_LATE => Err(Problem::new(
            FailureKind::Deadline,
            format!(
                "{} had restored its old rules before we could confirm the new ones",
                runner.host()
            ),
        )
        .hint("Give it more time: `--confirm-within 2m`.")),
        _ => Err(Problem::new(
            FailureKind::Host,
            format!(
                "the new rules on {} could not be confirmed:{}",
                runner.host(),
                tail(&output.stderr)
            ),
        )),
    }
}

/// Sees to it that the old rules are back: asks for that, or waits until the host has done it by itself.
fn given_back(token: &str, problem: Problem, guarding: &Guard, runner: &dyn Runner, wait: &Wait) -> NotDone {
    let until = Deadline::after(Instant::now(), Duration::from_secs(guarding.seconds) + SLACK);
    let patience = Wait {
        deadline: until,
        what: "the host's old rules to be back".to_owned(),
        ..wait.clone()
    };
    let is_back = || loop {
        runner.renew();
        let short = Wait {
            deadline: Deadline::after(Instant::now(), SLACK / 4).min(until),
            ..patience.clone()
        };
        // What it answers does not count: it may be done already. That nobody waits any more does.
        let asked = guard(runner, ["abandon".to_owned(), token.to_owned()], "", &short);
        if asked.is_ok() && settle(runner, &short).is_ok() {
            return true;
        }
        if pause(&patience).is_err() {
            return false;
        }
    };
    let restored = is_back();
    let told = match restored {
        true => format!(
            "{}\n  The firewall on {} is as it was before.",
            problem.message,
            runner.host()
        ),
        false => format!(
            "{}\n  {} restores its old rules by itself within {} s; it could not be reached to see that.",
            problem.message,
            runner.host(),
            guarding.seconds
        ),
    };
    NotDone {
        problem: Problem {
            message: told,
            ..problem
        },
        restored,
    }
}

/// Returns the changes that take these back, the newest first: those that are still as we left them.
///
/// # Errors
///
/// The host's; precondition if that would lock us out.
pub(super) fn ways_back(
    change: &FirewallChange,
    runner: &dyn Runner,
    wait: &Wait,
) -> Result<Vec<LiveChange>, Problem> {
    let observed = look(runner, wait)?;
    let mut back = Vec::new();
    for one in change.live.iter().rev() {
        let output = runner.run(&one.look, wait)?;
        if output.success() == one.adds {
            back.push(one.reversed());
        }
    }
    let save = change.planned_on.as_ref().map(|planned| &planned.look.program);
    let rules = observed.rules.iter().find(|rules| Some(&rules.save) == save);
    if let Some(Ok(text)) = rules.map(|rules| &rules.live)
        && let Ok(before) = RuleFile::parse(text.as_bytes())
    {
        let mut after = before.clone();
        for one in &back {
            let Some(rule) = &one.rule else { continue };
            // A rule that cannot be placed is not followed; its command tells why.
            let _ = if one.adds {
                after.set(rule, FILTER)
            } else {
                after.remove(rule)
            };
        }
        check_own_way(observed.ssh, &before, &after)?;
    }
    Ok(back)
}
