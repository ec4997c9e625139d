//! The same through SSH: a real OpenSSH server on loopback, behind which the stand-in is the host's PowerShell.

use super::{DEV, Lab, PORT};
use crate::kit::{Sandbox, finish};
use crate::sshd::{Sshd, missing};
use libtest_mimic::{Completion, Failed, Trial};
use std::fs;
use std::process::Command;
use vmserial_testkit::hyperv::host::{Host, Vm};

pub fn trials() -> Vec<Trial> {
    vec![
        over_ssh("plan_apply_and_undo_over_ssh", plan_apply_and_undo_over_ssh),
        over_ssh("an_apply_over_ssh_that_was_killed_is_undone", killed_over_ssh),
        over_ssh(
            "an_apply_that_was_killed_is_undone_from_another_machine",
            killed_and_undone_from_elsewhere,
        ),
    ]
}

/// A trial that needs OpenSSH's server.
pub fn over_ssh(name: &str, run: fn()) -> Trial {
    Trial::ignorable_test(format!("setup_hyperv::{name}"), move || match missing() {
        Some(reason) => Ok(Completion::ignored_with(reason)),
        None => {
            run();
            Ok::<_, Failed>(Completion::Completed)
        }
    })
}

/// A lab whose PowerShell only the other end of SSH finds.
pub fn far(change: impl FnOnce(&mut Host)) -> (Lab, Sshd) {
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
    let mut host = Host::default();
    host.vms = vec![Vm::new(DEV, "dev", 1)];
    change(&mut host);
    lab.set(&host);
    (lab, server)
}

fn plan_apply_and_undo_over_ssh() {
    let (lab, server) = far(|host| "Running".clone_into(&mut host.vms[0].state));
    let before = lab.host();
    let words = format!("--host lab {PORT} --restart graceful");
    let planned = lab.setup(&format!("{words} --plan"));
    assert_eq!(planned.code, Some(0), "{planned:?}");
    assert!(
        planned.stdout.contains("hyperv VM `dev` on lab, running"),
        "{planned:?}"
    );
    assert_eq!(
        (lab.scripts().as_slice(), server.logins()),
        (["hyperv/observe".to_owned()].as_slice(), 1)
    );
    let applied = lab.setup(&format!("{words} --yes"));
    assert_eq!(applied.code, Some(0), "{applied:?}");
    assert_eq!(
        lab.log(),
        [
            "Stop-VM dev",
            r"Set-VMComPort dev 2 '\\.\pipe\dev-gdb' Off",
            "Start-VM dev"
        ]
    );
    // The bridge from here goes to the host's pipe through SSH.
    assert!(
        applied.stdout.contains("connect:pipe:dev-gdb,via=lab"),
        "{applied:?}"
    );
    assert_eq!(server.logins(), 1, "one connection for each command");
    let second = lab.setup(&format!("{words} --yes"));
    assert!(second.stderr.starts_with("Nothing to change.\n"), "{second:?}");
    let undone = lab.run("undo --yes");
    assert_eq!(undone.code, Some(0), "{undone:?}");
    assert_eq!(lab.host(), before);
    let refused = lab.setup("--host lab --vm nope --pipe x --yes");
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(
        refused.stderr.contains("STANDIN (lab) has no VM `nope`"),
        "{refused:?}"
    );
    let doctor = lab.run("doctor hyperv --host lab");
    assert_eq!(doctor.code, Some(5), "{doctor:?}");
    assert!(
        doctor.stdout.contains("MISSING  helper: no helper: ")
            && doctor
                .stdout
                .contains("`vmserial setup helper --host lab --from "),
        "{doctor:?}"
    );
    std::os::unix::fs::symlink(
        env!("CARGO_BIN_EXE_vmserial"),
        lab.sandbox.path("far/vmserial.exe"),
    )
    .unwrap();
    let doctor = lab.run("doctor hyperv --host lab");
    assert_eq!(doctor.code, Some(0), "{doctor:?}");
    let heard = format!(
        "good     helper: vmserial {} answers (`vmserial.exe helper on lab`)",
        env!("CARGO_PKG_VERSION")
    );
    assert!(doctor.stdout.contains(&heard), "{doctor:?}");
}

fn killed_over_ssh() {
    undone_after_a_kill(|sandbox| sandbox.vmserial(["undo", "--yes"]));
}

/// The runner that applied is thrown away with its journal: the host's own copy has what was begun.
fn killed_and_undone_from_elsewhere() {
    undone_after_a_kill(|sandbox| {
        let mut undo = sandbox.vmserial(["undo", "--host", "lab", "--yes"]);
        undo.env("VMSERIAL_STATE", sandbox.path("other-state"));
        undo
    });
}

fn undone_after_a_kill(undo: fn(&Sandbox) -> Command) {
    let (lab, _server) = far(|host| {
        "Running".clone_into(&mut host.vms[0].state);
        host.hangs_after = Some("set-com-port".to_owned());
    });
    let words = format!("setup hyperv --host lab {PORT} --yes --restart graceful");
    let mut setup = lab.sandbox.start(words.split_whitespace());
    crate::kit::wait_until("the host has changed", || (lab.log().len() == 2).then_some(()));
    setup.signal("KILL");
    assert_eq!(setup.wait_end(), 128 + 9);
    lab.change(|host| host.hangs_after = None);
    let undone = finish(&mut undo(&lab.sandbox), b"");
    assert_eq!(undone.code, Some(0), "{undone:?}");
    let host = lab.host();
    assert_eq!(
        (host.vms[0].state.as_str(), host.vms[0].com[1].path.as_str()),
        ("Running", "")
    );
}
