//! `vmserial setup qemu` with a real QEMU; no guest is needed, a machine without a disk has ports too.

use crate::kit::{Ended, Sandbox, connect, is_fast, kill, read_until, wait_until};
use libtest_mimic::{Completion, Trial};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

pub fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn()| {
        Trial::ignorable_test(format!("setup_qemu::{name}"), move || match missing() {
            None => {
                test();
                Ok(Completion::Completed)
            }
            Some(reason) => Ok(Completion::ignored_with(reason)),
        })
    };
    vec![
        trial("a_vm_is_started_and_kept", a_vm_is_started_and_kept),
        trial(
            "a_vm_that_was_started_ends_with_its_bridge",
            a_vm_that_was_started_ends_with_its_bridge,
        ),
        trial(
            "a_running_vm_is_changed_and_its_port_removed",
            a_running_vm_is_changed_and_its_port_removed,
        ),
        trial("the_stub_of_a_running_vm", the_stub_of_a_running_vm),
        trial(
            "a_configuration_file_gives_the_port",
            a_configuration_file_gives_the_port,
        ),
        trial("arguments_are_printed", arguments_are_printed),
        trial("what_is_wrong_is_said", what_is_wrong_is_said),
    ]
}

fn missing() -> Option<String> {
    if is_fast() {
        return Some("QEMU is left out (VMSERIAL_TEST_FAST=1)".into());
    }
    let found = Command::new("qemu-system-x86_64")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    found
        .is_err()
        .then(|| "`qemu-system-x86_64` is not installed".into())
}

fn ok(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
}

/// A QEMU that somebody else started, with one port and QMP.
struct Foreign(Child);

impl Foreign {
    fn start(sandbox: &Sandbox, more: &[&str]) -> Self {
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args([
                "-accel",
                "tcg",
                "-machine",
                "pc",
                "-m",
                "16",
                "-nodefaults",
                "-display",
                "none",
            ])
            .args(more)
            .arg("-qmp")
            .arg(format!(
                "unix:{},server=on,wait=off",
                sandbox.path("qmp").display()
            ))
            .stdin(Stdio::null());
        let child = command.spawn().expect("QEMU starts");
        connect(&sandbox.path("qmp"));
        Self(child)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // Ended already is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ends the VM that `setup --keep` left running, whatever becomes of the test.
struct Kept(PathBuf);

impl Drop for Kept {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(&self.0);
        if let Some(pid) = pid.ok().and_then(|text| text.trim().parse().ok()) {
            kill(pid, "KILL");
        }
    }
}

fn a_vm_is_started_and_kept() {
    let sandbox = Sandbox::new();
    let _kept = Kept(sandbox.path("state/run/vm1/qemu.pid"));
    let start = [
        "setup", "qemu", "--vm", "vm1", "--start", "--keep", "--memory", "16MiB", "--port", "2",
    ];
    let with = |more: &[&str]| sandbox.run(start.iter().chain(more).copied().collect::<Vec<_>>());
    let planned = with(&["--plan"]);
    ok(&planned);
    assert!(
        planned.stdout.contains("-serial none -chardev"),
        "{}",
        planned.stdout
    );
    assert!(!sandbox.path("state/run").exists(), "a plan starts nothing");
    ok(&with(&["--yes"]));
    let socket = sandbox.path("state/run/vm1/ser1.sock");
    assert!(socket.exists());
    let again = with(&["--yes"]);
    assert!(again.stderr.contains("Nothing to change."), "{}", again.stderr);
    assert!(
        again
            .stdout
            .contains(&format!("vmserial bridge connect:unix:{}", socket.display())),
        "{}",
        again.stdout
    );
    let shown = with(&["--show"]);
    assert!(shown.stdout.contains("port 2 (COM2, ttyS1)"), "{}", shown.stdout);
    let other = with(&["--yes", "--", "-no-reboot"]);
    assert_eq!(other.code, Some(5));
    assert!(other.stderr.contains("wanted `-no-reboot`"), "{}", other.stderr);
    ok(&sandbox.run(["down", "vm1"]));
    wait_until("QEMU has taken its socket away", || {
        (!socket.exists()).then_some(())
    });
}

fn a_vm_that_was_started_ends_with_its_bridge() {
    let sandbox = Sandbox::new();
    let _kept = Kept(sandbox.path("state/run/qemu/qemu.pid"));
    let serve = sandbox.endpoint("listen:unix", "client");
    let mut bridge = sandbox.start([
        "setup", "qemu", "--start", "--memory", "16MiB", "--yes", "--serve", &serve,
    ]);
    bridge.wait_line("ready");
    connect(&sandbox.path("client"));
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0, "{}", bridge.said());
    assert!(bridge.said().contains("Ended the process"), "{}", bridge.said());
    assert!(!sandbox.path("state/run/qemu/ser0.sock").exists());
}

fn a_running_vm_is_changed_and_its_port_removed() {
    let sandbox = Sandbox::new();
    let old = format!("unix:{},server=on,wait=off", sandbox.path("old").display());
    let _vm = Foreign::start(&sandbox, &["-serial", &old]);
    let qmp = sandbox.path("qmp").display().to_string();
    let new = sandbox.endpoint("listen:unix", "new");
    let arguments = [
        "setup",
        "qemu",
        "--qmp",
        &qmp,
        "--endpoint",
        &new,
        "--yes",
        "--no-bridge",
    ];
    let set = sandbox.run(arguments);
    ok(&set);
    assert!(
        set.stdout.contains(",id=serial0"),
        "the chardev's own name: {}",
        set.stdout
    );
    connect(&sandbox.path("new"));
    let again = sandbox.run(arguments);
    assert!(again.stderr.contains("Nothing to change."), "{}", again.stderr);
    let journal: Vec<_> = std::fs::read_dir(sandbox.path("state/journal"))
        .expect("a journal")
        .collect();
    assert_eq!(journal.len(), 1, "an apply without steps makes no entry");
    let removed = sandbox.run(["setup", "qemu", "--qmp", &qmp, "--remove", "--yes"]);
    ok(&removed);
    let shown = sandbox.run(["setup", "qemu", "--qmp", &qmp, "--show"]);
    assert!(shown.stdout.contains("): null;"), "{}", shown.stdout);
}

fn the_stub_of_a_running_vm() {
    let sandbox = Sandbox::new();
    let _vm = Foreign::start(&sandbox, &[]);
    let qmp = sandbox.path("qmp").display().to_string();
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("its address").port()
    };
    let stub = port.to_string();
    let arguments = ["setup", "qemu", "--qmp", &qmp, "--gdbstub", &stub, "--yes"];
    ok(&sandbox.run(arguments));
    let mut gdb = std::net::TcpStream::connect(("127.0.0.1", port)).expect("the stub listens");
    gdb.write_all(b"$?#3f").expect("the stub takes it");
    read_until(&mut gdb, b"$T");
    drop(gdb);
    let again = sandbox.run(arguments);
    assert!(again.stderr.contains("Nothing to change."), "{}", again.stderr);
    ok(&sandbox.run([
        "setup",
        "qemu",
        "--qmp",
        &qmp,
        "--gdbstub",
        &stub,
        "--remove",
        "--yes",
    ]));
    wait_until("the stub is closed", || {
        std::net::TcpStream::connect(("127.0.0.1", port))
            .is_err()
            .then_some(())
    });
}

fn a_configuration_file_gives_the_port() {
    let sandbox = Sandbox::new();
    let file = sandbox.path("vm.cfg").display().to_string();
    for (port, name) in [("1", "one"), ("2", "two")] {
        let endpoint = sandbox.endpoint("listen:unix", name);
        ok(&sandbox.run([
            "setup",
            "qemu",
            "--config",
            &file,
            "--port",
            port,
            "--endpoint",
            &endpoint,
            "--yes",
        ]));
    }
    let _vm = Foreign::start(&sandbox, &["-readconfig", &file]);
    connect(&sandbox.path("one"));
    connect(&sandbox.path("two"));
    let remove = [
        "setup", "qemu", "--config", &file, "--port", "1", "--remove", "--yes",
    ];
    ok(&sandbox.run(remove));
    let text = std::fs::read_to_string(&file).expect("the file");
    assert!(
        !text.contains("index = \"0\"") && text.contains("index = \"1\""),
        "{text}"
    );
}

fn arguments_are_printed() {
    let sandbox = Sandbox::new();
    let ended = sandbox.run(["setup", "qemu", "--port", "2", "--endpoint", "listen:unix:/tmp/a"]);
    ok(&ended);
    assert_eq!(
        ended.stdout,
        "-serial none -chardev 'socket,id=ser1,path=/tmp/a,server=on,wait=off' -serial chardev:ser1\n"
    );
    assert!(!sandbox.path("state").exists(), "nothing is changed");
}

fn what_is_wrong_is_said() {
    let sandbox = Sandbox::new();
    let qmp = sandbox.path("qmp").display().to_string();
    let file = sandbox.path("file").display().to_string();
    std::fs::write(&file, "precious").expect("a file");
    let regular = format!("listen:unix:{file}");
    let long = format!("listen:unix:/{}", "x".repeat(120));
    let start = ["setup", "qemu", "--start", "--keep", "--yes", "--memory", "16MiB"];
    let cases: [(&[&str], &[&str], i32, &str); 9] = [
        (&["setup", "qemu"], &[], 2, "is missing"),
        (
            &["setup", "qemu", "--start", "--yes"],
            &[],
            2,
            "would be stopped at once",
        ),
        (
            &["setup", "qemu", "--qmp", &qmp, "--endpoint", &regular, "--yes"],
            &[],
            5,
            "does not run",
        ),
        (
            &["setup", "qemu", "--config", &file, "--endpoint", "pty", "--yes"],
            &[],
            5,
            "not written by vmserial",
        ),
        (
            &start,
            &["--program", "no-such-qemu"],
            4,
            "`no-such-qemu` is not installed",
        ),
        (&start, &["--kernel", "/no/kernel"], 4, "`/no/kernel`"),
        (&start, &["--endpoint", &regular], 5, "is a regular file"),
        (&start, &["--endpoint", &long], 2, "bytes"),
        (&start, &["--", "-no-such-option"], 6, "-no-such-option"),
    ];
    for (arguments, more, code, words) in cases {
        let ended = sandbox.run(arguments.iter().chain(more).copied().collect::<Vec<_>>());
        assert_eq!(ended.code, Some(code), "{more:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(words), "{more:?}: {}", ended.stderr);
    }
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), "precious");
}
