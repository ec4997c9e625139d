//! Booting our entry next time, once; refused where the boot loader could not take that back.

use super::environment::{look_at, tool, variable};
use super::{BootWish, ENTRY_ID, text};
use crate::guest::linux::boot_loader::BootLoader;
use crate::guest::linux::facts::{LinuxFacts, Mount};
use crate::guest::linux::live::{Files, Place};
use crate::model::{FailureKind, Invocation, Problem};
use crate::plan::{Action, Effect, SettingUndo, Step, Undo};

/// Boots our entry next time, once.
pub(super) fn once(
    place: &Place,
    facts: &LinuxFacts,
    wish: &BootWish,
    loader: &BootLoader,
    files: &Files,
) -> Result<Option<Step>, Problem> {
    if place.root.is_some() {
        let message = "a guest whose disk is mounted here cannot be told what to boot next";
        return Err(Problem::new(FailureKind::Precondition, message)
            .hint("Choose the entry in the menu, or run this in the guest."));
    }
    let (folder, id) = match loader {
        BootLoader::Grub { folder } => (folder, ENTRY_ID.to_owned()),
        BootLoader::GrubBls { folder, .. } => (folder, crate::guest::linux::entries::entry_id(facts)?),
        BootLoader::SystemdBoot { .. } => {
            let id = format!("{}.conf", crate::guest::linux::entries::entry_id(facts)?);
            let set = |id: &str| Invocation::changes("bootctl", ["set-oneshot", id]);
            let summary = format!("boot `{id}` next time, once");
            let undo = Undo::Run(set(""));
            return Ok(Some(place.step(
                summary,
                Action::Run(set(&id)),
                undo,
                Effect::NextBoot,
            )));
        }
    };
    let environment = format!("{folder}/grubenv");
    if let Some(reason) = cannot_clear(facts.mount_of(&environment)) {
        let hang = if wish.entry.as_ref().is_some_and(|entry| entry.kgdbwait) {
            ": the guest would hang in kgdbwait at every boot"
        } else {
            ": it would be booted every time"
        };
        let message = format!(
            "GRUB cannot write `{environment}` at boot ({reason}), so the entry cannot be booted only once{hang}"
        );
        return Err(Problem::new(FailureKind::Precondition, message)
            .hint("Choose the entry in GRUB's menu (`--menu` shows it), without `--once`."));
    }
    let (reboot, editenv) = (tool(facts, "reboot")?, tool(facts, "editenv")?);
    let environment_text = text(files, &environment);
    let before = variable(&environment_text, "next_entry");
    if before.as_deref() == Some(id.as_str()) {
        return Ok(None);
    }
    let restore = match &before {
        Some(before) => Invocation::changes(&reboot, [before]),
        // GRUB has booted somebody's entry once already, and left an empty one.
        None if environment_text.lines().any(|line| line == "next_entry=") => {
            Invocation::changes(&editenv, ["-", "set", "next_entry="])
        }
        None => Invocation::changes(&editenv, ["-", "unset", "next_entry"]),
    };
    // An empty one counts as ours: so GRUB leaves it when it has booted it.
    let mut look = look_at(&editenv, "next_entry");
    look.arguments.push(id.clone());
    let undo = SettingUndo {
        name: "GRUB's next_entry".to_owned(),
        look,
        absent: "no next_entry".to_owned(),
        ours: Some(id.clone()),
        before,
        restore,
    };
    let action = Action::Run(Invocation::changes(&reboot, [&id]));
    Ok(Some(place.step(
        format!("boot `{id}` next time, once"),
        action,
        Undo::Setting(undo),
        Effect::NextBoot,
    )))
}

/// Tells why GRUB could not take the one-time choice back at boot.
fn cannot_clear(mount: Option<&Mount>) -> Option<String> {
    let mount = mount?;
    let behind = ["/dev/mapper/", "/dev/md", "/dev/dm-"];
    if behind.iter().any(|start| mount.device.starts_with(start)) {
        return Some(format!("it lies on `{}`, LVM or RAID", mount.device));
    }
    if ["btrfs", "zfs", "f2fs", "squashfs", "overlay"].contains(&mount.kind.as_str()) {
        return Some(format!("it lies on {}", mount.kind));
    }
    mount
        .read_only
        .then(|| format!("`{}` is read-only", mount.folder))
}
