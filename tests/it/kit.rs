//! What integration tests share: a sandbox of their own, programs that run in it, waits that have a deadline.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// No test waits longer for anything; a loaded machine gets there in a tenth of it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Whether the long ones are to be cut short: `cargo xtask test --fast`.
pub fn is_fast() -> bool {
    std::env::var("VMSERIAL_TEST_FAST").is_ok_and(|value| value == "1")
}

/// A home, a state folder and a runtime folder that nobody else has. Its path is short: sockets live in it.
pub struct Sandbox {
    folder: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Drop for Sandbox {
    /// A trial that failed half-way may have left a VM, which would run on in a folder that is gone.
    fn drop(&mut self) {
        let own = self.path("").display().to_string();
        for vm in std::fs::read_dir(self.path("state/run"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let pid = std::fs::read_to_string(vm.path().join("qemu.pid")).unwrap_or_default();
            let line = std::fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
            if line.contains(&own) {
                // It may have ended meanwhile.
                let _ = Command::new("kill")
                    .args(["-KILL", pid.trim()])
                    .stderr(Stdio::null())
                    .status();
            }
        }
    }
}

impl Sandbox {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("vs")
            .tempdir()
            .expect("a temporary folder");
        std::fs::create_dir(folder.path().join("run")).expect("a runtime folder");
        Self {
            folder,
            variables: Vec::new(),
        }
    }

    /// The same sandbox with a variable in the program's environment.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// A path in the sandbox.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `connect:unix:` or the like in front of a path in the sandbox.
    pub fn endpoint(&self, kind: &str, name: &str) -> String {
        format!("{kind}:{}", self.path(name).display())
    }

    /// Text with what differs between runs taken out.
    pub fn redact(&self, text: &str) -> String {
        let text = text.replace(&*self.folder.path().to_string_lossy(), "[SANDBOX]");
        // Our own name has a hash in it; the system's tables cut it to 15 characters.
        let own = std::env::current_exe().unwrap_or_default();
        let own = own.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = text.replace(own.get(..15).unwrap_or(&own), "[TEST]");
        let mut redacted = String::new();
        let mut rest = text.as_str();
        // Process identifiers.
        while let Some(at) = rest.find("pid ") {
            let (before, after) = rest.split_at(at + 4);
            redacted.push_str(before);
            let digits = after
                .find(|character: char| !character.is_ascii_digit())
                .unwrap_or(after.len());
            redacted.push_str(if digits > 0 { "[PID]" } else { "" });
            rest = &after[digits..];
        }
        redacted.push_str(rest);
        redacted
    }

    /// The program, hermetic, in the sandbox.
    pub fn vmserial<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(&self, arguments: I) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmserial"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", self.search_path())
            .env("HOME", self.folder.path())
            .env("VMSERIAL_STATE", self.path("state"))
            .env("VMSERIAL_HOST_FOLDER", self.path("host"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path());
        command
    }

    /// The stand-ins of this sandbox before everything else.
    fn search_path(&self) -> std::ffi::OsString {
        let system = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(self.path("bin")).chain(std::env::split_paths(&system));
        std::env::join_paths(folders).expect("no folder has the separator in its name")
    }

    /// Puts a stand-in of the test kit on the program's PATH, and returns the folder of its state.
    pub fn stand_in(&self, name: &str) -> PathBuf {
        let link = self.path("bin").join(name);
        std::fs::create_dir_all(self.path("bin")).expect("a folder for programs");
        let own = std::env::current_exe().expect("our own path");
        // Our own binary is every stand-in: see `main`.
        std::os::unix::fs::symlink(own, &link).expect("a link");
        let stem = Path::new(name)
            .file_stem()
            .and_then(OsStr::to_str)
            .expect("a name");
        let state = vmserial_testkit::state_folder(&link, stem);
        std::fs::create_dir_all(&state).expect("a folder for its state");
        state
    }

    /// Runs the program to its end, with nothing on standard input.
    pub fn run<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(&self, arguments: I) -> Ended {
        self.run_with(arguments, b"")
    }

    /// Runs the program to its end, with `input` on standard input.
    pub fn run_with<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(&self, arguments: I, input: &[u8]) -> Ended {
        finish(&mut self.vmserial(arguments), input)
    }
}

/// Runs a program to its end, with `input` on standard input.
pub fn finish(command: &mut Command, input: &[u8]) -> Ended {
    finish_within(command, input, PATIENCE)
}

/// The same where the end may take longer.
pub fn finish_within(command: &mut Command, input: &[u8], patience: Duration) -> Ended {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("piped");
    let pid = child.id();
    let (sender, receiver) = channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    // A program that ended already has closed its end.
    let _ = stdin.write_all(input);
    drop(stdin);
    match receiver.recv_timeout(patience) {
        Ok(output) => Ended::new(output.expect("its output")),
        Err(_) => {
            kill(pid, "KILL");
            panic!("the program did not end: {:?}", receiver.recv());
        }
    }
}

impl Sandbox {
    /// Starts the program and keeps it running.
    pub fn start<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(&self, arguments: I) -> Running {
        Running::start(&mut self.vmserial(arguments))
    }

    /// Starts a bridge and waits until it is ready.
    pub fn bridge<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(&self, arguments: I) -> Running {
        let mut all = vec![OsStr::new("bridge").to_owned()];
        all.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        let mut bridge = self.start(all);
        bridge.wait_line("ready");
        bridge
    }
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    fn new(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Everything that a user sees, for a snapshot.
    pub fn shown(&self, sandbox: &Sandbox) -> String {
        sandbox.redact(&format!(
            "exit code: {}\n--- standard output\n{}--- standard error\n{}",
            self.code
                .map_or_else(|| "none".to_owned(), |code| code.to_string()),
            self.stdout,
            self.stderr
        ))
    }
}

/// A program that runs. Killed when dropped.
pub struct Running {
    child: Child,
    pub stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    seen: Vec<String>,
    output: Receiver<Vec<u8>>,
    stdout: Vec<u8>,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdin = child.stdin.take();
        let (line_sender, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if line_sender.send(line).is_err() {
                    return;
                }
            }
        });
        let (output_sender, output) = channel();
        let mut stdout = child.stdout.take().expect("piped");
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                if output_sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            stdin,
            lines,
            seen: Vec::new(),
            output,
            stdout: Vec::new(),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line on standard error that contains `part`.
    pub fn wait_line(&mut self, part: &str) -> String {
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

    /// Waits until standard output contains `part`, and returns all of it so far.
    pub fn wait_output(&mut self, part: &[u8]) -> Vec<u8> {
        let until = Instant::now() + PATIENCE;
        loop {
            if contains(&self.stdout, part) {
                return self.stdout.clone();
            }
            match self
                .output
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(bytes) => self.stdout.extend(bytes),
                Err(error) => panic!(
                    "no `{}` on standard output ({error}); got `{}`, said {:#?}",
                    String::from_utf8_lossy(part),
                    String::from_utf8_lossy(&self.stdout),
                    self.lines.try_iter().collect::<Vec<_>>()
                ),
            }
        }
    }

    /// Returns what it printed on standard output so far.
    pub fn output_so_far(&mut self) -> &[u8] {
        self.stdout.extend(self.output.try_iter().flatten());
        &self.stdout
    }

    pub fn type_bytes(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        stdin.write_all(bytes).expect("it reads");
        stdin.flush().expect("it reads");
    }

    /// Sends a signal by name: `TERM`, `KILL`.
    pub fn signal(&self, name: &str) {
        kill(self.child.id(), name);
    }

    /// Waits for its end, and returns its exit code (128 + signal if one ended it).
    pub fn wait_end(&mut self) -> i32 {
        drop(self.stdin.take());
        self.wait_end_with_input_open()
    }

    /// Waits for its end while its standard input stays open.
    pub fn wait_end_with_input_open(&mut self) -> i32 {
        self.wait_end_within(PATIENCE)
    }

    /// The same, for as long as that.
    pub fn wait_end_within(&mut self, patience: Duration) -> i32 {
        let status = wait_until_within(patience, "the program ends", || {
            self.child.try_wait().expect("its status")
        });
        self.seen.extend(self.lines.iter());
        self.stdout.extend(self.output.iter().flatten());
        code(status)
    }

    /// Everything that it said on standard error so far.
    pub fn said(&mut self) -> String {
        self.seen.extend(self.lines.try_iter());
        self.seen.join("\n")
    }

    /// Everything on standard output, once it has ended.
    pub fn all_output(&self) -> &[u8] {
        &self.stdout
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.said();
            let _ = writeln!(std::io::stderr(), "It said:\n{said}");
        }
        // Ended already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Sends a signal to one process that a test started.
pub fn kill(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .status();
    assert!(status.expect("kill is there").success(), "kill -{name} {pid}");
}

/// Looks until there is a value. Only for what cannot wake a test: processes and files.
pub fn wait_until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_until_within(PATIENCE, what, look)
}

/// The same for what may take longer.
pub fn wait_until_within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + patience;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < until, "gave up waiting until {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Connects to a Unix socket that may not be there yet. Reads give up after [`PATIENCE`].
pub fn connect(path: &Path) -> UnixStream {
    let stream = wait_until(&format!("{} answers", path.display()), || {
        UnixStream::connect(path).ok()
    });
    stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    stream
}

/// Connects to a bridge's client socket, and waits until it is attached: what it types reaches the VM's end.
pub fn attach(path: &Path, vm: &mut UnixStream) -> UnixStream {
    let mut client = connect(path);
    client.write_all(b"<attached>").expect("the bridge reads");
    read_until(vm, b"<attached>");
    client
}

/// Reads until `part` has come, and returns everything that was read.
pub fn read_until(stream: &mut impl Read, part: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while !contains(&all, part) {
        match stream.read(&mut buffer) {
            Ok(0) => panic!("the stream ended; got `{}`", String::from_utf8_lossy(&all)),
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(error) => panic!("{error}; got `{}`", String::from_utf8_lossy(&all)),
        }
    }
    all
}

/// Tells whether a process has ended. An orphan that ended is the system's to reap, which may take its time.
pub fn has_ended(pid: impl std::fmt::Display) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

pub fn contains(all: &[u8], part: &[u8]) -> bool {
    part.is_empty() || all.windows(part.len()).any(|window| window == part)
}
