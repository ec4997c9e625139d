//! Boot entries in files of their own: GRUB on Fedora and RHEL (`blscfg`), and systemd-boot.

use super::boot::environment::show_menu;
use super::boot::{BootWish, ConsoleWish, ENTRY_ID, edit, rendered, with_arguments};
use super::boot_loader::BootLoader;
use super::facts::LinuxFacts;
use super::live::{Files, Place};
use crate::model::{FailureKind, FileFormat, Problem};
use crate::plan::{Effect, Step};
use crate::render::loader_entry::LoaderEntry;
use serde::Serialize;

/// Where kernels to come take their arguments from (kernel-install).
const CMDLINE: &str = "/etc/kernel/cmdline";
const CMDLINE_FOLDER: &str = "/etc/kernel";

/// Fedora's grub2-mkconfig rewrites the arguments of every entry, save that it appends GRUB_CMDLINE_LINUX_DEBUG to those with
/// `debug` in their name.
const FEDORA_SETTINGS: &str = "/etc/default/grub";

/// Where and by what name our entry stands, for the kernel that runs.
pub fn new_entry_path(facts: &LinuxFacts) -> Option<String> {
    let folder = match BootLoader::of(facts)? {
        BootLoader::GrubBls { entries, .. } | BootLoader::SystemdBoot { entries } => entries,
        BootLoader::Grub { .. } => return None,
    };
    Some(format!("{folder}/{}.conf", entry_id(facts).ok()?))
}

/// Returns the name of our entry.
///
/// # Errors
///
/// Nothing tells which kernel it is for.
pub fn entry_id(facts: &LinuxFacts) -> Result<String, Problem> {
    let release = release(facts);
    let release = release.ok_or_else(|| {
        Problem::new(
            FailureKind::Precondition,
            "nothing tells which kernel of the guest the entry is for",
        )
    })?;
    let machine = facts.machine_id.as_deref().unwrap_or("linux");
    Ok(format!("{machine}-{release}-debug-{ENTRY_ID}"))
}

/// Plans entry and console. `grub_folder` is where GRUB keeps its own files; `None` is systemd-boot.
pub(super) fn steps(
    place: &Place,
    facts: &LinuxFacts,
    wish: &BootWish,
    grub_folder: Option<&str>,
    folder: &str,
    files: &Files,
) -> Result<Vec<Step>, Problem> {
    if wish.menu_on.is_some() {
        let message = "the menu is put on a serial port by vmserial only where GRUB's whole configuration is generated from its settings (Debian, Ubuntu, SUSE)";
        return Err(Problem::new(FailureKind::Precondition, message)
            .hint("Fedora, RHEL: `GRUB_TERMINAL=\"console serial\"` in /etc/default/grub, then `grub2-mkconfig`. systemd-boot shows its menu on the firmware's console."));
    }
    let mut steps = Vec::new();
    if wish.menu {
        steps.extend(match grub_folder {
            Some(grub) => show_menu(place, facts, grub, files)?,
            None => systemd_menu(place, folder, files)?,
        });
    }
    if let Some(entry) = &wish.entry {
        check_default(facts, grub_folder, folder, files)?;
        let path = new_entry_path(facts).ok_or_else(|| no_model(folder, facts))?;
        let model = model(facts, grub_folder, folder, files)?;
        let arguments = crate::render::quote::kernel_arguments(&entry.text())
            .map_err(|error| Problem::new(FailureKind::Usage, error.to_string()))?;
        let text = rendered(
            "guest/loader-entry.conf",
            &EntryText::of(&model, &arguments, wish.console.as_ref(), grub_folder.is_none()),
        )?;
        let summary = format!("add the boot entry `{path}`, made from that of the kernel that runs");
        steps.extend(place.file(summary, &path, Some(&text), files, Effect::NextBoot));
    }
    if let Some(console) = &wish.console {
        let arguments = console.text();
        for entry in facts
            .entries
            .iter()
            .filter(|entry| entry.starts_with(&format!("{folder}/")) && !entry.contains(ENTRY_ID))
        {
            steps.extend(with_console(place, entry, &arguments, files)?);
        }
        if let Some(step) = kernels_to_come(place, facts, &arguments, files) {
            // Without kernel-install nobody has made it.
            let folder =
                (!facts.has_path(CMDLINE_FOLDER)).then(|| place.folder(CMDLINE_FOLDER, Effect::NextBoot));
            steps.extend(folder.into_iter().chain([step]));
        }
    }
    if grub_folder.is_some() {
        steps.extend(kept_by_mkconfig(place, wish, files)?);
    }
    Ok(steps)
}

/// systemd-boot's menu is shown for as long as its settings say; absent and 0 hide it.
fn systemd_menu(place: &Place, folder: &str, files: &Files) -> Result<Option<Step>, Problem> {
    let path = settings_of(folder);
    let seconds = setting(files, &path, "timeout ").and_then(|value| value.parse::<u32>().ok());
    if seconds.is_some_and(|seconds| seconds > 0) {
        return Ok(None);
    }
    edit(
        place,
        format!("show the menu for 5 s, by `{path}`"),
        &path,
        FileFormat::LoaderEntry,
        &[("timeout", Some("5"))],
        files,
    )
}

/// Returns where systemd-boot's own settings stand beside its entries.
fn settings_of(folder: &str) -> String {
    format!("{}/loader.conf", folder.trim_end_matches("/entries"))
}

/// Returns what stands behind a key at the beginning of a line.
fn setting(files: &Files, path: &str, key: &str) -> Option<String> {
    let text = bytes(files, path)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let values = text.lines().filter_map(|line| line.trim().strip_prefix(key));
    let mut values = values.map(str::trim).filter(|value| !value.is_empty());
    values.next().map(str::to_owned)
}

/// Fedora's grub2-mkconfig writes the arguments of every entry anew, from these.
fn kept_by_mkconfig(place: &Place, wish: &BootWish, files: &Files) -> Result<Option<Step>, Problem> {
    let block = |variable: &str, arguments: &str| format!("{variable}=\"${variable} {arguments}\"\n");
    let entry = wish
        .entry
        .as_ref()
        .map(|entry| block("GRUB_CMDLINE_LINUX_DEBUG", &entry.text()));
    let console = wish
        .console
        .as_ref()
        .map(|console| block("GRUB_CMDLINE_LINUX", &console.text()));
    let wanted: Vec<(&str, Option<&str>)> = [("kgdb", &entry), ("settings", &console)]
        .into_iter()
        .filter_map(|(name, text)| Some((name, Some(text.as_deref()?))))
        .collect();
    edit(
        place,
        format!("keep these arguments through grub2-mkconfig by `{FEDORA_SETTINGS}`"),
        FEDORA_SETTINGS,
        FileFormat::Marked,
        &wanted,
        files,
    )
}

fn bytes(files: &Files, path: &str) -> Option<Vec<u8>> {
    files.get(path).cloned().flatten()
}

/// A new entry may sort before all others: it must be known that another one is the default.
fn check_default(
    facts: &LinuxFacts,
    grub_folder: Option<&str>,
    folder: &str,
    files: &Files,
) -> Result<(), Problem> {
    let (path, key) = default_place(grub_folder, folder);
    if setting(files, &path, key).is_some() {
        return Ok(());
    }
    let kernel = facts.kernel.as_deref().unwrap_or("KERNEL");
    let hint = match grub_folder {
        Some(_) => format!("Name the default first: `grubby --set-default=/boot/vmlinuz-{kernel}`."),
        None => format!("Name the default first: a line `default *-{kernel}.conf` in `{path}`."),
    };
    let message = format!("`{path}` names no default entry, so a new one might become it");
    Err(Problem::new(FailureKind::Precondition, message).hint(hint))
}

/// Where the default entry is named, and behind which word.
fn default_place(grub_folder: Option<&str>, folder: &str) -> (String, &'static str) {
    match grub_folder {
        Some(grub) => (format!("{grub}/grubenv"), "saved_entry="),
        None => (settings_of(folder), "default "),
    }
}

fn no_model(folder: &str, facts: &LinuxFacts) -> Problem {
    let kernel = facts.kernel.as_deref().unwrap_or("that is installed");
    Problem::new(FailureKind::Precondition, format!("`{folder}` has no entry of the kernel {kernel}, from which ours would be made"))
        .hint("A kernel and its arguments in one file (UKI) have no entry that could be copied: boot it with its arguments typed in the menu.")
}

/// Finds the entry from which ours is made: that of the kernel that runs, by its version or its file, else by its arguments
/// (Arch's kernels have no version in their files' names). Where nothing runs it is the newest kernel's. Of several the default
/// is taken; rescue entries and those for kgdb are nobody's model.
fn model(
    facts: &LinuxFacts,
    grub_folder: Option<&str>,
    folder: &str,
    files: &Files,
) -> Result<String, Problem> {
    let (path, key) = default_place(grub_folder, folder);
    let default = setting(files, &path, key);
    let mut candidates = Vec::new();
    for path in facts.entries.iter().filter(|entry| {
        entry.starts_with(&format!("{folder}/")) && !entry.contains(ENTRY_ID) && !entry.contains("rescue")
    }) {
        let Some(text) = bytes(files, path).and_then(|bytes| String::from_utf8(bytes).ok()) else {
            continue;
        };
        let Ok(entry) = LoaderEntry::parse(text.as_bytes()) else {
            continue;
        };
        let value = |key: &str| entry.value(key).ok().flatten();
        if let (Some(linux), Some(options)) = (value("linux"), value("options"))
            && !options.contains("kgdboc=")
        {
            candidates.push((path, linux, options, value("version"), text));
        }
    }
    let name = |path: &str| {
        path.rsplit('/')
            .next()
            .map(|name| name.trim_end_matches(".conf").to_owned())
    };
    let is_default = |path: &str| {
        name(path).as_deref()
            == default
                .as_deref()
                .map(|default| default.trim_end_matches(".conf"))
    };
    candidates.sort_by_key(|(path, ..)| !is_default(path));
    let release = release(facts);
    let by_release = candidates.iter().find(|(_, linux, _, version, _)| {
        release.as_deref().is_some_and(|release| {
            version.as_deref() == Some(release)
                || linux.ends_with(&format!("-{release}"))
                || linux.contains(&format!("/{release}/"))
        })
    });
    let running = facts.command_line.as_deref().map(arguments_of);
    let by_arguments = || {
        candidates
            .iter()
            .find(|(_, _, options, ..)| running.as_ref() == Some(&arguments_of(options)))
    };
    by_release
        .or_else(by_arguments)
        .map(|(.., text)| text.clone())
        .ok_or_else(|| no_model(folder, facts))
}

/// The kernel's own arguments: without what the boot loader adds, and without its variables.
fn arguments_of(line: &str) -> Vec<&str> {
    line.split_whitespace()
        .filter(|word| {
            !["BOOT_IMAGE=", "initrd=", "$"]
                .iter()
                .any(|start| word.starts_with(start))
        })
        .collect()
}

/// Returns the version of the kernel that runs; where nothing runs, of the one that was installed last by its name.
fn release(facts: &LinuxFacts) -> Option<String> {
    facts.kernel.clone().or_else(|| {
        let versions = facts.installed.iter().filter_map(|path| {
            let name = path.rsplit('/').next()?;
            name.strip_prefix("vmlinuz-")
        });
        let real = versions.filter(|version| !version.contains("rescue"));
        real.max_by_key(|version| by_number(version)).map(str::to_owned)
    })
}

/// Sorts versions as people do: 6.11.10 is later than 6.11.4.
fn by_number(version: &str) -> Vec<(u64, &str)> {
    let parts = version.split(['.', '-', '_']);
    parts
        .map(|part| {
            let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            (part[..digits].parse().unwrap_or(0), &part[digits..])
        })
        .collect()
}

#[derive(Serialize)]
struct EntryText {
    mark: &'static str,
    lines: Vec<String>,
}

impl EntryText {
    /// The console that is wanted too is on its line as it will be on the model's.
    fn of(model: &str, arguments: &str, console: Option<&ConsoleWish>, systemd_boot: bool) -> Self {
        let mut lines: Vec<String> = Vec::new();
        for line in model.lines() {
            let key = line.split_whitespace().next().unwrap_or_default();
            match key {
                "title" => lines.push(format!("{}, kgdb", line.trim_end())),
                "options" => match console {
                    Some(console) => {
                        let options = line.trim_end().trim_start_matches("options");
                        let options = with_arguments(options, &console.text());
                        lines.push(format!("options {options} {arguments}"));
                    }
                    None => lines.push(format!("{} {arguments}", line.trim_end())),
                },
                "sort-key" if systemd_boot => {}
                // RHEL 8's: the model's own name.
                "id" => {}
                key if key.starts_with('#') => {}
                _ => lines.push(line.trim_end().to_owned()),
            }
        }
        if systemd_boot {
            // Behind all others in the menu.
            lines.push("sort-key zz-vmserial".to_owned());
        }
        Self {
            mark: "Set by vmserial, taken back by `vmserial undo`.",
            lines,
        }
    }
}

fn with_console(place: &Place, path: &str, arguments: &str, files: &Files) -> Result<Option<Step>, Problem> {
    let Some(before) = bytes(files, path) else {
        return Ok(None);
    };
    let malformed = |error: crate::render::edit::EditError| {
        Problem::new(
            FailureKind::Precondition,
            format!("cannot edit `{path}` of the guest: {error}"),
        )
    };
    let entry = LoaderEntry::parse(&before).map_err(malformed)?;
    let Some(options) = entry.value("options").map_err(malformed)? else {
        return Ok(None);
    };
    if options.ends_with(arguments) {
        return Ok(None);
    }
    let value = with_arguments(&options, arguments);
    let summary = format!("put `{arguments}` on the kernel's line in `{path}`");
    edit(
        place,
        summary,
        path,
        FileFormat::LoaderEntry,
        &[("options", Some(&value))],
        files,
    )
}

/// kernel-install gives a new kernel the arguments of this file; without it, those of the kernel that runs.
fn kernels_to_come(place: &Place, facts: &LinuxFacts, arguments: &str, files: &Files) -> Option<Step> {
    let present = bytes(files, CMDLINE).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let line = match &present {
        Some(text) => text.trim_end().to_owned(),
        None => {
            // Those of a debugging boot are not for kernels to come.
            let debugging = [
                "kgdboc=",
                "kgdbwait",
                "rodata=off",
                "nokaslr",
                "sysrq_always_enabled",
            ];
            let mut words = arguments_of(facts.command_line.as_deref()?);
            if words.iter().any(|word| word.starts_with("kgdboc=")) {
                words.retain(|word| !debugging.iter().any(|start| word.starts_with(start)));
            }
            words.join(" ")
        }
    };
    if line.ends_with(arguments) && present.is_some() {
        return None;
    }
    let text = format!("{}\n", with_arguments(&line, arguments));
    let summary = format!("put `{arguments}` on the line of kernels to come, `{CMDLINE}`");
    place.file(summary, CMDLINE, Some(&text), files, Effect::NextBoot)
}

#[cfg(test)]
mod tests;
