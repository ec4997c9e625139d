//! Running VMs: consent, two stages, shutdowns that fail or hang.

use super::{KGDB, Lab, PORT, trial};
use crate::kit::wait_until;
use libtest_mimic::Trial;
use std::fs;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_running_vm_needs_consent", a_running_vm_needs_consent),
        trial(
            "a_running_vm_is_changed_in_two_goes",
            a_running_vm_is_changed_in_two_goes,
        ),
        trial(
            "a_guest_that_cannot_shut_down_runs_on",
            a_guest_that_cannot_shut_down_runs_on,
        ),
        trial(
            "a_hanging_shutdown_is_interrupted",
            a_hanging_shutdown_is_interrupted,
        ),
    ]
}

fn a_running_vm_needs_consent() {
    let lab = Lab::new(KGDB);
    lab.power_on();
    let before = lab.vmx();
    for level in ["ask", "never"] {
        let ended = lab.setup(&format!("{PORT} --yes --restart {level}"));
        assert_eq!(ended.code, Some(5), "{ended:?}");
        assert!(ended.stderr.contains("`--restart graceful`"), "{ended:?}");
    }
    assert!(lab.is_running());
    assert_eq!(lab.vmx(), before);
    // A stage that cannot be planned yet is shown as such.
    let planned = lab.setup(&format!("{PORT} --plan --restart graceful"));
    insta::assert_snapshot!(lab.shown(&planned), @r#"
    exit code: 0
    --- standard output
    dev: vmware VM `[SANDBOX]/dev.vmx` on this machine, running
      port 2 (COM2, ttyS1), console: VM listens on unix:/tmp/com_ubuntu1510, vmserial connects
      power off:
        1. shut down `[SANDBOX]/dev.vmx`
            $ vmrun -T ws stop [SANDBOX]/dev.vmx soft
            power: asks the guest to shut down; needs the restart policy's consent
            effect: at once; undo: none (an undo leaves the VM's power as it finds it)
            note: a window of VMware that has the VM open keeps its file locked: close the VM's tab
        2. wait until the VM is off
            until `vmrun -T ws list` no longer prints `[SANDBOX]/dev.vmx`
        3. wait until VMware has let the file go
            until `[SANDBOX]/dev.vmx.lck` is gone
      settings: after power-off, which writes the file; may change: serial1.* keys
        planned, shown and confirmed when its facts are there
      start: after the settings; may change: the VM's power: it is left running, as it was found
        planned, shown and confirmed when its facts are there
    --- standard error
    "#);
}

fn a_running_vm_is_changed_in_two_goes() {
    for (level, how) in [("graceful", "soft"), ("hard", "hard")] {
        let lab = Lab::new(KGDB);
        lab.power_on();
        // Lost at power-off, as VMware's own writing does: the plan must be made on what is there then.
        lab.set_vmx(b"edited = \"while it ran\"\n");
        let ended = lab.setup(&format!("{PORT} --yes --restart {level}"));
        if level == "graceful" {
            insta::assert_snapshot!(lab.shown(&ended));
        }
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(lab.is_running());
        let vmx = String::from_utf8(lab.vmx()).unwrap();
        assert!(vmx.contains("serial1.pipe.endPoint = \"server\"") && vmx.contains("displayName"));
        assert!(!vmx.contains("while it ran"));
        let log = fs::read_to_string(lab.vmrun.join("log")).unwrap();
        let changes: Vec<&str> = log.lines().filter(|line| !line.ends_with("list")).collect();
        let path = lab.sandbox.path("dev.vmx").display().to_string();
        assert_eq!(
            changes,
            [
                format!("-T ws start {path}"),
                format!("-T ws stop {path} {how}"),
                format!("-T ws start {path} nogui"),
            ]
        );
        // The port is there: a VM that runs is not touched again.
        let second = lab.setup(&format!("{PORT} --yes --restart {level}"));
        assert!(second.stderr.starts_with("Nothing to change.\n"), "{second:?}");
    }
}

fn a_guest_that_cannot_shut_down_runs_on() {
    let lab = Lab::new(KGDB);
    lab.power_on();
    lab.fault("no-tools");
    let before = lab.vmx();
    let ended = lab.setup(&format!("{PORT} --yes --restart graceful"));
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("The VMware Tools are not running in the virtual machine"),
        "{ended:?}"
    );
    assert!(lab.is_running());
    assert_eq!(lab.vmx(), before);
}

fn a_hanging_shutdown_is_interrupted() {
    let lab = Lab::new(KGDB);
    lab.power_on();
    lab.fault("soft-hangs");
    let before = lab.vmx();
    let words = format!("setup vmware --vm dev.vmx {PORT} --yes --restart graceful");
    let mut setup = lab.sandbox.start(words.split_whitespace());
    wait_until("the guest is asked to shut down", || {
        let log = fs::read_to_string(lab.vmrun.join("log")).unwrap_or_default();
        log.contains("stop").then_some(())
    });
    // The first asks the running step to end by itself, the second ends it.
    setup.signal("INT");
    setup.signal("TERM");
    assert_eq!(setup.wait_end(), 130, "{}", setup.said());
    assert!(lab.is_running());
    assert_eq!(lab.vmx(), before);
}
