//! Bridges that use a helper: one of this machine, and one of another host through a real OpenSSH server, by both engines.
//! Named pipes have their trials under Wine (`wine/helper.rs`).

use crate::bridge_rig::random;
use crate::helper::{joined, listen};
use crate::helper_rig::{Helper, greeting};
use crate::kit::{Running, Sandbox, connect, read_until, wait_until};
use crate::sshd::{QUICK_SHELL, Sshd, missing};
use libtest_mimic::{Completion, Failed, Trial};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

pub fn trials() -> Vec<Trial> {
    let local = [
        (
            "without_a_helper_a_pipe_is_refused",
            without_a_helper_a_pipe_is_refused as fn(),
        ),
        ("an_old_helper_is_told", an_old_helper_is_told),
        (
            "a_helper_that_cannot_start_is_a_state",
            a_helper_that_cannot_start_is_a_state,
        ),
    ];
    let local = local.map(|(name, run)| {
        Trial::test(format!("helper_bridge::{name}"), move || {
            run();
            Ok(())
        })
    });
    let reason = missing();
    let far = [
        ("a_device_of_another_host", a_device_of_another_host as fn(&str)),
        ("a_host_without_vmserial_says_so", a_host_without_vmserial_says_so),
        ("an_old_helper_of_a_host_is_told", an_old_helper_of_a_host_is_told),
        (
            "a_host_with_another_key_is_refused",
            a_host_with_another_key_is_refused,
        ),
        ("ports_of_a_host_share_a_login", ports_of_a_host_share_a_login),
    ];
    let far = far.into_iter().flat_map(|(name, run)| {
        [BUILTIN, SYSTEM].map(|engine| {
            let reason = reason.clone();
            Trial::ignorable_test(format!("helper_bridge::{engine}::{name}"), move || match reason {
                Some(reason) => Ok(Completion::ignored_with(reason)),
                None => {
                    run(engine);
                    Ok::<_, Failed>(Completion::Completed)
                }
            })
        })
    });
    let many = {
        let reason = missing();
        let name = "helper_bridge::many_streams_share_a_login";
        Trial::ignorable_test(name, move || match reason {
            Some(reason) => Ok(Completion::ignored_with(reason)),
            None => {
                many_streams_share_a_login();
                Ok(Completion::Completed)
            }
        })
    };
    local.into_iter().chain(far).chain([many]).collect()
}

/// Our own SSH.
pub const BUILTIN: &str = "builtin";

/// The engine that is the `ssh` program.
pub const SYSTEM: &str = "system";

/// A sandbox whose vmserial takes this engine.
pub fn sandbox_of(engine: &str) -> Sandbox {
    Sandbox::new().with("VMSERIAL_SSH_ENGINE", engine)
}

fn without_a_helper_a_pipe_is_refused() {
    let sandbox = Sandbox::new();
    let ended = sandbox.run(["bridge", "connect:pipe:vm", "stdio"]);
    assert_eq!(ended.code, Some(5), "{}", ended.stderr);
    for part in [
        "`connect:pipe:vm`: no helper was found",
        "VMSERIAL_EXE is not set",
        "no `vmserial.exe` on the PATH",
        "hint: ",
    ] {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
    let ended = sandbox.run(["bridge", "connect:unix:/x", "listen:pipe:vm"]);
    assert_eq!(ended.code, Some(5), "{}", ended.stderr);
    assert!(ended.stderr.contains("runs on Windows"), "{}", ended.stderr);
}

/// A program in the sandbox that `VMSERIAL_EXE` can name.
pub fn script(sandbox: &Sandbox, name: &str, lines: &str) -> PathBuf {
    let path = sandbox.path(name);
    std::fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A bridge whose helper is this program.
pub fn bridge_through(sandbox: &Sandbox, program: &PathBuf, arguments: &[&str]) -> Running {
    let mut command = sandbox.vmserial(["-v", "bridge"]);
    command.args(arguments).env("VMSERIAL_EXE", program);
    let mut bridge = Running::start(&mut command);
    bridge.wait_line("ready");
    bridge
}

fn an_old_helper_is_told() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("hello"), greeting("vmserial-helper 99 9.9.9")).unwrap();
    let program = script(
        &sandbox,
        "new",
        &format!("cat {}; cat >/dev/null", sandbox.path("hello").display()),
    );
    let mut bridge = bridge_through(&sandbox, &program, &["connect:pipe:vm", "pty"]);
    let line = bridge.wait_line("target away");
    for part in [
        "the helper is vmserial 9.9.9 and speaks protocol 99",
        "speaks 1",
        "install vmserial 9.9.9 here",
    ] {
        assert!(line.contains(part), "{line}");
    }
    drop(bridge);
    std::fs::write(sandbox.path("hello"), greeting("vmserial-helper 0 0.0.1")).unwrap();
    let mut bridge = bridge_through(&sandbox, &program, &["connect:pipe:vm", "pty"]);
    let line = bridge.wait_line("target away");
    assert!(line.contains("vmserial setup helper"), "{line}");
}

fn a_helper_that_cannot_start_is_a_state() {
    let sandbox = Sandbox::new();
    let count = sandbox.path("count");
    let program = script(
        &sandbox,
        "broken",
        &format!(
            "echo x >> {}; echo 'bash: C:: no such drive' >&2; exit 3",
            count.display()
        ),
    );
    let mut bridge = bridge_through(&sandbox, &program, &["connect:pipe:vm", "pty"]);
    let line = bridge.wait_line("target away");
    assert!(line.contains("ended with 3: bash: C:: no such drive"), "{line}");
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
    assert!(!std::fs::read_to_string(count).unwrap().is_empty());
}

/// A server on whose PATH there is a vmserial, and the tools that it needs.
fn host_with(sandbox: &Sandbox) -> Sshd {
    let far = sandbox.path("far");
    std::fs::create_dir(&far).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_vmserial"), far.join("vmserial")).unwrap();
    Sshd::start_with(
        sandbox,
        &format!(
            "SetEnv {QUICK_SHELL} PATH={}:/usr/bin:/bin\nMaxSessions 10\n",
            far.display()
        ),
    )
}

/// A pseudo terminal that stands for a device, and the device's path: not a pseudo terminal's, which needs no helper.
fn device(sandbox: &Sandbox, link: &str) -> (std::fs::File, String) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let link = sandbox.path(link);
    std::os::unix::fs::symlink(name, &link).unwrap();
    (std::fs::File::from(master), link.display().to_string())
}

fn a_device_of_another_host(engine: &str) {
    let sandbox = sandbox_of(engine);
    let server = host_with(&sandbox);
    let (mut uart, path) = device(&sandbox, "ttyS0");
    let target = format!("tty:{path},via=lab");
    let mut bridge = sandbox.start([
        "-v",
        "bridge",
        "--as=console",
        &target,
        &sandbox.endpoint("listen:unix", "c"),
    ]);
    bridge.wait_line("target up");
    let mut client = connect(&sandbox.path("c"));
    bridge.wait_line("client 1 attached");
    client.write_all(b"from the console").unwrap();
    read_until(&mut uart, b"from the console");
    uart.write_all(b"login: ").unwrap();
    read_until(&mut client, b"login: ");
    // Its BREAK is the device's own.
    let ended = sandbox.run(["break", &target, "--only-break"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "BREAK sent (tty).\n"),
        "{}",
        ended.stderr
    );
    // The link is lost, and comes back.
    server.drop_connections();
    bridge.wait_line("target away");
    bridge.wait_line("target up");
    client.write_all(b"again").unwrap();
    read_until(&mut uart, b"again");
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
    wait_until("the helper has let go of the device", || {
        let owners = std::process::Command::new("fuser").arg(&path).output();
        owners.map_or(Some(()), |output| output.stdout.is_empty().then_some(()))
    });
}

/// Two devices, one virtual cable.
fn ports_of_a_host_share_a_login(engine: &str) {
    let sandbox = sandbox_of(engine);
    let server = host_with(&sandbox);
    let ((mut one, first), (mut other, second)) = (device(&sandbox, "ttyS0"), device(&sandbox, "ttyS1"));
    let (first, second) = (format!("tty:{first},via=lab"), format!("tty:{second},via=lab"));
    let mut bridge = sandbox.start(["-v", "bridge", "--as=raw", &first, &second]);
    bridge.wait_line("target up");
    one.write_all(b"to the other").unwrap();
    read_until(&mut other, b"to the other");
    other.write_all(b"and back").unwrap();
    read_until(&mut one, b"and back");
    assert_eq!(server.logins(), 1);
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
}

fn many_streams_share_a_login() {
    let sandbox = Sandbox::new();
    let server = host_with(&sandbox);
    let mut ssh = std::process::Command::new(sandbox.path("bin/ssh"));
    let mut helper = Helper::greeted(ssh.args(["lab", "vmserial helper"]));
    let (listener, endpoint) = listen(&sandbox, "vm");
    let mut ports: Vec<_> = (0..5)
        .map(|_| joined(&mut helper, &listener, &endpoint))
        .collect();
    let bytes = random(1 << 20);
    for (stream, vm) in &mut ports {
        let mut writer = vm.try_clone().unwrap();
        let sent = bytes.clone();
        let writing = std::thread::spawn(move || writer.write_all(&sent).unwrap());
        assert!(helper.exchange(*stream, b"", bytes.len()) == bytes);
        writing.join().unwrap();
    }
    assert_eq!(server.logins(), 1);
    assert_eq!(helper.end().0, Some(0));
    for (_, mut vm) in ports {
        assert_eq!(vm.read(&mut [0; 8]).unwrap(), 0);
    }
}

fn a_host_without_vmserial_says_so(engine: &str) {
    let sandbox = sandbox_of(engine);
    let _server = Sshd::start_with(
        &sandbox,
        &format!("SetEnv {QUICK_SHELL} PATH=/usr/bin:/bin\nMaxSessions 10\n"),
    );
    let mut bridge = sandbox.bridge(["connect:pipe:vm,via=lab", "pty"]);
    let line = bridge.wait_line("target away");
    for part in [
        "%VMSERIAL_EXE%",
        r"%LOCALAPPDATA%\vmserial\bin\vmserial.exe",
        "`vmserial.exe helper on lab`",
        "not found",
    ] {
        assert!(line.contains(part), "{line}");
    }
}

fn an_old_helper_of_a_host_is_told(engine: &str) {
    let sandbox = sandbox_of(engine);
    std::fs::create_dir(sandbox.path("far")).unwrap();
    std::fs::write(sandbox.path("hello"), greeting("vmserial-helper 0 0.0.1")).unwrap();
    let lines = format!("cat {}; cat >/dev/null", sandbox.path("hello").display());
    script(&sandbox, "far/vmserial", &lines);
    let path = format!(
        "SetEnv {QUICK_SHELL} PATH={}:/usr/bin:/bin\n",
        sandbox.path("far").display()
    );
    let _server = Sshd::start_with(&sandbox, &path);
    let mut bridge = sandbox.bridge(["tty:/dev/ttyS9,via=lab", "pty"]);
    let line = bridge.wait_line("target away");
    for part in [
        "helper `vmserial helper on lab`: the helper is vmserial 0.0.1 and speaks protocol 0",
        "on lab",
    ] {
        assert!(line.contains(part), "{line}");
    }
}

fn a_host_with_another_key_is_refused(engine: &str) {
    let sandbox = sandbox_of(engine);
    let server = host_with(&sandbox);
    // A key that is not the server's: the test's own.
    let other = std::fs::read_to_string(sandbox.path("ssh/key.pub")).unwrap();
    let known = format!("[127.0.0.1]:{} {other}", server.port);
    std::fs::write(sandbox.path("ssh/known_hosts"), known).unwrap();
    let mut bridge = sandbox.bridge(["tty:/dev/ttyS9,via=lab", "pty"]);
    let line = bridge.wait_line("target away");
    assert!(
        line.contains("the key of `lab`") || line.contains("Host key"),
        "{line}"
    );
    assert_eq!(server.logins(), 0);
}
