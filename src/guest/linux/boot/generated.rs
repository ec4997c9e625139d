//! GRUB whose whole configuration is generated (Debian, Ubuntu, SUSE): an entry in its `custom.cfg`, and its settings.

use super::{
    BootWish, ConsoleWish, DEBIAN_SETTINGS, ENTRY_ID, EntryWish, MARK, SETTINGS, edit, rendered, text,
    with_arguments,
};
use crate::guest::linux::facts::LinuxFacts;
use crate::guest::linux::grub::{self, GrubEntry};
use crate::guest::linux::live::{Files, Place};
use crate::model::{FailureKind, FileFormat, Invocation, Problem};
use crate::plan::{Action, Effect, Step, Undo};
use serde::Serialize;

/// Our block in files of others.
const BLOCK: &str = "kgdb";

/// Our block in GRUB's settings.
const SETTINGS_BLOCK: &str = "settings";

/// Plans entry and settings.
///
/// # Errors
///
/// There is no entry of the kernel that runs, or `custom.cfg` is not read.
pub fn steps(
    place: &Place,
    facts: &LinuxFacts,
    wish: &BootWish,
    folder: &str,
    files: &Files,
) -> Result<Vec<Step>, Problem> {
    let mut steps = Vec::new();
    if let Some(entry) = &wish.entry {
        let console = wish.console.as_ref().map(ConsoleWish::arguments);
        steps.extend(grub_entry(
            place,
            facts,
            (entry, console.as_deref()),
            folder,
            files,
        )?);
    }
    steps.extend(grub_settings(place, facts, wish, folder, files)?);
    Ok(steps)
}

/// An entry in `custom.cfg`, which GRUB itself reads at boot: nothing has to be generated, and the default entry stays.
fn grub_entry(
    place: &Place,
    facts: &LinuxFacts,
    (wish, console): (&EntryWish, Option<&str>),
    folder: &str,
    files: &Files,
) -> Result<Vec<Step>, Problem> {
    let path = format!("{folder}/grub.cfg");
    let configuration = text(files, &path);
    if !configuration.contains("custom.cfg") {
        let message = format!("`{path}` does not read `{folder}/custom.cfg`, where the entry would stand");
        return Err(Problem::new(FailureKind::Precondition, message)
            .hint("Put `/etc/grub.d/41_custom` back (package grub-common) and make it executable, then run `update-grub`."));
    }
    let entries = grub::entries(&configuration);
    let model = grub::running_entry(&entries, facts).ok_or_else(|| no_model(&path, facts))?;
    let arguments = crate::render::quote::kernel_arguments(&wish.text())
        .map_err(|error| Problem::new(FailureKind::Usage, error.to_string()))?;
    let text = rendered("guest/grub-entry.cfg", &EntryText::of(model, &arguments, console))?;
    let summary = format!(
        "add the boot entry `{ENTRY_ID}` to `{folder}/custom.cfg`, made from `{}`",
        model.title
    );
    let path = format!("{folder}/custom.cfg");
    let block = [(BLOCK, Some(text.as_str()))];
    let Some(entry) = edit(place, summary, &path, FileFormat::Marked, &block, files)? else {
        return Ok(Vec::new());
    };
    // Nothing reads that file before the next boot, so nothing else would tell.
    let checker = ["grub-script-check", "grub2-script-check"]
        .into_iter()
        .find(|name| place.root.is_none() && facts.has_program(name));
    let check = checker.map(|checker| {
        place.step(
            "check that GRUB can read it",
            Action::Run(Invocation::reads(checker, [&path])),
            Undo::Nothing {
                reason: "it only looks".to_owned(),
            },
            Effect::Live,
        )
    });
    Ok([entry].into_iter().chain(check).collect())
}

fn no_model(path: &str, facts: &LinuxFacts) -> Problem {
    let kernel = facts.kernel.as_deref().unwrap_or("that is installed");
    Problem::new(FailureKind::Precondition, format!("`{path}` has no entry of the kernel {kernel}, from which ours would be made"))
        .hint("Boot the guest from its menu once; a kernel that QEMU was given by `-kernel` takes its arguments from `append`.")
}

#[derive(Serialize)]
struct EntryText<'a> {
    mark: &'a str,
    title: String,
    id: &'a str,
    body: Vec<String>,
}

impl EntryText<'_> {
    /// The console that is wanted too is on its line as it will be on the model's.
    fn of(model: &GrubEntry, arguments: &str, console: Option<&str>) -> Self {
        let body = model.body.iter().filter(|line| {
            // They would make ours the default, or count it as a failed boot.
            !matches!(line.trim(), "savedefault" | "recordfail")
        });
        Self {
            mark: MARK,
            title: format!("{}, kgdb", model.title),
            id: ENTRY_ID,
            body: body
                .map(|line| {
                    let word = line.split_whitespace().next().unwrap_or_default();
                    match word.starts_with("linux") {
                        true => format!("{} {arguments}", on_line(line.trim_end(), console)),
                        false => line.trim_end().to_owned(),
                    }
                })
                .collect(),
        }
    }
}

/// Puts a console on a line of GRUB that loads a kernel, behind the kernel's file.
fn on_line(line: &str, console: Option<&str>) -> String {
    let Some(console) = console else {
        return line.to_owned();
    };
    let start = line.len() - line.trim_start().len();
    let mut words = line[start..].splitn(3, char::is_whitespace);
    match (words.next(), words.next()) {
        (Some(command), Some(kernel)) => format!(
            "{}{command}\t{kernel} {}",
            &line[..start],
            with_arguments(words.next().unwrap_or_default(), console)
        ),
        _ => line.to_owned(),
    }
}

#[derive(Serialize)]
struct Settings {
    console: Option<String>,
    menu: bool,
    unit: Option<String>,
    baud: String,
}

/// Settings from which every kernel's entries are generated, those of kernels to come too.
fn grub_settings(
    place: &Place,
    facts: &LinuxFacts,
    wish: &BootWish,
    folder: &str,
    files: &Files,
) -> Result<Vec<Step>, Problem> {
    if wish.console.is_none() && !wish.menu && wish.menu_on.is_none() {
        return Ok(Vec::new());
    }
    let (unit, baud) = wish.menu_on.unzip();
    let text = rendered(
        "guest/grub-default.cfg",
        &Settings {
            console: wish.console.as_ref().map(ConsoleWish::arguments),
            menu: wish.menu,
            unit: unit.map(|unit| unit.to_string()),
            baud: baud.unwrap_or_default().to_string(),
        },
    )?;
    let debian = facts.has_path("/etc/default/grub.d");
    let path = if debian { DEBIAN_SETTINGS } else { SETTINGS };
    let what = [
        wish.console
            .as_ref()
            .map(|console| format!("`{}` on every kernel", console.arguments())),
        wish.menu.then(|| "the menu for 5 s".to_owned()),
        wish.menu_on.map(|(unit, _)| format!("the menu on ttyS{unit}")),
    ];
    let what: Vec<String> = what.into_iter().flatten().collect();
    let summary = format!("set {} in `{path}`", what.join(", "));
    let Some(set) = edit(
        place,
        summary,
        path,
        FileFormat::Marked,
        &[(SETTINGS_BLOCK, Some(&text))],
        files,
    )?
    else {
        return Ok(Vec::new());
    };
    let program = ["update-grub", "grub2-mkconfig", "grub-mkconfig"]
        .into_iter()
        .find(|name| facts.has_program(name));
    let Some(program) = program.filter(|_| place.root.is_none()) else {
        let mut set = set;
        set.notes.push(
            "its effect comes when the guest generates its grub.cfg again (`update-grub`, `grub2-mkconfig`)"
                .to_owned(),
        );
        return Ok(vec![set]);
    };
    let target = format!("{folder}/grub.cfg");
    let generate = |to: &str| match program {
        "update-grub" if to == target => Invocation::changes("update-grub", Vec::<String>::new()),
        "update-grub" => Invocation::changes("grub-mkconfig", ["-o", to]),
        _ => Invocation::changes(program, ["-o", to]),
    };
    // An undo goes backwards: what is done first is taken back last, when the settings are as they were.
    let check = place.step(
        "check that GRUB's configuration can be generated",
        Action::Run(generate("/dev/null")),
        Undo::Run(generate(&target)),
        Effect::Live,
    );
    let regenerate = place.step(
        format!("generate `{target}`"),
        Action::Run(generate(&target)),
        Undo::Nothing {
            reason: "it is generated again when the settings are back".to_owned(),
        },
        Effect::NextBoot,
    );
    Ok(vec![check, set, regenerate])
}
