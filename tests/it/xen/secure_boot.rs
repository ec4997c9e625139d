//! `platform:secureboot` of VMs with UEFI: shown, switched off where a debugger needs it, and exactly taken back.

use super::{Host, OTHER, UUID, free_port, trial};
use crate::kit::is_fast;
use libtest_mimic::Trial;
use std::fs;

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "secure_boot_goes_off_where_a_debugger_needs_it",
            secure_boot_goes_off_where_a_debugger_needs_it,
        ),
        trial(
            "secure_boot_of_a_windows_guest_is_confirmed_by_name",
            secure_boot_of_a_windows_guest_is_confirmed_by_name,
        ),
        trial("secure_boot_is_shown", secure_boot_is_shown),
        trial(
            "a_vm_that_still_runs_with_secure_boot_is_restarted",
            a_vm_that_still_runs_with_secure_boot_is_restarted,
        ),
        trial(
            "xl_has_no_switch_for_secure_boot",
            xl_has_no_switch_for_secure_boot,
        ),
        trial("doctor_looks_at_a_xen_host", doctor_looks_at_a_xen_host),
    ]
}

/// The VM has UEFI, and this setting.
fn with(setting: Option<&str>) -> Host {
    let host = Host::xapi();
    uefi(&host, UUID);
    if let Some(setting) = setting {
        host.set(UUID, "platform/secureboot", setting);
    }
    host
}

fn uefi(host: &Host, uuid: &str) {
    fs::create_dir_all(host.state.join("vms").join(uuid).join("HVM-boot-params")).unwrap();
    host.set(uuid, "HVM-boot-params/firmware", "uefi");
}

/// A Linux guest: nothing is to be confirmed by name.
fn profile(host: &Host, rest: &str) {
    let port = free_port();
    let text = format!(
        "version: 1\ntargets:\n  win11-dev: {{host: xen, vm: win11-dev, guest: {{os: linux}}, ports: [{{port: 1, as: console+gdb, attach: \"listen:tcp:127.0.0.1:{port}\"}}]{rest}}}\n"
    );
    fs::write(host.sandbox.path("lab.yaml"), text).unwrap();
}

fn secure_boot_goes_off_where_a_debugger_needs_it() {
    let now = |host: &Host| host.key("platform", "secureboot");
    let all = [
        (Some("true"), "", Some("false")),
        (Some("auto"), "", Some("false")),
        (Some("false"), "", Some("false")),
        (None, "", None),
        (None, ", secure_boot: off", None),
        (Some("auto"), ", secure_boot: off", Some("false")),
        (Some("true"), ", secure_boot: keep", Some("true")),
    ];
    for (before, wish, after) in all.into_iter().take(if is_fast() { 1 } else { 7 }) {
        let host = with(before);
        profile(&host, wish);
        let planned = host.sandbox.run(["plan", "lab.yaml"]);
        let step = "switch Secure Boot off";
        assert_eq!(planned.stdout.contains(step), before != after, "{planned:?}");
        let keeps = wish.contains("keep");
        let told = planned.stdout.contains("note: Secure Boot stays as it is");
        assert_eq!(told, keeps, "{planned:?}");
        let applied = host.sandbox.run(["apply", "lab.yaml", "--yes"]);
        assert_eq!(applied.code, Some(0), "{applied:?}");
        assert_eq!(now(&host).as_deref(), after, "{before:?} {wish}");
        let again = host.sandbox.run(["apply", "lab.yaml", "--yes"]);
        assert!(again.stderr.ends_with("Nothing to change.\n"), "{again:?}");
        let undone = host.undo();
        assert_eq!(undone.code, Some(0), "{undone:?}");
        assert_eq!(now(&host).as_deref(), before, "{wish}");
    }
    // A BIOS has none, whatever its setting says; a console needs nothing.
    let host = Host::xapi();
    host.set(UUID, "platform/secureboot", "true");
    profile(&host, "");
    let planned = host.sandbox.run(["plan", "lab.yaml"]);
    assert!(!planned.stdout.contains("Secure Boot"), "{planned:?}");
    let host = with(Some("true"));
    let planned = host.setup("--vm win11-dev --endpoint listen:tcp:127.0.0.1:7001 --as console --plan");
    assert!(!planned.stdout.contains("Secure Boot"), "{planned:?}");
}

fn secure_boot_of_a_windows_guest_is_confirmed_by_name() {
    let host = with(Some("true"));
    let line = format!(
        "--vm win11-dev --endpoint listen:tcp:127.0.0.1:{} --as kd --yes",
        free_port()
    );
    let refused = host.setup(&line);
    assert_eq!(refused.code, Some(5), "{refused:?}");
    for part in ["have the recovery key ready", "`--confirm secure-boot`"] {
        assert!(refused.stderr.contains(part), "{part}: {refused:?}");
    }
    assert_eq!(host.key("platform", "secureboot").as_deref(), Some("true"));
    let set = host.setup(&format!("{line} --confirm secure-boot"));
    assert_eq!(set.code, Some(0), "{set:?}");
    assert_eq!(host.key("platform", "secureboot").as_deref(), Some("false"));
    // The way back wants it, too.
    let undone = host.undo();
    assert_eq!(undone.code, Some(5), "{undone:?}");
    let undone = host.sandbox.run(["undo", "--yes", "--confirm", "secure-boot"]);
    assert_eq!(undone.code, Some(0), "{undone:?}");
    assert_eq!(host.key("platform", "secureboot").as_deref(), Some("true"));
    let kept = host.setup(&format!("{line} --secure-boot keep"));
    assert_eq!(kept.code, Some(0), "{kept:?}");
}

fn secure_boot_is_shown() {
    for (setting, certificates, off, on) in [
        (
            Some("auto"),
            true,
            "platform:secureboot=auto (on where the pool has certificates for it)",
            "; the VM that runs has it on",
        ),
        (
            Some("auto"),
            false,
            "platform:secureboot=auto (on where the pool has certificates for it)",
            "; the VM that runs has it off",
        ),
        (
            None,
            true,
            "no platform:secureboot, so it is off",
            "; the VM that runs has it off",
        ),
    ] {
        let host = with(setting);
        if certificates {
            fs::write(host.state.join("certificates"), "").unwrap();
        }
        let shown = host.setup("--vm win11-dev --show");
        assert!(
            shown
                .stdout
                .lines()
                .any(|line| line == format!("Secure Boot: {off}")),
            "{shown:?}"
        );
        host.must(&format!("xe vm-start uuid={UUID}"));
        let shown = host.setup("--vm win11-dev --show --json");
        let json: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
        assert_eq!(json["secure_boot"], format!("{off}{on}"), "{shown:?}");
    }
    let bios = Host::xapi().setup("--vm win11-dev --show");
    assert!(!bios.stdout.contains("Secure Boot"), "{bios:?}");
}

/// The setting is made while the VM runs; its firmware has what it was told at its start.
fn a_vm_that_still_runs_with_secure_boot_is_restarted() {
    let host = with(Some("true"));
    host.must(&format!("xe vm-start uuid={UUID}"));
    let text =
        "version: 1\ntargets: {dev: {host: xen, vm: win11-dev, ports: [{port: 1, as: console+gdb}]}}\n";
    fs::write(host.sandbox.path("lab.yaml"), text).unwrap();
    let left = host
        .sandbox
        .run(["apply", "lab.yaml", "--yes", "--restart", "never"]);
    assert_eq!(left.code, Some(0), "{left:?}");
    assert_eq!(host.key("platform", "secureboot").as_deref(), Some("false"));
    let again = host
        .sandbox
        .run(["apply", "lab.yaml", "--yes", "--restart", "never"]);
    assert!(again.stderr.ends_with("Nothing to change.\n"), "{again:?}");
    let restarted = host
        .sandbox
        .run(["apply", "lab.yaml", "--yes", "--restart", "graceful"]);
    assert_eq!(restarted.code, Some(0), "{restarted:?}");
    assert!(
        restarted.stderr.contains("shut down `win11-dev`"),
        "{restarted:?}"
    );
    let again = host
        .sandbox
        .run(["apply", "lab.yaml", "--yes", "--restart", "graceful"]);
    assert!(again.stderr.ends_with("Nothing to change.\n"), "{again:?}");
}

fn xl_has_no_switch_for_secure_boot() {
    let host = Host::new("xl");
    let cfg = include_str!("../../data/xen/debuggee.cfg");
    fs::write(host.sandbox.path("dev.cfg"), cfg).unwrap();
    let ended = host.setup("--vm ./dev.cfg --secure-boot off --plan");
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(
        ended.stderr.contains("xl has no switch for Secure Boot"),
        "{ended:?}"
    );
    let ended = host.setup("--vm ./dev.cfg --secure-boot keep --plan");
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

fn doctor_looks_at_a_xen_host() {
    let host = with(Some("true"));
    host.vm(OTHER, "win10");
    uefi(&host, OTHER);
    host.set(OTHER, "platform/secureboot", "auto");
    let ended = host.sandbox.run(["doctor", "xen"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for part in [
        "good     toolstack: xapi, with 2 VMs",
        "good     pool: one host",
        "advice   Secure Boot: on: `win11-dev`; where the pool has certificates (`auto`): `win10`",
        "good     xenstore: ",
    ] {
        assert!(ended.stdout.contains(part), "{part}: {ended:?}");
    }
    fs::create_dir_all(host.state.join("xenstore")).unwrap();
    fs::write(host.state.join("xenstore/%local%logconsole%@"), "/var/log/c").unwrap();
    let ended = host.sandbox.run(["doctor", "xen"]);
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(
        ended
            .stdout
            .contains("MISSING  xenstore: the host logs all consoles to files"),
        "{ended:?}"
    );
    host.fault("supporter");
    let ended = host.sandbox.run(["doctor", "xen"]);
    assert!(ended.stdout.contains("the pool's coordinator"), "{ended:?}");
    let host = Host::new("xl");
    let ended = host.sandbox.run(["doctor", "xen"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("good     toolstack: xl\n"), "{ended:?}");
    let nowhere = crate::kit::Sandbox::new().run(["doctor", "xen"]);
    assert_eq!(nowhere.code, Some(5), "{nowhere:?}");
    assert!(nowhere.stdout.contains("neither `xe` nor `xl`"), "{nowhere:?}");
}
