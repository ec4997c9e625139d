//! Looks at a Linux guest and plans what is wanted of it, through any runner that reaches it.

use crate::guest::linux::LinuxFacts;
use crate::guest::linux::boot::{self, BootWish};
use crate::guest::linux::facts::OBSERVE;
use crate::guest::linux::live::{self, Files, LiveWish, Place, look_at_echo};
use crate::model::{FailureKind, HostPath, Invocation, Problem, Wait};
use crate::plan::Step;
use crate::runner::local::must_succeed;
use crate::runner::{RunError, Runner};

/// What is wanted of a Linux guest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinuxWish {
    /// Without a reboot.
    pub live: LiveWish,
    /// From the next boot on.
    pub boot: BootWish,
}

/// Looks at a guest, or at the root folder of one.
///
/// # Errors
///
/// The host's refusal, or an answer that makes no sense: it is no Linux.
pub fn look(runner: &dyn Runner, root: Option<&str>, wait: &Wait) -> Result<LinuxFacts, Problem> {
    let arguments = ["-c", OBSERVE, "sh", root.unwrap_or_default()];
    let invocation = Invocation::reads("sh", arguments);
    let output = runner.run(&invocation, wait).map_err(|error| match error {
        RunError::ProgramNotFound { program, host } => Problem::new(
            FailureKind::Precondition,
            format!("there is no `{program}` on {host}: it is no Linux guest"),
        ),
        error => error.into(),
    })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    LinuxFacts::parse(&text).map_err(|error| {
        // A look that failed says why on standard error; the script itself is no news to anybody.
        let words = crate::runner::local::tail(&output.stderr);
        Problem::new(
            FailureKind::Host,
            format!("cannot look at the guest on {}: {error}{words}", runner.host()),
        )
    })
}

/// Looks at what is wanted beside the facts, and plans.
///
/// # Errors
///
/// The guest cannot have it, or the host refuses to be looked at.
pub fn plan(
    runner: &dyn Runner,
    place: &Place,
    facts: &LinuxFacts,
    wish: &LinuxWish,
    wait: &Wait,
) -> Result<Vec<Step>, Problem> {
    let mut files = Files::new();
    if wish.live.keep_sysrq {
        read(runner, place, live::SYSCTL, &mut files, wait)?;
    }
    for path in boot::files_to_read(facts, &wish.boot) {
        read(runner, place, &path, &mut files, wait)?;
    }
    let echoes = match &wish.live.no_echo {
        Some(tty) => Some(echoes(runner, tty, wait)?),
        None => None,
    };
    let mut steps = live::steps(place, facts, &wish.live, echoes, &files)?;
    steps.extend(boot::steps(place, facts, &wish.boot, &files)?);
    Ok(steps)
}

fn read(
    runner: &dyn Runner,
    place: &Place,
    path: &str,
    files: &mut Files,
    wait: &Wait,
) -> Result<(), Problem> {
    let path_there: HostPath = place.path(path);
    let file = runner.read(&path_there, wait)?;
    files.insert(path.to_owned(), file.map(|file| file.bytes));
    Ok(())
}

fn echoes(runner: &dyn Runner, tty: &str, wait: &Wait) -> Result<bool, Problem> {
    let look = look_at_echo(tty);
    let output = runner.run(&look, wait)?;
    let output = must_succeed(runner.host(), &look, output)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim() == "on")
}
