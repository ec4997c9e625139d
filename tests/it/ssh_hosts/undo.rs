//! The copies that a host behind SSH keeps of what was done to it, and undo from a machine that has no journal.

use super::{KGDB, Lab, refused};
use crate::kit::{Ended, finish};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// Name and body of each trial.
pub const TRIALS: &[(&str, fn())] = &[
    ("another_machine_undoes_the_host", another_machine_undoes_the_host),
    ("the_host_undoes_itself", the_host_undoes_itself),
    ("a_host_gets_its_own_steps_only", a_host_gets_its_own_steps_only),
    (
        "a_copy_that_cannot_be_kept_is_a_warning",
        a_copy_that_cannot_be_kept_is_a_warning,
    ),
];

/// Runs the program as another machine has it: with no journal and a folder for copies of its own.
fn elsewhere(lab: &Lab, words: &[&str]) -> Ended {
    let mut command = lab.sandbox.vmserial(words);
    command
        .env("VMSERIAL_STATE", lab.sandbox.path("other-state"))
        .env("VMSERIAL_HOST_FOLDER", lab.sandbox.path("other-host"));
    finish(&mut command, b"")
}

fn applied(lab: &Lab) {
    let ended = lab.setup(&["--yes", "--no-bridge"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_ne!(lab.vmx(), KGDB);
}

/// The folders of entries below a folder for copies.
fn entries(lab: &Lab, folder: &str) -> Vec<PathBuf> {
    let journal = lab.sandbox.path(folder).join("journal");
    let found = fs::read_dir(journal).into_iter().flatten().flatten();
    found.map(|entry| entry.path()).collect()
}

fn another_machine_undoes_the_host() {
    let lab = Lab::new();
    let nothing = elsewhere(&lab, &["undo", "--host", "lab", "--yes"]);
    assert_eq!(nothing.code, Some(0), "{nothing:?}");
    assert!(nothing.stderr.contains("Nothing to undo."), "{nothing:?}");
    applied(&lab);
    // Only its owner reads what may hold secrets.
    let copies = entries(&lab, "far-host");
    assert_eq!(copies.len(), 1, "{copies:?}");
    let mode = fs::metadata(copies[0].join("entry.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        entries(&lab, "host"),
        Vec::<PathBuf>::new(),
        "nothing was done to this machine"
    );
    let id = copies[0].file_name().unwrap().to_str().unwrap().to_owned();
    let listed = elsewhere(&lab, &["journal", "--host", "lab"]);
    assert!(
        listed.stdout.contains(&id) && listed.stdout.contains("in force"),
        "{listed:?}"
    );
    let own = elsewhere(&lab, &["journal"]);
    assert!(own.stderr.contains("The journal is empty."), "{own:?}");
    let planned = elsewhere(&lab, &["undo", "--host", "lab", "--plan"]);
    assert!(
        planned.stdout.contains("the original bytes return"),
        "{planned:?}"
    );
    // By another name for the same host.
    let name = format!("127.0.0.1:{}", lab.server.port);
    let undone = elsewhere(&lab, &["undo", "--host", &name, "--yes"]);
    assert_eq!(undone.code, Some(0), "{undone:?}");
    assert_eq!(lab.vmx(), KGDB);
    let listed = elsewhere(&lab, &["journal", "--host", "lab"]);
    assert!(listed.stdout.contains("undone"), "{listed:?}");
    // The machine that applied finds it as it is, and that is all right.
    let again = lab.sandbox.run(["undo", "--yes"]);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(lab.vmx(), KGDB);
}

/// Undone where it was applied, the host's copy says so too; and the host itself may undo what came from afar.
fn the_host_undoes_itself() {
    let lab = Lab::new();
    applied(&lab);
    let undone = lab.sandbox.run(["undo", "--yes"]);
    assert_eq!(undone.code, Some(0), "{undone:?}");
    let nothing = elsewhere(&lab, &["undo", "--host", "lab", "--yes"]);
    assert!(nothing.stderr.contains("Nothing to undo."), "{nothing:?}");
    applied(&lab);
    // On the host its folder is the one for this machine, and its programs are on the PATH.
    let mut command = lab.sandbox.vmserial(["undo", "--host", "local", "--yes"]);
    let path = format!("{}:/usr/bin:/bin", lab.sandbox.path("far").display());
    command
        .env("VMSERIAL_STATE", lab.sandbox.path("other-state"))
        .env("VMSERIAL_HOST_FOLDER", lab.sandbox.path("far-host"))
        .env("PATH", path);
    let undone = finish(&mut command, b"");
    assert_eq!(undone.code, Some(0), "{undone:?}");
    assert_eq!(lab.vmx(), KGDB);
}

/// One apply for a VM of the host and one of this machine: neither side gets what is the other's.
fn a_host_gets_its_own_steps_only() {
    let lab = Lab::new();
    let here = lab.sandbox.path("here.vmx");
    fs::write(&here, KGDB).unwrap();
    fs::create_dir_all(lab.sandbox.path("bin")).unwrap();
    std::os::unix::fs::symlink(lab.sandbox.path("far/vmrun"), lab.sandbox.path("bin/vmrun")).unwrap();
    let profile = format!(
        "version: 1\nhosts: {{far: {{hypervisor: vmware, ssh: lab}}}}\ntargets:\n  there: {{host: far, vm: {}, ports: [{{port: 1, as: console, attach: \"listen:unix:/tmp/a\"}}]}}\n  here: {{host: vmware, vm: {}, ports: [{{port: 1, as: console, attach: \"listen:unix:/tmp/b\"}}]}}\n",
        lab.sandbox.path("dev.vmx").display(),
        here.display()
    );
    fs::write(lab.sandbox.path("lab.yaml"), profile).unwrap();
    let ended = lab.sandbox.run(["apply", "-p", "lab.yaml", "--yes"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for (folder, own, others) in [
        ("far-host", "dev.vmx", "here.vmx"),
        ("host", "here.vmx", "dev.vmx"),
    ] {
        let copies = entries(&lab, folder);
        let text = fs::read_to_string(copies[0].join("entry.json")).unwrap();
        assert!(text.contains(own) && !text.contains(others), "{folder}: {text}");
        assert_eq!(fs::read_dir(copies[0].join("before")).unwrap().count(), 1);
    }
    // A host of the profile by its name there.
    let undone = elsewhere(&lab, &["-p", "lab.yaml", "undo", "--host", "far", "--yes"]);
    assert_eq!(undone.code, Some(0), "{undone:?}");
    assert_eq!(lab.vmx(), KGDB);
    assert_ne!(fs::read(&here).unwrap(), KGDB);
    let rest = lab.sandbox.run(["undo", "--yes"]);
    assert_eq!(rest.code, Some(0), "{rest:?}");
    assert_eq!(fs::read(&here).unwrap(), KGDB);
}

fn a_copy_that_cannot_be_kept_is_a_warning() {
    let lab = Lab::new();
    fs::write(lab.sandbox.path("far-host"), "in the way").unwrap();
    let ended = lab.setup(&["--yes", "--no-bridge"]);
    refused(
        &ended,
        0,
        &["warning: a host keeps no copy of its journal: lab: "],
    );
    let undone = lab.sandbox.run(["undo", "--yes"]);
    assert_eq!(undone.code, Some(0), "{undone:?}");
    assert_eq!(lab.vmx(), KGDB);
    let elsewhere = elsewhere(&lab, &["undo", "--host", "lab", "--yes"]);
    assert!(elsewhere.stderr.contains("Nothing to undo."), "{elsewhere:?}");
}
