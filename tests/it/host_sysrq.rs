//! `host_sysrq: off` on a host whose `/proc/sys/kernel` and `/etc/sysctl.d` are a folder of the trial's, in a mount namespace.

use crate::debug_lab::{Change, Lab};
use crate::guest;
use crate::kit::{Ended, Sandbox, finish};
use crate::namespace;
use libtest_mimic::{Completion, Trial};
use std::fs;

pub fn trials() -> Vec<Trial> {
    let of = |name: &str, run: fn(), wants_guest: bool| {
        Trial::ignorable_test(format!("host_sysrq::{name}"), move || {
            let reason = namespace::missing().or_else(|| wants_guest.then(guest::missing).flatten());
            if let Some(reason) = reason {
                return Ok(Completion::ignored_with(reason));
            }
            run();
            Ok(Completion::Completed)
        })
    };
    vec![
        of(
            "it_is_off_until_it_is_undone",
            it_is_off_until_it_is_undone,
            false,
        ),
        of(
            "what_somebody_else_set_is_left",
            what_somebody_else_set_is_left,
            false,
        ),
        of(
            "doctor_tells_whose_the_keys_are",
            doctor_tells_whose_the_keys_are,
            false,
        ),
        of("a_session_gives_it_back", a_session_gives_it_back, true),
    ]
}

const PROFILE: &str = "version: 1
targets:
  dev: {host: vmware, vm: dev.vmx, ports: [{port: 1, as: console, attach: \"listen:unix:s\"}], host_sysrq: off}
";

fn lab() -> Sandbox {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("dev.vmx"), "config.version = \"8\"\n").unwrap();
    fs::write(sandbox.path("vmserial.yaml"), PROFILE).unwrap();
    with_host(&sandbox);
    sandbox
}

fn with_host(sandbox: &Sandbox) {
    fs::create_dir_all(sandbox.path("sysctl.d")).unwrap();
    fs::create_dir_all(sandbox.path("kernel")).unwrap();
    fs::write(sandbox.path("kernel/sysrq"), "438\n").unwrap();
}

/// Runs vmserial where the sandbox's files are the host's.
fn run(sandbox: &Sandbox, words: &[&str]) -> Ended {
    let script = "mount --bind \"$1\" /proc/sys/kernel && mount --bind \"$2\" /etc/sysctl.d";
    let folders = [sandbox.path("kernel"), sandbox.path("sysctl.d")];
    let folders = folders.each_ref().map(|folder| folder.as_path());
    let inner = sandbox.vmserial(words);
    finish(&mut namespace::inside(&inner, script, &folders), b"")
}

fn sysrq(sandbox: &Sandbox) -> String {
    fs::read_to_string(sandbox.path("kernel/sysrq"))
        .unwrap()
        .trim()
        .to_owned()
}

fn it_is_off_until_it_is_undone() {
    let lab = lab();
    let unasked = run(&lab, &["apply"]);
    assert_eq!(
        (unasked.code, sysrq(&lab).as_str()),
        (Some(5), "438"),
        "{unasked:?}"
    );
    for part in [
        "switch the host's own SysRq off",
        "+kernel.sysrq = 0",
        "no longer helps this host",
    ] {
        assert!(unasked.stderr.contains(part), "{part}: {unasked:?}");
    }
    let applied = run(&lab, &["apply", "--yes"]);
    assert_eq!(applied.code, Some(0), "{applied:?}");
    let file = lab.path("sysctl.d/90-vmserial-host.conf");
    assert_eq!(sysrq(&lab), "0");
    assert!(fs::read_to_string(&file).unwrap().ends_with("kernel.sysrq = 0\n"));
    let again = run(&lab, &["apply", "--yes"]);
    assert!(again.stderr.starts_with("Nothing to change."), "{again:?}");
    let undone = run(&lab, &["undo", "--yes"]);
    assert_eq!(undone.code, Some(0), "{undone:?}");
    assert_eq!((sysrq(&lab).as_str(), file.exists()), ("438", false));
}

fn what_somebody_else_set_is_left() {
    let lab = lab();
    assert_eq!(run(&lab, &["apply", "--yes"]).code, Some(0));
    fs::write(lab.path("kernel/sysrq"), "1\n").unwrap();
    let refused = run(&lab, &["undo", "--yes"]);
    assert_eq!(refused.code, Some(5), "{refused:?}");
    assert!(
        refused.stderr.contains("before `438`, ours `0`, now `1`"),
        "{refused:?}"
    );
    assert_eq!(sysrq(&lab), "1");
}

fn doctor_tells_whose_the_keys_are() {
    let lab = lab();
    let on = run(&lab, &["doctor", "vmware"]);
    assert_eq!(on.code, Some(0), "{on:?}");
    assert!(
        on.stdout.contains("advice   host's SysRq: on (438)") && on.stdout.contains("`host_sysrq: off`"),
        "{on:?}"
    );
    fs::write(lab.path("kernel/sysrq"), "0\n").unwrap();
    let off = run(&lab, &["doctor", "vmware"]);
    assert!(off.stdout.contains("good     host's SysRq: off"), "{off:?}");
}

fn a_session_gives_it_back() {
    let lab = Lab::with(&Change {
        more: "    host_sysrq: off\n",
        ..Change::default()
    });
    with_host(&lab.sandbox);
    let seen = lab.sandbox.path("seen");
    let script = lab.script(&format!(
        "shell cat /proc/sys/kernel/sysrq > {}\n",
        seen.display()
    ));
    let debugged = run(
        &lab.sandbox,
        &["debug", "demo", "--yes", "--batch", "-x", &script],
    );
    assert_eq!(debugged.code, Some(0), "{debugged:?}");
    assert_eq!(
        fs::read_to_string(&seen).unwrap().trim(),
        "0",
        "off while the session lasts"
    );
    assert_eq!(sysrq(&lab.sandbox), "438");
    assert!(!lab.sandbox.path("sysctl.d/90-vmserial-host.conf").exists());
    // What an apply did stays: it was no session's.
    assert_eq!(run(&lab.sandbox, &["apply", "--yes"]).code, Some(0));
    let debugged = run(
        &lab.sandbox,
        &["debug", "demo", "--yes", "--batch", "-x", &script],
    );
    assert_eq!(
        (debugged.code, sysrq(&lab.sandbox).as_str()),
        (Some(0), "0"),
        "{debugged:?}"
    );
}
