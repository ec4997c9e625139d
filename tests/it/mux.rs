//! One port and many clients: who writes, who reads, who is sent away, where one begins to read; with real clients too.

use crate::bridge_rig::{accepted, assert_ends, bridge, vm};
use crate::kit::{Running, Sandbox, attach, connect, read_until, wait_until};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;

pub fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn()| {
        Trial::test(format!("mux::{name}"), move || {
            test();
            Ok(())
        })
    };
    vec![
        trial("real_clients_share_a_port", real_clients_share_a_port),
        trial(
            "a_stopped_reader_holds_nobody_up",
            a_stopped_reader_holds_nobody_up,
        ),
        trial(
            "a_hundred_clients_leave_nothing_behind",
            a_hundred_clients_leave_nothing_behind,
        ),
        trial("one_writes_and_the_next_waits", one_writes_and_the_next_waits),
        trial(
            "who_is_taken_over_is_told_by_whom",
            who_is_taken_over_is_told_by_whom,
        ),
        trial(
            "a_console_begins_where_it_is_told",
            a_console_begins_where_it_is_told,
        ),
        trial(
            "a_place_for_one_is_taken_over_too",
            a_place_for_one_is_taken_over_too,
        ),
        trial("wrong_words_are_exit_2", wrong_words_are_exit_2),
    ]
}

fn real_clients_share_a_port() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let clients = ["listen:unix@c", "listen:tcp:127.0.0.1:0", "ro=listen:unix@r"];
    let mut rig = sandbox.start(
        ["-v", "bridge", "connect:unix:vm"]
            .into_iter()
            .map(String::from)
            .chain(clients.iter().map(|client| match client.split_once('@') {
                Some((kind, name)) => sandbox.endpoint(kind, name),
                None => (*client).to_owned(),
            })),
    );
    let line = rig.wait_line("listening client 2");
    let port = line.rsplit(':').next().unwrap().to_owned();
    rig.wait_line("ready");
    let mut target = accepted(&listener);
    let path = sandbox.path("c").display().to_string();
    let reader = sandbox.path("r").display().to_string();
    let mut socat = Running::start(Command::new("socat").args(["-", &format!("UNIX-CONNECT:{path}")]));
    let mut netcat = Running::start(Command::new("nc").args(["127.0.0.1", &port]));
    let mut only = Running::start(Command::new("socat").args(["-", &format!("UNIX-CONNECT:{reader}")]));
    for _ in 0..3 {
        rig.wait_line("attached");
    }
    target.write_all(b"login: ").unwrap();
    for client in [&mut socat, &mut netcat, &mut only] {
        client.wait_output(b"login: ");
    }
    only.type_bytes(b"not typed");
    socat.type_bytes(b"from socat\n");
    read_until(&mut target, b"from socat\n");
    netcat.type_bytes(b"from nc\n");
    let got = read_until(&mut target, b"from nc\n");
    assert_eq!(got, b"from nc\n", "who only reads types nothing");
}

fn a_stopped_reader_holds_nobody_up() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let mut rig = bridge(&sandbox, &[], &["listen:unix@a", "listen:unix@b"]);
    let mut target = accepted(&listener);
    let path = sandbox.path("a").display().to_string();
    let seen = sandbox.path("seen");
    let stopped = Running::start(Command::new("socat").args([
        "-u".to_owned(),
        format!("UNIX-CONNECT:{path}"),
        format!("CREATE:{}", seen.display()),
    ]));
    rig.wait_line("client 1 attached");
    stopped.signal("STOP");
    let mut client = attach(&sandbox.path("b"), &mut target);
    let part = b"0123456789abcde\n".repeat(1 << 14);
    for round in 0..128 {
        // As fast as this client reads: it has every byte.
        let mut chunk = part.clone();
        chunk.extend(format!("round {round}\n").into_bytes());
        let writer = {
            let mut target = target.try_clone().unwrap();
            let chunk = chunk.clone();
            std::thread::spawn(move || target.write_all(&chunk).unwrap())
        };
        let mut got = vec![0; chunk.len()];
        client.read_exact(&mut got).unwrap();
        writer.join().unwrap();
        assert!(got == chunk, "round {round}");
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", rig.pid())).unwrap();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
        .unwrap();
    let kibibytes: usize = resident.trim().parse().unwrap();
    assert!(kibibytes < 64 << 10, "{kibibytes} KiB for 32 MiB behind");
    stopped.signal("CONT");
    rig.wait_line("client 1 skipped");
    let got = wait_until("it has the end", || {
        let got = std::fs::read(&seen).ok()?;
        got.ends_with(b"round 127\n").then_some(got)
    });
    let lines = got.split(|&byte| byte == b'\n');
    let marks = lines.filter(|line| line.starts_with(b"[vmserial: ") && line.ends_with(b" bytes skipped]\r"));
    assert_eq!(marks.count(), 1);
}

fn a_hundred_clients_leave_nothing_behind() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let rig = bridge(&sandbox, &["--as=console"], &["listen:unix@c"]);
    let mut target = accepted(&listener);
    let _stays = attach(&sandbox.path("c"), &mut target);
    let descriptors = || {
        let folder = format!("/proc/{}/fd", rig.pid());
        std::fs::read_dir(folder).unwrap().count()
    };
    let before = descriptors();
    for _ in 0..100 {
        drop(attach(&sandbox.path("c"), &mut target));
    }
    let mut control = Control::connect(&sandbox);
    wait_until("only one is attached", || {
        let status = control.ask("status", &json!({}));
        (status["result"]["clients"].as_array().unwrap().len() == 1).then_some(())
    });
    drop(control);
    wait_until("every descriptor is closed", || {
        (descriptors() == before).then_some(())
    });
}

fn one_writes_and_the_next_waits() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let mut rig = bridge(&sandbox, &["--one-writer", "--as=console"], &["listen:unix@c"]);
    let mut target = accepted(&listener);
    let mut first = attach(&sandbox.path("c"), &mut target);
    let mut second = connect(&sandbox.path("c"));
    rig.wait_line("attached");
    rig.wait_line("attached");
    second.write_all(b"not yet").unwrap();
    target.write_all(b"both read").unwrap();
    read_until(&mut first, b"both read");
    read_until(&mut second, b"both read");
    first.write_all(b"mine").unwrap();
    assert_eq!(read_until(&mut target, b"mine"), b"mine");
    drop(first);
    rig.wait_line("writes now");
    second.write_all(b"now").unwrap();
    assert_eq!(read_until(&mut target, b"now"), b"now");
    // Whoever takes over has the place, and not who waits for it.
    let mut third = connect(&sandbox.path("c"));
    rig.wait_line("attached");
    let mut console = sandbox.start(["console", "connect:unix:vm", "--take-over"]);
    rig.wait_line("detached");
    assert_ends(&mut second);
    console.type_bytes(b"taken");
    third.write_all(b"waiting").unwrap();
    assert_eq!(read_until(&mut target, b"taken"), b"taken");
    assert_eq!(console.wait_end(), 0);
    rig.wait_line("writes now");
    third.write_all(b"third").unwrap();
    assert_eq!(read_until(&mut target, b"third"), b"third");
}

/// A connection to the control socket of the sandbox's only bridge.
struct Control(BufReader<UnixStream>);

impl Control {
    fn connect(sandbox: &Sandbox) -> Self {
        let socket = wait_until("there is a control socket", || {
            let mut entries = std::fs::read_dir(sandbox.path("run/vmserial")).ok()?;
            Some(entries.next()?.ok()?.path())
        });
        Self(BufReader::new(connect(&socket)))
    }

    fn ask(&mut self, method: &str, params: &Value) -> Value {
        let line = json!({"v": 1, "id": 1, "method": method, "params": params});
        self.0
            .get_mut()
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
        loop {
            let value = self.line();
            if value["id"] == 1 {
                return value;
            }
        }
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }
}

fn who_is_taken_over_is_told_by_whom() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let mut rig = bridge(
        &sandbox,
        &["--as=console"],
        &["listen:unix@c", "ro=listen:unix@r"],
    );
    let mut target = accepted(&listener);
    let mut raw = attach(&sandbox.path("c"), &mut target);
    let mut reader = connect(&sandbox.path("r"));
    rig.wait_line("client 2 attached");
    let mut loser = sandbox.start(["console", "connect:unix:vm"]);
    loser.wait_line("Joined");
    rig.wait_line("client 0 attached");
    let mut events = Control::connect(&sandbox);
    events.ask("hello", &json!({"events": true}));
    let mut winner = sandbox.start(["console", "connect:unix:vm", "--take-over"]);
    let pid = winner.pid();
    // Told on its standard error, with exit 13, and never in a stream.
    assert_eq!(loser.wait_end_with_input_open(), 13);
    let said = loser.said();
    let expected = format!("this console was detached: taken over by connection 4 (pid {pid})");
    assert!(said.contains(&expected), "{said}");
    assert_ends(&mut raw);
    let mut told = Vec::new();
    while told.len() < 2 {
        let event = events.line();
        if event["event"] == "client_detached" {
            assert_eq!(event["reason"], format!("taken over by connection 4 (pid {pid})"));
            told.push(event["connection"].as_u64().unwrap());
        }
    }
    assert_eq!(told, [1, 3]);
    // Who reads stays.
    target.write_all(b"go on").unwrap();
    assert_eq!(read_until(&mut reader, b"go on"), b"go on");
    winner.wait_output(b"go on");
    winner.type_bytes(b"key");
    read_until(&mut target, b"key");
    // Everybody but one, by the control socket.
    let reply = events.ask("take_over", &json!({"keep": 4}));
    assert_eq!(reply["result"]["detached"], 0);
    let reply = events.ask("take_over", &json!({}));
    assert_eq!(reply["result"]["detached"], 1);
    assert_eq!(winner.wait_end_with_input_open(), 13);
    let said = winner.said();
    assert!(said.contains("taken over through the control socket"), "{said}");
}

fn a_place_for_one_is_taken_over_too() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let mut rig = bridge(&sandbox, &["--as=raw"], &["listen:unix@c"]);
    let mut target = accepted(&listener);
    let mut first = attach(&sandbox.path("c"), &mut target);
    let refused = sandbox.run(["console", "connect:unix:vm"]);
    assert_eq!(refused.code, Some(5), "{refused:?}");
    let mut console = sandbox.start(["console", "connect:unix:vm", "--take-over"]);
    console.wait_line("Joined");
    let line = rig.wait_line("client 1 detached");
    assert!(line.contains("taken over by connection 3"), "{line}");
    // Nothing of ours in the stream.
    assert_ends(&mut first);
    target.write_all(b"raw").unwrap();
    console.wait_output(b"raw");
}

fn a_console_begins_where_it_is_told() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let mut rig = bridge(&sandbox, &["--as=console"], &["listen:unix@c"]);
    let mut target = accepted(&listener);
    let mut client = attach(&sandbox.path("c"), &mut target);
    target.write_all(b"first boot\n").unwrap();
    read_until(&mut client, b"first boot\n");
    drop(target);
    rig.wait_line("target away");
    let mut target = accepted(&listener);
    rig.wait_line("target up");
    target.write_all(b"second boot\n").unwrap();
    read_until(&mut client, b"second boot\n");
    for (since, shown) in [
        ("start", "first boot\nsecond boot\n"),
        ("0", "first boot\nsecond boot\n"),
        ("6", "boot\nsecond boot\n"),
        ("boot", "second boot\n"),
        ("now", ""),
        ("1h", "first boot\nsecond boot\n"),
        ("2030-01-01T00:00:00Z", ""),
        ("2001-01-01T00:00:00Z", "first boot\nsecond boot\n"),
    ] {
        let since = format!("--since={since}");
        let ended = sandbox.run(["console", "connect:unix:vm", "--linger=100ms", &since]);
        assert_eq!(ended.stdout, shown, "{since}: {ended:?}");
    }
    let mut control = Control::connect(&sandbox);
    let reply = control.ask("history", &json!({"since": "boot"}));
    assert_eq!(reply["result"]["offset"], 11);
    let reply = control.ask("history", &json!({"since": {"time": "yesterday"}}));
    let message = reply["error"]["message"].as_str().unwrap();
    assert!(message.contains("no time of RFC 3339"), "{message}");
    let reply = control.ask("attach", &json!({"since": "boot"}));
    assert_eq!(reply["result"]["offset"], 11);
    assert!(reply["result"]["connection"].as_u64().unwrap() > 1);
}

fn wrong_words_are_exit_2() {
    let sandbox = Sandbox::new();
    for words in [
        &["bridge", "connect:unix:vm", "listen:unix:c", "--one-writer"][..],
        &["console", "connect:unix:vm", "--since=yesterday"],
        &["console", "connect:unix:vm", "--since=-1"],
    ] {
        let ended = sandbox.run(words);
        assert_eq!(ended.code, Some(2), "{words:?}: {ended:?}");
    }
}
