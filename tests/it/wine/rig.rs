//! How one talks to the Windows program, wherever it runs.

use super::place::{PREFIX, command, missing, testkit};
use crate::kit::{PATIENCE, Sandbox};
use libtest_mimic::{Completion, Trial};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Instant;

/// Makes a trial that needs the Windows program, and says why it cannot run where it cannot.
pub fn trial(name: &str, test: fn()) -> Trial {
    Trial::ignorable_test(format!("{PREFIX}_{name}"), move || match missing() {
        None => {
            wake();
            test();
            Ok(Completion::Completed)
        }
        Some(reason) => Ok(Completion::ignored_with(reason)),
    })
}

/// Runs a Windows program to its end before the first trial: programs that start while Wine itself is starting may fail.
pub fn wake() {
    static AWAKE: Once = Once::new();
    AWAKE.call_once(|| {
        let sandbox = Sandbox::new();
        let (code, said) = Program::vmserial(&sandbox, &["--version"]).end();
        assert_eq!(code, Some(0), "{said}");
    });
}

/// A name of a pipe that no other trial has: all of them run in one Wine.
pub fn pipe_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!(
        "vmserial-test-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// A Windows program that runs. What it says on standard output and on standard error comes as one stream of lines.
pub struct Program {
    child: Child,
    pub stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    seen: Vec<String>,
}

fn forward(stream: impl Read + Send + 'static, lines: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if lines.send(line.trim_end().to_owned()).is_err() {
                return;
            }
        }
    });
}

impl Program {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        forward(child.stdout.take().unwrap(), sender.clone());
        forward(child.stderr.take().unwrap(), sender);
        Self {
            stdin: child.stdin.take(),
            child,
            lines,
            seen: Vec::new(),
        }
    }

    pub fn vmserial(sandbox: &Sandbox, arguments: &[&str]) -> Self {
        Self::start(&mut command(sandbox, "vmserial.exe", arguments))
    }

    /// Runs vmserial to its end by itself: its exit code and what it said.
    pub fn ended(sandbox: &Sandbox, arguments: &[&str]) -> (Option<i32>, String) {
        for _ in 0..3 {
            let (code, said) = Self::vmserial(sandbox, arguments).end();
            // vmserial never ends with 1: that is Wine, which could not start it, and says nothing.
            if code != Some(1) || !said.is_empty() {
                return (code, said);
            }
        }
        panic!("Wine starts no program")
    }

    pub fn testkit(sandbox: &Sandbox, arguments: &[&str]) -> Self {
        Self::start(&mut command(sandbox, "testkit.exe", arguments))
    }

    /// A bridge that is ready; it tells events as JSON.
    pub fn bridge(sandbox: &Sandbox, arguments: &[&str]) -> Self {
        let mut all = vec!["bridge", "--json"];
        all.extend(arguments);
        let mut bridge = Self::vmserial(sandbox, &all);
        bridge.wait(r#""event":"ready""#);
        bridge
    }

    /// Waits for a line that contains `part`, from where the last wait ended.
    pub fn wait(&mut self, part: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            match self
                .lines
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no line with `{part}`; seen: {:#?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("it ended without a line with `{part}`; seen: {:#?}", self.seen)
                }
            }
        }
    }

    /// Waits until the target is in this state for this reason.
    pub fn wait_target(&mut self, state: &str, reason: &str) {
        self.wait(&format!(
            r#""event":"target","state":"{state}","reason":"{reason}"#
        ));
    }

    /// The TCP port that a bridge's first client is served on; to be asked for before `ready` was waited for.
    pub fn listening(line: &str) -> u16 {
        let (_, rest) = line.split_once("127.0.0.1:").expect(line);
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect(line)
    }

    /// Tells the program a line.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Tells the program a line, and waits until it says so.
    pub fn order(&mut self, line: &str) {
        self.tell(line);
        self.wait(line);
    }

    /// Closes its standard input, waits for its end, and returns its exit code and all that it said.
    pub fn end(&mut self) -> (Option<i32>, String) {
        drop(self.stdin.take());
        let code = crate::kit::wait_until(&format!("the program with pid {} ends", self.pid()), || {
            self.child.try_wait().unwrap().map(|status| status.code())
        });
        self.seen.extend(self.lines.iter());
        (code, self.seen.join("\n"))
    }

    /// Returns this machine's identifier of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn said(&mut self) -> String {
        self.seen.extend(self.lines.try_iter());
        self.seen.join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Ended already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A bridge with a client on a free TCP port of this machine.
pub fn bridge_to_tcp(sandbox: &Sandbox, target: &str) -> (Program, u16) {
    let arguments = ["bridge", "--json", target, "listen:tcp:127.0.0.1:0"];
    let mut bridge = Program::vmserial(sandbox, &arguments);
    let line = bridge.wait("127.0.0.1:");
    (bridge, Program::listening(&line))
}

pub fn with_deadlines(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub fn connect(port: u16) -> TcpStream {
    with_deadlines(TcpStream::connect(("127.0.0.1", port)).unwrap())
}

/// Starts a program of the test kit that joins a pipe to TCP, and returns its TCP end.
pub fn wired(sandbox: &Sandbox, name: &str, pipe: &str) -> (Program, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let mut program = Program::testkit(sandbox, &[name, pipe, &port]);
    listener.set_nonblocking(true).unwrap();
    let until = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                return (program, with_deadlines(stream));
            }
            Err(_) => {
                assert!(Instant::now() < until, "nobody came: {}", program.said());
                std::thread::park_timeout(std::time::Duration::from_millis(5));
            }
        }
    }
}

/// Sends `count` random bytes each way at the same time, and sees to it that the same ones arrive.
pub fn both_ways(one: &TcpStream, other: &TcpStream, count: usize) {
    let bytes = crate::bytes::random(2 * count);
    let (there, back) = bytes.split_at(count);
    std::thread::scope(|scope| {
        for (mut from, mut to, bytes) in [(one, other, there), (other, one, back)] {
            scope.spawn(move || from.write_all(bytes).unwrap());
            scope.spawn(move || {
                let mut got = vec![0; bytes.len()];
                to.read_exact(&mut got).unwrap();
                let first = got.iter().zip(bytes).position(|(got, sent)| got != sent);
                assert_eq!(first, None, "the first byte that differs");
            });
        }
    });
}

/// Puts the stand-in of PowerShell, a Windows program, into a folder; returns the folder of its state.
pub fn put_powershell(folder: &Path) -> PathBuf {
    let program = folder.join("powershell.exe");
    let state = vmserial_testkit::state_folder(&program, "powershell");
    fs::create_dir_all(&state).unwrap();
    let (testkit, beside) = testkit();
    fs::copy(testkit, program).unwrap();
    for file in beside {
        fs::copy(&file, folder.join(file.file_name().unwrap())).unwrap();
    }
    state
}
