//! Boot entries in files of their own: GRUB on Fedora and RHEL (`blscfg`), and systemd-boot.

use super::boot::{BootWish, ENTRY_ID, edit, rendered};
use super::boot_loader::BootLoader;
use super::facts::LinuxFacts;
use super::live::{Files, Place};
use crate::model::{FailureKind, FileFormat, Problem};
use crate::plan::{Effect, Step};
use crate::render::loader_entry::LoaderEntry;
use serde::Serialize;

/// Where kernels to come take their arguments from (kernel-install).
const CMDLINE: &str = "/etc/kernel/cmdline";

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
    let release = facts.kernel.clone().or_else(|| {
        let newest = facts.installed.last()?;
        newest
            .rsplit('/')
            .next()?
            .strip_prefix("vmlinuz-")
            .map(str::to_owned)
    });
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
    if wish.menu || wish.menu_on.is_some() {
        let message = "the menu is set up by vmserial only where GRUB's configuration is generated (Debian, Ubuntu, SUSE)";
        return Err(Problem::new(FailureKind::Precondition, message).hint(
            "Fedora: `grub2-editenv - unset menu_auto_hide`. systemd-boot: `timeout 5` in loader.conf.",
        ));
    }
    let mut steps = Vec::new();
    if let Some(entry) = &wish.entry {
        check_default(facts, grub_folder, folder, files)?;
        let path = new_entry_path(facts).ok_or_else(|| no_model(folder, facts))?;
        let model = model(facts, folder, files)?;
        let arguments = crate::render::quote::kernel_arguments(&entry.text())
            .map_err(|error| Problem::new(FailureKind::Usage, error.to_string()))?;
        let text = rendered(
            "guest/loader-entry.conf",
            &EntryText::of(&model, &arguments, grub_folder.is_none()),
        )?;
        let summary = format!("add the boot entry `{path}`, made from that of the kernel that runs");
        steps.extend(place.file(summary, &path, Some(&text), files, Effect::NextBoot));
        if grub_folder.is_some() {
            let added = ("GRUB_CMDLINE_LINUX_DEBUG", arguments.as_str());
            steps.extend(kept_by_mkconfig(place, "its arguments", "kgdb", added, files)?);
        }
    }
    if let Some(console) = &wish.console {
        let arguments = console.text();
        for entry in facts
            .entries
            .iter()
            .filter(|entry| entry.starts_with(&format!("{folder}/")))
        {
            steps.extend(with_console(place, entry, &arguments, files)?);
        }
        steps.extend(kernels_to_come(place, facts, &arguments, files));
        if grub_folder.is_some() {
            let (what, added) = (
                format!("`{arguments}`"),
                ("GRUB_CMDLINE_LINUX", arguments.as_str()),
            );
            steps.extend(kept_by_mkconfig(place, &what, "settings", added, files)?);
        }
    }
    Ok(steps)
}

/// Plans a block of ours that adds arguments to a variable of Fedora's settings.
fn kept_by_mkconfig(
    place: &Place,
    what: &str,
    block: &str,
    (variable, arguments): (&str, &str),
    files: &Files,
) -> Result<Option<Step>, Problem> {
    edit(
        place,
        format!("keep {what} through grub2-mkconfig by `{FEDORA_SETTINGS}`"),
        FEDORA_SETTINGS,
        FileFormat::Marked,
        (block, Some(&format!("{variable}=\"${variable} {arguments}\"\n"))),
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
    let (path, key) = match grub_folder {
        Some(grub) => (format!("{grub}/grubenv"), "saved_entry="),
        None => (
            format!("{}/loader.conf", folder.trim_end_matches("/entries")),
            "default ",
        ),
    };
    let text = bytes(files, &path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let named = text.lines().any(|line| {
        line.trim()
            .strip_prefix(key)
            .is_some_and(|value| !value.trim().is_empty())
    });
    if named {
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

fn no_model(folder: &str, facts: &LinuxFacts) -> Problem {
    let kernel = facts.kernel.as_deref().unwrap_or("that is installed");
    Problem::new(FailureKind::Precondition, format!("`{folder}` has no entry of the kernel {kernel}, from which ours would be made"))
        .hint("A kernel and its arguments in one file (UKI) have no entry that could be copied: boot it with its arguments typed in the menu.")
}

/// Finds the entry of the kernel that runs, by its version or its file.
fn model(facts: &LinuxFacts, folder: &str, files: &Files) -> Result<String, Problem> {
    let release = facts.kernel.as_deref();
    let candidates = facts
        .entries
        .iter()
        .filter(|entry| entry.starts_with(&format!("{folder}/")) && !entry.contains(ENTRY_ID));
    for path in candidates {
        let Some(text) = bytes(files, path).and_then(|bytes| String::from_utf8(bytes).ok()) else {
            continue;
        };
        let Ok(entry) = LoaderEntry::parse(text.as_bytes()) else {
            continue;
        };
        let value = |key: &str| entry.value(key).ok().flatten();
        let is_it = match release {
            None => true,
            Some(release) => {
                value("version").as_deref() == Some(release)
                    || value("linux").is_some_and(|linux| {
                        linux.ends_with(&format!("-{release}")) || linux.contains(&format!("/{release}/"))
                    })
            }
        };
        if is_it
            && value("linux").is_some()
            && value("options").is_some_and(|options| !options.contains("kgdboc="))
        {
            return Ok(text);
        }
    }
    Err(no_model(folder, facts))
}

#[derive(Serialize)]
struct EntryText {
    mark: &'static str,
    lines: Vec<String>,
}

impl EntryText {
    fn of(model: &str, arguments: &str, systemd_boot: bool) -> Self {
        let mut lines: Vec<String> = Vec::new();
        for line in model.lines() {
            let key = line.split_whitespace().next().unwrap_or_default();
            match key {
                "title" => lines.push(format!("{}, kgdb", line.trim_end())),
                "options" => lines.push(format!("{} {arguments}", line.trim_end())),
                "sort-key" if systemd_boot => {}
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

/// Takes other settings of these consoles out of a command line and puts ours at its end.
fn with_arguments(line: &str, arguments: &str) -> String {
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
        ("options", Some(&value)),
        files,
    )
}

/// kernel-install gives a new kernel the arguments of this file; without it, those of the kernel that runs.
fn kernels_to_come(place: &Place, facts: &LinuxFacts, arguments: &str, files: &Files) -> Option<Step> {
    let present = bytes(files, CMDLINE).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let line = match &present {
        Some(text) => text.trim_end().to_owned(),
        None => {
            let words = facts.command_line.as_deref()?.split_whitespace();
            let kept: Vec<&str> = words
                .filter(|word| !word.starts_with("BOOT_IMAGE=") && !word.starts_with("initrd="))
                .collect();
            kept.join(" ")
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
