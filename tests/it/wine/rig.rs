//! The Windows program under Wine: where it is, how it is started, how one talks to it.

use crate::kit::{PATIENCE, Sandbox};
use libtest_mimic::{Completion, Trial};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Instant;

/// Makes a trial that needs Wine and the Windows program, and says why it cannot run where it cannot.
pub fn trial(name: &str, test: fn()) -> Trial {
    Trial::ignorable_test(format!("wine_{name}"), move || match missing() {
        None => {
            wake();
            test();
            Ok(Completion::Completed)
        }
        Some(reason) => Ok(Completion::ignored_with(reason)),
    })
}

/// Runs a Windows program to its end before the first trial: programs that start while Wine itself is starting may fail.
fn wake() {
    static AWAKE: Once = Once::new();
    AWAKE.call_once(|| {
        let sandbox = Sandbox::new();
        let (code, said) = Program::vmserial(&sandbox, &["--version"]).end();
        assert_eq!(code, Some(0), "{said}");
    });
}

/// Why the Windows program cannot be run.
fn missing() -> Option<String> {
    if std::env::var("VMSERIAL_TEST_FAST").is_ok_and(|value| value == "1") {
        return Some("Wine is left out (VMSERIAL_TEST_FAST=1)".into());
    }
    if wine().is_none() {
        return Some("Wine is not installed".into());
    }
    if prefix().is_none() {
        return Some("VMSERIAL_TEST_WINE_PREFIX is not set (`cargo xtask windows` says it)".into());
    }
    ["vmserial.exe", "testkit.exe", "bcryptprimitives.dll"]
        .into_iter()
        .find(|name| !folder().join(name).exists())
        .map(|name| format!("`{name}` is not built (`cargo xtask windows`)"))
}

fn prefix() -> Option<PathBuf> {
    std::env::var_os("VMSERIAL_TEST_WINE_PREFIX").map(PathBuf::from)
}

/// Debian's package `wine64` alone puts nothing on PATH.
fn wine() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .flat_map(|folder| [folder.join("wine64"), folder.join("wine")])
        .chain([PathBuf::from("/usr/lib/wine/wine64")])
        .find(|program| program.is_file())
}

/// Where `cargo build --target x86_64-pc-windows-gnu` puts the programs.
fn folder() -> PathBuf {
    let own = Path::new(env!("CARGO_BIN_EXE_vmserial"));
    let target = own.ancestors().nth(2).unwrap();
    target.join("x86_64-pc-windows-gnu/debug")
}

/// The path of a file of this machine as Windows programs see it.
pub fn windows_path(path: &Path) -> String {
    format!("Z:{}", path.display().to_string().replace('/', "\\"))
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

/// A Windows program of ours with its arguments, hermetic, in the sandbox.
pub fn command(sandbox: &Sandbox, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(wine().unwrap());
    command
        .arg(folder().join(program))
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", sandbox.path(""))
        .env("WINEPREFIX", prefix().unwrap())
        .env("WINEDEBUG", "-all")
        .env("WINEDLLOVERRIDES", "mscoree,mshtml=")
        .env("VMSERIAL_STATE", windows_path(&sandbox.path("state")))
        .current_dir(sandbox.path(""));
    command
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
        let code = crate::kit::wait_until("the Windows program ends", || {
            self.child.try_wait().unwrap().map(|status| status.code())
        });
        self.seen.extend(self.lines.iter());
        (code, self.seen.join("\n"))
    }

    /// Sends a signal of this machine by name.
    pub fn signal(&self, name: &str) {
        crate::kit::kill(self.child.id(), name);
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
    let bytes = crate::bridge_rig::random(2 * count);
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

/// A Windows program on a terminal: its console, which Wine has only there.
pub struct OnTerminal {
    child: Child,
    pub keys: File,
    screen: Receiver<Vec<u8>>,
    shown: Vec<u8>,
}

impl OnTerminal {
    pub fn start(mut command: Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let open = || File::options().read(true).write(true).open(&name).unwrap();
        // Wine's console leaves it to the terminal to make signals and to swallow keys.
        let terminal = open();
        let mut raw = tcgetattr(&terminal).unwrap();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw).unwrap();
        let child = command
            .env("TERM", "xterm")
            .stdin(open())
            .stdout(open())
            .stderr(open())
            .spawn()
            .unwrap();
        let mut terminal = File::from(master);
        let keys = terminal.try_clone().unwrap();
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The terminal's end is an error.
            while let Ok(count @ 1..) = terminal.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            keys,
            screen,
            shown: Vec::new(),
        }
    }

    /// Waits until the screen has shown `part`, and returns what follows up to the end of that line. The console draws:
    /// between the characters of a line there is nothing, between lines anything.
    pub fn wait(&mut self, part: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let text = String::from_utf8_lossy(&self.shown).into_owned();
            if let Some(at) = text.find(part) {
                let rest = &text[at + part.len()..];
                if let Some(end) = rest.find(['\r', '\n', '\x1b']) {
                    return rest[..end].trim().to_owned();
                }
            }
            match self
                .screen
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(bytes) => self.shown.extend(bytes),
                Err(error) => panic!(
                    "no `{part}` ({error}): {:?}",
                    String::from_utf8_lossy(&self.shown)
                ),
            }
        }
    }

    /// Waits for its end and returns its exit code.
    pub fn end(&mut self) -> Option<i32> {
        crate::kit::wait_until("the Windows program ends", || {
            self.child.try_wait().unwrap().map(|status| status.code())
        })
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        // Ended already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
