//! GRUB's environment (`grubenv`): read as text, changed by GRUB's own tool only, since its size is fixed.

use crate::guest::linux::facts::LinuxFacts;
use crate::guest::linux::live::{Files, Place};
use crate::model::{FailureKind, Invocation, Problem};
use crate::plan::{Action, Effect, SettingUndo, Step, Undo};

const VARIABLE: &str = include_str!("../../../../templates/sh/guest/grub-variable.sh");

/// Finds one of GRUB's tools by its short name: Debian calls it `grub-…`, the others `grub2-…`.
///
/// # Errors
///
/// The guest has none.
pub fn tool(facts: &LinuxFacts, name: &str) -> Result<String, Problem> {
    [format!("grub-{name}"), format!("grub2-{name}")]
        .into_iter()
        .find(|name| facts.has_program(name))
        .ok_or_else(|| {
            Problem::new(FailureKind::NotFound, format!("the guest has no `grub-{name}`"))
                .hint("Install GRUB's tools there: grub2-common (Debian), grub2-tools (Fedora).")
        })
}

/// Returns a variable's value; an empty one is none.
pub fn variable(environment: &str, name: &str) -> Option<String> {
    environment
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        .filter(|value| !value.is_empty())
        .map(str::to_owned)
}

/// Returns the look at one variable.
pub fn look_at(editenv: &str, name: &str) -> Invocation {
    Invocation::reads("sh", ["-c", VARIABLE, "sh", editenv, name])
}

/// Plans a menu that Fedora hides after each good boot to be shown; nothing where it is not hidden.
///
/// # Errors
///
/// The guest has no tool for it, or its disk is only mounted here.
pub fn show_menu(
    place: &Place,
    facts: &LinuxFacts,
    folder: &str,
    files: &Files,
) -> Result<Option<Step>, Problem> {
    const HIDE: &str = "menu_auto_hide";
    let text = super::text(files, &format!("{folder}/grubenv"));
    let Some(before) = variable(&text, HIDE) else {
        return Ok(None);
    };
    if place.root.is_some() {
        let message =
            format!("`{folder}/grubenv` hides the menu, and only GRUB's own tool changes that, in the guest");
        return Err(Problem::new(FailureKind::Precondition, message)
            .hint(format!("There: `grub2-editenv - unset {HIDE}`.")));
    }
    let editenv = tool(facts, "editenv")?;
    let undo = SettingUndo {
        name: format!("GRUB's {HIDE}"),
        look: look_at(&editenv, HIDE),
        absent: format!("no {HIDE}"),
        ours: None,
        before: Some(before.clone()),
        restore: Invocation::changes(&editenv, ["-", "set", &format!("{HIDE}={before}")]),
    };
    let action = Action::Run(Invocation::changes(&editenv, ["-", "unset", HIDE]));
    let summary = "show GRUB's menu, which is hidden after each good boot";
    Ok(Some(place.step(
        summary,
        action,
        Undo::Setting(undo),
        Effect::NextBoot,
    )))
}
