//! Plan, apply, undo as users run them, on `.vmx` files and on a VM that is killed half-way.

use crate::kit::{Sandbox, wait_until};
use libtest_mimic::Trial;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

const VMX: &str = ".encoding = \"UTF-8\"\nconfig.version = \"8\"\nscsi0:0.fileName = \"disk.vmdk\"\n";

pub fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn()| {
        Trial::test(format!("plan_apply::{name}"), move || {
            test();
            Ok(())
        })
    };
    vec![
        trial(
            "a_second_apply_has_nothing_to_change",
            a_second_apply_has_nothing_to_change,
        ),
        trial("nothing_is_done_without_a_yes", nothing_is_done_without_a_yes),
        trial("undo_leaves_what_others_changed", undo_leaves_what_others_changed),
        trial(
            "undo_refuses_where_our_value_was_changed",
            undo_refuses_where_our_value_was_changed,
        ),
        trial(
            "an_apply_killed_in_the_middle_is_undone",
            an_apply_killed_in_the_middle_is_undone,
        ),
        trial(
            "the_hosts_own_copy_undoes_without_the_journal",
            the_hosts_own_copy_undoes_without_the_journal,
        ),
        trial(
            "a_plan_of_debug_tells_what_stands_against_the_session",
            a_plan_of_debug_tells_what_stands_against_the_session,
        ),
        trial(
            "two_targets_on_one_endpoint_do_not_pass_the_check",
            two_targets_on_one_endpoint_do_not_pass_the_check,
        ),
        trial(
            "an_unknown_format_is_listed_and_not_undone",
            an_unknown_format_is_listed_and_not_undone,
        ),
    ]
}

/// A sandbox with a profile of one VMware target, and its file.
fn lab() -> (Sandbox, PathBuf) {
    let sandbox = Sandbox::new();
    let vmx = sandbox.path("dev.vmx");
    fs::write(&vmx, VMX).unwrap();
    let profile = "version: 1\ntargets:\n  dev:\n    host: vmware\n    vm: dev.vmx\n    ports:\n      - {port: 2, as: gdb, attach: \"listen:unix:com2.sock\"}\n";
    fs::write(sandbox.path("vmserial.yaml"), profile).unwrap();
    (sandbox, vmx)
}

/// What the session misses is told beside the plan, which is shown all the same.
fn a_plan_of_debug_tells_what_stands_against_the_session() {
    let (sandbox, vmx) = lab();
    let profile = fs::read_to_string(sandbox.path("vmserial.yaml")).unwrap();
    let with = format!("{profile}    debugger: {{kind: gdb, program: no-such-gdb, vmlinux: no/vmlinux}}\n");
    fs::write(sandbox.path("vmserial.yaml"), &with).unwrap();
    let planned = sandbox.run(["debug", "dev", "--plan"]);
    assert_eq!(planned.code, Some(0), "{planned:?}");
    assert!(planned.stdout.contains("+serial1.present"), "{planned:?}");
    for part in [
        "warning: there is no kernel image `",
        "Correct `debugger.vmlinux`",
    ] {
        assert!(planned.stderr.contains(part), "{part}: {planned:?}");
    }
    let refused = sandbox.run(["debug", "dev", "--yes"]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    fs::write(
        sandbox.path("vmserial.yaml"),
        with.replace(", vmlinux: no/vmlinux", ""),
    )
    .unwrap();
    let planned = sandbox.run(["debug", "dev", "--plan"]);
    assert_eq!(planned.code, Some(0), "{planned:?}");
    assert!(
        planned
            .stderr
            .contains("warning: the debugger `no-such-gdb` is not installed"),
        "{planned:?}"
    );
    assert_eq!(fs::read_to_string(&vmx).unwrap(), VMX);
}

fn two_targets_on_one_endpoint_do_not_pass_the_check() {
    let (sandbox, _) = lab();
    let profile = fs::read_to_string(sandbox.path("vmserial.yaml")).unwrap();
    assert_eq!(sandbox.run(["profile", "check"]).code, Some(0));
    let other = profile
        .split_once("  dev:\n")
        .unwrap()
        .1
        .replace("dev.vmx", "other.vmx");
    fs::write(
        sandbox.path("vmserial.yaml"),
        format!("{profile}  other:\n{other}"),
    )
    .unwrap();
    let checked = sandbox.run(["profile", "check"]);
    assert_eq!(checked.code, Some(3), "{checked:?}");
    assert!(
        checked
            .stderr
            .contains("is used by both port 2 of `dev` and port 2 of `other`"),
        "{checked:?}"
    );
}

fn a_second_apply_has_nothing_to_change() {
    let (sandbox, vmx) = lab();
    let plan = sandbox.run(["plan", "--exit-code"]);
    assert_eq!(plan.code, Some(10), "{plan:?}");
    assert!(plan.stdout.contains("+serial1.present = \"TRUE\""), "{plan:?}");
    assert_eq!(fs::read_to_string(&vmx).unwrap(), VMX);
    let apply = sandbox.run(["apply", "--yes"]);
    assert_eq!(apply.code, Some(0), "{apply:?}");
    let again = sandbox.run(["apply", "--yes"]);
    assert!(
        again.code == Some(0) && again.stderr.contains("Nothing to change."),
        "{again:?}"
    );
    assert_eq!(sandbox.run(["drift", "--exit-code"]).code, Some(0));
    let journal = sandbox.run(["journal", "--json"]);
    let entries: serde_json::Value = serde_json::from_str(&journal.stdout).unwrap();
    assert_eq!(
        entries["entries"].as_array().unwrap().len(),
        1,
        "an apply without steps makes no entry"
    );
    let shown = sandbox.run(["undo", "--plan"]);
    assert!(shown.stdout.contains("take back: "), "{shown:?}");
    assert_eq!((shown.code, shown.stderr.as_str()), (Some(0), ""), "{shown:?}");
    let shown = sandbox.run(["undo", "--plan", "--json"]);
    let data: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(data["steps"][0]["state"], "done", "{shown:?}");
    assert_eq!(data["undone"], false, "{shown:?}");
    let undo = sandbox.run(["undo", "--yes"]);
    assert_eq!(undo.code, Some(0), "{undo:?}");
    assert_eq!(fs::read_to_string(&vmx).unwrap(), VMX);
    let nothing = sandbox.run(["undo", "--yes"]);
    assert!(
        nothing.code == Some(0) && nothing.stderr.contains("Nothing to undo."),
        "{nothing:?}"
    );
    let id = entries["entries"][0]["id"].as_str().unwrap();
    let nothing = sandbox.run(["undo", id, "--yes"]);
    assert!(
        nothing.code == Some(0) && nothing.stderr.contains("Nothing to undo: "),
        "{nothing:?}"
    );
}

fn nothing_is_done_without_a_yes() {
    let (sandbox, vmx) = lab();
    let apply = sandbox.run(["apply"]);
    assert_eq!(apply.code, Some(5), "{apply:?}");
    assert!(apply.stderr.contains("--yes"), "{apply:?}");
    assert_eq!(fs::read_to_string(&vmx).unwrap(), VMX);
}

fn undo_leaves_what_others_changed() {
    let (sandbox, vmx) = lab();
    assert_eq!(sandbox.run(["apply", "--yes"]).code, Some(0));
    // A snapshot moves the disk to another file.
    let text = fs::read_to_string(&vmx)
        .unwrap()
        .replace("disk.vmdk", "disk-000001.vmdk");
    fs::write(&vmx, text).unwrap();
    let undo = sandbox.run(["undo", "--yes"]);
    assert_eq!(undo.code, Some(0), "{undo:?}");
    assert_eq!(
        fs::read_to_string(&vmx).unwrap(),
        VMX.replace("disk.vmdk", "disk-000001.vmdk")
    );
}

fn undo_refuses_where_our_value_was_changed() {
    let (sandbox, vmx) = lab();
    assert_eq!(sandbox.run(["apply", "--yes"]).code, Some(0));
    let theirs = fs::read_to_string(&vmx)
        .unwrap()
        .replace("com2.sock", "other.sock");
    fs::write(&vmx, &theirs).unwrap();
    let undo = sandbox.run(["undo", "--yes"]);
    assert_eq!(undo.code, Some(5), "{undo:?}");
    for version in ["com2.sock", "other.sock"] {
        assert!(undo.stderr.contains(version), "{undo:?}");
    }
    assert_eq!(
        fs::read_to_string(&vmx).unwrap(),
        theirs,
        "nothing of it was touched"
    );
}

fn an_apply_killed_in_the_middle_is_undone() {
    let sandbox = Sandbox::new();
    // A VM that starts and never answers by QMP: the apply stands in its second step.
    let program = sandbox.path("qemu-that-hangs");
    fs::write(&program, "#!/bin/sh\nif [ \"$1\" = -version ]; then echo 'QEMU emulator version 7.2.0'; exit; fi\nexec sleep 1000\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(sandbox.path("kernel"), "").unwrap();
    let profile = format!(
        "version: 1\ntargets:\n  vm:\n    host: qemu\n    vm: {{name: vm, start: true, kernel: kernel, program: \"{}\"}}\n    ports: [{{port: 1, as: console}}]\n",
        program.display()
    );
    fs::write(sandbox.path("vmserial.yaml"), profile).unwrap();
    let mut up = sandbox.start(["up", "--yes"]);
    let journal = || {
        let listed = sandbox.run(["journal", "--json"]);
        serde_json::from_str::<serde_json::Value>(&listed.stdout).unwrap()["entries"][0].clone()
    };
    let state = |step: usize| {
        journal()["entry"]["steps"][step]["state"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    wait_until("the second step to have started", || {
        (state(1) == "started").then_some(())
    });
    let pid = journal()["entry"]["steps"][0]["process"]["pid"].as_u64().unwrap();
    let runs = || PathBuf::from(format!("/proc/{pid}/cwd")).exists();
    assert!(runs(), "the VM's process is there");
    up.signal("KILL");
    up.wait_end();
    assert!(runs(), "it outlives the killed apply");
    let undo = sandbox.run(["undo", "--yes"]);
    assert_eq!(undo.code, Some(0), "{undo:?}");
    wait_until("the VM's process to be gone", || (!runs()).then_some(()));
    assert_eq!(journal()["in_force"], false);
}

fn the_hosts_own_copy_undoes_without_the_journal() {
    let (sandbox, vmx) = lab();
    let host = sandbox.path("host");
    let mut apply = sandbox.vmserial(["apply", "--yes"]);
    assert!(
        apply
            .env("VMSERIAL_HOST_FOLDER", &host)
            .output()
            .unwrap()
            .status
            .success()
    );
    // Another machine's state folder, as a thrown-away CI runner's successor has it.
    fs::remove_dir_all(sandbox.path("state")).unwrap();
    let mut undo = sandbox.vmserial(["undo", "--host", "local", "--yes"]);
    let undo = undo.env("VMSERIAL_HOST_FOLDER", &host).output().unwrap();
    assert!(undo.status.success(), "{}", String::from_utf8_lossy(&undo.stderr));
    assert_eq!(fs::read_to_string(&vmx).unwrap(), VMX);
}

fn an_unknown_format_is_listed_and_not_undone() {
    let (sandbox, _) = lab();
    let folder = sandbox.path("state/journal/20990101T000000000Z-00000000");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("entry.json"), "{\"format\": 99}").unwrap();
    let journal = sandbox.run(["journal"]);
    assert!(
        journal.code == Some(0) && journal.stdout.contains("99"),
        "{journal:?}"
    );
    let undo = sandbox.run(["undo", "2099", "--yes"]);
    assert_eq!(undo.code, Some(3), "{undo:?}");
}
