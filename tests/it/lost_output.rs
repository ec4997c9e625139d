//! Our own standard output that takes nothing: a full disk, a reader that stopped reading.

use crate::bridge_rig::{accepted, read_exactly, vm};
use crate::kit::{Sandbox, connect, kill, wait_until};
use libtest_mimic::Trial;
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Stdio};

pub fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn()| {
        Trial::test(format!("lost_output::{name}"), move || {
            test();
            Ok(())
        })
    };
    vec![
        trial("a_bridge_on_a_full_disk_fails", bridge_on_a_full_disk),
        trial("a_console_on_a_full_disk_fails", console_on_a_full_disk),
        trial("a_reader_that_is_gone_ends_a_bridge", reader_is_gone),
        trial("events_on_a_full_disk_end_no_bridge", events_on_a_full_disk),
        trial(
            "a_reader_of_events_that_stopped_holds_no_bridge",
            reader_of_events_that_stopped,
        ),
        trial("data_on_a_full_disk_says_so", data_on_a_full_disk),
    ]
}

/// A process that does not outlive its trial.
struct Started(Child);

impl Started {
    fn new(sandbox: &Sandbox, words: &[&str], stdout: impl Into<Stdio>) -> Self {
        let mut command = sandbox.vmserial(words);
        command
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    fn end(&mut self) -> (Option<i32>, String) {
        let status = wait_until("the program ends", || self.0.try_wait().unwrap());
        let mut said = String::new();
        let mut stderr = self.0.stderr.take().unwrap();
        stderr.read_to_string(&mut said).unwrap();
        (status.code(), said)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It has ended, unless the trial failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

fn bridge_on_a_full_disk() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let target = sandbox.endpoint("connect:unix", "vm");
    let mut bridge = Started::new(&sandbox, &["bridge", &target, "stdio"], full());
    let mut vm = accepted(&listener);
    vm.write_all(b"what the VM says").unwrap();
    // Its standard input stays open.
    let (code, said) = bridge.end();
    assert_eq!(code, Some(6), "{said}");
    assert!(
        said.contains("error: cannot write to standard output: "),
        "{said}"
    );
}

fn console_on_a_full_disk() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let target = sandbox.endpoint("connect:unix", "vm");
    let mut console = Started::new(&sandbox, &["console", &target], full());
    let mut vm = accepted(&listener);
    vm.write_all(b"what the VM says").unwrap();
    drop(console.0.stdin.take());
    let (code, said) = console.end();
    assert_eq!(code, Some(6), "{said}");
    assert!(
        said.contains("error: cannot write to standard output: "),
        "{said}"
    );
}

fn reader_is_gone() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let target = sandbox.endpoint("connect:unix", "vm");
    let mut bridge = Started::new(&sandbox, &["bridge", &target, "stdio"], Stdio::piped());
    let mut vm = accepted(&listener);
    drop(bridge.0.stdout.take());
    vm.write_all(b"what the VM says").unwrap();
    let (code, said) = bridge.end();
    assert_eq!(code, Some(0), "nobody wants it any more: {said}");
    assert!(!said.contains("error"), "{said}");
}

fn events_on_a_full_disk() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let (target, served) = (
        sandbox.endpoint("connect:unix", "vm"),
        sandbox.endpoint("listen:unix", "c"),
    );
    let mut bridge = Started::new(&sandbox, &["bridge", "--json", &target, &served], full());
    let mut vm = accepted(&listener);
    let mut client = connect(&sandbox.path("c"));
    client.write_all(b"to the VM").unwrap();
    assert_eq!(read_exactly(&mut vm, 9), b"to the VM");
    vm.write_all(b"and back").unwrap();
    assert_eq!(read_exactly(&mut client, 8), b"and back");
    kill(bridge.0.id(), "TERM");
    let (code, said) = bridge.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("events are not printed any more"), "{said}");
}

fn reader_of_events_that_stopped() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let (target, served) = (
        sandbox.endpoint("connect:unix", "vm"),
        sandbox.endpoint("listen:unix", "c"),
    );
    let (unread, events) = rustix::pipe::pipe().unwrap();
    let room = rustix::pipe::fcntl_setpipe_size(&events, 4096).unwrap();
    let words = ["bridge", "--json", "--take-over", &target, &served];
    let mut bridge = Started::new(&sandbox, &words, events);
    let mut vm = accepted(&listener);
    // Two events each, of more than a hundred bytes.
    for _ in 0..room / 200 + 2 {
        let mut client = connect(&sandbox.path("c"));
        vm.write_all(b"x").unwrap();
        // The one before it may have got this byte.
        client.write_all(b"y").unwrap();
        assert_eq!(read_exactly(&mut vm, 1), b"y");
    }
    kill(bridge.0.id(), "TERM");
    let (code, said) = bridge.end();
    assert_eq!(code, Some(0), "{said}");
    drop(unread);
}

fn data_on_a_full_disk() {
    let sandbox = Sandbox::new();
    let mut schema = Started::new(&sandbox, &["profile", "schema"], full());
    let (code, said) = schema.end();
    assert_eq!(code, Some(6), "{said}");
    assert!(
        said.starts_with("error: cannot write to standard output: No space left on device"),
        "{said}"
    );
}
