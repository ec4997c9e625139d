//! A VM of plain Xen that does not come: the reason is in the log of its QEMU.

use super::xl::{DEBUGGER, Lab};
use crate::kit::{Ended, finish};
use crate::namespace;
use crate::setup_vmware::redact_entries;
use libtest_mimic::{Completion, Failed, Trial};
use std::fs;

pub fn trials() -> Vec<Trial> {
    let all: [(&str, fn()); 1] = [(
        "xl_create_that_fails_is_told_with_its_log",
        xl_create_that_fails_is_told_with_its_log,
    )];
    let trial = |(name, run): (&str, fn())| {
        Trial::ignorable_test(format!("xen::{name}"), move || {
            if let Some(reason) = namespace::missing() {
                return Ok(Completion::ignored_with(reason));
            }
            run();
            Ok::<_, Failed>(Completion::Completed)
        })
    };
    all.into_iter().map(trial).collect()
}

/// Runs vmserial on a host whose `/var/log/xen` has what the stand-in writes.
fn run(lab: &Lab, words: &str) -> Ended {
    let logs = lab.host.sandbox.path("logs");
    if !logs.exists() {
        fs::create_dir(&logs).unwrap();
        std::os::unix::fs::symlink(&lab.host.state, logs.join("xen")).unwrap();
    }
    let inner = lab.host.sandbox.vmserial(words.split_whitespace());
    let script = "mount --bind \"$1\" /var/log";
    finish(&mut namespace::inside(&inner, script, &[&logs]), b"")
}

fn xl_create_that_fails_is_told_with_its_log() {
    let lab = Lab::new(DEBUGGER);
    lab.create();
    let words = "setup xen --vm ./vm.cfg --as kd --yes --restart hard --no-bridge --endpoint";
    let failed = run(&lab, &format!("{words} listen:unix:/nowhere/com1"));
    assert_eq!(failed.code, Some(6), "{failed:?}");
    let said = redact_entries(&failed.shown(&lab.host.sandbox));
    let (_, said) = said.split_once("again\nerror: ").unwrap();
    // Its own log, not that of the start before.
    insta::assert_snapshot!(said, @r"
    `xl create [SANDBOX]/vm.cfg` on this machine ended with 1
        Parsing config from [SANDBOX]/vm.cfg
        libxl: error: libxl_dm.c:3131:device_model_spawn_outcome: Domain 7:domain 7 device model: spawn failed (rc=-3)
        libxl: error: libxl_create.c:1920:domcreate_devmodel_started: Domain 7:device model did not start: -3
      the last lines of `/var/log/xen/qemu-dm-windows-debugger.log`:
        qemu-system-i386: -serial unix:/nowhere/com1,server,nowait: Failed to bind socket to /nowhere/com1: No such file or directory
        qemu-system-i386: -serial unix:/nowhere/com1,server,nowait: could not connect serial device to character backend 'unix:/nowhere/com1,server,nowait'
    hint: What was done until then is taken back by `vmserial undo [ENTRY]`.
    hint: The VM of `vm` was powered off for this and did not come back: start it afterwards, an undo leaves its power as it is.
    ");
    // The VM is off, the file is changed: as told.
    assert_eq!(lab.host.tool("xl domid windows-debugger").code, Some(1));
    assert!(lab.cfg().contains("/nowhere/com1"), "{}", lab.cfg());
    let create = format!("xl create {}", lab.cfg.display());
    let changes = [&create, "xl destroy windows-debugger", &create];
    assert_eq!(lab.host.changes(), changes);
    // Undo looks at the start that was begun, and has the file to take back.
    let undone = run(&lab, "undo --yes");
    assert_eq!(undone.code, Some(0), "{undone:?}");
    for part in [
        "create `windows-debugger` again (was begun; looked at now)\n      nothing to do: the VM is off already",
        "the original bytes return",
        "an undo leaves the VM's power as it finds it",
    ] {
        assert!(undone.stderr.contains(part), "{part}: {undone:?}");
    }
    assert_eq!(lab.cfg().as_bytes(), DEBUGGER);
    assert_eq!(lab.host.changes(), changes);
    let nothing = run(&lab, "undo --yes");
    assert!(nothing.stderr.starts_with("Nothing to undo."), "{nothing:?}");
    // As told: it can be started afterwards, and set up where there is a folder.
    lab.create();
    let port = lab.host.sandbox.endpoint("listen:unix", "com1");
    let applied = run(&lab, &format!("{words} {port}"));
    assert_eq!(applied.code, Some(0), "{applied:?}");
}
