//! The inside of a Windows guest as the last stage of its target: shown, applied and taken back by the profile's own commands,
//! with the VM's port and its Secure Boot, on a stand-in of Hyper-V whose guest is reached by PowerShell Direct.

use super::direct::{guest, host};
use super::{Lab, trial};
use crate::kit::{Ended, is_fast, wait_until};
use libtest_mimic::{Completion, Trial};
use std::fs;
use vmserial_testkit::hyperv::host::{Host, Vm};
use vmserial_testkit::windows_guest::{CURRENT, Guest, RECOVERY};

pub fn trials() -> Vec<Trial> {
    let slow = |name: &str, run: fn()| {
        Trial::ignorable_test(format!("guest_windows::{name}"), move || {
            if is_fast() {
                return Ok(Completion::ignored_with(
                    "whole applies with a Windows guest's stage are left out (VMSERIAL_TEST_FAST=1)",
                ));
            }
            run();
            Ok(Completion::Completed)
        })
    };
    vec![
        trial(
            "apply_sets_up_vm_and_guest_and_undo_takes_both_back",
            apply_and_undo,
        ),
        slow("bitlocker_sleeps_through_the_vm_s_restart", bitlocker_sleeps),
        slow("an_apply_killed_in_vm_or_guest_is_undone", killed_in_the_middle),
        slow("debug_plans_the_guest_too", debug_plans_the_guest),
    ]
}

const PROFILE: &str = "version: 1
hosts: {here: {hypervisor: hyperv}}
targets:
  win:
    host: here
    vm: win
    restart: graceful
    ports: [{port: 1, as: kd, attach: \"listen:pipe:win-kd\", serve: [\"listen:tcp:127.0.0.1:0\"]}]
    guest: {os: windows, user: Administrator, password: {env: WIN_PW}}
    debugger: {kind: kd}
";

/// A running VM with Secure Boot, as Windows' own installer leaves it, and its profile.
fn lab(change: impl FnOnce(&mut Guest)) -> Lab {
    let lab = host();
    let mut inside = guest(&lab);
    inside.secure_boot = Some(true);
    change(&mut inside);
    inside.write(&lab.state.join("win")).unwrap();
    fs::write(lab.sandbox.path("lab.yaml"), PROFILE).unwrap();
    lab
}

fn vm(lab: &Lab) -> Vm {
    Host::read(&lab.state).unwrap().vms[0].clone()
}

/// What was changed on the host, in order.
fn host_log(lab: &Lab) -> Vec<String> {
    let log = fs::read_to_string(lab.state.join("hyperv.log")).unwrap_or_default();
    log.lines().map(ToOwned::to_owned).collect()
}

/// What was changed in the guest, in order.
fn guest_log(lab: &Lab) -> Vec<String> {
    let log = fs::read_to_string(lab.state.join("win/windows.log")).unwrap_or_default();
    log.lines().map(ToOwned::to_owned).collect()
}

const VM_IS_SET: [&str; 4] = [
    "Stop-VM win",
    "Set-VMFirmware win Off",
    r"Set-VMComPort win 1 '\\.\pipe\win-kd' On",
    "Start-VM win",
];

fn assert_set_up(lab: &Lab) {
    assert_eq!(host_log(lab), VM_IS_SET);
    let inside = guest(lab);
    assert_eq!(inside.get(CURRENT, "debug"), Some("Yes"));
    assert_eq!(inside.get("{dbgsettings}", "debugtype"), Some("Serial"));
    assert_eq!(inside.get("{dbgsettings}", "debugport"), Some("1"));
}

fn says_nothing_to_change(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("Nothing to change."), "{ended:?}");
}

fn apply_and_undo() {
    let lab = lab(|_| {});
    let (before, inside) = (vm(&lab), guest(&lab));
    // The guest has no say while Secure Boot is on: its stage comes when its VM is up again.
    let planned = lab.run("plan lab.yaml --exit-code");
    assert_eq!(planned.code, Some(10), "{planned:?}");
    insta::assert_snapshot!(planned.stdout);
    assert_eq!((vm(&lab), guest(&lab)), (before.clone(), inside.clone()));
    let unasked = lab.run("apply lab.yaml");
    assert_eq!(unasked.code, Some(5), "{unasked:?}");
    assert_eq!((vm(&lab), guest(&lab)), (before.clone(), inside.clone()));
    lab.done("apply lab.yaml --yes");
    assert_set_up(&lab);
    says_nothing_to_change(&lab.run("apply lab.yaml --yes"));
    assert_eq!(lab.done("plan lab.yaml --exit-code").code, Some(0));
    lab.done("undo --yes --confirm secure-boot");
    assert_eq!((vm(&lab), guest(&lab)), (before, inside));
    assert!(
        lab.run("undo --yes").stderr.contains("Nothing to undo."),
        "one undo takes both back"
    );
}

fn bitlocker_sleeps() {
    let lab = lab(|guest| "on".clone_into(&mut guest.bitlocker));
    let (before, inside) = (vm(&lab), guest(&lab));
    let planned = lab.done("plan lab.yaml");
    let place = |part: &str| {
        let found = planned.stdout.find(part);
        found.unwrap_or_else(|| panic!("no `{part}` in {}", planned.stdout))
    };
    assert!(place("manage-bde") < place("Stop-VM") && place("Stop-VM") < place("after start"));
    let unconfirmed = lab.run("apply lab.yaml --yes");
    assert_eq!(unconfirmed.code, Some(5), "{unconfirmed:?}");
    assert_eq!((vm(&lab), guest(&lab)), (before.clone(), inside.clone()));
    lab.done("apply lab.yaml --yes --confirm secure-boot");
    assert_set_up(&lab);
    // Its boot with another Secure Boot asked for no key, and the next one, with the debugger, will not either.
    let now = guest(&lab);
    assert_eq!((now.bitlocker.as_str(), now.boots), ("suspended", 1));
    says_nothing_to_change(&lab.run("apply lab.yaml --yes"));
    lab.done("undo --yes --confirm secure-boot");
    assert_eq!((vm(&lab), guest(&lab)), (before, inside));
}

fn killed_in_the_middle() {
    // The name of a script that does its work on the host and then hangs, or the line of a program in the guest.
    for (script, program) in [
        ("stop-vm", ""),
        ("set-com-port", ""),
        ("start-vm", ""),
        ("", "bcdedit /dbgsettings serial"),
        ("", "bcdedit /debug"),
    ] {
        let lab = lab(|guest| program.clone_into(&mut guest.hangs_after));
        let before = vm(&lab);
        let mut inside = guest(&lab);
        inside.hangs_after.clear();
        let mut changed = Host::read(&lab.state).unwrap();
        changed.hangs_after = (!script.is_empty()).then(|| script.to_owned());
        changed.write(&lab.state).unwrap();
        let mut apply = lab.sandbox.start(["apply", "lab.yaml", "--yes"]);
        let done = VM_IS_SET
            .iter()
            .position(|line| {
                script == "stop-vm" && line.starts_with("Stop-VM")
                    || script == "set-com-port" && line.starts_with("Set-VMComPort")
                    || script == "start-vm" && line.starts_with("Start-VM")
            })
            .map_or(VM_IS_SET.len(), |at| at + 1);
        wait_until("the step hangs", || {
            let hangs = program.is_empty() || guest_log(&lab).iter().any(|line| line.starts_with(program));
            (host_log(&lab).len() == done && hangs).then_some(())
        });
        apply.signal("KILL");
        assert_eq!(apply.wait_end(), 128 + 9);
        let mut changed = Host::read(&lab.state).unwrap();
        changed.hangs_after = None;
        changed.write(&lab.state).unwrap();
        let mut now = guest(&lab);
        now.hangs_after.clear();
        now.write(&lab.state.join("win")).unwrap();
        lab.done("undo --yes --confirm secure-boot");
        assert_eq!((vm(&lab), guest(&lab)), (before, inside), "{script}{program}");
    }
}

fn debug_plans_the_guest() {
    let lab = lab(|_| {});
    let planned = lab.done("debug lab.yaml --plan");
    // A session waits for no guest that restarts, and tells what goes on with it.
    for part in [
        "Set-VMComPort",
        "(debugger's settings) is left as it is",
        "Secure Boot is on",
        "`vmserial apply win` goes on",
    ] {
        assert!(
            planned.stdout.contains(part) || planned.stderr.contains(part),
            "no `{part}` in {planned:?}"
        );
    }
    lab.done("apply lab.yaml --yes");
    // Somebody switched the kernel's debugger off since: what is missing is the guest's stage alone.
    let mut inside = guest(&lab);
    inside
        .objects
        .get_mut(CURRENT)
        .unwrap()
        .insert("debug".to_owned(), "No".to_owned());
    inside.write(&lab.state.join("win")).unwrap();
    let planned = lab.done("debug lab.yaml --plan");
    assert!(planned.stdout.contains("  guest:\n"), "{planned:?}");
    assert!(planned.stdout.contains("bcdedit.exe /debug"), "{planned:?}");
    assert!(!planned.stdout.contains("Set-VMComPort"), "{planned:?}");
    assert_ne!(guest(&lab).bitlocker, RECOVERY);
}
