//! How `vmserial bridge` starts, tells and ends.

use crate::bridge_rig::{accepted, assert_ends, bridge, random, read_exactly, up, vm};
use crate::kit::{Running, Sandbox, connect, wait_until};
use libtest_mimic::Trial;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};

pub fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn()| {
        Trial::test(format!("bridge_life::{name}"), move || {
            test();
            Ok(())
        })
    };
    vec![
        trial("once_ends_with_the_target", once_target),
        trial("once_passes_half_close_both_ways", once_half_close),
        trial(
            "the_end_of_standard_input_ends_the_bridge_after_the_answer",
            stdin_end,
        ),
        trial("signals_end_it_with_their_codes", signals),
        trial("its_sockets_are_private_and_go_with_it", private_sockets),
        trial("a_stale_socket_is_replaced_and_nothing_else", stale_socket),
        trial("a_busy_port_names_its_owner", busy_port),
        trial("what_is_not_served_is_refused_by_name", not_served),
        trial("wrong_usage_is_told", wrong_usage),
        trial("a_target_that_never_comes_is_a_missed_deadline", never_came),
        trial("events_are_json_lines", json_events),
        trial("an_idle_bridge_sleeps", idle_sleeps),
    ]
}

fn once_target() {
    let sandbox = Sandbox::new();
    let (mut bridge, mut vm, mut client) = up(&sandbox, &["--once"]);
    let sent = random(1 << 20);
    let all = sent.clone();
    let writer = std::thread::spawn(move || vm.write_all(&all).unwrap());
    let mut seen = Vec::new();
    client.read_to_end(&mut seen).unwrap();
    assert!(seen == sent, "what was read is delivered");
    writer.join().unwrap();
    assert_eq!(bridge.wait_end(), 0);
}

fn once_half_close() {
    let sandbox = Sandbox::new();
    let (mut bridge, mut vm, mut client) = up(&sandbox, &["--once", "--linger", "20s"]);
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut question = Vec::new();
    vm.read_to_end(&mut question).unwrap();
    assert_eq!(question, b"question");
    vm.write_all(b"answer").unwrap();
    drop(vm);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"answer");
    assert_eq!(bridge.wait_end(), 0);

    // The other way round.
    let sandbox = Sandbox::new();
    let (mut bridge, mut vm, mut client) = up(&sandbox, &["--once", "--linger", "20s"]);
    vm.write_all(b"question").unwrap();
    vm.shutdown(Shutdown::Write).unwrap();
    let mut question = Vec::new();
    client.read_to_end(&mut question).unwrap();
    assert_eq!(question, b"question");
    client.write_all(b"answer").unwrap();
    drop(client);
    let mut answer = Vec::new();
    vm.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"answer");
    assert_eq!(bridge.wait_end(), 0);
}

fn stdin_end() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let mut bridge = bridge(&sandbox, &["--linger", "20s"], &["stdio"]);
    let mut vm = accepted(&listener);
    bridge.wait_line("target up");
    bridge.type_bytes(b"uptime\n");
    drop(bridge.stdin.take());
    assert_eq!(read_exactly(&mut vm, 7), b"uptime\n");
    vm.write_all(b"up 3 days\n").unwrap();
    bridge.wait_output(b"up 3 days\n");
    drop(vm);
    assert_eq!(bridge.wait_end(), 0);
}

fn signals() {
    for (signal, expected) in [("TERM", 0), ("INT", 130), ("HUP", 0)] {
        let sandbox = Sandbox::new();
        let (mut bridge, mut vm, mut client) = up(&sandbox, &[]);
        vm.write_all(b"last words").unwrap();
        bridge.signal(signal);
        let mut seen = Vec::new();
        client.read_to_end(&mut seen).unwrap();
        assert!(b"last words".starts_with(&seen[..]), "{seen:?}");
        assert_eq!(bridge.wait_end_with_input_open(), expected, "SIG{signal}");
        assert!(!sandbox.path("c").exists(), "the socket is removed");
    }
}

fn private_sockets() {
    let sandbox = Sandbox::new();
    let mut bridge = bridge(&sandbox, &[], &["listen:unix@c", "pty@p"]);
    let metadata = std::fs::symlink_metadata(sandbox.path("c")).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let device = std::fs::read_link(sandbox.path("p")).unwrap();
    assert_eq!(
        std::fs::metadata(device).unwrap().permissions().mode() & 0o777,
        0o600
    );
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end_with_input_open(), 0);
    assert!(!sandbox.path("c").exists());
    assert!(std::fs::symlink_metadata(sandbox.path("p")).is_err());
}

fn stale_socket() {
    let sandbox = Sandbox::new();
    drop(UnixListener::bind(sandbox.path("c")).unwrap());
    assert!(sandbox.path("c").exists(), "stale");
    let running = bridge(&sandbox, &[], &["listen:unix@c"]);
    connect(&sandbox.path("c"));
    drop(running);

    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("c"), "precious").unwrap();
    let target = sandbox.endpoint("connect:unix", "vm");
    let ended = sandbox.run([
        "bridge".to_owned(),
        target.clone(),
        sandbox.endpoint("listen:unix", "c"),
    ]);
    insta::assert_snapshot!("a_file_where_a_socket_should_be", ended.shown(&sandbox));
    assert_eq!(std::fs::read(sandbox.path("c")).unwrap(), b"precious");

    // As the VM's side, and somebody who answers.
    let ended = sandbox.run([
        "bridge".to_owned(),
        sandbox.endpoint("connect:unix", "c"),
        "pty".into(),
    ]);
    insta::assert_snapshot!("a_file_where_the_vm_should_be", ended.shown(&sandbox));
    let _live = UnixListener::bind(sandbox.path("live")).unwrap();
    let ended = sandbox.run([
        "bridge".to_owned(),
        target.clone(),
        sandbox.endpoint("listen:unix", "live"),
    ]);
    insta::assert_snapshot!("a_socket_that_somebody_serves", ended.shown(&sandbox));
    std::fs::write(sandbox.path("link"), "precious").unwrap();
    let ended = sandbox.run(["bridge".to_owned(), target, sandbox.endpoint("pty", "link")]);
    insta::assert_snapshot!("a_file_where_a_link_should_be", ended.shown(&sandbox));
}

fn busy_port() {
    let sandbox = Sandbox::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ended = sandbox.run([
        "bridge".to_owned(),
        sandbox.endpoint("connect:unix", "vm"),
        format!("listen:tcp:127.0.0.1:{port}"),
    ]);
    let shown = ended.shown(&sandbox).replace(&port.to_string(), "[PORT]");
    insta::assert_snapshot!("a_busy_port", shown);
}

fn not_served() {
    let sandbox = Sandbox::new();
    let mut all = String::new();
    for (target, client) in [
        ("connect:unix:/x", "listen:pipe:vm1"),
        ("pty:/tmp/x,via=root@h", "pty"),
    ] {
        let ended = sandbox.run(["bridge", target, client]);
        assert_eq!(ended.code, Some(5), "{target} {client}");
        all.push_str(&ended.stderr);
    }
    insta::assert_snapshot!("kinds_that_are_not_served", all);
}

fn wrong_usage() {
    let sandbox = Sandbox::new();
    let mut all = String::new();
    for words in [
        &["connect:unix:/x", "listen:unix"][..],
        &["unix:/x", "pty"],
        &["connect:unix:/x", "stdio", "stdio"],
        &["connect:unix:/x", "listen:unix:c", "listen:unix:./c"],
        &[
            "connect:unix:/x",
            "listen:tcp:7001",
            "listen:telnet:127.0.0.1:7001",
        ],
        &["listen:unix:/x", "pty:/x"],
        &["connect:unix:/x", "file:log", "file:log"],
        &["connect:unix:/x", "gdb=pty", "--as", "raw"],
        &["connect:unix:/x", "pty", "--wait", "5"],
        &["file:/x", "pty"],
    ] {
        let ended = sandbox.run(std::iter::once("bridge").chain(words.iter().copied()));
        assert_eq!(ended.code, Some(2), "{words:?}: {}", ended.stderr);
        all.push_str(&ended.stderr);
    }
    insta::assert_snapshot!("wrong_usage", all);
}

fn never_came() {
    let sandbox = Sandbox::new();
    let ended = sandbox.run([
        "bridge".to_owned(),
        "--wait".into(),
        "300ms".into(),
        sandbox.endpoint("connect:unix", "vm"),
        sandbox.endpoint("listen:unix", "c"),
    ]);
    insta::assert_snapshot!("a_target_that_never_came", ended.shown(&sandbox));
}

fn json_events() {
    let sandbox = Sandbox::new();
    let (mut bridge, vm, client) = up_json(&sandbox);
    let mut second = connect(&sandbox.path("c"));
    assert_ends(&mut second);
    drop(client);
    bridge.wait_output(b"client_detached");
    drop(vm);
    bridge.wait_output(br#""reason":"refused""#);
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end_with_input_open(), 0);
    let output = String::from_utf8(bridge.all_output().to_vec()).unwrap();
    let events: Vec<String> = output
        .lines()
        .map(|line| {
            let value: Value = serde_json::from_str(line).unwrap();
            assert_eq!(value["v"], 1, "{line}");
            assert!(value["time"].as_str().unwrap().ends_with('Z'), "{line}");
            value["event"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(
        events,
        [
            "ready",
            "target",
            "client_attached",
            "client_refused",
            "client_detached",
            "target",
            "target",
            "stopped"
        ]
    );
}

fn up_json(sandbox: &Sandbox) -> (Running, UnixStream, UnixStream) {
    let listener = vm(sandbox);
    let mut bridge = sandbox.bridge([
        "--json".to_owned(),
        sandbox.endpoint("connect:unix", "vm"),
        sandbox.endpoint("listen:unix", "c"),
    ]);
    let vm = accepted(&listener);
    drop(listener);
    bridge.wait_output(br#""state":"up""#);
    let client = connect(&sandbox.path("c"));
    bridge.wait_output(b"client_attached");
    (bridge, vm, client)
}

fn idle_sleeps() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let mut bridge = bridge(&sandbox, &["--as", "console"], &["listen:unix@c", "pty@p"]);
    let _vm = accepted(&listener);
    bridge.wait_line("target up");
    // Whoever came, left and came again must not keep it awake: a terminal's hang-up is reported for ever.
    let mut stay = Vec::new();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
    for round in 0..2 {
        stay.clear();
        if round > 0 {
            bridge.wait_line("client 2 detached");
        }
        let terminal = rustix::fs::open(sandbox.path("p"), flags, rustix::fs::Mode::empty()).unwrap();
        bridge.wait_line("client 2 attached");
        let client = connect(&sandbox.path("c"));
        bridge.wait_line("client 1 attached");
        stay.push((terminal, client));
    }
    let ticks = || -> Option<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", bridge.pid())).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    };
    let Some(before) = ticks() else { return };
    let began = std::time::Instant::now();
    wait_until("a second has passed", || {
        (began.elapsed().as_secs() >= 1).then_some(())
    });
    let used = ticks().unwrap() - before;
    assert!(
        used <= 2,
        "{used} clock ticks of 10 ms in an idle second: it spins"
    );
}
