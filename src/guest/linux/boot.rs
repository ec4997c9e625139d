//! What is wanted of a guest's next boots: an entry of its own for kgdb, and a console on every kernel.

pub(super) mod environment;
mod once;

use self::once::once;
use super::boot_loader::BootLoader;
use super::facts::LinuxFacts;
use super::grub::{self, GrubEntry};
use super::live::{Files, Place, check_rights};
use super::verdict::{Kgdb, kgdb};
use crate::model::{Digest, EditOperation, FailureKind, FileEdit, FileFormat, Invocation, Problem};
use crate::plan::{Action, Effect, Step, Undo};
use crate::render::environment::{RenderError, render};
use serde::Serialize;

/// What our entry is called where entries have names.
pub const ENTRY_ID: &str = "vmserial-kgdb";

/// Our block in files of others.
const BLOCK: &str = "kgdb";

/// Our block in GRUB's settings.
const SETTINGS_BLOCK: &str = "settings";

/// Our file among Debian's settings of GRUB. (Upstream's GRUB, and Fedora's and SUSE's, do not read that folder.)
const DEBIAN_SETTINGS: &str = "/etc/default/grub.d/90-vmserial.cfg";

/// GRUB's settings everywhere else.
const SETTINGS: &str = "/etc/default/grub";

/// What stands on entries and settings of ours.
const MARK: &str = "Set by vmserial, taken back by `vmserial undo`.";

/// An entry for kgdb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryWish {
    /// kgdb's port and line speed.
    pub kgdb: (String, u32),
    /// Stop at boot and wait for the debugger.
    pub kgdbwait: bool,
    /// The kernel stays where vmlinux says.
    pub nokaslr: bool,
    /// Further arguments.
    pub append: Option<String>,
}

/// A console of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleWish {
    /// Its port and line speed.
    pub port: (String, u32),
    /// The screen stays `/dev/console`: messages go to both, prompts of the boot to the screen.
    pub screen_last: bool,
}

/// What is wanted of the boots to come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BootWish {
    /// An entry of its own for kgdb.
    pub entry: Option<EntryWish>,
    /// It is booted next time, once.
    pub once: bool,
    /// A console on every kernel.
    pub console: Option<ConsoleWish>,
    /// GRUB's menu is shown for five seconds.
    pub menu: bool,
    /// GRUB's menu is on this serial port too: its number and line speed.
    pub menu_on: Option<(u32, u32)>,
}

impl EntryWish {
    /// Returns the arguments that the entry has beside those of the kernel that runs. `kgdbwait` must come after `kgdboc`.
    fn arguments(&self) -> Vec<String> {
        let (tty, baud) = &self.kgdb;
        let mut arguments = vec![format!("kgdboc={tty},{baud}")];
        if self.kgdbwait {
            // A breakpoint that is set before the kernel makes its text read-only could not be removed after.
            arguments.extend(["kgdbwait", "rodata=off"].map(str::to_owned));
        }
        if self.nokaslr {
            arguments.push("nokaslr".to_owned());
        }
        // BREAK and `g` whatever sysctl says later.
        arguments.push("sysrq_always_enabled".to_owned());
        arguments.extend(
            self.append
                .iter()
                .flat_map(|more| more.split_whitespace())
                .map(str::to_owned),
        );
        arguments
    }
}

impl ConsoleWish {
    /// The last one of the line is `/dev/console`.
    fn arguments(&self) -> String {
        let (tty, baud) = &self.port;
        match self.screen_last {
            true => format!("console={tty},{baud} console=tty0"),
            false => format!("console=tty0 console={tty},{baud}"),
        }
    }
}

/// Returns the files that [`steps`] must know.
pub fn files_to_read(facts: &LinuxFacts, wish: &BootWish) -> Vec<String> {
    if *wish == BootWish::default() {
        return Vec::new();
    }
    let mut files = Vec::new();
    match BootLoader::of(facts) {
        Some(BootLoader::Grub { folder } | BootLoader::GrubBls { folder, .. }) => {
            files.extend(["grub.cfg", "custom.cfg", "grubenv"].map(|name| format!("{folder}/{name}")));
            files.extend([DEBIAN_SETTINGS, SETTINGS].map(str::to_owned));
        }
        Some(BootLoader::SystemdBoot { entries }) => {
            files.push(format!("{}/loader.conf", entries.trim_end_matches("/entries")));
        }
        None => {}
    }
    files.push("/etc/kernel/cmdline".to_owned());
    files.extend(facts.entries.iter().cloned());
    files.extend(super::entries::new_entry_path(facts));
    files
}

/// Plans what is wanted of the boots to come.
///
/// # Errors
///
/// There is no boot loader that is known, no entry of the kernel that runs, or no way to boot the entry only once.
pub fn steps(
    place: &Place,
    facts: &LinuxFacts,
    wish: &BootWish,
    files: &Files,
) -> Result<Vec<Step>, Problem> {
    if *wish == BootWish::default() {
        return Ok(Vec::new());
    }
    let loader = BootLoader::of(facts).ok_or_else(|| {
        Problem::new(
            FailureKind::Precondition,
            "the guest has no boot loader that vmserial knows (GRUB, systemd-boot)",
        )
        .hint("Put the arguments on the kernel's command line by hand: `kgdboc=ttyS1,115200 nokaslr`.")
    })?;
    if let Some(entry) = &wish.entry {
        check_entry(facts, entry)?;
    }
    let mut steps = match &loader {
        BootLoader::Grub { folder } => grub_steps(place, facts, wish, folder, files)?,
        BootLoader::GrubBls { folder, entries } => {
            super::entries::steps(place, facts, wish, Some(folder), entries, files)?
        }
        BootLoader::SystemdBoot { entries } => {
            super::entries::steps(place, facts, wish, None, entries, files)?
        }
    };
    if wish.once {
        steps.extend(once(place, facts, wish, &loader, files)?);
    }
    if !steps.is_empty() {
        check_rights(facts)?;
    }
    Ok(steps)
}

fn check_entry(facts: &LinuxFacts, entry: &EntryWish) -> Result<(), Problem> {
    match kgdb(facts) {
        Kgdb::Without(_) => super::verdict::check_able(facts),
        Kgdb::Loadable if entry.kgdbwait => Err(Problem::new(
            FailureKind::Precondition,
            "kgdboc is a module of this kernel, which cannot stop it at its boot (`kgdbwait`)",
        )
        .hint("Without `--kgdbwait` the module takes its port from the command line when it is loaded.")),
        Kgdb::Loadable | Kgdb::Ready => Ok(()),
    }
}

/// Writes a text from a template; a value that cannot be written in its language is the user's.
pub(super) fn rendered(name: &str, context: &impl Serialize) -> Result<String, Problem> {
    render(name, context).map_err(|error: RenderError| {
        let why = std::error::Error::source(&error)
            .map(ToString::to_string)
            .unwrap_or_default();
        Problem::new(FailureKind::Usage, format!("{error}: {why}"))
    })
}

/// Makes the step that gives keys of a file these values, one edit for all; nothing if it has them.
pub(super) fn edit(
    place: &Place,
    summary: String,
    path: &str,
    format: FileFormat,
    wanted: &[(&str, Option<&str>)],
    files: &Files,
) -> Result<Option<Step>, Problem> {
    let before = files.get(path).cloned().flatten();
    let malformed = |error: crate::render::edit::EditError| {
        Problem::new(
            FailureKind::Precondition,
            format!("cannot edit `{path}` of the guest: {error}"),
        )
    };
    let keys: Vec<&str> = wanted.iter().map(|(key, _)| *key).collect();
    let values = crate::render::edit::values(format, before.as_deref(), &keys).map_err(malformed)?;
    let operations: Vec<EditOperation> = wanted
        .iter()
        .filter(|(key, value)| values.get(*key).cloned().flatten().as_deref() != *value)
        .map(|(key, value)| match value {
            Some(value) => EditOperation::Set {
                key: (*key).to_owned(),
                value: (*value).to_owned(),
            },
            None => EditOperation::Remove {
                key: (*key).to_owned(),
            },
        })
        .collect();
    if operations.is_empty() {
        return Ok(None);
    }
    let edit = FileEdit {
        path: place.path(path),
        format,
        planned_on: before.as_deref().map(Digest::of),
        operations,
        before,
    };
    Ok(Some(place.step(
        summary,
        Action::Edit(edit),
        Undo::Keys,
        Effect::NextBoot,
    )))
}

pub(super) fn text(files: &Files, path: &str) -> String {
    let bytes = files.get(path).cloned().flatten().unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn grub_steps(
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
) -> Result<Option<Step>, Problem> {
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
    edit(
        place,
        summary,
        &path,
        FileFormat::Marked,
        &[(BLOCK, Some(&text))],
        files,
    )
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

/// Takes other settings of these consoles out of a command line and puts ours at its end.
pub(super) fn with_arguments(line: &str, arguments: &str) -> String {
    let ours: Vec<&str> = arguments.split_whitespace().collect();
    let is_ours = |word: &str| {
        let device = |word: &str| {
            word.strip_prefix("console=")
                .map(|device| device.split(',').next().unwrap_or_default().to_owned())
        };
        device(word).is_some_and(|device_of_it| {
            ours.iter()
                .any(|own| device(own).as_deref() == Some(device_of_it.as_str()))
        })
    };
    let kept = line.split_whitespace().filter(|word| !is_ours(word));
    let words: Vec<&str> = kept.chain(ours.iter().copied()).collect();
    words.join(" ")
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

impl EntryWish {
    /// Returns the arguments as one text.
    pub(super) fn text(&self) -> String {
        self.arguments().join(" ")
    }
}

impl ConsoleWish {
    /// Returns the arguments as one text.
    pub(super) fn text(&self) -> String {
        self.arguments()
    }
}

#[cfg(test)]
mod tests;
