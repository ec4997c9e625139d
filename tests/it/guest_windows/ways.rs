//! Through the guest's own SSH: a real OpenSSH server, behind which the stand-in is the guest's PowerShell.

use super::Lab;
use crate::kit::Sandbox;
use crate::sshd::{Sshd, missing};
use libtest_mimic::{Completion, Failed, Trial};
use std::fs;
use vmserial_testkit::windows_guest::{CURRENT, Guest};

pub fn trials() -> Vec<Trial> {
    let all: [(&str, fn()); 2] = [
        ("over_ssh_it_is_set_up_and_taken_back", set_up_and_undo),
        ("over_ssh_a_kill_in_the_middle_is_undone", killed_in_the_middle),
    ];
    let trial = |(name, run): (&str, fn())| {
        Trial::ignorable_test(format!("guest_windows::{name}"), move || match missing() {
            Some(reason) => Ok(Completion::ignored_with(reason)),
            None => {
                run();
                Ok::<_, Failed>(Completion::Completed)
            }
        })
    };
    all.into_iter().map(trial).collect()
}

/// A guest whose PowerShell only the other end of SSH finds.
fn far() -> (Lab, Sshd) {
    let sandbox = Sandbox::new();
    sandbox.stand_in("powershell.exe");
    fs::create_dir(sandbox.path("far")).unwrap();
    for name in ["powershell.exe", "powershell.state"] {
        fs::rename(sandbox.path("bin").join(name), sandbox.path("far").join(name)).unwrap();
    }
    let state = sandbox.path("far/powershell.state");
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", sandbox.path("far").display());
    let server = Sshd::start_with(&sandbox, &format!("SetEnv PATH={path}\n"));
    let lab = Lab { sandbox, state };
    Guest::default().write(&lab.state).unwrap();
    (lab, server)
}

fn set_up_and_undo() {
    let (lab, _server) = far();
    lab.change(|guest| {
        "de".clone_into(&mut guest.language);
        "on".clone_into(&mut guest.bitlocker);
    });
    let before = lab.guest();
    let planned = lab.done("guest windows --host lab --port COM1 --plan");
    assert!(planned.stdout.contains("bcdedit.exe /debug '{"), "{planned:?}");
    lab.done("guest windows --host lab --port COM1 --yes");
    assert_eq!(lab.guest().get(CURRENT, "debug"), Some("Yes"));
    let again = lab.done("guest windows --host lab --port COM1 --yes");
    assert!(
        again.stdout.contains("Nothing to change.") || again.stderr.contains("Nothing to change."),
        "{again:?}"
    );
    lab.done("undo --yes");
    assert_eq!(lab.guest(), before);
}

fn killed_in_the_middle() {
    let (lab, _server) = far();
    let before = lab.guest();
    lab.change(|guest| "bcdedit /debug".clone_into(&mut guest.hangs_after));
    let words = ["guest", "windows", "--host", "lab", "--port", "1", "--yes"];
    let mut running = lab.sandbox.start(words);
    crate::kit::wait_until("the second step hangs", || (lab.log().len() == 2).then_some(()));
    running.signal("KILL");
    running.wait_end();
    lab.change(|guest| guest.hangs_after.clear());
    lab.done("undo --yes");
    assert_eq!(lab.guest(), before);
}
