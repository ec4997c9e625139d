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
        trial("an_undo_needs_the_vm_off", an_undo_needs_the_vm_off),
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

fn an_undo_needs_the_vm_off() {
    let lab = Lab::new(|_| {});
    let before = lab.host();
    assert_eq!(lab.setup(&format!("{PORT} --yes")).code, Some(0));
    lab.change(|host| "Running".clone_into(&mut host.vms[0].state));
    let ended = lab.run("undo --yes");
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.stderr.contains("Power the VM off"), "{ended:?}");
    lab.change(|host| "Off".clone_into(&mut host.vms[0].state));
    assert_eq!(lab.run("undo --yes").code, Some(0));
    assert_eq!(lab.host(), before);
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
