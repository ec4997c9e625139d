//! A profile with the real guest, sessions on it, and what must be left of them: nothing.

use crate::guest::{Gdb, folder};
use crate::kit::{Ended, Running, Sandbox, connect, kill, read_until, wait_until};
use std::io::Write;
use std::process::Command;

/// A profile with the guest, and what runs on it.
pub struct Lab {
    pub sandbox: Sandbox,
}

/// How the profile's one target differs from the plain one.
#[derive(Default)]
pub struct Change<'a> {
    pub kgdboc: Option<&'a str>,
    pub program: Option<&'a str>,
    pub one_port: bool,
    /// kgdb shares the console's port, which is the only one.
    pub shared: bool,
    pub keep: bool,
    /// More keys of the first port.
    pub port: &'a str,
    pub more: &'a str,
}

impl Lab {
    pub fn new() -> Self {
        Self::with(&Change::default())
    }

    pub fn with(change: &Change<'_>) -> Self {
        let sandbox = Sandbox::new();
        let guest = folder().expect("`trial` has looked for it");
        let program = change
            .program
            .map(|program| format!(", program: {program}"))
            .unwrap_or_default();
        let profile = format!(
            "version: 1
targets:
  demo:
    host: qemu
    vm:
      name: demo
      start: true
      keep: {keep}
      kernel: {guest}/bzImage
      initrd: {guest}/initrd.gz
      append: \"console=ttyS0,115200 {kgdboc} tsc=reliable panic=1\"
      memory: 64MiB
    ports: [{{port: 1, as: {policy}{port}}}{second}]
    debugger: {{kind: gdb, vmlinux: {guest}/vmlinux, break_in: [qmp, sysrq]{program}}}
{more}",
            guest = guest.display(),
            kgdboc = change.kgdboc.unwrap_or(if change.shared {
                "kgdboc=ttyS0,115200"
            } else {
                "kgdboc=ttyS1,115200"
            }),
            policy = if change.shared { "console+gdb" } else { "console" },
            keep = change.keep,
            port = change.port,
            second = if change.one_port || change.shared {
                ""
            } else {
                ", {port: 2, as: gdb}"
            },
            more = change.more,
        );
        std::fs::write(sandbox.path("vmserial.yaml"), profile).expect("the profile");
        Self { sandbox }
    }

    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.sandbox.run(arguments)
    }

    /// Starts the VM, which then outlives sessions, and waits for its shell.
    pub fn up(&self) -> Vm<'_> {
        let ended = self.run(&["up", "--yes"]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let vm = Vm(self);
        vm.wait_shell();
        vm
    }

    /// Writes a gdb script.
    pub fn script(&self, text: &str) -> String {
        let path = self.sandbox.path("script.gdb");
        std::fs::write(&path, text).expect("the script");
        path.display().to_string()
    }

    /// Starts a session at whose gdb we are.
    pub fn debug(&self) -> Session {
        let mut command = self.sandbox.vmserial(["debug", "demo", "--yes"]);
        let mut running = Running::start(&mut command);
        running.wait_line("Starting `gdb");
        let pid = running.pid();
        let mut gdb = Gdb::of(running);
        for setting in ["pagination off", "confirm off", "width 0"] {
            gdb.command(&format!("set {setting}"));
        }
        let debugger = children(pid).pop().expect("gdb runs under vmserial");
        Session { gdb, debugger }
    }

    /// Fails unless the kernel under a session answers on its console. `echo` is the shell's own: no getpid.
    pub fn assert_kernel_runs(&self) {
        let mut console = self.sandbox.start(["console", "demo", "--replay", "0B"]);
        console.type_bytes(b"echo runs-$((40+2))\r");
        console.wait_output(b"runs-42");
        console.wait_end();
    }

    /// Fails unless nothing of a VM is left in the state folder.
    pub fn assert_nothing_left(&self) {
        let run = self.sandbox.path("state/run/demo");
        wait_until("QEMU has taken its files away", || {
            let names: Vec<String> = std::fs::read_dir(&run)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .filter(|name| name != "qemu.log")
                .collect();
            names.is_empty().then_some(())
        });
        let named = of_sandbox(&self.sandbox);
        assert!(named.is_empty(), "still running: {named:?}");
        let sockets: Vec<_> = std::fs::read_dir(self.sandbox.path("run"))
            .expect("the runtime folder")
            .flatten()
            .flat_map(|entry| std::fs::read_dir(entry.path()).into_iter().flatten().flatten())
            .map(|entry| entry.path())
            .collect();
        assert!(sockets.is_empty(), "{sockets:?}");
    }
}

/// The VM after `up`; taken down at the end.
pub struct Vm<'a>(pub &'a Lab);

impl Vm<'_> {
    pub fn socket(&self, name: &str) -> std::path::PathBuf {
        self.0.sandbox.path("state/run/demo").join(name)
    }

    /// Waits until the guest's shell is there, with nobody else on the console.
    pub fn wait_shell(&self) {
        let mut console = connect(&self.socket("ser0.sock"));
        console.write_all(b"\r").expect("the console takes it");
        read_until(&mut console, b"kgdbtest# ");
    }

    /// Types a command at the guest's shell, with nobody else there, and returns what it printed.
    pub fn shell(&self, command: &str) -> String {
        let mut console = connect(&self.socket("ser0.sock"));
        // The echo of the line does not hold the sum.
        console
            .write_all(format!("\r{command}; echo end-$((40+2))\r").as_bytes())
            .expect("the console takes it");
        String::from_utf8_lossy(&read_until(&mut console, b"end-42")).into_owned()
    }

    /// Fails unless the kernel runs, goes through getpid without stopping, and nothing crashed.
    pub fn assert_well(&self) {
        let shown = self.shell("sh -c 'echo pid-$$-'; dmesg");
        assert!(shown.contains("pid-"), "{shown}");
        for sign in [
            "Oops",
            "BUG:",
            "Kernel panic",
            "exited with irqs disabled",
            "BP remove failed",
        ] {
            assert!(!shown.contains(sign), "`{sign}`: {shown}");
        }
    }
}

impl Drop for Vm<'_> {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.socket("qemu.pid"));
        if let Some(pid) = pid.ok().and_then(|text| text.trim().parse().ok()) {
            kill(pid, "KILL");
        }
    }
}

pub struct Session {
    pub gdb: Gdb,
    pub debugger: u32,
}

impl Session {
    /// Lets the kernel run into a breakpoint in getpid, and waits until it runs.
    pub fn continue_to_getpid(&mut self, lab: &Lab) {
        self.gdb.command("break __x64_sys_getpid");
        self.gdb.type_line("continue");
        lab.assert_kernel_runs();
        assert!(planted(lab), "the breakpoint is written down");
    }

    pub fn end(&mut self) -> i32 {
        self.gdb.program.wait_end()
    }
}

pub fn planted(lab: &Lab) -> bool {
    std::fs::read_dir(lab.sandbox.path("state/planted")).is_ok_and(|folder| folder.count() > 0)
}

/// Processes whose parent is this one.
pub fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut all: Vec<u32> = text
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    // gdb and QEMU are started by other threads than the first.
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        all.extend(
            text.split_whitespace()
                .filter_map(|word| word.parse::<u32>().ok()),
        );
    }
    all.retain(|pid| command_line(*pid).is_some_and(|line| line.starts_with("gdb") || line.contains("/gdb")));
    all.dedup();
    all
}

pub fn command_line(pid: u32) -> Option<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
}

/// Command lines of processes that name a path in the sandbox.
pub fn of_sandbox(sandbox: &Sandbox) -> Vec<String> {
    let root = sandbox.path("").display().to_string();
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(command_line)
        .filter(|line| line.contains(&root))
        .collect()
}

impl Lab {
    /// Starts a session on a terminal of its own (`script` makes one): what is typed there comes as a user's keys do, and
    /// everything that is shown there is its standard output.
    pub fn debug_on_a_terminal(&self) -> Running {
        let session = self.sandbox.vmserial(["debug", "demo", "--yes"]);
        let line = format!(
            "stty -echo; exec '{}' debug demo --yes",
            session.get_program().display()
        );
        let mut command = Command::new("script");
        command.args(["-qefc", &line, "/dev/null"]).env_clear();
        for (name, value) in session.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command.env("TERM", "dumb").current_dir(self.sandbox.path(""));
        Running::start(&mut command)
    }
}

/// Kills vmserial and its gdb as a machine that crashes would: neither says a word.
pub fn crash(mut session: Session) {
    session.gdb.program.signal("KILL");
    kill(session.debugger, "KILL");
    session.end();
}
