//! The Windows program, under Wine here and by itself on Windows: named pipes as client and server through the life of a VM, TCP, standard streams,
//! files, the console, one owner per port. What Wine cannot show is left to CI on Windows (`docs/dev/windows.md`).

#[cfg(unix)]
#[path = "wine/console.rs"]
pub mod console;
#[cfg(unix)]
#[path = "wine/debug.rs"]
mod debug;
#[cfg(unix)]
#[path = "wine/helper.rs"]
mod helper;
#[cfg(windows)]
#[path = "wine/native.rs"]
pub mod place;
#[cfg(unix)]
#[path = "wine/under_wine.rs"]
pub mod place;
#[path = "wine/powershell.rs"]
mod powershell;
#[path = "wine/rig.rs"]
pub mod rig;

use crate::bytes::random;
use crate::kit::{Sandbox, read_until};
use libtest_mimic::Trial;
use place::{command, windows_path};
use rig::{Program, both_ways, bridge_to_tcp, connect, pipe_name, trial, wired};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

pub fn trials() -> Vec<Trial> {
    let all = [
        trial("every_state_of_a_vms_pipe", every_state_of_a_vms_pipe),
        trial(
            "a_pipe_that_somebody_has_is_busy",
            a_pipe_that_somebody_has_is_busy,
        ),
        trial(
            "bytes_of_a_vms_pipe_are_unchanged",
            bytes_of_a_vms_pipe_are_unchanged,
        ),
        trial("a_served_pipe", a_served_pipe),
        trial("nobodys_name_is_taken_over", nobodys_name_is_taken_over),
        trial("the_last_bytes_arrive", the_last_bytes_arrive),
        trial("standard_streams_and_files", standard_streams_and_files),
        trial(
            "a_port_has_one_owner_who_is_asked",
            a_port_has_one_owner_who_is_asked,
        ),
        trial("what_windows_lacks_is_refused", what_windows_lacks_is_refused),
    ];
    #[cfg(unix)]
    let more = [console::trials(), helper::trials(), debug::trials()]
        .into_iter()
        .flatten();
    #[cfg(windows)]
    let more = std::iter::empty();
    all.into_iter().chain(more).chain(powershell::trials()).collect()
}

fn every_state_of_a_vms_pipe() {
    let sandbox = Sandbox::new();
    let pipe = pipe_name();
    let (mut bridge, port) = bridge_to_tcp(&sandbox, &format!("connect:pipe:{pipe}"));
    bridge.wait_target("away", "absent (2: ");
    let mut client = connect(port);
    bridge.wait("client_attached");

    let (mut vm, mut uart) = wired(&sandbox, "hyperv-pipe", &pipe);
    let mut talk = |bridge: &mut Program, vm: &mut Program, words: &[u8]| {
        bridge.wait_target("up", "connected");
        vm.wait("client");
        client.write_all(words).unwrap();
        read_until(&mut uart, words);
        uart.write_all(words).unwrap();
        read_until(&mut client, words);
    };
    vm.order("on");
    talk(&mut bridge, &mut vm, b"first boot\r\n");
    vm.order("reset");
    bridge.wait_target("away", "disconnected (233: ");
    talk(&mut bridge, &mut vm, b"second boot\r\n");
    vm.order("unplug");
    bridge.wait_target("away", "disconnected (233: ");
    bridge.wait_target("away", "busy (231: ");
    vm.order("plug");
    talk(&mut bridge, &mut vm, b"third boot\r\n");
    vm.order("off");
    bridge.wait_target("away", "ended (109: ");
    bridge.wait_target("away", "absent (2: ");
    vm.order("on");
    talk(&mut bridge, &mut vm, b"cold boot\r\n");
    let said = bridge.said();
    assert_eq!(said.matches("client_attached").count(), 1, "{said}");
    assert!(!said.contains("client_detached"), "{said}");
}

fn a_pipe_that_somebody_has_is_busy() {
    let sandbox = Sandbox::new();
    let pipe = pipe_name();
    let (mut vm, _uart) = wired(&sandbox, "hyperv-pipe", &pipe);
    vm.order("on");
    let (mut other, other_end) = wired(&sandbox, "pipe-wire", &pipe);
    vm.wait("client");
    let (mut bridge, _) = bridge_to_tcp(&sandbox, &format!("connect:pipe:{pipe}"));
    bridge.wait_target(
        "away",
        "busy (231: another program has the pipe, or the VM is being reset)",
    );
    hang_up(other_end);
    assert_eq!(other.end().0, Some(0));
    bridge.wait_target("up", "connected");
}

fn bytes_of_a_vms_pipe_are_unchanged() {
    let sandbox = Sandbox::new();
    let pipe = pipe_name();
    let (mut vm, uart) = wired(&sandbox, "hyperv-pipe", &pipe);
    vm.order("on");
    let (mut bridge, port) = bridge_to_tcp(&sandbox, &format!(r"connect:pipe:\\.\pipe\{pipe}"));
    bridge.wait_target("up", "connected");
    vm.wait("client");
    let client = connect(port);
    bridge.wait("client_attached");
    both_ways(&uart, &client, 4 << 20);
}

fn a_served_pipe() {
    let sandbox = Sandbox::new();
    let pipe = pipe_name();
    let uart = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("connect:tcp:{}", uart.local_addr().unwrap());
    let mut bridge = Program::bridge(&sandbox, &[&target, &format!("listen:pipe:{pipe}")]);
    let vm = rig::with_deadlines(uart.accept().unwrap().0);
    bridge.wait_target("up", "connected");

    let (code, list) = Program::testkit(&sandbox, &["pipe-access", &pipe]).end();
    assert_eq!(code, Some(0), "{list}");
    // Protected, and for two only: the user and Administrators (BA). Full access is written FA or in numbers.
    let entries: Vec<&str> = list
        .trim()
        .split(['(', ')'])
        .filter(|part| part.contains(';'))
        .collect();
    assert!(list.starts_with("D:P"), "{list}");
    assert_eq!(entries.len(), 2, "{list}");
    assert!(entries.iter().all(|entry| entry.starts_with("A;;")), "{list}");
    assert!(entries[0].contains(";;;S-1-5-21-"), "{list}");
    assert!(entries[1].ends_with(";;;BA"), "{list}");
    bridge.wait("client_detached");

    let (mut first, wire) = wired(&sandbox, "pipe-wire", &pipe);
    bridge.wait("client_attached");
    both_ways(&vm, &wire, 2 << 20);
    // A second one is let in and sent away at once, with the reason as an event.
    let (mut second, _wire) = wired(&sandbox, "pipe-wire", &pipe);
    second.wait("ended 109");
    let refused = bridge.wait("client_refused");
    assert!(refused.contains("serves one client"), "{refused}");
    hang_up(wire);
    assert_eq!(first.end().0, Some(0));
    bridge.wait("client_detached");
    let (_third, wire) = wired(&sandbox, "pipe-wire", &pipe);
    bridge.wait("client_attached");
    both_ways(&vm, &wire, 64 << 10);
}

fn nobodys_name_is_taken_over() {
    let sandbox = Sandbox::new();
    let pipe = pipe_name();
    let (mut vm, _uart) = wired(&sandbox, "hyperv-pipe", &pipe);
    vm.order("on");
    let (code, said) = Program::vmserial(
        &sandbox,
        &["bridge", "listen:tcp:127.0.0.1:0", &format!("listen:pipe:{pipe}")],
    )
    .end();
    assert_eq!(code, Some(5), "{said}");
    assert!(
        said.contains("a program serves a pipe of this name already") && said.contains(&pipe),
        "{said}"
    );
    // Nor by a second one of ours.
    let own = pipe_name();
    let endpoint = format!("listen:pipe:{own}");
    let _bridge = Program::bridge(&sandbox, &["listen:tcp:127.0.0.1:0", &endpoint]);
    let (code, said) = Program::ended(&sandbox, &["bridge", "listen:tcp:127.0.0.1:0", &endpoint]);
    assert_eq!(code, Some(5), "{said}");
}

fn the_last_bytes_arrive() {
    let sandbox = Sandbox::new();
    let pipe = pipe_name();
    let uart = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("connect:tcp:{}", uart.local_addr().unwrap());
    let mut bridge = Program::bridge(
        &sandbox,
        &["--once", &target, &format!("listen:pipe:{pipe}"), "--linger=1s"],
    );
    let mut vm = rig::with_deadlines(uart.accept().unwrap().0);
    bridge.wait_target("up", "connected");
    let (mut reader, mut wire) = wired(&sandbox, "pipe-wire", &pipe);
    bridge.wait("client_attached");
    let bytes = random(300_000);
    vm.write_all(&bytes).unwrap();
    hang_up(vm);
    let mut got = Vec::new();
    wire.read_to_end(&mut got).unwrap();
    assert!(got == bytes, "{} of {} bytes came", got.len(), bytes.len());
    let (code, said) = bridge.end();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(reader.end().0, Some(0));
}

fn standard_streams_and_files() {
    let sandbox = Sandbox::new();
    let uart = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("connect:tcp:{}", uart.local_addr().unwrap());
    // Every byte, so that whatever translates line ends or takes 0x1a for an end is seen.
    let bytes: Vec<u8> = (0..=255).chain([13, 10, 10, 13, 26]).collect();
    let mut bridge = command(&sandbox, "vmserial.exe", &["bridge", &target, "stdio"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut vm = rig::with_deadlines(uart.accept().unwrap().0);
    let mut stdin = bridge.stdin.take().unwrap();
    stdin.write_all(&bytes).unwrap();
    let mut got = vec![0; bytes.len()];
    vm.read_exact(&mut got).unwrap();
    assert_eq!(got, bytes, "from standard input");
    vm.write_all(&bytes).unwrap();
    let mut stdout = bridge.stdout.take().unwrap();
    stdout.read_exact(&mut got).unwrap();
    assert_eq!(got, bytes, "on standard output");
    // The end of standard input is the end of the bridge.
    drop(stdin);
    let code = crate::kit::wait_until("the bridge ends", || bridge.try_wait().unwrap());
    assert_eq!(code.code(), Some(0));

    let log = sandbox.path("vm.log");
    std::fs::write(&log, b"kept ").unwrap();
    let file = format!("file:{}", windows_path(&log));
    let mut bridge = Program::bridge(&sandbox, &["--once", &target, &file]);
    let mut vm = rig::with_deadlines(uart.accept().unwrap().0);
    vm.write_all(&bytes).unwrap();
    hang_up(vm);
    let (code, said) = bridge.end();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        std::fs::read(&log).unwrap(),
        [b"kept ", bytes.as_slice()].concat()
    );
}

fn a_port_has_one_owner_who_is_asked() {
    let sandbox = Sandbox::new();
    let pipe = pipe_name();
    let (mut vm, mut uart) = wired(&sandbox, "hyperv-pipe", &pipe);
    vm.order("on");
    let target = format!("connect:pipe:{pipe}");
    let mut bridge = Program::bridge(&sandbox, &["--as=console", &target, "listen:tcp:127.0.0.1:0"]);
    bridge.wait_target("up", "connected");
    let (code, said) = Program::ended(&sandbox, &["bridge", &target, "stdio"]);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("is owned by pid"), "{said}");

    let mut console = Program::vmserial(&sandbox, &["console", &target]);
    bridge.wait("client_attached");
    console.tell("uname -a");
    read_until(&mut uart, b"uname -a\n");
    uart.write_all(b"Linux\r\n").unwrap();
    console.wait("Linux");
    let (code, said) = console.end();
    assert_eq!(code, Some(0), "{said}");
    bridge.wait("client_detached");
}

fn what_windows_lacks_is_refused() {
    let sandbox = Sandbox::new();
    for (target, client, words) in [
        (r"connect:unix:C:\vm.sock", "stdio", "not served on Windows"),
        ("listen:tcp:127.0.0.1:0", "pty", "not served on Windows"),
    ] {
        let (code, said) = Program::ended(&sandbox, &["bridge", target, client]);
        assert_eq!(code, Some(5), "{said}");
        assert!(said.contains(words), "{said}");
    }
    let (code, said) = Program::ended(&sandbox, &["bridge", "connect:pipe:COM3", "stdio"]);
    assert_eq!(code, Some(2), "{said}");
}

/// Closes a connection for all: on Windows a program that was started meanwhile may hold it too.
fn hang_up(stream: TcpStream) {
    stream.shutdown(Shutdown::Both).unwrap();
}
