//! 64 MiB of random bytes (8 in a hurry) through every pair of endpoint kinds, both directions at once, equal at the end.

use crate::kit::{PATIENCE, Sandbox, is_fast, kill, wait_until};
use libtest_mimic::{Failed, Trial};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// So many each way. Every buffer on the way is crossed many times by the fewer ones too.
pub fn count() -> usize {
    if is_fast() { 2 << 20 } else { 64 << 20 }
}

/// A pseudo terminal passes a few tens of MiB each second on a busy machine, and others run beside it.
pub const LONGEST: Duration = Duration::from_secs(240);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    UnixListen,
    UnixConnect,
    TcpListen,
    TcpConnect,
    Pty,
    Stdio,
}

const KINDS: [(Kind, &str); 6] = [
    (Kind::UnixListen, "unix_listen"),
    (Kind::UnixConnect, "unix_connect"),
    (Kind::TcpListen, "tcp_listen"),
    (Kind::TcpConnect, "tcp_connect"),
    (Kind::Pty, "pty"),
    (Kind::Stdio, "stdio"),
];

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (target, target_name) in KINDS {
        for (client, client_name) in KINDS {
            // There is one standard input.
            if (target, client) != (Kind::Stdio, Kind::Stdio) {
                trials.push(Trial::test(
                    format!("bridge_bytes::{target_name}_and_{client_name}_pass_every_byte"),
                    move || pass_every_byte(target, client),
                ));
            }
        }
    }
    trials.push(Trial::test(
        "bridge_bytes::a_console_gets_every_byte_value_unchanged",
        every_byte_value,
    ));
    trials
}

/// Random bytes (xorshift), made once: one stream per direction.
pub fn random(direction: usize) -> &'static [u8] {
    static STREAMS: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    let count = count();
    let streams = STREAMS.get_or_init(|| {
        [0x9e37_79b9_7f4a_7c15_u64, 0xd1b5_4a32_d192_ed03].map(|seed| {
            let mut state = seed;
            let mut bytes = Vec::with_capacity(count);
            while bytes.len() < count {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                bytes.extend_from_slice(&state.to_le_bytes());
            }
            bytes
        })
    });
    &streams[direction]
}

/// The far end of one side of the bridge, before the bridge runs.
enum FarEnd {
    UnixListener(UnixListener),
    TcpListener(TcpListener),
    Dial,
    Stdio,
}

type Ends = (Box<dyn Read + Send>, Box<dyn Write + Send>);

fn prepare(kind: Kind, path: &Path) -> (FarEnd, String) {
    match kind {
        Kind::UnixListen => (FarEnd::Dial, format!("listen:unix:{}", path.display())),
        Kind::UnixConnect => (
            FarEnd::UnixListener(UnixListener::bind(path).expect("a listener")),
            format!("connect:unix:{}", path.display()),
        ),
        Kind::TcpListen => (FarEnd::Dial, "listen:tcp:127.0.0.1:0".into()),
        Kind::TcpConnect => {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
            let endpoint = format!("connect:tcp:{}", listener.local_addr().expect("an address"));
            (FarEnd::TcpListener(listener), endpoint)
        }
        Kind::Pty => (FarEnd::Dial, format!("pty:{}", path.display())),
        Kind::Stdio => (FarEnd::Stdio, "stdio".into()),
    }
}

fn both<T: Read + Write + Send + 'static>(stream: T, clone: T) -> Ends {
    (Box::new(stream), Box::new(clone))
}

/// Opens the far end; `said` are the lines of standard error before `ready`.
fn open(kind: Kind, far: FarEnd, path: &Path, said: &[String], side: &str) -> Option<Ends> {
    let unix = |stream: UnixStream| both(stream.try_clone().expect("a clone"), stream);
    let tcp = |stream: TcpStream| both(stream.try_clone().expect("a clone"), stream);
    Some(match (kind, far) {
        (_, FarEnd::UnixListener(listener)) => unix(listener.accept().expect("the bridge comes").0),
        (_, FarEnd::TcpListener(listener)) => tcp(listener.accept().expect("the bridge comes").0),
        (Kind::UnixListen, _) => unix(UnixStream::connect(path).expect("the bridge listens")),
        (Kind::TcpListen, _) => {
            let prefix = format!("listening {side} listen:tcp:");
            let address = said
                .iter()
                .find_map(|line| line.strip_prefix(&prefix))
                .expect("the port is told");
            tcp(TcpStream::connect(address).expect("the bridge listens"))
        }
        (Kind::Pty, _) => {
            let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
            let terminal =
                rustix::fs::open(path, flags, rustix::fs::Mode::empty()).expect("the terminal is there");
            let terminal = File::from(terminal);
            both(terminal.try_clone().expect("a clone"), terminal)
        }
        (Kind::Stdio, _) => return None,
        (Kind::UnixConnect | Kind::TcpConnect, FarEnd::Dial | FarEnd::Stdio) => {
            unreachable!("they have a listener")
        }
    })
}

fn lines_of(stderr: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

fn pass_every_byte(target: Kind, client: Kind) -> Result<(), Failed> {
    let sandbox = Sandbox::new();
    let paths: [PathBuf; 2] = [sandbox.path("t"), sandbox.path("c")];
    let (target_far, target_endpoint) = prepare(target, &paths[0]);
    let (client_far, client_endpoint) = prepare(client, &paths[1]);
    let mut child = sandbox
        .vmserial(["-v", "bridge", &target_endpoint, &client_endpoint])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let pid = child.id();
    let lines = lines_of(child.stderr.take().expect("piped"));
    let mut said = Vec::new();
    let wait_line = |said: &mut Vec<String>, part: &str| -> Result<(), Failed> {
        while !said.iter().any(|line| line.contains(part)) {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) => said.push(line),
                Err(error) => return Err(format!("no `{part}` ({error}), said {said:#?}").into()),
            }
        }
        Ok(())
    };
    wait_line(&mut said, "ready")?;
    let mut stdio = Some((
        Box::new(child.stdout.take().expect("piped")) as Box<dyn Read + Send>,
        Box::new(child.stdin.take().expect("piped")) as Box<dyn Write + Send>,
    ));
    let target_ends = open(target, target_far, &paths[0], &said, "target").or_else(|| stdio.take());
    let client_ends = open(client, client_far, &paths[1], &said, "client 1").or_else(|| stdio.take());
    let (target_reader, target_writer) = target_ends.expect("one side is stdio at most");
    let (client_reader, client_writer) = client_ends.expect("one side is stdio at most");
    wait_line(&mut said, "target up")?;
    wait_line(&mut said, "client 1 attached")?;

    let (sender, results) = channel();
    let (keep, kept) = channel();
    for (direction, writer) in [target_writer, client_writer].into_iter().enumerate() {
        let (sender, keep) = (sender.clone(), keep.clone());
        std::thread::spawn(move || {
            let mut writer = writer;
            let written = writer.write_all(random(direction)).and_then(|()| writer.flush());
            // The stream stays open until the other direction is done too.
            let _ = keep.send(writer);
            let _ = sender.send((
                format!("writer {direction}"),
                written.err().map(|error| error.to_string()),
            ));
        });
    }
    for (direction, mut reader) in [client_reader, target_reader].into_iter().enumerate() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let failure = compare(&mut reader, random(direction)).err();
            let _ = sender.send((format!("reader {direction}"), failure));
        });
    }
    let until = Instant::now() + LONGEST;
    for _ in 0..4 {
        let left = until.saturating_duration_since(Instant::now());
        let (who, failure) = results.recv_timeout(left).map_err(|_| {
            kill(pid, "KILL");
            format!("not all bytes arrived within {LONGEST:?}")
        })?;
        if let Some(failure) = failure {
            kill(pid, "KILL");
            return Err(format!("{who}: {failure}").into());
        }
    }
    kill(pid, "TERM");
    drop(kept);
    let status = wait_until("the bridge ends", || child.try_wait().expect("its status"));
    if status.code() != Some(0) {
        return Err(format!("the bridge ended with {status}").into());
    }
    Ok(())
}

pub fn compare(reader: &mut impl Read, expected: &[u8]) -> Result<(), String> {
    let mut buffer = vec![0; 256 << 10];
    let mut at = 0;
    while at < expected.len() {
        let count = reader
            .read(&mut buffer)
            .map_err(|error| format!("after {at} bytes: {error}"))?;
        if count == 0 {
            return Err(format!("ended after {at} bytes"));
        }
        if at + count > expected.len() || buffer[..count] != expected[at..at + count] {
            return Err(format!(
                "other bytes than were written, within {count} after {at}"
            ));
        }
        at += count;
    }
    Ok(())
}

fn every_byte_value() -> Result<(), Failed> {
    let sandbox = Sandbox::new();
    let listener = UnixListener::bind(sandbox.path("vm"))?;
    let _bridge = sandbox.bridge([
        sandbox.endpoint("connect:unix", "vm"),
        sandbox.endpoint("listen:unix", "a"),
        sandbox.endpoint("ro=listen:unix", "b"),
    ]);
    let (mut vm, _) = listener.accept()?;
    vm.set_read_timeout(Some(PATIENCE))?;
    let mut clients = ["a", "b"].map(|name| crate::kit::connect(&sandbox.path(name)));
    let all: Vec<u8> = (0..=255).collect();
    clients[0].write_all(&all)?;
    let mut seen = vec![0; 256];
    vm.read_exact(&mut seen)?;
    assert_eq!(seen, all);
    // The writer's bytes have gone through, so it is attached; the other came right after it.
    vm.write_all(&all)?;
    clients[0].read_exact(&mut seen)?;
    assert_eq!(seen, all);
    Ok(())
}
