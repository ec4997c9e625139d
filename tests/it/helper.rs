//! `vmserial helper` itself: its protocol, its streams, its end. Named pipes have their trials under Wine
//! (`wine/helper.rs`), bridges that use one theirs in `helper_bridge.rs`.

use crate::bridge_rig::{accepted, random};
use crate::helper_rig::{BREAK, BREAK_DONE, CLOSE, CREDIT, DATA, END, FAILED, Helper, PING, PONG, greeting};
use crate::kit::{PATIENCE, Sandbox, read_until};
use libtest_mimic::Trial;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

pub fn trials() -> Vec<Trial> {
    let local = [
        ("who_is_who_is_said_first", who_is_who_is_said_first as fn()),
        ("another_protocol_is_refused", another_protocol_is_refused),
        ("what_is_no_protocol_ends_it", what_is_no_protocol_ends_it),
        ("every_byte_both_ways", every_byte_both_ways),
        ("half_closes_pass", half_closes_pass),
        ("a_stalled_stream_stalls_nobody", a_stalled_stream_stalls_nobody),
        ("refusals_have_their_kind", refusals_have_their_kind),
        (
            "a_dial_that_is_given_up_leaves_nothing",
            a_dial_that_is_given_up_leaves_nothing,
        ),
        (
            "what_was_written_goes_out_before_a_close",
            what_was_written_goes_out_before_a_close,
        ),
        ("it_ends_with_its_input", it_ends_with_its_input),
        ("break_reaches_a_telnet_end", break_reaches_a_telnet_end),
    ];
    let trials = local.map(|(name, run)| {
        Trial::test(format!("helper::{name}"), move || {
            run();
            Ok(())
        })
    });
    trials.into()
}

fn helper(sandbox: &Sandbox) -> Helper {
    Helper::greeted(&mut sandbox.vmserial(["helper"]))
}

pub fn listen(sandbox: &Sandbox, name: &str) -> (UnixListener, String) {
    let listener = UnixListener::bind(sandbox.path(name)).unwrap();
    (listener, sandbox.endpoint("connect:unix", name))
}

/// A stream through the helper, and the endpoint's other end.
pub fn joined(helper: &mut Helper, listener: &UnixListener, endpoint: &str) -> (u32, UnixStream) {
    let (stream, half_close) = helper.open(endpoint);
    assert!(half_close);
    (stream, accepted(listener))
}

fn who_is_who_is_said_first() {
    let sandbox = Sandbox::new();
    let mut helper = Helper::start(&mut sandbox.vmserial(["helper"]));
    let words = helper.hello();
    let expected = format!("vmserial-helper 1 {}", env!("CARGO_PKG_VERSION"));
    assert_eq!(words, expected);
    // What a shell says before is passed over.
    helper.raw(b"Welcome to lab!\nvmserial-");
    helper.raw(&greeting("\nvmserial-client 1 99.0.0-beta"));
    helper.send(0, PING, b"");
    assert_eq!(helper.next(0), (PONG, Vec::new()));
    assert_eq!(helper.end(), (Some(0), String::new()));
}

fn another_protocol_is_refused() {
    let sandbox = Sandbox::new();
    let mut helper = Helper::start(&mut sandbox.vmserial(["helper"]));
    helper.hello();
    helper.raw(&greeting("vmserial-client 7 9.9.9"));
    let (code, said) = helper.ended();
    assert_eq!(code, Some(5), "{said}");
    for part in [
        "protocol 1",
        "vmserial 9.9.9 and speaks 7",
        "vmserial setup helper",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

fn what_is_no_protocol_ends_it() {
    let sandbox = Sandbox::new();
    for (bytes, code, part) in [
        (b"\x63".to_vec(), 13, "no frame has the kind 99"),
        (vec![4, 0, 0, 0, 1, 0, 1, 0, 0], 13, "announces 65536 bytes"),
        (vec![4, 0, 0, 0, 9, 0, 0, 0, 1, 0], 13, "there is no stream 9"),
    ] {
        let mut helper = helper(&sandbox);
        helper.raw(&bytes);
        let (got, said) = helper.ended();
        assert_eq!(got, Some(code), "{said}");
        assert!(said.contains(part), "{said}");
    }
    let mut client = Helper::start(&mut sandbox.vmserial(["helper"]));
    client.hello();
    let mut changed = greeting("vmserial-client 1 0.1.0");
    let at = changed.len() - 256 + 13;
    changed[at] = 10;
    client.raw(&changed);
    let (code, said) = client.ended();
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("changes bytes (byte 0x0d"), "{said}");
    // More than was granted.
    let (_listener, endpoint) = listen(&sandbox, "vm");
    let mut helper = helper(&sandbox);
    let (stream, _) = helper.open(&endpoint);
    // The sockets between take their share of it first.
    for _ in 0..64 {
        helper.send(stream, DATA, &[0; 32768]);
    }
    let (code, said) = helper.ended();
    assert_eq!(code, Some(13), "{said}");
    assert!(said.contains("more than was granted"), "{said}");
}

fn every_byte_both_ways() {
    let sandbox = Sandbox::new();
    let (listener, endpoint) = listen(&sandbox, "vm");
    let mut helper = helper(&sandbox);
    let (stream, mut vm) = joined(&mut helper, &listener, &endpoint);
    let mut there: Vec<u8> = (0..=255).collect();
    there.extend(random(8 << 20));
    let back = random(8 << 20);
    let (expected, sent) = (there.clone(), back.clone());
    let mut writer = vm.try_clone().unwrap();
    let vm = std::thread::spawn(move || {
        let writing = std::thread::spawn(move || writer.write_all(&sent).unwrap());
        let mut got = vec![0; expected.len()];
        vm.read_exact(&mut got).unwrap();
        assert!(got == expected, "towards the VM");
        writing.join().unwrap();
    });
    let got = helper.exchange(stream, &there, back.len());
    assert!(got == back, "from the VM");
    vm.join().unwrap();
}

fn half_closes_pass() {
    let sandbox = Sandbox::new();
    let (listener, endpoint) = listen(&sandbox, "vm");
    let mut helper = helper(&sandbox);
    let (stream, mut vm) = joined(&mut helper, &listener, &endpoint);
    helper.exchange(stream, b"last words", 0);
    helper.send(stream, END, b"");
    let mut got = String::new();
    vm.read_to_string(&mut got).unwrap();
    assert_eq!(got, "last words");
    vm.write_all(b"still here").unwrap();
    assert_eq!(helper.exchange(stream, b"", 10), b"still here");
    vm.shutdown(Shutdown::Write).unwrap();
    assert_eq!(helper.text(stream, END), "ended");
    helper.text(stream, CLOSE);
    helper.send(stream, CLOSE, b"");
    // The other direction's end alone keeps ours open.
    let (stream, mut vm) = joined(&mut helper, &listener, &endpoint);
    vm.shutdown(Shutdown::Write).unwrap();
    helper.text(stream, END);
    helper.exchange(stream, b"more", 0);
    read_until(&mut vm, b"more");
    helper.send(stream, CLOSE, b"");
    assert_eq!(vm.read(&mut [0; 8]).unwrap(), 0);
    helper.text(stream, CLOSE);
}

fn a_stalled_stream_stalls_nobody() {
    let sandbox = Sandbox::new();
    let (listener, endpoint) = listen(&sandbox, "vm");
    let mut helper = helper(&sandbox);
    // One that nobody reads at the VM's end, one that we do not read, and one between them in time.
    let (deaf, mut deaf_vm) = joined(&mut helper, &listener, &endpoint);
    let (unread, mut unread_vm) = joined(&mut helper, &listener, &endpoint);
    let (third, mut vm) = joined(&mut helper, &listener, &endpoint);
    while helper.send_some(deaf, &[b'd'; 32768]) > 0 {}
    unread_vm
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let flood = vec![b'u'; 8 << 20];
    let mut accepted_of_flood = 0;
    while let Ok(count @ 1..) = unread_vm.write(&flood) {
        accepted_of_flood += count;
    }
    assert!(
        accepted_of_flood < 4 << 20,
        "{accepted_of_flood} bytes went somewhere"
    );
    let bytes = random(4 << 20);
    let expected = bytes.clone();
    let echo = std::thread::spawn(move || {
        let mut got = vec![0; expected.len()];
        vm.read_exact(&mut got).unwrap();
        assert!(got == expected);
        vm.write_all(&got).unwrap();
        vm
    });
    assert!(helper.exchange(third, &bytes, bytes.len()) == bytes);
    let _vm = echo.join().unwrap();
    // Nothing of the others was lost, and they go on where they were.
    let got = helper.exchange(unread, b"", accepted_of_flood);
    assert!(got.iter().all(|&byte| byte == b'u'));
    unread_vm.write_all(b"!").unwrap();
    assert_eq!(helper.exchange(unread, b"", 1), b"!");
    let mut held = vec![0; 256 * 1024];
    deaf_vm.read_exact(&mut held).unwrap();
    helper.exchange(deaf, b"!", 0);
    read_until(&mut deaf_vm, b"!");
}

fn refusals_have_their_kind() {
    let sandbox = Sandbox::new();
    let mut helper = helper(&sandbox);
    std::fs::write(sandbox.path("file"), "").unwrap();
    drop(UnixListener::bind(sandbox.path("dead")).unwrap());
    for (endpoint, kind, part) in [
        (sandbox.endpoint("connect:unix", "absent"), 1, "absent"),
        (sandbox.endpoint("connect:unix", "dead"), 2, "refused"),
        ("exec:id".to_owned(), 0, "a helper does not open `exec:id`"),
        ("listen:tcp:127.0.0.1:0".to_owned(), 0, "does not open"),
        ("connect:pipe:x".to_owned(), 0, "named pipes are Windows's"),
        ("nonsense".to_owned(), 0, "nonsense"),
    ] {
        let stream = helper.ask(&endpoint);
        let (got, content) = helper.next(stream);
        let words = String::from_utf8_lossy(&content[1..]).into_owned();
        assert_eq!((got, content[0]), (FAILED, kind), "{endpoint}: {words}");
        assert!(words.contains(part), "{endpoint}: {words}");
    }
}

fn a_dial_that_is_given_up_leaves_nothing() {
    let sandbox = Sandbox::new();
    let mut helper = helper(&sandbox);
    // Nobody answers there; the dial would take five seconds.
    let stream = helper.ask("connect:tcp:192.0.2.1:9");
    helper.send(stream, CLOSE, b"");
    let (kind, _) = helper.next(stream);
    // A machine without a way there refuses at once.
    assert!(kind == CLOSE || kind == FAILED, "{kind}");
    // An opened one is closed for its other end too.
    let (listener, endpoint) = listen(&sandbox, "vm");
    let (stream, mut vm) = joined(&mut helper, &listener, &endpoint);
    helper.send(stream, CLOSE, b"");
    assert_eq!(vm.read(&mut [0; 8]).unwrap(), 0);
    helper.text(stream, CLOSE);
    helper.send(0, PING, b"");
    assert_eq!(helper.next(0).0, PONG);
}

fn what_was_written_goes_out_before_a_close() {
    let sandbox = Sandbox::new();
    let (listener, endpoint) = listen(&sandbox, "vm");
    let mut helper = helper(&sandbox);
    let (stream, mut vm) = joined(&mut helper, &listener, &endpoint);
    let bytes = random(200 * 1024);
    helper.exchange(stream, &bytes, 0);
    helper.send(stream, CLOSE, b"");
    let mut got = Vec::new();
    vm.read_to_end(&mut got).unwrap();
    assert!(got == bytes, "{} bytes", got.len());
    // And before the helper's own end.
    let (stream, mut vm) = joined(&mut helper, &listener, &endpoint);
    helper.exchange(stream, &bytes, 0);
    let reading = std::thread::spawn(move || {
        let mut got = Vec::new();
        vm.read_to_end(&mut got).unwrap();
        got
    });
    assert_eq!(helper.end().0, Some(0));
    assert!(reading.join().unwrap() == bytes);
}

/// Waits for the helper's end for a second, in which it must be gone: else it keeps the VM's only slot. A machine that is
/// busy has three tries.
fn it_ends_with_its_input() {
    let sandbox = Sandbox::new();
    let (listener, endpoint) = listen(&sandbox, "vm");
    for case in ["nothing open", "idle", "absent", "deaf"] {
        let in_time = (0..3).any(|_| {
            let mut helper = helper(&sandbox);
            let mut vm = None;
            match case {
                "idle" => vm = Some(joined(&mut helper, &listener, &endpoint).1),
                "absent" => drop(helper.ask("connect:tcp:192.0.2.1:9")),
                "deaf" => {
                    let (stream, end) = joined(&mut helper, &listener, &endpoint);
                    while helper.send_some(stream, &[0; 32768]) > 0 {}
                    vm = Some(end);
                }
                _ => {}
            }
            let until = Instant::now() + Duration::from_secs(1);
            let (code, said) = helper.end();
            let in_time = Instant::now() < until;
            assert_eq!(code, Some(0), "{case}: {said}");
            if let Some(mut vm) = vm {
                vm.read_to_end(&mut Vec::new()).unwrap();
            }
            in_time
        });
        assert!(in_time, "{case}: not gone within a second");
    }
}

fn break_reaches_a_telnet_end() {
    let sandbox = Sandbox::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut helper = helper(&sandbox);
    let endpoint = format!("connect:telnet:{}", listener.local_addr().unwrap());
    let stream = helper.ask(&endpoint);
    let (mut vm, _) = listener.accept().unwrap();
    vm.set_read_timeout(Some(PATIENCE)).unwrap();
    let (_, opened) = helper.next(stream);
    assert_eq!(opened[4] & 2, 2, "it says that it can");
    helper.send(stream, DATA, b"before");
    helper.send(stream, BREAK, b"");
    assert_eq!(helper.next(stream), (BREAK_DONE, vec![0]));
    let got = read_until(&mut vm, b"\xff\xf3");
    assert!(got.ends_with(b"before\xff\xf3"), "{got:?}");
    // A socket has none.
    let (listener, endpoint) = listen(&sandbox, "vm");
    let (stream, _vm) = joined(&mut helper, &listener, &endpoint);
    helper.send(stream, BREAK, b"");
    let (kind, content) = helper.next(stream);
    assert_eq!((kind, content[0]), (BREAK_DONE, 1));
    // A client that asks for less than nothing.
    helper.send(stream, CREDIT, &0_u32.to_be_bytes());
    helper.send(0, PING, b"");
    assert_eq!(helper.next(0).0, PONG);
}
