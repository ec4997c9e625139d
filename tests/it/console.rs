//! `vmserial console`: pipes, terminals, absences, with real processes.

use crate::control::Asker;
use crate::kit::{PATIENCE, Running, Sandbox, attach, connect, read_until};
use crate::terminal_rig::OnTerminal;
use libtest_mimic::Trial;
use serde_json::json;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

pub fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn()| {
        Trial::test(format!("console::{name}"), move || {
            test();
            Ok(())
        })
    };
    vec![
        trial(
            "joins_the_owner_and_shows_history",
            joins_the_owner_and_shows_history,
        ),
        trial("a_pipe_is_typed_and_answered", a_pipe_is_typed_and_answered),
        trial(
            "a_pipe_waits_for_a_target_that_is_away",
            a_pipe_waits_for_a_target_that_is_away,
        ),
        trial(
            "a_target_that_never_comes_is_exit_7",
            a_target_that_never_comes_is_exit_7,
        ),
        trial("the_targets_reboot_is_a_notice", the_targets_reboot_is_a_notice),
        trial("the_owners_end_is_told", the_owners_end_is_told),
        trial("a_reader_types_nothing", a_reader_types_nothing),
        trial(
            "history_begins_where_it_is_wanted",
            history_begins_where_it_is_wanted,
        ),
        trial("two_consoles_share_a_port", two_consoles_share_a_port),
        trial(
            "a_target_and_its_endpoint_are_one_port",
            a_target_and_its_endpoint_are_one_port,
        ),
        trial("a_shared_port_is_opened_as_one", a_shared_port_is_opened_as_one),
        trial(
            "a_target_that_is_not_there_is_exit_4",
            a_target_that_is_not_there_is_exit_4,
        ),
        trial("signals_end_it", signals_end_it),
        trial(
            "a_terminal_has_an_escape_key_and_comes_back_as_it_was",
            a_terminal_has_an_escape_key_and_comes_back_as_it_was,
        ),
        trial(
            "a_signal_gives_the_terminal_back",
            a_signal_gives_the_terminal_back,
        ),
        trial("wrong_arguments_are_exit_2", wrong_arguments_are_exit_2),
        trial("a_debuggers_port_is_no_console", a_debuggers_port_is_no_console),
    ]
}

fn accepted(listener: &UnixListener) -> UnixStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A bridge with a console on `c`, and the VM's end of it.
fn bridge(sandbox: &Sandbox, more: &[&str]) -> (Running, UnixStream) {
    let listener = UnixListener::bind(sandbox.path("vm")).unwrap();
    let endpoint = sandbox.endpoint("connect:unix", "vm");
    let mut arguments = vec![endpoint.as_str(), "listen:unix:c"];
    arguments.extend(if more.is_empty() { &["--as=console"] } else { more });
    let bridge = sandbox.bridge(arguments);
    (bridge, accepted(&listener))
}

/// A guest that answers each line.
fn echo_guest(mut vm: UnixStream) {
    std::thread::spawn(move || {
        let mut line = Vec::new();
        let mut byte = [0];
        while let Ok(1) = vm.read(&mut byte) {
            line.push(byte[0]);
            if byte[0] == b'\n' {
                vm.write_all(&[b"got ", line.as_slice()].concat()).unwrap();
                line.clear();
            }
        }
    });
}

fn joins_the_owner_and_shows_history() {
    let sandbox = Sandbox::new();
    let (_bridge, mut vm) = bridge(&sandbox, &[]);
    vm.write_all(b"login: ").unwrap();
    let mut client = attach(&sandbox.path("c"), &mut vm);
    vm.write_all(b"seen").unwrap();
    read_until(&mut client, b"seen");

    let mut console = sandbox.start(["console", "connect:unix:vm"]);
    assert!(console.wait_line("Joined").contains("vmserial bridge"));
    console.wait_output(b"login: seen");
    console.type_bytes(b"root\n");
    assert_eq!(read_until(&mut vm, b"\n"), b"root\n");
    vm.write_all(b"Password: ").unwrap();
    console.wait_output(b"Password: ");
    read_until(&mut client, b"Password: ");
    // The end of a pipe is the end of this console, not of the port.
    assert_eq!(console.wait_end(), 0);
    assert_eq!(console.all_output(), b"login: seenPassword: ");
    client.write_all(b"still").unwrap();
    read_until(&mut vm, b"still");
}

fn a_pipe_is_typed_and_answered() {
    let sandbox = Sandbox::new();
    let listener = UnixListener::bind(sandbox.path("vm")).unwrap();
    std::thread::spawn(move || echo_guest(accepted(&listener)));
    // Nobody owns the port, so it is opened. Bytes that would be keys on a terminal are the target's.
    let ended = sandbox.run_with(
        ["console", "connect:unix:vm", "--linger=300ms"],
        b"one\n\x1d.two\n",
    );
    assert_eq!(ended.stdout, "got one\ngot \u{1d}.two\n");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(
        std::fs::read_dir(sandbox.path("run/vmserial")).unwrap().count(),
        0
    );
}

fn a_pipe_waits_for_a_target_that_is_away() {
    let sandbox = Sandbox::new();
    let mut console = sandbox.start(["console", "connect:unix:vm", "--linger=300ms"]);
    console.type_bytes(b"uptime\n");
    drop(console.stdin.take());
    console.wait_line("target away");
    let listener = UnixListener::bind(sandbox.path("vm")).unwrap();
    let mut vm = accepted(&listener);
    assert_eq!(read_until(&mut vm, b"\n"), b"uptime\n");
    vm.write_all(b"1 day").unwrap();
    console.wait_output(b"1 day");
    assert_eq!(console.wait_end(), 0);
}

fn a_target_that_never_comes_is_exit_7() {
    let sandbox = Sandbox::new();
    let ended = sandbox.run_with(["console", "connect:unix:vm", "--wait=100ms"], b"x");
    assert_eq!(ended.code, Some(7));
    assert!(
        ended
            .stderr
            .contains("error: the target did not come in the time that `--wait` gave it\nhint: "),
        "{ended:?}"
    );
}

fn the_targets_reboot_is_a_notice() {
    let sandbox = Sandbox::new();
    let listener = UnixListener::bind(sandbox.path("vm")).unwrap();
    let mut console = sandbox.start(["console", "connect:unix:vm"]);
    let mut vm = accepted(&listener);
    vm.write_all(b"first boot").unwrap();
    console.wait_output(b"first boot");
    drop(vm);
    console.wait_line("target away");
    let mut vm = accepted(&listener);
    console.wait_line("target is there");
    vm.write_all(b"second boot").unwrap();
    console.wait_output(b"second boot");
    console.type_bytes(b"key");
    read_until(&mut vm, b"key");
}

fn the_owners_end_is_told() {
    let sandbox = Sandbox::new();
    let (mut bridge, mut vm) = bridge(&sandbox, &[]);
    let mut console = sandbox.start(["console", "connect:unix:vm"]);
    vm.write_all(b"last words").unwrap();
    console.wait_output(b"last words");
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
    assert_eq!(console.wait_end_with_input_open(), 13);
    assert!(
        console.said().contains("its owner ended: stopped"),
        "{}",
        console.said()
    );
}

fn a_reader_types_nothing() {
    let sandbox = Sandbox::new();
    let (_bridge, mut vm) = bridge(&sandbox, &[]);
    // Its standard input is not even read: a script's own lines stay the script's.
    let mut console = sandbox.start(["console", "--ro", "connect:unix:vm"]);
    console.type_bytes(b"not typed");
    drop(console.stdin.take());
    vm.write_all(b"shown").unwrap();
    console.wait_output(b"shown");
    let mut client = connect(&sandbox.path("c"));
    client.write_all(b"typed").unwrap();
    assert_eq!(read_until(&mut vm, b"typed"), b"typed");
    vm.write_all(b"more").unwrap();
    console.wait_output(b"more");
}

fn history_begins_where_it_is_wanted() {
    let sandbox = Sandbox::new();
    let (_bridge, mut vm) = bridge(&sandbox, &[]);
    let mut client = attach(&sandbox.path("c"), &mut vm);
    let boot: Vec<u8> = (0..5000)
        .flat_map(|line| format!("line {line:04}\n").into_bytes())
        .collect();
    vm.write_all(&boot).unwrap();
    read_until(&mut client, b"line 4999\n");
    for (arguments, shown) in [
        (vec![], &boot[boot.len() - (16 << 10)..]),
        (vec!["--replay=5"], &boot[boot.len() - 5..]),
        (vec!["--replay=0"], &[][..]),
        (vec!["--since=49990"], &boot[49990..]),
    ] {
        let mut all = vec!["console", "connect:unix:vm", "--linger=200ms"];
        all.extend(&arguments);
        let ended = sandbox.run_with(&all, b"");
        assert!(
            ended.stdout.as_bytes() == shown,
            "{arguments:?}: {} bytes",
            ended.stdout.len()
        );
    }
}

fn two_consoles_share_a_port() {
    let sandbox = Sandbox::new();
    let listener = UnixListener::bind(sandbox.path("vm")).unwrap();
    let mut first = sandbox.start(["console", "connect:unix:vm"]);
    let mut vm = accepted(&listener);
    first.wait_line("Opened");
    let mut second = sandbox.start(["console", "connect:unix:vm"]);
    second.wait_line("Joined");
    vm.write_all(b"both").unwrap();
    first.wait_output(b"both");
    second.wait_output(b"both");
    second.type_bytes(b"2");
    read_until(&mut vm, b"2");
    first.type_bytes(b"1");
    read_until(&mut vm, b"1");
    // The one that opened the port takes it with it.
    assert_eq!(first.wait_end(), 0);
    assert_eq!(second.wait_end_with_input_open(), 13);
}

/// A profile with one target whose two ports are sockets of the sandbox.
fn profile(sandbox: &Sandbox) {
    let text = "version: 1\ntargets:\n  dev:\n    host: qemu\n    vm: dev\n    ports:\n      - {port: 1, as: console, attach: 'listen:unix:vm', break_with: telnet}\n      - {port: 2, as: gdb, attach: 'listen:unix:vm2'}\n";
    std::fs::write(sandbox.path("vmserial.yaml"), text).unwrap();
}

fn a_target_and_its_endpoint_are_one_port() {
    let sandbox = Sandbox::new();
    profile(&sandbox);
    let listener = UnixListener::bind(sandbox.path("vm")).unwrap();
    let mut console = sandbox.start(["console", "dev"]);
    let mut vm = accepted(&listener);
    console.wait_line("Opened port 1 of dev");
    vm.write_all(b"boot").unwrap();
    console.wait_output(b"boot");
    for port in ["dev", "connect:unix:vm"] {
        let joined = sandbox.run(["console", port, "--linger=100ms"]);
        assert_eq!(joined.stdout, "boot", "{joined:?}");
        assert!(joined.stderr.contains("which is owned by pid"), "{joined:?}");
    }
    let second = sandbox.run(["bridge", "connect:unix:vm", "stdio"]);
    assert_eq!(second.code, Some(5), "{second:?}");
    // The way that the profile names.
    let broken = std::thread::spawn(move || read_until(&mut vm, b"g"));
    let ended = sandbox.run(["break", "dev"]);
    assert_eq!(ended.code, Some(7), "{ended:?}");
    assert_eq!(broken.join().unwrap(), b"\xff\xf3g");
}

fn a_shared_port_is_opened_as_one() {
    let sandbox = Sandbox::new();
    let text = "version: 1\ntargets:\n  dev:\n    host: qemu\n    vm: dev\n    ports:\n      - {port: 1, as: console+gdb, attach: 'listen:unix:vm', serve: ['gdb=listen:unix:gdb']}\n";
    std::fs::write(sandbox.path("vmserial.yaml"), text).unwrap();
    let listener = UnixListener::bind(sandbox.path("vm")).unwrap();
    let mut console = sandbox.start(["console", "dev"]);
    let mut vm = accepted(&listener);
    console.wait_line("Opened port 1 of dev");
    vm.write_all(b"boot").unwrap();
    console.wait_output(b"boot");
    let _gdb = connect(&sandbox.path("gdb"));
    let status = Asker::new(&sandbox).result("status", json!({}));
    assert_eq!(status["policy"], "console+gdb", "{status}");
}

fn a_target_that_is_not_there_is_exit_4() {
    let sandbox = Sandbox::new();
    let ended = sandbox.run(["console", "dev"]);
    assert_eq!(ended.code, Some(4), "{ended:?}");
    profile(&sandbox);
    let ended = sandbox.run(["console", "dve"]);
    insta::assert_snapshot!(ended.shown(&sandbox), @r"
    exit code: 4
    --- standard output
    --- standard error
    error: the profile `[SANDBOX]/vmserial.yaml` has no target `dve`
    hint: Did you mean `dev`?
    ");
    let ended = sandbox.run(["console", "dev", "--port=3"]);
    insta::assert_snapshot!(ended.shown(&sandbox), @r"
    exit code: 4
    --- standard output
    --- standard error
    error: the target `dev` has no port 3
    hint: It has: 1 (console), 2 (gdb).
    ");
}

fn signals_end_it() {
    for (signal, code) in [("TERM", 0), ("INT", 130), ("HUP", 0)] {
        let sandbox = Sandbox::new();
        let listener = UnixListener::bind(sandbox.path("vm")).unwrap();
        let mut console = sandbox.start(["console", "connect:unix:vm"]);
        let mut vm = accepted(&listener);
        vm.write_all(b"up").unwrap();
        console.wait_output(b"up");
        console.signal(signal);
        assert_eq!(console.wait_end_with_input_open(), code, "{signal}");
        assert_eq!(
            std::fs::read_dir(sandbox.path("run/vmserial")).unwrap().count(),
            0
        );
    }
}

fn a_debuggers_port_is_no_console() {
    let sandbox = Sandbox::new();
    let (_bridge, _vm) = bridge(&sandbox, &["--as=gdb"]);
    let ended = sandbox.run(["console", "connect:unix:vm"]);
    insta::assert_snapshot!(ended.shown(&sandbox), @r"
    exit code: 5
    --- standard output
    --- standard error
    error: a port with the policy `gdb` has no console
    hint: The VM's console is on another port: `vmserial console TARGET` finds it.
    ");
}

fn a_terminal_has_an_escape_key_and_comes_back_as_it_was() {
    let sandbox = Sandbox::new();
    let listener = UnixListener::bind(sandbox.path("vm")).unwrap();
    let mut console = OnTerminal::start(&sandbox, &["console", "connect:unix:vm", "--break-with=telnet"]);
    let mut vm = accepted(&listener);
    console.wait("Escape key is ^]");
    vm.write_all(b"login: ").unwrap();
    console.wait("login: ");
    assert!(!console.is_cooked(), "the terminal is raw");
    // Ctrl-C and Ctrl-Z are the target's, and so is the escape key typed twice.
    console.keys.write_all(b"\x03\x1a\x1d\x1dx").unwrap();
    assert_eq!(read_until(&mut vm, b"x"), b"\x03\x1a\x1dx");
    console.keys.write_all(b"\x1d?").unwrap();
    console.wait("list these keys");
    console.wait("paste a file");
    console.keys.write_all(b"\x1db").unwrap();
    assert_eq!(read_until(&mut vm, b"\xf3"), b"\xff\xf3");
    console.wait("BREAK sent (telnet)");
    console.keys.write_all(b"\x1dx").unwrap();
    console.wait("no such key");
    console.keys.write_all(b"\x1d.").unwrap();
    assert_eq!(console.end(), Some(0));
    assert!(console.is_cooked(), "the terminal is as it was");

    // Another key for keyboards that have no `]`.
    let mut console = OnTerminal::start(&sandbox, &["console", "connect:unix:vm", "--escape=^t"]);
    console.wait("Escape key is ^T");
    let mut vm = accepted(&listener);
    console.keys.write_all(b"\x1d.y").unwrap();
    assert_eq!(read_until(&mut vm, b"y"), b"\x1d.y");
    console.keys.write_all(b"\x14q").unwrap();
    assert_eq!(console.end(), Some(0));
}

fn a_signal_gives_the_terminal_back() {
    for signal in ["TERM", "HUP", "INT"] {
        let sandbox = Sandbox::new();
        let listener = UnixListener::bind(sandbox.path("vm")).unwrap();
        let mut console = OnTerminal::start(&sandbox, &["console", "connect:unix:vm"]);
        let mut vm = accepted(&listener);
        vm.write_all(b"up").unwrap();
        console.wait("up");
        assert!(!console.is_cooked());
        crate::kit::kill(console.child.id(), signal);
        assert_eq!(console.end(), Some(if signal == "INT" { 130 } else { 0 }));
        assert!(console.is_cooked(), "{signal}");
    }
}

fn wrong_arguments_are_exit_2() {
    let sandbox = Sandbox::new();
    for arguments in [
        &["console"][..],
        &["console", "tpc:h:1"],
        &["console", "file:/x"],
        &["console", "not a name"],
        &["console", "connect:unix:vm", "--port=2"],
        &["console", "connect:unix:vm", "--since=1", "--replay=1"],
        &["console", "connect:unix:vm", "--escape=]"],
    ] {
        let ended = sandbox.run(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
    }
}
