//! Bad input: each gets its documented exit code and a message that says what to do.

use crate::kit::{Sandbox, finish};
use libtest_mimic::Trial;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

pub fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn()| {
        Trial::test(format!("bad_input::{name}"), move || {
            test();
            Ok(())
        })
    };
    vec![
        trial("unknown_profile_keys", unknown_profile_keys),
        trial(
            "a_socket_path_that_is_a_regular_file",
            a_socket_path_that_is_a_regular_file,
        ),
        trial(
            "a_listener_where_a_regular_file_is",
            a_listener_where_a_regular_file_is,
        ),
        trial("a_busy_tcp_port", a_busy_tcp_port),
        trial("a_busy_unix_socket", a_busy_unix_socket),
        trial("a_socket_without_permission", a_socket_without_permission),
        trial("a_vm_that_is_not_running", a_vm_that_is_not_running),
        trial(
            "a_prefix_that_contradicts_the_policy",
            a_prefix_that_contradicts_the_policy,
        ),
        trial("a_break_port_that_is_of_no_use", a_break_port_that_is_of_no_use),
        trial(
            "a_vm_behind_qmp_that_is_not_running",
            a_vm_behind_qmp_that_is_not_running,
        ),
        trial("a_missing_vmx", a_missing_vmx),
        trial("a_missing_profile", a_missing_profile),
        trial("a_missing_kernel_image", a_missing_kernel_image),
        trial("qemu_is_not_installed", qemu_is_not_installed),
        trial("gdb_is_not_installed", gdb_is_not_installed),
        trial("wrong_usage_is_data_too", wrong_usage_is_data_too),
        trial("an_empty_variable_is_none", an_empty_variable_is_none),
        trial("a_profile_without_an_end", a_profile_without_an_end),
        trial("a_target_beside_its_profile", a_target_beside_its_profile),
    ]
}

fn unknown_profile_keys() {
    let sandbox = Sandbox::new();
    let text = "version: 1\ntargets:\n  dev:\n    host: qemu\n    vm: dev\n    restrat: ask\n    ports:\n      - {port: 1, as: consol, serv: []}\n";
    std::fs::write(sandbox.path("vmserial.yaml"), text).unwrap();
    let ended = sandbox.run(["console", "dev"]);
    insta::assert_snapshot!(ended.shown(&sandbox), @r"
    exit code: 3
    --- standard output
    --- standard error
    error: the profile `[SANDBOX]/vmserial.yaml` has 3 errors

    `targets.dev.restrat`: unknown key; did you mean `restart`?
      --> [SANDBOX]/vmserial.yaml:6:5
       |
     6 |     restrat: ask
       |     ^

    `targets.dev.ports[0].as`: got `consol`, expected one of raw, console, gdb, kd, console+gdb; did you mean `console`?
      --> [SANDBOX]/vmserial.yaml:8:23
       |
     8 |       - {port: 1, as: consol, serv: []}
       |                       ^

    `targets.dev.ports[0].serv`: unknown key; did you mean `serve`?
      --> [SANDBOX]/vmserial.yaml:8:31
       |
     8 |       - {port: 1, as: consol, serv: []}
       |                               ^
    hint: `vmserial profile schema` prints every key; docs/reference/profile.md explains them.
    ");
}

fn a_socket_path_that_is_a_regular_file() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("vm"), "mine").unwrap();
    let ended = sandbox.run(["bridge", &sandbox.endpoint("connect:unix", "vm"), "stdio"]);
    insta::assert_snapshot!(ended.shown(&sandbox), @r"
    exit code: 5
    --- standard output
    --- standard error
    error: cannot connect to `[SANDBOX]/vm`: it is no socket
    hint: Name the Unix socket that the VM's serial port listens on.
    ");
    let ended = sandbox.run(["console", &sandbox.endpoint("connect:unix", "vm")]);
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert_eq!(std::fs::read(sandbox.path("vm")).unwrap(), b"mine");
}

fn a_listener_where_a_regular_file_is() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("c"), "mine").unwrap();
    let ended = sandbox.run(["bridge", "connect:unix:vm", &sandbox.endpoint("listen:unix", "c")]);
    insta::assert_snapshot!(ended.shown(&sandbox), @r"
    exit code: 5
    --- standard output
    --- standard error
    error: cannot listen on `[SANDBOX]/c`: it is there already and is no socket
    hint: Choose another path; vmserial replaces nothing but a stale socket.
    ");
    assert_eq!(std::fs::read(sandbox.path("c")).unwrap(), b"mine");
}

fn a_busy_tcp_port() {
    let sandbox = Sandbox::new();
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port();
    let ended = sandbox.run(["bridge", "connect:unix:vm", &format!("listen:tcp:{port}")]);
    let shown = ended.shown(&sandbox).replace(&port.to_string(), "[PORT]");
    insta::assert_snapshot!(shown, @r"
    exit code: 5
    --- standard output
    --- standard error
    error: cannot listen on `listen:tcp:127.0.0.1:[PORT]`: `[TEST]` (pid [PID]) listens there
    hint: End that process, choose another port, or port 0 for a free one.
    ");
}

fn a_busy_unix_socket() {
    let sandbox = Sandbox::new();
    let _busy = UnixListener::bind(sandbox.path("c")).unwrap();
    let ended = sandbox.run(["bridge", "connect:unix:vm", &sandbox.endpoint("listen:unix", "c")]);
    // The system's table of sockets is read while other tests change it, and an entry may slip through.
    let shown = ended
        .shown(&sandbox)
        .replace("another process", "`[TEST]` (pid [PID])");
    insta::assert_snapshot!(shown, @r"
    exit code: 5
    --- standard output
    --- standard error
    error: cannot listen on `[SANDBOX]/c`: `[TEST]` (pid [PID]) listens there
    hint: End that process or choose another path.
    ");
}

fn a_socket_without_permission() {
    if rustix::process::geteuid().is_root() {
        // Root may do everything; a folder that nobody can write to is /proc.
        let sandbox = Sandbox::new();
        let ended = sandbox.run(["bridge", "connect:unix:vm", "listen:unix:/proc/c"]);
        assert_eq!(ended.code, Some(5), "{ended:?}");
        assert!(ended.stderr.contains("cannot listen on `/proc/c`"), "{ended:?}");
        return;
    }
    let sandbox = Sandbox::new();
    let _vm = UnixListener::bind(sandbox.path("vm")).unwrap();
    std::fs::set_permissions(sandbox.path("vm"), std::fs::Permissions::from_mode(0o000)).unwrap();
    let ended = sandbox.run(["bridge", &sandbox.endpoint("connect:unix", "vm"), "stdio"]);
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.stderr.contains("permission denied"), "{ended:?}");
}

fn a_vm_that_is_not_running() {
    let sandbox = Sandbox::new();
    let endpoint = sandbox.endpoint("connect:unix", "vm");
    // A state that is waited for, unless a time is given.
    let ended = sandbox.run(["bridge", &endpoint, "listen:unix:c", "--wait=100ms"]);
    insta::assert_snapshot!(ended.shown(&sandbox), @r"
    exit code: 7
    --- standard output
    --- standard error
    listening client 1 listen:unix:c
    ready
    target away: absent
    error: the target never came within `--wait`: absent
    hint: Start the VM, check its endpoint, or leave out `--wait` to wait for ever.
    ");
    let ended = sandbox.run(["break", &endpoint, "--break-with=telnet", "--wait=100ms"]);
    insta::assert_snapshot!(ended.shown(&sandbox), @r"
    exit code: 7
    --- standard output
    --- standard error
    error: the target is away: absent
    hint: Start the VM, or check where its port is.
    ");
}

fn a_prefix_that_contradicts_the_policy() {
    let sandbox = Sandbox::new();
    let ended = sandbox.run(["bridge", "connect:unix:vm", "gdb=listen:unix:c", "--as=console"]);
    insta::assert_snapshot!(ended.shown(&sandbox), @r"
    exit code: 2
    --- standard output
    --- standard error
    error: `--as console` contradicts the clients' prefixes, which ask for `gdb`
    hint: Leave out `--as`, write `--as gdb`, or change the prefix.
    ");
}

fn a_break_port_that_is_of_no_use() {
    let sandbox = Sandbox::new();
    for (words, part) in [
        (
            "--as=gdb --break-with=telnet --break-port=stdio",
            "this bridge's own terminal",
        ),
        (
            "--as=gdb --break-with=telnet --break-port=connect:unix:vm",
            "names the bridge's own port",
        ),
        (
            "--as=kd --break-with=telnet --break-port=connect:unix:other",
            "KD breaks in on its own",
        ),
        ("--as=gdb --break-with=telnet --break-port=file:x", "file:"),
    ] {
        let line = format!("bridge connect:unix:vm listen:unix:c {words}");
        let ended = sandbox.run(line.split_whitespace());
        assert_eq!(ended.code, Some(2), "{words}: {ended:?}");
        assert!(ended.stderr.contains(part), "{words}: {ended:?}");
    }
}

fn a_vm_behind_qmp_that_is_not_running() {
    let sandbox = Sandbox::new();
    let ended = sandbox.run([
        "setup",
        "qemu",
        "--qmp",
        "qmp",
        "--endpoint=listen:unix:/vm",
        "--yes",
        "--no-bridge",
    ]);
    insta::assert_snapshot!(ended.shown(&sandbox), @r"
    exit code: 5
    --- standard output
    --- standard error
    error: the VM `qmp:[SANDBOX]/qmp` does not run: nobody answers at its QMP socket `[SANDBOX]/qmp`
    hint: Start it, or name the socket of its `-qmp unix:PATH,server=on,wait=off`.
    ");
}

fn a_missing_vmx() {
    let sandbox = Sandbox::new();
    let vmx = sandbox.path("dev.vmx");
    let vmx = vmx.to_str().unwrap();
    let ended = sandbox.run([
        "setup",
        "vmware",
        "--vm",
        vmx,
        "--endpoint=listen:unix:/vm",
        "--yes",
        "--no-bridge",
    ]);
    insta::assert_snapshot!(ended.shown(&sandbox), @r"
    exit code: 4
    --- standard output
    --- standard error
    error: there is no file `[SANDBOX]/dev.vmx`
    hint: Name the VM by the path of its .vmx file; VMware shows it in the VM's settings, and `vmrun list` for VMs that run.
    ");
}

fn a_missing_profile() {
    let sandbox = Sandbox::new();
    let ended = sandbox.run(["debug", "dev"]);
    insta::assert_snapshot!(ended.shown(&sandbox), @r"
    exit code: 4
    --- standard output
    --- standard error
    error: there is no profile at `[SANDBOX]/vmserial.yaml` or `[SANDBOX]/.config/vmserial/vmserial.yaml`
    hint: Name one with `-p FILE` or $VMSERIAL_PROFILE, or make one with `vmserial profile new`.
    ");
    let ended = sandbox.run(["-p", "lab.yaml", "console", "dev"]);
    insta::assert_snapshot!(ended.shown(&sandbox), @r"
    exit code: 4
    --- standard output
    --- standard error
    error: there is no profile `lab.yaml`
    hint: Make one with `vmserial profile new lab.yaml`.
    ");
}

/// A profile with a VM that vmserial starts, and a folder of programs in which there is only what is named.
fn described_vm(sandbox: &Sandbox, programs: &[&str]) -> std::process::Command {
    let text = "version: 1\ntargets:\n  dev:\n    host: qemu\n    vm: {name: dev, start: true, kernel: bzImage}\n    ports: [{port: 1, as: console}, {port: 2, as: gdb}]\n    debugger: {kind: gdb}\n";
    std::fs::write(sandbox.path("vmserial.yaml"), text).unwrap();
    let folder = sandbox.path("bin");
    std::fs::create_dir(&folder).unwrap();
    for program in programs {
        // Only looked for: each of these commands is refused before it starts anything.
        std::fs::write(folder.join(program), "#!/bin/false\n").unwrap();
        std::fs::set_permissions(folder.join(program), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = sandbox.vmserial(["debug", "dev", "--batch", "--yes"]);
    command.env("PATH", folder);
    command
}

fn refused(sandbox: &Sandbox, programs: &[&str]) -> String {
    let ended = finish(&mut described_vm(sandbox, programs), b"");
    assert!(!sandbox.path("state/journal").exists(), "nothing was begun");
    ended.shown(sandbox)
}

fn a_missing_kernel_image() {
    let sandbox = Sandbox::new();
    insta::assert_snapshot!(refused(&sandbox, &["gdb", "qemu-system-x86_64"]), @r"
    exit code: 4
    --- standard output
    --- standard error
    error: `[SANDBOX]/bzImage`, which the VM `dev` starts from, is not there
    hint: Correct its path in the profile (`kernel:`, `initrd:`, `disks:` under `vm:`), or put it there.
    ");
}

fn qemu_is_not_installed() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("bzImage"), "").unwrap();
    insta::assert_snapshot!(refused(&sandbox, &["gdb"]), @r"
    exit code: 4
    --- standard output
    --- standard error
    error: `qemu-system-x86_64` is not installed
    hint: Install QEMU (Debian, Ubuntu: `apt-get install qemu-system-x86`; Fedora: `dnf install qemu-system-x86`).
    hint: Or name the program: `vm: {program: /path/to/qemu-system-x86_64}`.
    ");
}

fn gdb_is_not_installed() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("bzImage"), "").unwrap();
    insta::assert_snapshot!(refused(&sandbox, &["qemu-system-x86_64"]), @r"
    exit code: 4
    --- standard output
    --- standard error
    error: the debugger `gdb` is not installed
    hint: Install it (Debian, Ubuntu: `apt-get install gdb`), or name another one in `debugger: {program: …}`.
    ");
}

fn wrong_usage_is_data_too() {
    let sandbox = Sandbox::new();
    for words in [
        &["--json", "bridge", "foo", "pty"][..],
        &["nonsense", "--json"],
        &["bridge", "--json", "connect:unix:/x"],
    ] {
        let ended = sandbox.run(words);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        let data: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(data["error"]["kind"], "usage", "{ended:?}");
        assert_eq!(data["error"]["exit_code"], 2, "{ended:?}");
        let message = data["error"]["message"].as_str().unwrap();
        assert!(
            ended.stderr.starts_with(&format!("error: {message}")),
            "{ended:?}"
        );
        assert!(!message.contains("Usage:"), "{ended:?}");
    }
    // What stands behind `--` is gdb's.
    let ended = sandbox.run(["debug", "--nonsense", "--", "--json"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{ended:?}");
}

fn an_empty_variable_is_none() {
    let names = ["VMSERIAL_STATE", "VMSERIAL_PROFILE", "VMSERIAL_SSH_ENGINE"];
    let sandbox = names
        .into_iter()
        .fold(Sandbox::new(), |sandbox, name| sandbox.with(name, ""));
    let ended = sandbox.run(["journal"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // One that is written is meant.
    let ended = sandbox.run(["journal", "--state", ""]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
}

fn a_profile_without_an_end() {
    let sandbox = Sandbox::new();
    std::os::unix::fs::symlink("/dev/zero", sandbox.path("endless.yaml")).unwrap();
    let ended = sandbox.run(["profile", "check", "endless.yaml"]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stderr.contains("which is no profile"), "{ended:?}");
}

fn a_target_beside_its_profile() {
    let sandbox = Sandbox::new();
    let text = "version: 1\ntargets:\n  a: {host: qemu, vm: {name: a, start: true, kernel: /k}, ports: [{port: 1, as: gdb}]}\n  b: {host: qemu, vm: b}\n";
    std::fs::write(sandbox.path("lab.yaml"), text).unwrap();
    for words in [["a", "lab.yaml"], ["lab.yaml", "a"]] {
        let ended = sandbox.run(["resume", words[0], words[1]]);
        assert_eq!(ended.code, Some(5), "{ended:?}");
        assert!(ended.stderr.contains("the VM of `a` does not run"), "{ended:?}");
    }
    let ended = sandbox.run(["debug", "b", "lab.yaml", "--plan"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = sandbox.run(["debug", "lab.yaml"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("this is for one target, and 2 are meant: a, b"),
        "{ended:?}"
    );
}
