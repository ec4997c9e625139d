//! Taking back: only what is still ours, also after a kill in the middle.

use super::{Lab, PORT, trial};
use crate::kit::wait_until;
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "an_undo_refuses_what_somebody_else_set",
            an_undo_refuses_what_somebody_else_set,
        ),
        trial(
            "an_undo_powers_the_vm_off_by_its_policy",
            an_undo_powers_the_vm_off_by_its_policy,
        ),
        trial(
            "an_undo_takes_a_start_back_by_todays_policy",
            an_undo_takes_a_start_back_by_todays_policy,
        ),
        trial(
            "an_undo_that_was_killed_starts_the_vm_again",
            an_undo_that_was_killed_starts_the_vm_again,
        ),
        trial(
            "an_undo_of_secure_boot_wants_its_name",
            an_undo_of_secure_boot_wants_its_name,
        ),
        trial("what_is_as_before_needs_no_undo", what_is_as_before_needs_no_undo),
        trial("a_vm_that_is_gone_needs_no_undo", a_vm_that_is_gone_needs_no_undo),
        trial(
            "an_apply_that_was_killed_is_undone",
            an_apply_that_was_killed_is_undone,
        ),
        trial(
            "a_change_between_plan_and_apply_is_refused",
            a_change_between_plan_and_apply_is_refused,
        ),
    ]
}

fn an_undo_refuses_what_somebody_else_set() {
    let lab = Lab::new(|_| {});
    assert_eq!(lab.setup(&format!("{PORT} --yes")).code, Some(0));
    lab.change(|host| r"\\.\pipe\theirs".clone_into(&mut host.vms[0].com[1].path));
    let there = lab.host();
    let ended = lab.run("undo --yes");
    assert_eq!(ended.code, Some(5), "{ended:?}");
    let versions = r"path: before (none), ours `\\.\pipe\dev-gdb`, now `\\.\pipe\theirs`";
    assert!(ended.stderr.contains(versions), "{ended:?}");
    assert_eq!(lab.host(), there);
}

/// A VM whose port was set while it was off, and which runs now.
fn set_up_and_running(guest: &str) -> Lab {
    let lab = Lab::new(|host| guest.clone_into(&mut host.vms[0].guest));
    assert_eq!(lab.setup(&format!("{PORT} --yes")).code, Some(0));
    lab.change(|host| "Running".clone_into(&mut host.vms[0].state));
    lab
}

fn an_undo_powers_the_vm_off_by_its_policy() {
    // Without a terminal nobody is asked.
    for level in ["", " --restart ask", " --restart never"] {
        let lab = set_up_and_running("");
        let there = lab.host();
        let ended = lab.run(&format!("undo --yes{level}"));
        assert_eq!(ended.code, Some(5), "{level}: {ended:?}");
        assert!(
            ended.stderr.contains("`--restart graceful`"),
            "{level}: {ended:?}"
        );
        assert_eq!(lab.host(), there, "{level}");
    }
    for (level, stop) in [("graceful", "Stop-VM dev"), ("hard", "Stop-VM dev -TurnOff")] {
        let lab = set_up_and_running("");
        let planned = lab.run(&format!("undo --plan --restart {level}"));
        assert_eq!(planned.code, Some(0), "{planned:?}");
        for part in ["  first: ", "PS> Stop-VM", "  last: take back: ", "PS> Start-VM"] {
            assert!(planned.stdout.contains(part), "no `{part}` in {}", planned.stdout);
        }
        let planned = lab.run(&format!("undo --plan --json --restart {level}"));
        let data: serde_json::Value = serde_json::from_str(&planned.stdout).unwrap();
        let words = |place: &str, key: &str| data[place][0][key].to_string();
        assert!(words("first", "do").contains("PS> Stop-VM"), "{planned:?}");
        assert!(words("last", "undo").contains("PS> Start-VM"), "{planned:?}");
        assert_eq!(data["first"][0]["target"], "dev", "{planned:?}");
        assert_eq!(lab.log().len(), 1);
        let ended = lab.run(&format!("undo --yes --restart {level}"));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(
            lab.log()[1..],
            [stop, "Set-VMComPort dev 2 '' Off", "Start-VM dev"]
        );
        assert!(lab.run("undo --yes").stderr.contains("Nothing to undo."));
    }
    // A guest that does not shut down runs on, and nothing is taken back.
    let lab = set_up_and_running("locked");
    let there = lab.host();
    let ended = lab.run("undo --yes --restart graceful");
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.stderr.contains("without a question"), "{ended:?}");
    assert_eq!(lab.host(), there);
    let ended = lab.run("undo --yes --restart hard");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let dev = lab.host().vms[0].clone();
    assert_eq!((dev.state.as_str(), dev.com[1].path.as_str()), ("Running", ""));
}

fn an_undo_takes_a_start_back_by_todays_policy() {
    let lab = Lab::new(|host| "Running".clone_into(&mut host.vms[0].state));
    let before = lab.host();
    assert_eq!(
        lab.setup(&format!("{PORT} --yes --restart graceful")).code,
        Some(0)
    );
    // The guest is locked since.
    lab.change(|host| "locked".clone_into(&mut host.vms[0].guest));
    assert_eq!(lab.run("undo --yes").code, Some(5));
    let ended = lab.run("undo --yes --restart hard");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let undone = [
        "Stop-VM dev -TurnOff",
        "Set-VMComPort dev 2 '' Off",
        "Start-VM dev",
    ];
    assert_eq!(lab.log()[3..], undone);
    lab.change(|host| host.vms[0].guest.clear());
    assert_eq!(lab.host(), before);
}

fn an_undo_that_was_killed_starts_the_vm_again() {
    for (script, done) in [("stop-vm", 2), ("set-com-port", 3)] {
        let lab = set_up_and_running("");
        lab.change(|host| host.hangs_after = Some(script.to_owned()));
        let mut undo = lab.sandbox.start(["undo", "--yes", "--restart", "graceful"]);
        wait_until("the host has changed", || (lab.log().len() >= done).then_some(()));
        undo.signal("KILL");
        undo.wait_end();
        lab.change(|host| host.hangs_after = None);
        while !lab
            .run("undo --yes --restart graceful")
            .stderr
            .contains("Nothing to undo.")
        {}
        let dev = lab.host().vms[0].clone();
        assert_eq!(
            (dev.state.as_str(), dev.com[1].path.as_str()),
            ("Running", ""),
            "{script}"
        );
    }
}

/// BitLocker measures that it goes on again, too.
fn an_undo_of_secure_boot_wants_its_name() {
    let words = "--vm win --port 1 --pipe win-kd --as kd --yes --confirm secure-boot";
    let lab = Lab::new(|_| {});
    let before = lab.host();
    assert_eq!(lab.setup(words).code, Some(0));
    let there = lab.host();
    let planned = lab.run("undo --plan");
    assert!(planned.stdout.contains("`--confirm secure-boot`"), "{planned:?}");
    let refused = lab.run("undo --yes");
    assert_eq!(refused.code, Some(5), "{refused:?}");
    for part in [
        "take back: switch Secure Boot off",
        "have the recovery key ready",
        "Suspend-BitLocker -MountPoint C:",
    ] {
        assert!(refused.stderr.contains(part), "no `{part}` in {refused:?}");
    }
    assert_eq!(lab.host(), there);
    let undone = lab.run("undo --yes --confirm secure-boot");
    assert_eq!(undone.code, Some(0), "{undone:?}");
    assert_eq!(lab.host(), before);
    // Without a virtual TPM nothing is measured; and what is as before already changes nothing.
    let lab = Lab::new(|host| host.vms[1].tpm = false);
    assert_eq!(
        lab.setup(words.trim_end_matches(" --confirm secure-boot")).code,
        Some(0)
    );
    assert_eq!(lab.run("undo --yes").code, Some(0));
    let lab = Lab::new(|_| {});
    assert_eq!(lab.setup(words).code, Some(0));
    lab.change(|host| host.vms[1].secure_boot = Some("On".to_owned()));
    assert_eq!(lab.run("undo --yes").code, Some(0));
}

fn what_is_as_before_needs_no_undo() {
    let lab = Lab::new(|_| {});
    assert_eq!(lab.setup(&format!("{PORT} --yes")).code, Some(0));
    // A checkpoint was applied, which has the port as it was. The VM may run: nothing is to be done.
    lab.change(|host| {
        host.vms[0].com[1].path.clear();
        "Running".clone_into(&mut host.vms[0].state);
    });
    let changes = lab.log().len();
    let ended = lab.run("undo --yes");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("it is as it was before"), "{ended:?}");
    assert_eq!(lab.log().len(), changes);
}

fn a_vm_that_is_gone_needs_no_undo() {
    let lab = Lab::new(|_| {});
    assert_eq!(lab.setup(&format!("{PORT} --yes")).code, Some(0));
    lab.change(|host| {
        host.vms.remove(0);
    });
    let ended = lab.run("undo --yes");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("it is gone"), "{ended:?}");
}

fn an_apply_that_was_killed_is_undone() {
    // Killed while the VM is off: before the port was set, and after it was, of which nobody was told.
    for (script, done) in [("stop-vm", 1), ("set-com-port", 2)] {
        let lab = Lab::new(|host| {
            "Running".clone_into(&mut host.vms[0].state);
            host.hangs_after = Some(script.to_owned());
        });
        let words = format!("setup hyperv {PORT} --yes --restart graceful");
        let mut setup = lab.sandbox.start(words.split_whitespace());
        wait_until("the host has changed", || (lab.log().len() == done).then_some(()));
        setup.signal("KILL");
        assert_eq!(setup.wait_end(), 128 + 9);
        lab.change(|host| host.hangs_after = None);
        assert_eq!(lab.host().vms[0].state, "Off");
        let undone = lab.run("undo --yes");
        assert_eq!(undone.code, Some(0), "{undone:?}");
        let host = lab.host();
        assert_eq!(
            (host.vms[0].state.as_str(), host.vms[0].com[1].path.as_str()),
            ("Running", ""),
            "{script}"
        );
    }
}

fn a_change_between_plan_and_apply_is_refused() {
    let lab = Lab::new(|host| host.hangs_after = Some("observe".to_owned()));
    let words = format!("setup hyperv {PORT} --yes");
    let mut setup = lab.sandbox.start(words.split_whitespace());
    wait_until("the host was looked at", || {
        (lab.scripts().len() == 1).then_some(())
    });
    // The look is over, and its answer is on its way.
    lab.change(|host| {
        r"\\.\pipe\theirs".clone_into(&mut host.vms[0].com[1].path);
        host.hangs_after = None;
    });
    assert_eq!(setup.wait_end(), 5, "{}", setup.said());
    let said = setup.said();
    assert!(
        said.contains("no longer as it was looked at") && said.contains("checkpoint"),
        "{said}"
    );
    assert_eq!(lab.host().vms[0].com[1].path, r"\\.\pipe\theirs");
}
