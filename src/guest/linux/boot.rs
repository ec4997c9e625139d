//! What is wanted of a guest's next boots: an entry of its own for kgdb, and a console on every kernel.

pub(super) mod environment;
mod generated;
mod once;

use self::once::once;
use super::boot_loader::BootLoader;
use super::facts::LinuxFacts;
use super::live::{Files, Place, check_rights};
use super::verdict::{Kgdb, kgdb};
use crate::model::{Digest, EditOperation, FailureKind, FileEdit, FileFormat, Problem};
use crate::plan::{Action, Effect, Step, Undo};
use crate::render::environment::{RenderError, render};
use serde::Serialize;

/// What our entry is called where entries have names.
pub const ENTRY_ID: &str = "vmserial-kgdb";

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
        BootLoader::Grub { folder } => generated::steps(place, facts, wish, folder, files)?,
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
