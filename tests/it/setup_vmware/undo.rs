//! Undo takes back our keys and not the file.

use super::{KGDB, Lab, PORT, STUB, trial};
use crate::kit::Ended;
use libtest_mimic::Trial;
use std::fs;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("undo_restores_the_bytes", undo_restores_the_bytes),
        trial("undo_brings_a_removed_port_back", undo_brings_a_removed_port_back),
        trial("a_snapshot_in_between_survives", a_snapshot_in_between_survives),
        trial(
            "a_dropped_comment_does_not_matter",
            a_dropped_comment_does_not_matter,
        ),
        trial(
            "a_foreign_change_is_refused_with_three_versions",
            a_foreign_change_is_refused_with_three_versions,
        ),
        trial("an_open_vm_is_not_undone", an_open_vm_is_not_undone),
    ]
}

fn undo(lab: &Lab) -> Ended {
    lab.sandbox.run(["undo", "--yes"])
}

fn applied(vmx: &[u8], words: &str) -> Lab {
    let lab = Lab::new(vmx);
    let ended = lab.setup(&format!("{words} --yes"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_ne!(lab.vmx(), vmx);
    lab
}

/// Changes the file as another program would.
fn replace(lab: &Lab, old: &str, new: &str) {
    let text = String::from_utf8(lab.vmx()).unwrap();
    assert!(text.contains(old), "{text}");
    lab.set_vmx(text.replace(old, new).as_bytes());
}

fn undo_restores_the_bytes() {
    let all = "--port 1 --endpoint connect:unix:/tmp/one --gdbstub 8864 --stop-at-start --nested";
    for (vmx, words) in [
        (KGDB, PORT),
        (KGDB, all),
        (STUB, "--gdbstub 1337"),
        (&STUB[..STUB.len() - 2], all),
    ] {
        let lab = applied(vmx, words);
        let ended = undo(&lab);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(lab.vmx(), vmx, "{words}");
        let again = undo(&lab);
        assert_eq!((again.code, lab.vmx().as_slice()), (Some(0), vmx), "{again:?}");
    }
}

fn undo_brings_a_removed_port_back() {
    let lab = applied(KGDB, "--port 2 --remove");
    assert_eq!(undo(&lab).code, Some(0));
    assert_eq!(lab.vmx(), KGDB);
}

fn a_snapshot_in_between_survives() {
    let lab = applied(KGDB, PORT);
    replace(&lab, "\"ubuntu1510.vmdk\"", "\"ubuntu1510-000001.vmdk\"");
    let ended = undo(&lab);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let text = String::from_utf8(KGDB.to_vec()).unwrap();
    let expected = text.replace("\"ubuntu1510.vmdk\"", "\"ubuntu1510-000001.vmdk\"");
    assert_eq!(String::from_utf8(lab.vmx()).unwrap(), expected);
}

fn a_dropped_comment_does_not_matter() {
    let lab = applied(KGDB, PORT);
    replace(
        &lab,
        "# vmserial: serial1 is set by vmserial, `vmserial undo` takes it back\n",
        "",
    );
    let ended = undo(&lab);
    assert_eq!((ended.code, lab.vmx().as_slice()), (Some(0), KGDB), "{ended:?}");
}

fn a_foreign_change_is_refused_with_three_versions() {
    let lab = applied(KGDB, PORT);
    replace(
        &lab,
        "serial1.pipe.endPoint = \"server\"",
        "serial1.pipe.endPoint = \"client\"",
    );
    let today = lab.vmx();
    let ended = undo(&lab);
    insta::assert_snapshot!(lab.shown(&ended));
    assert_eq!(ended.code, Some(5));
    assert_eq!(lab.vmx(), today);
}

fn an_open_vm_is_not_undone() {
    let lab = applied(KGDB, PORT);
    let ours = lab.vmx();
    let lock = lab.sandbox.path("dev.vmx.lck");
    fs::create_dir(&lock).unwrap();
    let ended = undo(&lab);
    assert_eq!((ended.code, lab.vmx()), (Some(5), ours), "{ended:?}");
    assert!(
        ended.stderr.contains("is in use") && ended.stderr.contains("close its tab"),
        "{ended:?}"
    );
    fs::remove_dir(&lock).unwrap();
    let ended = undo(&lab);
    assert_eq!((ended.code, lab.vmx().as_slice()), (Some(0), KGDB), "{ended:?}");
}
