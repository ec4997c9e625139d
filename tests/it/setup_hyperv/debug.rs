//! `vmserial debug` on a Windows guest: the plan, the bridge, and the debugger or its command line.

use super::ssh::{far, over_ssh};
use super::{Lab, WIN, trial};
use libtest_mimic::Trial;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use vmserial_testkit::hyperv::host::{Host, Vm};

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("a_debugger_that_is_elsewhere_is_told_its_command_line", elsewhere),
        trial("a_debugger_that_is_here_is_started", here),
        trial("a_session_starts_a_vm_that_is_off_and_ends_it", starts_and_ends),
        trial(
            "a_session_ends_its_vm_as_far_as_the_policy_goes",
            as_far_as_the_policy_goes,
        ),
        trial("a_session_without_a_break_in_ends_its_vm_too", without_a_break_in),
        trial("a_session_needs_a_vm_that_can_run", needs_a_vm_that_can_run),
        trial("up_starts_a_vm_that_is_off_and_down_ends_it", up_and_down),
    ];
    trials.push(over_ssh(
        "a_session_over_ssh_starts_a_vm_that_is_off",
        starts_over_ssh,
    ));
    trials
}

const PROFILE: &str = "version: 1
targets:
  win:
    host: hyperv
    vm: win
    ports: [{port: 1, as: kd, attach: \"listen:pipe:win-kd\", serve: [\"listen:tcp:127.0.0.1:0\"]}]
    guest: {os: windows}
    debugger: {kind: kd}
";

fn lab() -> Lab {
    let lab = Lab::new(|_| {});
    write_profile(&lab, "hyperv", "");
    lab
}

/// Writes the profile, with another host and with more keys of its target.
fn write_profile(lab: &Lab, host: &str, more: &str) {
    let profile = PROFILE.replace("host: hyperv\n", &format!("host: {host}\n{more}"));
    let profile = match host {
        "hyperv" => profile,
        host => profile.replace(
            "targets:",
            &format!("hosts: {{{host}: {{hypervisor: hyperv, ssh: {host}}}}}\ntargets:"),
        ),
    };
    fs::write(lab.sandbox.path("win.yaml"), profile).unwrap();
}

/// A debugger that ends with this status.
fn debugger(lab: &Lab, code: i32) {
    let program = lab.sandbox.path("bin/kd.exe");
    let text = format!("#!/bin/sh\necho \"$@\" >kd.said\nexit {code}\n");
    fs::create_dir_all(lab.sandbox.path("bin")).unwrap();
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A VM that is set up and off.
fn is_set_up(host: &mut Host) {
    let win = &mut host.vms[1];
    win.secure_boot = Some("Off".to_owned());
    r"\\.\pipe\win-kd".clone_into(&mut win.com[0].path);
}

const WORDS: [&str; 5] = ["debug", "win.yaml", "--yes", "--confirm", "secure-boot"];

fn elsewhere() {
    let lab = lab();
    let mut debug = lab.sandbox.start(WORDS);
    let line = debug.wait_line("listening on listen:tcp:127.0.0.1:");
    let port = line.rsplit(':').next().unwrap().to_owned();
    debug.wait_output(format!("kd -k com:ipport={port},port=127.0.0.1\n").as_bytes());
    debug.wait_line("until Ctrl-C");
    assert_eq!(lab.host().vms[1].secure_boot.as_deref(), Some("Off"));
    assert_eq!(lab.host().vms[1].state, "Running");
    debug.signal("INT");
    assert_eq!(debug.wait_end_with_input_open(), 130, "{}", debug.said());
}

fn here() {
    for (code, expected) in [(0, 0), (3, 6)] {
        let lab = lab();
        debugger(&lab, code);
        let ended = lab.sandbox.run(WORDS.iter().chain(&["--", "-bonc"]));
        assert_eq!(ended.code, Some(expected), "{ended:?}");
        let said = fs::read_to_string(lab.sandbox.path("kd.said")).unwrap();
        assert!(
            said.starts_with("-k com:ipport=") && said.ends_with(",port=127.0.0.1 -bonc\n"),
            "{said}"
        );
    }
}

const SET_UP: [&str; 2] = [
    "Set-VMFirmware win Off",
    r"Set-VMComPort win 1 '\\.\pipe\win-kd' On",
];

fn starts_and_ends() {
    let lab = lab();
    write_profile(&lab, "hyperv", "    restart: graceful\n");
    debugger(&lab, 0);
    let planned = lab.run("debug win.yaml --plan");
    assert_eq!(planned.code, Some(0), "{planned:?}");
    for part in [
        "start `win`\n",
        "PS> Start-VM -VM (Get-VM -Id '0b7c2f0e-6a53-4c0c-9f0a-3d0c2f4f7e11')",
        "it was off; `debug` shuts it down at its end",
        "undo: `Stop-VM",
    ] {
        assert!(planned.stdout.contains(part), "no `{part}` in {}", planned.stdout);
    }
    assert_eq!(lab.log(), [""; 0]);
    // What is only set up is not started.
    assert!(!lab.run("plan win.yaml").stdout.contains("Start-VM"));
    let ended = lab.sandbox.run(WORDS);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let all = [SET_UP[0], SET_UP[1], "Start-VM win", "Stop-VM win"];
    assert_eq!(lab.log(), all);
    assert!(lab.sandbox.path("kd.said").exists());
    // The next one has nothing but the start to do, and what was set up stays until it is undone.
    let again = lab.sandbox.run(WORDS);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(lab.log()[4..], ["Start-VM win", "Stop-VM win"]);
    let kept = lab.sandbox.run(WORDS.iter().chain(&["--keep"]));
    assert_eq!(kept.code, Some(0), "{kept:?}");
    assert_eq!(lab.host().vms[1].state, "Running");
    // One that runs is neither started nor ended.
    let running = lab.sandbox.run(WORDS);
    assert!(running.stderr.contains("Nothing to change."), "{running:?}");
    assert_eq!(lab.log()[6..], ["Start-VM win"]);
    let down = lab.run("down win");
    assert_eq!(down.code, Some(0), "{down:?}");
    assert_eq!(lab.host().vms[1].state, "Off");
}

fn as_far_as_the_policy_goes() {
    for (level, guest, code, log, said) in [
        ("never", "", 0, &["Start-VM win"][..], "runs on"),
        ("ask", "", 0, &["Start-VM win"], "`vmserial down win` ends it"),
        (
            "graceful",
            "",
            0,
            &["Start-VM win", "Stop-VM win"],
            "Powering the VM of `win` off again.",
        ),
        ("graceful", "locked", 5, &["Start-VM win"], "without a question"),
        (
            "hard",
            "locked",
            0,
            &["Start-VM win", "Stop-VM win -TurnOff"],
            "Powering the VM",
        ),
    ] {
        let lab = Lab::new(|host| {
            is_set_up(host);
            "On".clone_into(&mut host.vms[1].com[0].debugger_mode);
            guest.clone_into(&mut host.vms[1].guest);
        });
        write_profile(&lab, "hyperv", "");
        debugger(&lab, 0);
        let ended = lab.sandbox.run(WORDS.iter().chain(&["--restart", level]));
        assert_eq!(ended.code, Some(code), "{level}: {ended:?}");
        assert!(ended.stderr.contains(said), "{level}: {ended:?}");
        assert_eq!(lab.log(), log, "{level}");
    }
}

fn without_a_break_in() {
    let lab = Lab::new(|_| {});
    let profile = "version: 1
targets:
  dev:
    host: hyperv
    vm: dev
    restart: hard
    ports: [{port: 2, as: gdb, attach: \"listen:pipe:dev-gdb\", serve: [\"listen:tcp:127.0.0.1:0\"]}]
    debugger: {kind: gdb, program: \"true\"}
";
    fs::write(lab.sandbox.path("dev.yaml"), profile).unwrap();
    let ended = lab.run("debug dev.yaml --yes --batch --wait 1s");
    assert_eq!(ended.code, Some(7), "{ended:?}");
    let set = r"Set-VMComPort dev 2 '\\.\pipe\dev-gdb' Off";
    assert_eq!(lab.log(), [set, "Start-VM dev", "Stop-VM dev -TurnOff"]);
}

fn needs_a_vm_that_can_run() {
    for (state, said) in [
        ("Saved", "is saved"),
        ("Paused", "is paused"),
        ("Starting", "is `Starting`"),
    ] {
        let lab = Lab::new(|host| {
            is_set_up(host);
            "On".clone_into(&mut host.vms[1].com[0].debugger_mode);
            state.clone_into(&mut host.vms[1].state);
        });
        write_profile(&lab, "hyperv", "");
        let ended = lab.sandbox.run(WORDS);
        assert_eq!(ended.code, Some(5), "{state}: {ended:?}");
        let needs = ended.stderr.contains("a session needs it running");
        assert!(
            needs && ended.stderr.contains(said) && ended.stderr.contains("hint: "),
            "{ended:?}"
        );
        // Only a session does.
        assert!(
            lab.run("apply win.yaml --yes")
                .stderr
                .contains("Nothing to change.")
        );
    }
}

fn up_and_down() {
    let lab = lab();
    let up = lab
        .sandbox
        .run(["up", "win.yaml", "--yes", "--confirm", "secure-boot"]);
    assert_eq!(up.code, Some(0), "{up:?}");
    assert!(up.stderr.contains("`win` runs. Its console:"), "{up:?}");
    assert_eq!(lab.log(), [SET_UP[0], SET_UP[1], "Start-VM win"]);
    let down = lab.run("down win.yaml");
    assert_eq!(down.code, Some(0), "{down:?}");
    assert_eq!(lab.log()[3..], ["Stop-VM win"]);
    let again = lab.run("down win.yaml");
    assert!(again.stderr.contains("Nothing to stop"), "{again:?}");
    // A VM that somebody else started is nobody's to stop.
    lab.change(|host| "Running".clone_into(&mut host.vms[1].state));
    assert!(lab.run("down win.yaml").stderr.contains("Nothing to stop"));
    assert_eq!(lab.host().vms[1].state, "Running");
}

fn starts_over_ssh() {
    let (lab, _server) = far(|host| host.vms.push(Vm::new(WIN, "win", 2)));
    write_profile(&lab, "lab", "    restart: graceful\n");
    debugger(&lab, 0);
    let ended = lab.sandbox.run(WORDS);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(lab.log(), [SET_UP[0], SET_UP[1], "Start-VM win", "Stop-VM win"]);
}
