//! PowerShell Direct: the guest of a VM, through its host's PowerShell.

use super::{Lab, trial};
use crate::kit::Ended;
use libtest_mimic::Trial;
use std::fs;
use vmserial_testkit::hyperv::host::{Host, Vm};
use vmserial_testkit::windows_guest::{CURRENT, Guest};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("powershell_direct_sets_it_up_and_takes_it_back", set_up_and_undo),
        trial("powershell_direct_says_what_is_missing", what_is_missing),
        trial("a_profile_names_the_guest_s_login", a_profile_names_the_login),
    ]
}

const WIN: &str = "0b7c2f0e-6a53-4c0c-9f0a-3d0c2f4f7e11";

/// A host with one VM, whose guest runs.
pub fn host() -> Lab {
    let lab = Lab::new(|_| {});
    let mut host = Host::default();
    host.vms = vec![Vm::new(WIN, "win", 2)];
    "Running".clone_into(&mut host.vms[0].state);
    host.write(&lab.state).unwrap();
    Guest::default().write(&lab.state.join("win")).unwrap();
    lab
}

pub fn guest(lab: &Lab) -> Guest {
    Guest::read(&lab.state.join("win")).unwrap()
}

const LOGIN: &str = "--user Administrator --password-env WIN_PW";

fn has_no_password(ended: &[&Ended]) {
    for one in ended {
        assert!(
            !format!("{}{}", one.stdout, one.stderr).contains("s3cret"),
            "{one:?}"
        );
    }
}

fn set_up_and_undo() {
    let lab = host();
    let before = guest(&lab);
    let applied = lab.done(&format!("-vv guest windows --vm win {LOGIN} --port 1 --yes"));
    assert_eq!(guest(&lab).get(CURRENT, "debug"), Some("Yes"));
    // What was set is the guest's, not the host's.
    assert!(lab.log().is_empty());
    let again = lab.done(&format!("guest windows --vm {WIN} {LOGIN} --port 1 --yes"));
    assert!(
        again.stdout.contains("Nothing to change.") || again.stderr.contains("Nothing to change."),
        "{again:?}"
    );
    let undone = lab.done("-vv undo --yes");
    assert_eq!(guest(&lab), before);
    has_no_password(&[&applied, &again, &undone]);
    // Neither is it in what is kept, nor on any command line: scripts with it go by standard input.
    for entry in fs::read_dir(lab.sandbox.path("state/journal")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path().join("entry.json")).unwrap();
        assert!(text.contains("WIN_PW") && !text.contains("s3cret"), "{text}");
    }
    let log = fs::read_to_string(lab.state.join("log")).unwrap();
    assert!(
        log.lines().all(|line| line.contains("\"way\":\"input\"")),
        "{log}"
    );
}

fn what_is_missing() {
    let lab = host();
    for (words, code, hint) in [
        (
            "--vm win --user Administrator --password-env WRONG_PW",
            5,
            "Check user and password",
        ),
        ("--vm win --user Administrator", 5, "--password-env"),
        ("--vm win --password-env WIN_PW", 5, "--user Administrator"),
        (
            "--vm other --user Administrator --password-env WIN_PW",
            5,
            "name it as `Get-VM` does",
        ),
        (
            "--vm win --user Administrator --password-env NOT_SET",
            5,
            "NOT_SET",
        ),
    ] {
        let ended = lab.run(&format!("guest windows {words} --show"));
        assert_eq!(ended.code, Some(code), "{words}: {ended:?}");
        assert!(ended.stderr.contains(hint), "{words}: {ended:?}");
    }
    let mut host = Host::read(&lab.state).unwrap();
    "Off".clone_into(&mut host.vms[0].state);
    host.write(&lab.state).unwrap();
    let off = lab.run(&format!("guest windows --vm win {LOGIN} --show"));
    assert_eq!(off.code, Some(5), "{off:?}");
    assert!(off.stderr.contains("only a guest that runs"), "{off:?}");
}

fn a_profile_names_the_login() {
    let lab = host();
    let profile = lab.sandbox.path("lab.yaml");
    let text = "version: 1\nhosts: {here: {hypervisor: hyperv}}\ntargets:\n  win:\n    host: here\n    vm: win\n    \
        ports: [{port: 1, as: kd}]\n    guest: {os: windows, user: Administrator, password: {env: WIN_PW}}\n";
    fs::write(&profile, text).unwrap();
    lab.done(&format!("guest windows {} --yes", profile.display()));
    assert_eq!(guest(&lab).get("{dbgsettings}", "debugport"), Some("1"));
    fs::remove_file(&profile).unwrap();
    lab.done("undo --yes");
    assert_eq!(guest(&lab), Guest::default());
}
