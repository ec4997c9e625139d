//! Telnet and RFC 2217 endpoints, both roles, against raw sockets and each other.

use crate::bridge_bytes::{LONGEST, compare, random};
use crate::bridge_rig::{accepted, read_exactly, vm};
use crate::kit::{PATIENCE, Running, Sandbox, connect, kill, read_until};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};

use std::sync::mpsc::channel;
use std::time::Instant;

pub const EACH_BYTE: [u8; 256] = {
    let mut all = [0; 256];
    let mut at = 0;
    while at < 256 {
        all[at] = at as u8;
        at += 1;
    }
    all
};

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial(
            "a_telnet_client_is_a_character_terminal_and_its_break_keeps_its_place",
            character_terminal,
        ),
        trial("a_clients_break_reaches_qmp", break_reaches_qmp),
        trial("a_clients_break_goes_the_targets_own_way", break_through),
        trial("a_plain_server_hears_no_telnet", plain_server),
        trial("a_server_that_refuses_binary_gets_cr_nul", refuses_binary),
        trial("one_telnet_client_of_a_raw_port", one_client),
        trial("break_with_must_fit_the_endpoint", break_with_must_fit),
    ];
    for kind in ["telnet", "rfc2217"] {
        trials.push(Trial::test(
            format!("telnet::{kind}_clients_listened_for_pass_every_byte"),
            move || pass_every_byte(kind, true),
        ));
        trials.push(Trial::test(
            format!("telnet::{kind}_targets_listened_for_pass_every_byte"),
            move || pass_every_byte(kind, false),
        ));
    }
    trials
}

fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(format!("telnet::{name}"), move || {
        test();
        Ok(())
    })
}

/// Starts a bridge and returns it with the address of its first TCP listener.
pub fn listening(sandbox: &Sandbox, words: &[&str]) -> (Running, String) {
    let mut bridge = sandbox.start(["-v", "bridge"].iter().chain(words));
    let line = bridge.wait_line("127.0.0.1:");
    bridge.wait_line("ready");
    let address = &line[line.find("127.0.0.1:").unwrap()..];
    (bridge, address.to_owned())
}

fn dialled(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn came(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

const OPENING: &[u8] = b"\xff\xfb\x01\xff\xfb\x03\xff\xfd\x03\xff\xfb\x00\xff\xfd\x00";

fn character_terminal() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let (mut bridge, address) = listening(
        &sandbox,
        &[
            "connect:unix:vm",
            "listen:telnet:127.0.0.1:0",
            "--break-with=telnet",
        ],
    );
    let mut vm = accepted(&listener);
    bridge.wait_line("target up");
    let mut client = dialled(&address);
    assert_eq!(read_exactly(&mut client, OPENING.len()), OPENING);
    // It agrees, offers its window's size (refused), and flushes (answered, or it would show nothing any more).
    client
        .write_all(b"\xff\xfd\x01\xff\xfd\x03\xff\xfb\x03\xff\xfd\x00\xff\xfb\x00\xff\xfb\x1f\xff\xfd\x06")
        .unwrap();
    assert_eq!(read_exactly(&mut client, 6), b"\xff\xfe\x1f\xff\xfb\x06");
    client.write_all(b"a\r\0\xff\xff\xff\xf3g").unwrap();
    // The VM's end is a plain stream here: what it gets is the BREAK's raw bytes, at their place.
    assert_eq!(read_exactly(&mut vm, 7), b"a\r\0\xff\xff\xf3g");
    bridge.wait_line("break by telnet: sent");
    vm.write_all(&EACH_BYTE).unwrap();
    let mut doubled = EACH_BYTE.to_vec();
    doubled.push(0xff);
    assert_eq!(read_exactly(&mut client, 257), doubled);
}

fn break_reaches_qmp() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let qmp = UnixListener::bind(sandbox.path("qmp")).unwrap();
    let monitor = std::thread::spawn(move || {
        let (mut stream, _) = qmp.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        stream
            .write_all(b"{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n")
            .unwrap();
        loop {
            let asked: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            let mut answer = serde_json::json!({ "return": {} });
            if let Some(id) = asked.get("id") {
                answer["id"] = id.clone();
            }
            stream.write_all(format!("{answer}\r\n").as_bytes()).unwrap();
            if asked["execute"] == "chardev-send-break" {
                return asked["arguments"].clone();
            }
        }
    });
    let (mut bridge, address) = listening(
        &sandbox,
        &[
            "connect:unix:vm",
            "listen:rfc2217:127.0.0.1:0",
            "--break-with=qmp:qmp",
            "--json",
        ],
    );
    let mut vm = accepted(&listener);
    let mut client = dialled(&address);
    client
        .write_all(b"\xff\xfb\x2cx\xff\xfa\x2c\x05\x05\xff\xf0\xff\xfa\x2c\x05\x06\xff\xf0g")
        .unwrap();
    assert_eq!(read_exactly(&mut vm, 2), b"xg");
    assert_eq!(monitor.join().unwrap()["id"], "ser0");
    bridge.wait_output(b"\"result\":\"sent\"");
    read_until(
        &mut client,
        b"\xff\xfa\x2c\x69\x05\xff\xf0\xff\xfa\x2c\x69\x06\xff\xf0",
    );
}

/// A telnet client's BREAK becomes that of the target: telnet's, RFC 2217's.
fn break_through() {
    for (kind, opened, sent) in [
        ("telnet", &b""[..], &b"a\xff\xf3g"[..]),
        (
            "rfc2217",
            b"\xff\xfd\x2c",
            b"a\xff\xfa\x2c\x05\x05\xff\xf0\xff\xfa\x2c\x05\x06\xff\xf0g",
        ),
    ] {
        let sandbox = Sandbox::new();
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = format!("connect:{kind}:{}", server.local_addr().unwrap());
        let client = format!("listen:{kind}:127.0.0.1:0");
        let mut bridge = sandbox.start(["-v", "bridge", &target, &client]);
        let line = bridge.wait_line("listening client 1");
        let mut server = came(&server);
        server.write_all(opened).unwrap();
        bridge.wait_line("target up");
        let mut client = dialled(line.rsplit_once(&format!("{kind}:")).unwrap().1);
        client.write_all(b"a\xff\xf3g").unwrap();
        let wire = read_until(&mut server, b"g");
        assert!(wire.ends_with(sent), "{kind}: {wire:x?}");
        bridge.wait_line(&format!("break by {kind}: sent"));
    }
}

fn plain_server() {
    let sandbox = Sandbox::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("connect:telnet:{}", server.local_addr().unwrap());
    let mut bridge = sandbox.bridge([&*target, "listen:unix:c"]);
    let mut server = came(&server);
    bridge.wait_line("target up");
    let mut client = connect(&sandbox.path("c"));
    client.write_all(&EACH_BYTE).unwrap();
    let mut doubled = EACH_BYTE.to_vec();
    doubled.push(0xff);
    assert_eq!(read_exactly(&mut server, 257), doubled);
    server.write_all(&doubled).unwrap();
    assert_eq!(read_exactly(&mut client, 256), EACH_BYTE);
}

fn refuses_binary() {
    let sandbox = Sandbox::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("connect:telnet:{}", server.local_addr().unwrap());
    let mut bridge = sandbox.bridge([&*target, "listen:unix:c"]);
    let mut server = came(&server);
    bridge.wait_line("target up");
    let mut client = connect(&sandbox.path("c"));
    server.write_all(b"\xff\xfb\x01").unwrap();
    let asked = b"\xff\xfd\x01\xff\xfb\x03\xff\xfd\x03\xff\xfb\x00\xff\xfd\x00";
    assert_eq!(read_exactly(&mut server, asked.len()), asked);
    server
        .write_all(b"\xff\xfe\x00\xff\xfc\x00login:\r\0\r\n")
        .unwrap();
    assert_eq!(read_exactly(&mut client, 9), b"login:\r\r\n");
    client.write_all(b"me\rx\r\n").unwrap();
    assert_eq!(read_exactly(&mut server, 7), b"me\r\0x\r\n");
}

fn one_client() {
    let sandbox = Sandbox::new();
    let (mut bridge, address) = listening(&sandbox, &["listen:unix:vm", "listen:telnet:127.0.0.1:0"]);
    let _first = dialled(&address);
    bridge.wait_line("client 1 attached");
    let mut second = dialled(&address);
    bridge.wait_line("client 1 refused");
    crate::bridge_rig::assert_ends(&mut second);
}

fn break_with_must_fit() {
    let sandbox = Sandbox::new();
    let ended = sandbox.run([
        "bridge",
        "connect:tcp:127.0.0.1:1",
        "stdio",
        "--break-with=rfc2217",
    ]);
    insta::assert_snapshot!(ended.shown(&sandbox), @r"
    exit code: 2
    --- standard output
    --- standard error
    error: BREAK by `rfc2217` goes through `rfc2217:` endpoints only, got `connect:tcp:127.0.0.1:1`
    hint: If the server there speaks RFC 2217, write `connect:rfc2217:127.0.0.1:1`.
    ");
}

/// Two bridges, the one's telnet server and the other's telnet client between them.
fn pass_every_byte(kind: &str, clients_are_listened_for: bool) -> Result<(), Failed> {
    let sandbox = Sandbox::new();
    let server = format!("listen:{kind}:127.0.0.1:0");
    let (near, far) = ("listen:unix:near", "listen:unix:far");
    let words = if clients_are_listened_for {
        [near, &server]
    } else {
        [&*server, near]
    };
    let (mut first, address) = listening(&sandbox, &words);
    let client = format!("connect:{kind}:{address}");
    let words = if clients_are_listened_for {
        [&*client, far]
    } else {
        [far, &client]
    };
    let mut second = sandbox.start(["-v", "bridge"].iter().chain(&words));
    second.wait_line("ready");
    let ends = ["near", "far"].map(|name| {
        let stream = UnixStream::connect(sandbox.path(name)).expect("the bridge listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        stream
    });
    // Whoever is not attached yet would get nothing.
    for bridge in [&mut first, &mut second] {
        let mut awaited = vec!["target up", "client 1 attached"];
        while !awaited.is_empty() {
            let line = bridge.wait_line("");
            awaited.retain(|part| !line.contains(part));
        }
    }
    let pids = [first.pid(), second.pid()];
    let (sender, results) = channel();
    for (from, to) in [(0, 1), (1, 0)] {
        let (mut writer, mut reader) = (ends[from].try_clone()?, ends[to].try_clone()?);
        let told = sender.clone();
        std::thread::spawn(move || {
            let result = writer.write_all(random(from));
            let _ = told.send(result.map_err(|error| error.to_string()));
        });
        let told = sender.clone();
        std::thread::spawn(move || told.send(compare(&mut reader, random(from))));
    }
    let until = Instant::now() + LONGEST;
    for _ in 0..4 {
        let result = results.recv_timeout(until.saturating_duration_since(Instant::now()));
        if !matches!(result, Ok(Ok(()))) {
            for pid in pids {
                kill(pid, "KILL");
            }
            return Err(format!("{result:?}; {} {}", first.said(), second.said()).into());
        }
    }
    for bridge in [&mut second, &mut first] {
        bridge.signal("TERM");
        assert_eq!(bridge.wait_end(), 0);
    }
    Ok(())
}
