//! What `vmserial bridge` promises besides its bytes: who is served, what waits, what is skipped, how it starts and ends.

use crate::bridge_rig::{accepted, assert_ends, bridge, random, read_exactly, up, vm};
use crate::kit::{PATIENCE, Sandbox, connect, wait_until};
use libtest_mimic::Trial;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;

pub fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn()| {
        Trial::test(format!("bridge_policies::{name}"), move || {
            test();
            Ok(())
        })
    };
    vec![
        trial(
            "a_target_that_comes_back_finds_its_client_attached",
            target_comes_back,
        ),
        trial("a_target_that_listens_late_is_found", target_late),
        trial(
            "a_vm_that_dials_again_finds_its_client_attached",
            target_dials_again,
        ),
        trial("a_second_client_is_refused_at_once", second_refused),
        trial("a_client_that_left_makes_room", client_left),
        trial("take_over_replaces_the_first_client", take_over),
        trial("raw_holds_a_fast_target_back", back_pressure),
        trial("a_stalled_console_slows_nobody_down_and_skips", skip),
        trial("hold_and_replay_keep_what_nobody_read", hold_and_replay),
        trial("a_half_closed_client_is_answered", half_closed_client),
        trial("a_terminal_outlives_its_users", terminal_users),
        trial("a_log_and_a_file_get_every_byte", log_and_file),
    ]
}

fn target_comes_back() {
    let sandbox = Sandbox::new();
    let (mut bridge, mut first, mut client) = up(&sandbox, &[]);
    first.write_all(b"boot 1").unwrap();
    assert_eq!(read_exactly(&mut client, 6), b"boot 1");
    // Gone for good, as when QEMU is killed: the socket file stays and refuses.
    drop(first);
    bridge.wait_line("target away: refused");
    let listener = vm(&sandbox);
    let mut second = accepted(&listener);
    second.write_all(b"boot 2").unwrap();
    client.write_all(b"key").unwrap();
    assert_eq!(read_exactly(&mut client, 6), b"boot 2");
    assert_eq!(read_exactly(&mut second, 3), b"key");
}

fn target_late() {
    let sandbox = Sandbox::new();
    let mut bridge = bridge(&sandbox, &[], &["listen:unix@c"]);
    bridge.wait_line("target away: absent");
    let mut client = connect(&sandbox.path("c"));
    let listener = vm(&sandbox);
    let mut vm = accepted(&listener);
    vm.write_all(b"hello").unwrap();
    assert_eq!(read_exactly(&mut client, 5), b"hello");
}

fn target_dials_again() {
    let sandbox = Sandbox::new();
    let mut bridge = sandbox.start([
        "-v".to_owned(),
        "bridge".into(),
        "listen:tcp:127.0.0.1:0".into(),
        sandbox.endpoint("listen:unix", "c"),
    ]);
    let line = bridge.wait_line("listening target");
    let address = line.rsplit_once("tcp:").unwrap().1.to_owned();
    bridge.wait_line("ready");
    let mut client = connect(&sandbox.path("c"));
    bridge.wait_line("client 1 attached");
    for boot in [b"boot 1", b"boot 2"] {
        let mut vm = TcpStream::connect(&address).unwrap();
        bridge.wait_line("target up");
        vm.write_all(boot).unwrap();
        assert_eq!(read_exactly(&mut client, 6), boot);
        // A second VM on the same port is closed at once.
        let mut other = TcpStream::connect(&address).unwrap();
        other.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_ends(&mut other);
        drop(vm);
        bridge.wait_line("target away");
    }
}

fn second_refused() {
    let sandbox = Sandbox::new();
    let (mut bridge, mut vm, mut first) = up(&sandbox, &[]);
    let mut second = connect(&sandbox.path("c"));
    assert_ends(&mut second);
    let line = bridge.wait_line("client 1 refused");
    assert!(line.contains("serves one client, and connection 1"), "{line}");
    vm.write_all(b"still").unwrap();
    assert_eq!(read_exactly(&mut first, 5), b"still");
}

fn client_left() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let mut bridge = bridge(&sandbox, &[], &["listen:tcp:127.0.0.1:0"]);
    let mut vm = accepted(&listener);
    let line = bridge.said();
    let address = line
        .lines()
        .find_map(|line| line.strip_prefix("listening client 1 listen:tcp:"))
        .unwrap()
        .to_owned();
    for round in 0..3 {
        let mut client = TcpStream::connect(&address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(b"in").unwrap();
        assert_eq!(read_exactly(&mut vm, 2), b"in");
        vm.write_all(b"out").unwrap();
        assert_eq!(read_exactly(&mut client, 3), b"out");
        drop(client);
        if round > 0 {
            // The target is silent: the end is seen all the same.
            bridge.wait_line("client 1 detached");
        }
    }
}

fn take_over() {
    let sandbox = Sandbox::new();
    let (mut bridge, mut vm, mut first) = up(&sandbox, &["--take-over"]);
    let mut second = connect(&sandbox.path("c"));
    assert_ends(&mut first);
    assert!(bridge.wait_line("client 1 detached").contains("taken over"));
    bridge.wait_line("client 1 attached");
    vm.write_all(b"yours").unwrap();
    assert_eq!(read_exactly(&mut second, 5), b"yours");
}

fn back_pressure() {
    let sandbox = Sandbox::new();
    let (mut bridge, mut vm, mut client) = up(&sandbox, &[]);
    let sent = random(16 << 20);
    let all = sent.clone();
    let writer = std::thread::spawn(move || {
        vm.write_all(&all).unwrap();
        vm
    });
    bridge.wait_line("target paused");
    assert!(!writer.is_finished(), "the VM waits for the client");
    assert!(read_exactly(&mut client, sent.len()) == sent, "nothing is lost");
    bridge.wait_line("target resumed");
    writer.join().unwrap();
}

fn skip() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let mut bridge = bridge(&sandbox, &[], &["listen:unix@a", "listen:unix@b"]);
    let mut vm = accepted(&listener);
    let mut fast = connect(&sandbox.path("a"));
    bridge.wait_line("client 1 attached");
    let mut stalled = connect(&sandbox.path("b"));
    bridge.wait_line("client 2 attached");
    let sent = random(32 << 20);
    // The VM never waits for a console, so it is the test that lets the fast one keep up.
    for part in sent.chunks(32 << 10) {
        vm.write_all(part).unwrap();
        assert!(
            read_exactly(&mut fast, part.len()) == part,
            "the fast one gets everything"
        );
    }
    vm.write_all(b"--the end--").unwrap();
    let memory = std::fs::read_to_string(format!("/proc/{}/status", bridge.pid())).unwrap_or_default();
    let resident: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .map_or(0, |line| line.trim().trim_end_matches(" kB").parse().unwrap());
    assert!(resident < 64 << 10, "{resident} KiB for a flooded port");
    let mut seen = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    while !seen.ends_with(b"--the end--") {
        let count = stalled.read(&mut buffer).unwrap();
        assert_ne!(count, 0);
        seen.extend_from_slice(&buffer[..count]);
    }
    let marker = b"[vmserial: ";
    let at = seen
        .windows(marker.len())
        .position(|window| window == marker)
        .unwrap();
    let text = String::from_utf8_lossy(&seen[at + marker.len()..at + marker.len() + 40]).into_owned();
    let skipped: usize = text.split(' ').next().unwrap().parse().unwrap();
    let line = format!("\r\n[vmserial: {skipped} bytes skipped]\r\n");
    let start = at - 2;
    assert_eq!(&seen[start..start + line.len()], line.as_bytes());
    assert_eq!(seen[..start], sent[..start], "up to the gap every byte is right");
    let after = &seen[start + line.len()..seen.len() - b"--the end--".len()];
    assert!(*after == sent[sent.len() - after.len()..], "behind it too");
    assert_eq!(start + skipped + after.len(), sent.len(), "the count is exact");
    bridge.wait_line(&format!("client 2 skipped {skipped} bytes"));
}

fn hold_and_replay() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let log = sandbox.path("log").display().to_string();
    let mut bridge_a = bridge(&sandbox, &["--hold", "8", "--log", &log], &["listen:unix@c"]);
    let mut vm_a = accepted(&listener);
    bridge_a.wait_line("target up");
    vm_a.write_all(b"0123456789").unwrap();
    // What is in the log has been read, and nobody was there for it.
    wait_until("the bytes are read", || {
        (std::fs::read(&log).ok()?.len() == 10).then_some(())
    });
    let mut client = connect(&sandbox.path("c"));
    vm_a.write_all(b"x").unwrap();
    assert_eq!(read_exactly(&mut client, 9), b"23456789x");
    drop(bridge_a);

    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let mut bridge_b = bridge(
        &sandbox,
        &["--replay", "6", "--as", "console"],
        &["listen:unix@c"],
    );
    let mut vm_b = accepted(&listener);
    bridge_b.wait_line("target up");
    let mut first = connect(&sandbox.path("c"));
    bridge_b.wait_line("client 1 attached");
    vm_b.write_all(b"login: root").unwrap();
    assert_eq!(read_exactly(&mut first, 11), b"login: root");
    let mut late = connect(&sandbox.path("c"));
    assert_eq!(read_exactly(&mut late, 6), b": root");
}

fn half_closed_client() {
    let sandbox = Sandbox::new();
    let (mut bridge, mut vm, mut client) = up(&sandbox, &[]);
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_exactly(&mut vm, 8), b"question");
    vm.write_all(b"answer").unwrap();
    assert_eq!(read_exactly(&mut client, 6), b"answer");
    drop(client);
    bridge.wait_line("client 1 detached");
    // The target was not half-closed.
    let mut next = connect(&sandbox.path("c"));
    next.write_all(b"more").unwrap();
    assert_eq!(read_exactly(&mut vm, 4), b"more");
}

/// A terminal has no read timeout of its own.
fn read_terminal(terminal: &mut std::fs::File, count: usize) -> Vec<u8> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut bytes = Vec::new();
    while bytes.len() < count {
        let patience = Timespec {
            tv_sec: PATIENCE.as_secs() as i64,
            tv_nsec: 0,
        };
        let ready = poll(&mut [PollFd::new(terminal, PollFlags::IN)], Some(&patience)).unwrap();
        assert!(ready > 0, "the terminal stays silent after {bytes:?}");
        let mut part = vec![0; count - bytes.len()];
        let got = terminal.read(&mut part).unwrap();
        bytes.extend_from_slice(&part[..got]);
    }
    bytes
}

fn terminal_users() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let log = sandbox.path("log").display().to_string();
    let mut bridge = bridge(&sandbox, &["--log", &log], &["pty@p"]);
    let mut vm = accepted(&listener);
    bridge.wait_line("target up");
    // Cooked, it would echo this back into the VM.
    vm.write_all(b"nobody reads this\r\n").unwrap();
    wait_until("the bytes are read", || {
        (std::fs::read(&log).ok()?.len() == 19).then_some(())
    });
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
    for user in 0..3 {
        let terminal = rustix::fs::open(sandbox.path("p"), flags, rustix::fs::Mode::empty()).unwrap();
        let mut terminal = std::fs::File::from(terminal);
        bridge.wait_line("client 1 attached");
        let key = format!("key {user}\r");
        terminal.write_all(key.as_bytes()).unwrap();
        assert_eq!(
            read_exactly(&mut vm, key.len()),
            key.as_bytes(),
            "no echo, no stale byte"
        );
        vm.write_all(b"answer\n").unwrap();
        assert_eq!(read_terminal(&mut terminal, 7), b"answer\n");
        drop(terminal);
        bridge.wait_line("client 1 detached");
    }
    // Opened, written and closed in one go: what was written arrives.
    std::fs::write(sandbox.path("p"), "echo hi").unwrap();
    assert_eq!(read_exactly(&mut vm, 7), b"echo hi");
}

fn log_and_file() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let log = sandbox.path("log").display().to_string();
    let mut bridge = bridge(&sandbox, &["--log", &log], &["file@f", "listen:unix@c"]);
    let mut vm = accepted(&listener);
    bridge.wait_line("target up");
    let mut client = connect(&sandbox.path("c"));
    bridge.wait_line("client 2 attached");
    let sent = random(300_000);
    vm.write_all(&sent).unwrap();
    assert!(read_exactly(&mut client, sent.len()) == sent);
    // The log is written before anybody else gets the bytes.
    assert!(std::fs::read(&log).unwrap() == sent);
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end_with_input_open(), 0);
    assert!(std::fs::read(sandbox.path("f")).unwrap() == sent);
    for name in ["log", "f"] {
        let mode = std::fs::metadata(sandbox.path(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}
