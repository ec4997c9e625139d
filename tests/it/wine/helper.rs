//! The way to the bytes of a named pipe from Linux: our own program here, and as its helper the Windows build, which
//! `VMSERIAL_EXE` names by a script that runs it under Wine. The pipes are those of the stand-in of Hyper-V.

use super::place::command;
use super::rig::{Program, pipe_name, trial, wired};
use crate::bridge_rig::random;
use crate::helper_bridge::{bridge_through, script};
use crate::helper_rig::{CLOSE, FAILED, Helper, OPENED};
use crate::kit::{Running, Sandbox, connect, kill, read_until, wait_until};
use crate::sshd::{QUICK_SHELL, Sshd};
use libtest_mimic::Trial;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub fn trials() -> Vec<Trial> {
    let mut all = vec![
        trial("helper_every_state_of_a_vms_pipe", every_state_of_a_vms_pipe),
        trial("helper_every_byte_of_several_ports", every_byte_of_several_ports),
        trial(
            "helper_a_stalled_port_stalls_nobody",
            a_stalled_port_stalls_nobody,
        ),
        trial("helper_killed_and_back", killed_and_back),
        trial("helper_two_ports_share_it", two_ports_share_it),
        trial("helper_behind_an_elevated_half", behind_an_elevated_half),
        trial("helper_gone_with_its_input", gone_with_its_input),
        trial("helper_refuses_another_protocol", refuses_another_protocol),
    ];
    all.push(match crate::sshd::missing() {
        None => trial("helper_of_another_host", of_another_host),
        Some(reason) => Trial::ignorable_test("wine_helper_of_another_host", || {
            Ok(libtest_mimic::Completion::ignored_with(reason))
        }),
    });
    all
}

/// A script that runs the Windows program under Wine with the arguments that it gets. `ssh` and the opener know nothing of
/// Wine. It leaves its pid behind, which stays Wine's.
pub fn windows_program(sandbox: &Sandbox, name: &str) -> PathBuf {
    let wine = command(sandbox, "vmserial.exe", &[]);
    let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_string_lossy());
    let settings: Vec<String> = wine
        .get_envs()
        .filter_map(|(key, value)| Some(format!("{}={}", key.to_string_lossy(), quoted(value?))))
        .collect();
    let words: Vec<String> = std::iter::once(wine.get_program())
        .chain(wine.get_args())
        .map(quoted)
        .collect();
    let lines = format!(
        "echo $$ >> {}\ncd {}\nexec env -i {} {} \"$@\"",
        sandbox.path("helpers").display(),
        sandbox.path("").display(),
        settings.join(" "),
        words.join(" ")
    );
    script(sandbox, name, &lines)
}

/// The helpers that were started so far.
fn helpers(sandbox: &Sandbox) -> Vec<u32> {
    let text = std::fs::read_to_string(sandbox.path("helpers")).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

fn bridge(sandbox: &Sandbox, targets: &[&str]) -> Running {
    let program = windows_program(sandbox, "vmserial-exe");
    bridge_through(sandbox, &program, targets)
}

fn client_of(bridge: &mut Running, sandbox: &Sandbox) -> std::os::unix::net::UnixStream {
    let client = connect(&sandbox.path("c"));
    bridge.wait_line("client 1 attached");
    client
}

fn every_state_of_a_vms_pipe() {
    let sandbox = Sandbox::new();
    let pipe = pipe_name();
    let target = format!("connect:pipe:{pipe}");
    let mut bridge = bridge(&sandbox, &[&target, &sandbox.endpoint("listen:unix", "c")]);
    bridge.wait_line("target away: absent (2: ");
    let mut client = client_of(&mut bridge, &sandbox);
    let (mut vm, mut uart) = wired(&sandbox, "hyperv-pipe", &pipe);
    let mut talk = |bridge: &mut Running, vm: &mut Program, words: &[u8]| {
        bridge.wait_line("target up: connected");
        vm.wait("client");
        client.write_all(words).unwrap();
        read_until(&mut uart, words);
        uart.write_all(words).unwrap();
        read_until(&mut client, words);
    };
    vm.order("on");
    talk(&mut bridge, &mut vm, b"first boot\r\n");
    vm.order("reset");
    bridge.wait_line("target away: disconnected (233: ");
    talk(&mut bridge, &mut vm, b"second boot\r\n");
    vm.order("unplug");
    bridge.wait_line("target away: disconnected (233: ");
    bridge.wait_line("target away: busy (231: ");
    vm.order("plug");
    talk(&mut bridge, &mut vm, b"third boot\r\n");
    vm.order("off");
    bridge.wait_line("target away: ended (109: ");
    bridge.wait_line("target away: absent (2: ");
    vm.order("on");
    talk(&mut bridge, &mut vm, b"cold boot\r\n");
    let said = bridge.said();
    assert_eq!(said.matches("client 1 attached").count(), 1, "{said}");
    assert!(!said.contains("detached"), "{said}");
    assert_eq!(helpers(&sandbox).len(), 1, "one helper through all of it");
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
    vm.wait("gone");
}

/// What the greeting and the wire say is the helper rig's; here is the helper itself, with pipes.
fn helper(sandbox: &Sandbox) -> Helper {
    Helper::greeted(&mut command(sandbox, "vmserial.exe", &["helper"]))
}

fn vm(sandbox: &Sandbox) -> (String, Program, TcpStream) {
    let pipe = pipe_name();
    let (mut vm, uart) = wired(sandbox, "hyperv-pipe", &pipe);
    vm.order("on");
    (format!("connect:pipe:{pipe}"), vm, uart)
}

fn every_byte_of_several_ports() {
    let sandbox = Sandbox::new();
    let mut helper = helper(&sandbox);
    let mut ports = Vec::new();
    for _ in 0..3 {
        let (endpoint, mut vm, uart) = vm(&sandbox);
        let (stream, half_close) = helper.open(&endpoint);
        assert!(!half_close, "a pipe has none");
        vm.wait("client");
        ports.push((stream, vm, uart));
    }
    for (index, (stream, _, uart)) in ports.iter().enumerate() {
        let count = if index == 0 { 8 << 20 } else { 1 << 20 };
        let there: Vec<u8> = (0..=255).chain(random(count)).collect();
        let back: Vec<u8> = (0..=255).rev().chain(random(count)).collect();
        let (expected, sent) = (&there, &back);
        std::thread::scope(|scope| {
            let (mut reader, mut writer) = (uart, uart);
            scope.spawn(move || writer.write_all(sent).unwrap());
            scope.spawn(move || {
                let mut got = vec![0; expected.len()];
                reader.read_exact(&mut got).unwrap();
                assert!(got == *expected, "towards the VM");
            });
            let got = helper.exchange(*stream, &there, back.len());
            assert!(got == back, "from the VM");
        });
    }
}

fn a_stalled_port_stalls_nobody() {
    let sandbox = Sandbox::new();
    let mut helper = helper(&sandbox);
    let (endpoint, mut stalled_vm, mut stalled_uart) = vm(&sandbox);
    let (stalled, _) = helper.open(&endpoint);
    stalled_vm.wait("client");
    stalled_uart
        .set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let flood = vec![b'u'; 4 << 20];
    let mut went = 0;
    while let Ok(count @ 1..) = stalled_uart.write(&flood) {
        went += count;
    }
    let (endpoint, mut vm, uart) = vm(&sandbox);
    let (stream, _) = helper.open(&endpoint);
    vm.wait("client");
    let bytes = random(2 << 20);
    std::thread::scope(|scope| {
        let (mut echo, bytes) = (&uart, &bytes);
        scope.spawn(move || {
            let mut got = vec![0; bytes.len()];
            echo.read_exact(&mut got).unwrap();
            echo.write_all(&got).unwrap();
        });
        assert!(helper.exchange(stream, bytes, bytes.len()) == *bytes);
    });
    let got = helper.exchange(stalled, b"", went);
    assert!(
        got.iter().all(|&byte| byte == b'u'),
        "nothing of the stalled one is lost"
    );
}

fn killed_and_back() {
    let sandbox = Sandbox::new();
    let (target, mut vm, mut uart) = vm(&sandbox);
    let mut bridge = bridge(&sandbox, &[&target, &sandbox.endpoint("listen:unix", "c")]);
    bridge.wait_line("target up");
    vm.wait("client");
    let mut client = client_of(&mut bridge, &sandbox);
    client.write_all(b"before").unwrap();
    read_until(&mut uart, b"before");
    let [first] = helpers(&sandbox)[..] else {
        panic!("one helper: {:?}", helpers(&sandbox));
    };
    kill(first, "KILL");
    let line = bridge.wait_line("target away");
    assert!(line.contains("helper `"), "{line}");
    bridge.wait_line("target up");
    vm.wait("client");
    client.write_all(b"after").unwrap();
    read_until(&mut uart, b"after");
    uart.write_all(b"login: ").unwrap();
    read_until(&mut client, b"login: ");
    assert_eq!(helpers(&sandbox).len(), 2);
    assert!(!bridge.said().contains("detached"), "{}", bridge.said());
}

/// Two VMs, one virtual cable: both pipes go through one helper, and each VM reboots by itself.
fn two_ports_share_it() {
    let sandbox = Sandbox::new();
    let (one, mut first, mut first_uart) = vm(&sandbox);
    let (other, mut second, mut second_uart) = vm(&sandbox);
    let mut bridge = bridge(&sandbox, &["--as=raw", &one, &other]);
    first.wait("client");
    second.wait("client");
    first_uart.write_all(b"to the other").unwrap();
    read_until(&mut second_uart, b"to the other");
    second_uart.write_all(b"and back").unwrap();
    read_until(&mut first_uart, b"and back");
    first.order("reset");
    bridge.wait_line("target away: disconnected (233: ");
    bridge.wait_line("target up");
    first.wait("client");
    first_uart.write_all(b"after its reboot").unwrap();
    read_until(&mut second_uart, b"after its reboot");
    assert_eq!(helpers(&sandbox).len(), 1, "one helper for both");
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
    first.wait("gone");
    second.wait("gone");
}

/// The elevated half holds the VM's pipe on Windows and serves one to the user alone, which the helper opens. That the
/// halves have different rights is Windows CI's: Wine has no elevation.
fn behind_an_elevated_half() {
    let sandbox = Sandbox::new();
    let (target, mut vm, mut uart) = vm(&sandbox);
    let users = pipe_name();
    let mut elevated = Program::bridge(&sandbox, &[&target, &format!("listen:pipe:{users}")]);
    elevated.wait_target("up", "connected");
    vm.wait("client");
    let endpoint = format!("connect:pipe:{users}");
    let mut bridge = bridge(&sandbox, &[&endpoint, &sandbox.endpoint("listen:unix", "c")]);
    bridge.wait_line("target up");
    let mut client = client_of(&mut bridge, &sandbox);
    let mut talk = |words: &[u8]| {
        uart.write_all(words).unwrap();
        read_until(&mut client, words);
        client.write_all(words).unwrap();
        read_until(&mut uart, words);
    };
    talk(b"first boot");
    // The VM's reset is the elevated half's to deal with; nobody behind it is disturbed.
    vm.order("reset");
    elevated.wait_target("away", "disconnected (233: ");
    elevated.wait_target("up", "connected");
    vm.wait("client");
    talk(b"second boot");
    assert!(!bridge.said().contains("target away"), "{}", bridge.said());
}

/// Opens a VM's pipe. Hyper-V's end takes a moment to listen again after a client's end; until then it is busy.
fn open_when_free(helper: &mut Helper, endpoint: &str) -> u32 {
    wait_until("the pipe's slot is free", || {
        let stream = helper.ask(endpoint);
        let (kind, words) = helper.next(stream);
        let busy = (kind, words.first()) == (FAILED, Some(&3));
        assert!(kind == OPENED || busy, "{}", String::from_utf8_lossy(&words));
        (kind == OPENED).then_some(stream)
    })
}

/// In a second, idle and absent: else it keeps the VM's only slot. Wine on a busy machine has three tries.
fn gone_with_its_input() {
    let sandbox = Sandbox::new();
    let (endpoint, mut vm, _uart) = vm(&sandbox);
    let absent = format!("connect:pipe:{}", pipe_name());
    for case in ["idle", "absent"] {
        let in_time = (0..3).any(|_| {
            let mut helper = helper(&sandbox);
            if case == "idle" {
                open_when_free(&mut helper, &endpoint);
                vm.wait("client");
            } else {
                let stream = helper.ask(&absent);
                let (kind, words) = helper.next(stream);
                assert_eq!(
                    (kind, words[0]),
                    (FAILED, 1),
                    "{}",
                    String::from_utf8_lossy(&words)
                );
            }
            let until = Instant::now() + Duration::from_secs(1);
            let (code, said) = helper.end();
            let in_time = Instant::now() < until;
            assert_eq!(code, Some(0), "{case}: {said}");
            if case == "idle" {
                vm.wait("gone");
            }
            in_time
        });
        assert!(in_time, "{case}: not gone within a second");
    }
    // A stream that is closed frees its slot, with the helper still there.
    let mut helper = helper(&sandbox);
    for _ in 0..2 {
        let stream = open_when_free(&mut helper, &endpoint);
        vm.wait("client");
        helper.send(stream, CLOSE, b"");
        helper.text(stream, CLOSE);
        vm.wait("gone");
    }
}

fn refuses_another_protocol() {
    let sandbox = Sandbox::new();
    let mut helper = Helper::start(&mut command(&sandbox, "vmserial.exe", &["helper"]));
    let words = helper.hello();
    assert_eq!(words, format!("vmserial-helper 1 {}", env!("CARGO_PKG_VERSION")));
    helper.raw(&crate::helper_rig::greeting("vmserial-client 2 0.9.0"));
    let (code, said) = helper.ended();
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("speaks 2"), "{said}");
}

fn of_another_host() {
    let sandbox = Sandbox::new();
    let far = sandbox.path("far");
    std::fs::create_dir(&far).unwrap();
    windows_program(&sandbox, "far/vmserial.exe");
    let server = Sshd::start_with(
        &sandbox,
        &format!(
            "SetEnv {QUICK_SHELL} PATH={}:/usr/bin:/bin\nMaxSessions 10\n",
            far.display()
        ),
    );
    let (endpoint, mut vm, mut uart) = vm(&sandbox);
    let target = format!("{endpoint},via=lab");
    let mut bridge = sandbox.start(["-v", "bridge", &target, &sandbox.endpoint("listen:unix", "c")]);
    bridge.wait_line("target up");
    vm.wait("client");
    let mut client = client_of(&mut bridge, &sandbox);
    uart.write_all(b"login: ").unwrap();
    read_until(&mut client, b"login: ");
    client.write_all(b"root\r").unwrap();
    read_until(&mut uart, b"root\r");
    server.drop_connections();
    bridge.wait_line("target away");
    bridge.wait_line("target up");
    vm.wait("client");
    client.write_all(b"again").unwrap();
    read_until(&mut uart, b"again");
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
    wait_until("the slot is free", || vm.said().contains("gone").then_some(()));
}
