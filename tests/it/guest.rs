//! The real guest: QEMU with the small KGDB kernel that `cargo xtask guest` builds, and taps on its two ports.
//!
//! A tap holds the port's only connection, lets any number of clients through a socket of its own, and keeps what went
//! either way: so a test reads the console while a break-in types on it, and knows each byte that reached the guest.

use crate::kit::{PATIENCE, Running, Sandbox, connect, contains, is_fast, read_until, wait_until};
use libtest_mimic::{Completion, Trial};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Makes a trial that needs the guest, and says why it cannot run where it cannot.
pub fn trial(name: &str, test: fn()) -> Trial {
    let name = format!("e2e::{name}");
    Trial::ignorable_test(name, move || match missing() {
        None => {
            test();
            Ok(Completion::Completed)
        }
        Some(reason) => Ok(Completion::ignored_with(reason)),
    })
}

/// Why nothing can be done with the guest.
pub fn missing() -> Option<String> {
    if is_fast() {
        return Some("QEMU is left out (VMSERIAL_TEST_FAST=1)".into());
    }
    for program in ["qemu-system-x86_64", "gdb"] {
        let found = Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if found.is_err() {
            return Some(format!("`{program}` is not installed"));
        }
    }
    folder()
        .is_none()
        .then(|| "the guest is not built (`cargo xtask guest`)".into())
}

/// The guest's folder: where `cargo xtask` linked it, or the newest one in the cache.
pub fn folder() -> Option<PathBuf> {
    let complete = |folder: &PathBuf| folder.join("complete").exists();
    let linked = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/guest");
    if complete(&linked) {
        return Some(linked);
    }
    let of = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = of("VMSERIAL_CACHE")
        .or_else(|| of("XDG_CACHE_HOME").map(|cache| cache.join("vmserial")))
        .or_else(|| of("HOME").map(|home| home.join(".cache/vmserial")))?;
    let built = std::fs::read_dir(cache.join("guest"))
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        // The kernels of the Debian guest are there too; they start from a disk.
        .filter(|folder| folder.join("initrd.gz").exists());
    built.filter(complete).max_by_key(|folder| {
        std::fs::metadata(folder.join("complete"))
            .and_then(|file| file.modified())
            .ok()
    })
}

/// What went over a port.
#[derive(Default)]
struct Log {
    to_guest: Vec<u8>,
    from_guest: Vec<u8>,
}

/// A port of the guest that is always read.
pub struct Tap {
    log: Arc<(Mutex<Log>, Condvar)>,
    port: UnixStream,
    path: PathBuf,
}

impl Tap {
    /// Taps a port; clients come to `path`.
    pub fn new(port: &Path, path: PathBuf) -> Self {
        let port = connect(port);
        port.set_read_timeout(None).expect("no deadline");
        let listener = UnixListener::bind(&path).expect("a socket for the tap");
        let log: Arc<(Mutex<Log>, Condvar)> = Arc::default();
        let clients: Arc<Mutex<Vec<UnixStream>>> = Arc::default();
        let (reader, all, kept) = (
            port.try_clone().expect("a second handle"),
            clients.clone(),
            log.clone(),
        );
        std::thread::spawn(move || Self::read(reader, &all, &kept));
        let (writer, kept) = (port.try_clone().expect("a second handle"), log.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                clients
                    .lock()
                    .unwrap()
                    .push(client.try_clone().expect("a second handle"));
                let (writer, kept) = (writer.try_clone().expect("a second handle"), kept.clone());
                std::thread::spawn(move || Self::pass(client, writer, &kept));
            }
        });
        Self { log, port, path }
    }

    fn read(mut port: UnixStream, clients: &Mutex<Vec<UnixStream>>, log: &(Mutex<Log>, Condvar)) {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = port.read(&mut buffer) {
            log.0
                .lock()
                .unwrap()
                .from_guest
                .extend_from_slice(&buffer[..count]);
            log.1.notify_all();
            clients
                .lock()
                .unwrap()
                .retain_mut(|client| client.write_all(&buffer[..count]).is_ok());
        }
        for client in clients.lock().unwrap().drain(..) {
            // It may have left.
            let _ = client.shutdown(std::net::Shutdown::Both);
        }
    }

    fn pass(mut client: UnixStream, mut port: UnixStream, log: &(Mutex<Log>, Condvar)) {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = client.read(&mut buffer) {
            log.0.lock().unwrap().to_guest.extend_from_slice(&buffer[..count]);
            log.1.notify_all();
            if port.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    }

    /// The tap's endpoint for vmserial.
    pub fn endpoint(&self) -> String {
        format!("connect:unix:{}", self.path.display())
    }

    /// How much went either way: (to the guest, from the guest).
    pub fn mark(&self) -> (usize, usize) {
        let log = self.log.0.lock().unwrap();
        (log.to_guest.len(), log.from_guest.len())
    }

    /// What reached the guest since a mark.
    pub fn guest_was_sent(&self, mark: (usize, usize)) -> String {
        String::from_utf8_lossy(&self.log.0.lock().unwrap().to_guest[mark.0..]).into_owned()
    }

    /// What the guest sent since a mark.
    pub fn guest_sent(&self, mark: (usize, usize)) -> String {
        String::from_utf8_lossy(&self.log.0.lock().unwrap().from_guest[mark.1..]).into_owned()
    }

    /// Waits until the guest was sent `part` after the mark.
    pub fn wait_to_guest(&self, mark: (usize, usize), part: &str) {
        self.wait(part, PATIENCE, |log| &log.to_guest[mark.0..]);
    }

    /// Waits until the guest sent `part` after the mark, and returns all that it sent.
    pub fn wait_from_guest(&self, mark: (usize, usize), part: &str) -> String {
        self.wait_from_guest_within(mark, part, PATIENCE)
    }

    /// The same where it may take longer.
    pub fn wait_from_guest_within(&self, mark: (usize, usize), part: &str, patience: Duration) -> String {
        self.wait(part, patience, |log| &log.from_guest[mark.1..]);
        self.guest_sent(mark)
    }

    /// Waits until gdb has acknowledged what it got last.
    pub fn wait_acknowledged(&self) {
        wait_until("gdb has acknowledged the last reply", || {
            self.log.0.lock().unwrap().to_guest.ends_with(b"+").then_some(())
        });
    }

    fn wait(&self, part: &str, patience: Duration, of: impl Fn(&Log) -> &[u8]) {
        let until = Instant::now() + patience;
        let mut log = self.log.0.lock().unwrap();
        while !contains(of(&log), part.as_bytes()) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "no `{part}`; got `{}`",
                String::from_utf8_lossy(of(&log))
            );
            log = self.log.1.wait_timeout(log, left).unwrap().0;
        }
    }

    /// Types on the port.
    pub fn type_text(&self, text: &str) {
        (&self.port)
            .write_all(text.as_bytes())
            .expect("the guest's port takes it");
    }
}

/// A guest that runs; ended when dropped.
pub struct Guest {
    qemu: Child,
    folder: PathBuf,
    pub qmp: PathBuf,
    commands: std::cell::Cell<u32>,
    /// ttyS0, with a shell.
    pub console: Tap,
    /// ttyS1, kgdb's own.
    pub kgdb: Tap,
}

impl Guest {
    /// Starts the guest and waits for its shell.
    pub fn start(sandbox: &Sandbox) -> Self {
        let guest = Self::start_with(
            sandbox,
            "console=ttyS0,115200 kgdboc=ttyS1,115200 tsc=reliable panic=1",
        );
        guest.wait_boot((0, 0));
        guest
    }

    /// Starts a guest whose kgdb shares ttyS0 with the shell, and waits for the shell.
    pub fn shared(sandbox: &Sandbox) -> Self {
        Self::shell_on_tty_s0(sandbox, "kgdboc=ttyS0,115200 ")
    }

    /// Starts a guest without kgdb on any port, and waits for its shell.
    pub fn without_kgdb(sandbox: &Sandbox) -> Self {
        Self::shell_on_tty_s0(sandbox, "")
    }

    fn shell_on_tty_s0(sandbox: &Sandbox, kgdboc: &str) -> Self {
        // A starved host lets the check of the timer fail, and the kernel panics.
        let append = format!("console=ttyS0,115200 {kgdboc}tsc=reliable no_timer_check panic=1");
        let guest = Self::start_with(sandbox, &append);
        guest.wait_boot((0, 0));
        guest
    }

    fn start_with(sandbox: &Sandbox, append: &str) -> Self {
        let folder = folder().expect("`trial` has looked for it");
        let mut command = Command::new("qemu-system-x86_64");
        command.args([
            "-accel",
            "tcg",
            "-machine",
            "pc",
            "-m",
            "64",
            "-nodefaults",
            "-display",
            "none",
        ]);
        command.arg("-kernel").arg(folder.join("bzImage"));
        command.arg("-initrd").arg(folder.join("initrd.gz"));
        command.args(["-append", append]);
        for name in ["ser0", "ser1"] {
            let socket = sandbox.path(name);
            command.arg("-chardev");
            command.arg(format!(
                "socket,id={name},path={},server=on,wait=off",
                socket.display()
            ));
            command.arg("-serial").arg(format!("chardev:{name}"));
        }
        let qmp = sandbox.path("qmp");
        command
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", qmp.display()));
        let qemu = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("QEMU starts");
        Self {
            qemu,
            console: Tap::new(&sandbox.path("ser0"), sandbox.path("console")),
            kgdb: Tap::new(&sandbox.path("ser1"), sandbox.path("kgdb")),
            folder,
            qmp,
            commands: std::cell::Cell::new(0),
        }
    }

    /// Waits until the guest that boots after the mark has a shell.
    pub fn wait_boot(&self, mark: (usize, usize)) {
        self.console.wait_from_guest(mark, "guest: ready");
        self.console.wait_from_guest(mark, "kgdbtest# ");
    }

    /// Runs a command in the guest's shell and returns what the console showed.
    pub fn shell(&self, command: &str) -> String {
        let number = 1000 + self.commands.get();
        self.commands.set(self.commands.get() + 1);
        let mark = self.console.mark();
        // The echo of the line does not hold the sum.
        self.console
            .type_text(&format!("{command}; echo end-$(({number}+0))\r"));
        self.console.wait_from_guest(mark, &format!("end-{number}"))
    }

    /// Lets the guest's shell start a process that calls getpid, and does not wait for it.
    pub fn call_getpid(&self) {
        self.console.type_text("sh -c 'echo pid $$'\r");
    }

    /// Fails unless the guest lives, runs through getpid, and nothing has crashed since it was started.
    pub fn assert_well(&self) {
        let shown = self.shell("sh -c 'echo pid $$'");
        assert!(shown.contains("pid "), "{shown}");
        let all = self.console.guest_sent((0, 0));
        for sign in [
            "Oops",
            "BUG:",
            "Kernel panic",
            "exited with irqs disabled",
            "BP remove failed",
        ] {
            assert!(!all.contains(sign), "`{sign}` on the console: {all}");
        }
    }

    /// Presses the reset button.
    pub fn reset(&self) {
        qmp_command(&self.qmp, "system_reset");
    }

    /// The arguments of a bridge on kgdb's port, with the break-in through the console's.
    pub fn bridge_arguments(&self, sandbox: &Sandbox) -> Vec<String> {
        vec![
            self.kgdb.endpoint(),
            format!("gdb={}", sandbox.endpoint("listen:unix", "gdb")),
            self.break_with(),
            format!("--break-port={}", self.console.endpoint()),
            "--json".into(),
        ]
    }

    /// Starts a bridge on the console's port, with gdb and consoles on it.
    pub fn shared_bridge(&self, sandbox: &Sandbox) -> Running {
        sandbox.bridge([
            self.console.endpoint(),
            format!("gdb={}", sandbox.endpoint("listen:unix", "gdb")),
            format!("console={}", sandbox.endpoint("listen:unix", "shell")),
            self.break_with(),
            "--json".into(),
        ])
    }

    /// The way in which a bridge sends BREAK to the console's port.
    pub fn break_with(&self) -> String {
        format!("--break-with=qmp:{}", self.qmp.display())
    }

    /// Starts such a bridge.
    pub fn bridge(&self, sandbox: &Sandbox) -> Running {
        sandbox.bridge(self.bridge_arguments(sandbox))
    }

    /// Starts a gdb with the kernel's symbols.
    pub fn gdb(&self) -> Gdb {
        Gdb::with_symbols(&self.folder.join("vmlinux"))
    }
}

/// Has QEMU do something, over a connection that is closed at once.
pub fn qmp_command(socket: &Path, command: &str) {
    qmp_ask(socket, &format!("{{\"execute\":\"{command}\"}}"));
}

/// The same with a whole request, and returns the answer's line.
pub fn qmp_ask(socket: &Path, request: &str) -> String {
    let mut stream = connect(socket);
    read_until(&mut stream, b"\r\n");
    let mut answer = Vec::new();
    for request in ["{\"execute\":\"qmp_capabilities\"}", request] {
        stream.write_all(format!("{request}\n").as_bytes()).unwrap();
        answer = read_until(&mut stream, b"\"return\"");
        if !answer.ends_with(b"\n") {
            answer.extend(read_until(&mut stream, b"\n"));
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Ended already is fine.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// A gdb that is typed to.
pub struct Gdb {
    pub program: Running,
    marks: u32,
}

impl Gdb {
    /// Starts a gdb with the symbols of a kernel.
    pub fn with_symbols(kernel: &Path) -> Self {
        let mut command = Command::new("gdb");
        command.args(["-nx", "-q"]).arg(kernel);
        for setting in ["pagination off", "confirm off", "remotetimeout 5", "width 0"] {
            command.args(["-ex", &format!("set {setting}")]);
        }
        Self::of(Running::start(&mut command))
    }

    /// Takes a program at whose prompt gdb sits.
    pub fn of(program: Running) -> Self {
        Self { program, marks: 0 }
    }

    /// Types a line and does not wait.
    pub fn type_line(&mut self, line: &str) {
        self.program.type_bytes(format!("{line}\n").as_bytes());
    }

    /// Types a command, waits until gdb has done it (and all before it), and returns what gdb has said since the last
    /// time on standard output.
    pub fn command(&mut self, line: &str) -> String {
        self.type_line(line);
        self.done()
    }

    /// Waits until gdb has done everything that was typed.
    pub fn done(&mut self) -> String {
        self.marks += 1;
        let mark = format!("<mark {}>", self.marks);
        self.type_line(&format!("echo {mark}\\n"));
        let all = self.program.wait_output(mark.as_bytes());
        let all = String::from_utf8_lossy(&all).into_owned();
        let before = format!("<mark {}>", self.marks - 1);
        let from = all.find(&before).map_or(0, |at| at + before.len());
        let end = all.find(&mark).expect("it was waited for");
        all[from..end].to_owned()
    }

    /// Attaches through a bridge's socket.
    pub fn attach(&mut self, sandbox: &Sandbox) -> String {
        let socket = sandbox.path("gdb");
        wait_until("the bridge listens", || socket.exists().then_some(()));
        self.command(&format!("target remote {}", socket.display()))
    }
}
