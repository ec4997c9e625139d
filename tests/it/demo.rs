//! The demo as the README shows it: one command from a profile to a breakpoint in a real kernel and back.

use crate::guest::missing;
use crate::kit::Sandbox;
use libtest_mimic::{Completion, Trial};
use std::path::Path;
use std::process::Stdio;

pub fn trials() -> Vec<Trial> {
    let name = "e2e::the_demo_hits_a_breakpoint_and_the_kernel_lives_on";
    vec![Trial::ignorable_test(name, || {
        // Its profile names the guest by the link, wherever others find it.
        let link = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/guest/complete");
        let unlinked =
            || (!link.exists()).then(|| "`profiles/guest` is not there (`cargo xtask guest`)".to_owned());
        match missing().or_else(unlinked) {
            None => {
                demo();
                Ok(Completion::Completed)
            }
            Some(reason) => Ok(Completion::ignored_with(reason)),
        }
    })]
}

fn demo() {
    let sandbox = Sandbox::new();
    let profiles = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles");
    // The script asks the running session's console, so it must find the program.
    let program = Path::new(env!("CARGO_BIN_EXE_vmserial"))
        .parent()
        .unwrap()
        .to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(program).chain(std::env::split_paths(&path))).unwrap();
    let output = sandbox
        .vmserial(["debug", "--yes", "--batch"])
        .arg(profiles.join("demo-qemu.yaml"))
        .arg("-x")
        .arg(profiles.join("demo.gdb"))
        .env("PATH", path)
        .env("VMSERIAL_PROFILE", profiles.join("demo-qemu.yaml"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let told = format!("{stdout}\n{stderr}");
    assert_eq!(output.status.code(), Some(0), "{told}");
    for (text, part) in [
        (&stderr, "qemu-system-x86_64"),
        (&stderr, "Bridge (debug port): listening on"),
        // By the console's banner or by kgdb's answer, whichever was seen first.
        (&stderr, "Kernel stopped ("),
        (&stdout, "hit Temporary breakpoint 1, do_sys_openat2"),
        (&stdout, "/guest/linux/fs/open.c"),
        (&stdout, "detached"),
        (&stdout, "Linux 6."),
        (&stderr, "Ended the process"),
    ] {
        assert!(text.contains(part), "`{part}` is missing in:\n{told}");
    }
    let left: Vec<_> = std::fs::read_dir(sandbox.path("state/run/demo"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().ends_with(".sock"))
        .collect();
    assert!(left.is_empty(), "sockets are left: {left:?}");
}
