//! A bridge between a VM's end and clients that a test plays.

pub use crate::bytes::random;
use crate::kit::{PATIENCE, Running, Sandbox, connect};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};

pub fn vm(sandbox: &Sandbox) -> UnixListener {
    let path = sandbox.path("vm");
    let _ = std::fs::remove_file(&path);
    UnixListener::bind(path).unwrap()
}

pub fn accepted(listener: &UnixListener) -> UnixStream {
    let mut polled = [PollFd::new(listener, PollFlags::IN)];
    let dialled = poll(&mut polled, Some(&Timespec::try_from(PATIENCE).unwrap())).unwrap();
    assert!(dialled > 0, "nobody dialled within {PATIENCE:?}");
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Returns the VM's end of the stream that the bridge has: the one on which the client is heard. Others were dialled before
/// a link was lost, and wait to be accepted for ever.
pub fn in_use<S: Read + AsFd>(client: &mut UnixStream, mut next: impl FnMut() -> S) -> S {
    const HELLO: &[u8] = b"hello";
    client.write_all(HELLO).unwrap();
    loop {
        let mut vm = next();
        let mut polled = [PollFd::new(&vm, PollFlags::IN)];
        let heard = poll(&mut polled, Some(&Timespec::try_from(PATIENCE).unwrap())).unwrap();
        assert!(heard > 0, "neither a word nor an end within {PATIENCE:?}");
        let mut words = [0; HELLO.len()];
        if vm.read_exact(&mut words).is_ok() {
            assert_eq!(words, *HELLO);
            return vm;
        }
    }
}

/// Starts a bridge from `vm` to the clients, with words of its own in front; everything worth knowing is said with `-v`.
pub fn bridge(sandbox: &Sandbox, words: &[&str], clients: &[&str]) -> Running {
    let mut all: Vec<String> = ["-v", "bridge"].map(String::from).into();
    all.extend(words.iter().map(|word| (*word).to_owned()));
    all.push(sandbox.endpoint("connect:unix", "vm"));
    all.extend(clients.iter().map(|client| match client.split_once('@') {
        Some((kind, name)) => sandbox.endpoint(kind, name),
        None => (*client).to_owned(),
    }));
    let mut bridge = sandbox.start(all);
    bridge.wait_line("ready");
    bridge
}

/// A bridge that is up, with one client on the Unix socket `c`.
pub fn up(sandbox: &Sandbox, words: &[&str]) -> (Running, UnixStream, UnixStream) {
    let listener = vm(sandbox);
    let mut bridge = bridge(sandbox, words, &["listen:unix@c"]);
    let vm = accepted(&listener);
    bridge.wait_line("target up");
    let client = connect(&sandbox.path("c"));
    bridge.wait_line("client 1 attached");
    (bridge, vm, client)
}

pub fn read_exactly(stream: &mut impl Read, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// The other side closed. A reset says so too: what was refused had bytes of ours unread.
pub fn assert_ends(stream: &mut impl Read) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => assert!(rest.is_empty(), "{rest:?}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}
