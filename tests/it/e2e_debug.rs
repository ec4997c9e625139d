//! `vmserial debug`, `resume`, `up` and `down` with a real kernel, a real QEMU and a real gdb.

use crate::guest::{Gdb, folder, trial};
use crate::kit::{Ended, Running, Sandbox, connect, contains, kill, read_until, wait_until};
use libtest_mimic::Trial;
use std::io::Write;
use std::process::Command;
use std::time::Duration;

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "debug_a_vm_from_its_start_to_its_end",
            debug_a_vm_from_its_start_to_its_end,
        ),
        trial(
            "debug_break_continue_step_detach",
            debug_break_continue_step_detach,
        ),
        trial(
            "debug_ctrl_c_at_the_prompt_stops_the_kernel",
            debug_ctrl_c_at_the_prompt_stops_the_kernel,
        ),
        trial("debug_ctrl_c_on_a_terminal", debug_ctrl_c_on_a_terminal),
        trial("debug_gdb_killed_while_stopped", debug_gdb_killed_while_stopped),
        trial(
            "debug_gdb_killed_while_running_with_a_breakpoint",
            debug_gdb_killed_while_running_with_a_breakpoint,
        ),
        trial(
            "resume_a_kernel_that_was_left_stopped",
            resume_a_kernel_that_was_left_stopped,
        ),
        trial(
            "resume_behind_a_breakpoint_that_was_hit_with_nobody_there",
            resume_behind_a_breakpoint_that_was_hit_with_nobody_there,
        ),
        trial(
            "debug_interrupted_at_every_stage_leaves_nothing",
            debug_interrupted_at_every_stage_leaves_nothing,
        ),
        trial(
            "debug_failures_have_their_exit_codes",
            debug_failures_have_their_exit_codes,
        ),
        trial("debug_leaves_stopped_when_asked", debug_leaves_stopped_when_asked),
        trial("debug_through_the_gdb_stub", debug_through_the_gdb_stub),
    ]
}

/// A profile with the guest, and what runs on it.
struct Lab {
    sandbox: Sandbox,
}

/// How the profile's one target differs from the plain one.
#[derive(Default)]
struct Change<'a> {
    kgdboc: Option<&'a str>,
    program: Option<&'a str>,
    one_port: bool,
    keep: bool,
    more: &'a str,
}

impl Lab {
    fn new() -> Self {
        Self::with(&Change::default())
    }

    fn with(change: &Change<'_>) -> Self {
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
    ports: [{{port: 1, as: console}}{second}]
    debugger: {{kind: gdb, vmlinux: {guest}/vmlinux, break_in: [qmp, sysrq]{program}}}
{more}",
            guest = guest.display(),
            kgdboc = change.kgdboc.unwrap_or("kgdboc=ttyS1,115200"),
            keep = change.keep,
            second = if change.one_port {
                ""
            } else {
                ", {port: 2, as: gdb}"
            },
            more = change.more,
        );
        std::fs::write(sandbox.path("vmserial.yaml"), profile).expect("the profile");
        Self { sandbox }
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.sandbox.run(arguments)
    }

    /// Starts the VM, which then outlives sessions, and waits for its shell.
    fn up(&self) -> Vm<'_> {
        let ended = self.run(&["up", "--yes"]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let vm = Vm(self);
        let mut console = connect(&vm.socket("ser0.sock"));
        console.write_all(b"\r").expect("the console takes it");
        read_until(&mut console, b"kgdbtest# ");
        vm
    }

    /// Writes a gdb script.
    fn script(&self, text: &str) -> String {
        let path = self.sandbox.path("script.gdb");
        std::fs::write(&path, text).expect("the script");
        path.display().to_string()
    }

    /// Starts a session at whose gdb we are.
    fn debug(&self) -> Session {
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
    fn assert_kernel_runs(&self) {
        let shown = self.sandbox.run_with(
            ["console", "demo", "--replay", "0B", "--linger", "1s"],
            b"echo runs-$((40+2))\r",
        );
        assert!(
            shown.stdout.contains("runs-42"),
            "{}{}",
            shown.stdout,
            shown.stderr
        );
    }

    /// Fails unless nothing of a VM is left in the state folder.
    fn assert_nothing_left(&self) {
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
struct Vm<'a>(&'a Lab);

impl Vm<'_> {
    fn socket(&self, name: &str) -> std::path::PathBuf {
        self.0.sandbox.path("state/run/demo").join(name)
    }

    /// Types a command at the guest's shell, with nobody else there, and returns what it printed.
    fn shell(&self, command: &str) -> String {
        let mut console = connect(&self.socket("ser0.sock"));
        // The echo of the line does not hold the sum.
        console
            .write_all(format!("\r{command}; echo end-$((40+2))\r").as_bytes())
            .expect("the console takes it");
        String::from_utf8_lossy(&read_until(&mut console, b"end-42")).into_owned()
    }

    /// Fails unless the kernel runs, goes through getpid without stopping, and nothing crashed.
    fn assert_well(&self) {
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

struct Session {
    gdb: Gdb,
    debugger: u32,
}

impl Session {
    /// Lets the kernel run into a breakpoint in getpid, and waits until it runs.
    fn continue_to_getpid(&mut self, lab: &Lab) {
        self.gdb.command("break __x64_sys_getpid");
        self.gdb.type_line("continue");
        lab.assert_kernel_runs();
        assert!(planted(lab), "the breakpoint is written down");
    }

    fn end(&mut self) -> i32 {
        self.gdb.program.wait_end()
    }
}

fn planted(lab: &Lab) -> bool {
    std::fs::read_dir(lab.sandbox.path("state/planted")).is_ok_and(|folder| folder.count() > 0)
}

/// Processes whose parent is this one.
fn children(pid: u32) -> Vec<u32> {
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

fn command_line(pid: u32) -> Option<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
}

/// Command lines of processes that name a path in the sandbox.
fn of_sandbox(sandbox: &Sandbox) -> Vec<String> {
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

fn debug_a_vm_from_its_start_to_its_end() {
    let lab = Lab::new();
    let script = lab.script("printf \"PC-%d\\n\", $pc != 0\nbt 1\ndetach\n");
    let ended = lab.run(&["debug", "--batch", "--yes", "-x", &script]);
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("PC-1"), "{}", ended.stdout);
    assert!(ended.stdout.contains("kgdb_breakpoint"), "{}", ended.stdout);
    let stages = [
        "start the QEMU VM `demo`",
        "Bridge (debug port): listening on",
        "Breaking in:",
        "Kernel stopped",
        "Starting `gdb",
        "Ended the process",
    ];
    let mut rest = ended.stderr.as_str();
    for stage in stages {
        let at = rest
            .find(stage)
            .unwrap_or_else(|| panic!("no `{stage}` in its place: {}", ended.stderr));
        rest = &rest[at..];
    }
    lab.assert_nothing_left();
}

fn debug_break_continue_step_detach() {
    let lab = Lab::new();
    let vm = lab.up();
    let mut session = lab.debug();
    let trace = session.gdb.command("bt");
    assert!(trace.contains("sysrq"), "{trace}");
    session.gdb.command("tbreak __x64_sys_getpid");
    session.gdb.type_line("continue");
    // The console is the session's now: a second vmserial joins it.
    let typed = lab.sandbox.run_with(
        ["console", "demo", "--replay", "0B", "--linger", "100ms"],
        b"sh -c 'echo pid-$$-'\r",
    );
    assert_eq!(typed.code, Some(0), "{}", typed.stderr);
    let trace = session.gdb.command("bt");
    assert!(
        trace.contains("Temporary breakpoint 1") && trace.contains("getpid ("),
        "{trace}"
    );
    assert!(trace.contains(".c:"), "source lines: {trace}");
    let before = session.gdb.command("p/x $rip");
    let after = session.gdb.command("stepi\np/x $rip");
    assert_ne!(before.split("0x").last(), after.split("0x").last());
    let end = session.gdb.command("detach");
    assert!(end.contains("detached"), "{end}");
    session.gdb.type_line("quit");
    assert_eq!(session.end(), 0, "{}", session.gdb.program.said());
    vm.assert_well();
    let down = lab.run(&["down", "demo"]);
    assert_eq!(down.code, Some(0), "{}", down.stderr);
    lab.assert_nothing_left();
    let again = lab.run(&["down", "demo"]);
    assert!(again.stderr.contains("Nothing to stop"), "{}", again.stderr);
}

fn debug_ctrl_c_at_the_prompt_stops_the_kernel() {
    let lab = Lab::new();
    let vm = lab.up();
    let mut session = lab.debug();
    for _ in 0..2 {
        session.gdb.type_line("continue");
        wait_until("the kernel runs", || {
            session
                .gdb
                .program
                .output_so_far()
                .ends_with(b"Continuing.\n")
                .then_some(())
        });
        // As the terminal does: to gdb and to vmserial, for whom it is not.
        kill(session.debugger, "INT");
        session.gdb.program.signal("INT");
        let said = session.gdb.done();
        assert!(said.contains("received signal SIGTRAP"), "{said}");
    }
    session.gdb.type_line("detach");
    session.gdb.type_line("quit");
    assert_eq!(session.end(), 0, "{}", session.gdb.program.said());
    vm.assert_well();
}

impl Lab {
    /// Starts a session on a terminal of its own (`script` makes one): what is typed there comes as a user's keys do, and
    /// everything that is shown there is its standard output.
    fn debug_on_a_terminal(&self) -> Running {
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

fn debug_ctrl_c_on_a_terminal() {
    // gdb is in front: the key is gdb's, and stops the kernel.
    let lab = Lab::new();
    let mut terminal = lab.debug_on_a_terminal();
    terminal.wait_output(b"(gdb) ");
    terminal.type_bytes(b"set pagination off\nset confirm off\ncontinue\n");
    terminal.wait_output(b"Continuing.");
    lab.assert_kernel_runs();
    terminal.type_bytes(b"\x03");
    terminal.wait_output(b"received signal SIGTRAP");
    terminal.type_bytes(b"detach\nquit\n");
    let code = terminal.wait_end_with_input_open();
    assert_eq!(code, 0, "{}", String::from_utf8_lossy(terminal.all_output()));
    lab.assert_nothing_left();

    // gdb is not there yet: the key ends the session.
    let lab = Lab::new();
    let mut terminal = lab.debug_on_a_terminal();
    terminal.wait_output(b"Bridge (debug port)");
    terminal.type_bytes(b"\x03");
    let code = terminal.wait_end_with_input_open();
    assert_eq!(code, 130, "{}", String::from_utf8_lossy(terminal.all_output()));
    lab.assert_nothing_left();
}

fn debug_gdb_killed_while_stopped() {
    let lab = Lab::new();
    let vm = lab.up();
    let mut session = lab.debug();
    session.gdb.command("bt");
    kill(session.debugger, "KILL");
    assert_eq!(session.end(), 6, "{}", session.gdb.program.said());
    vm.assert_well();
}

fn debug_gdb_killed_while_running_with_a_breakpoint() {
    let lab = Lab::new();
    let vm = lab.up();
    let mut session = lab.debug();
    session.continue_to_getpid(&lab);
    kill(session.debugger, "KILL");
    assert_eq!(session.end(), 6, "{}", session.gdb.program.said());
    assert!(!planted(&lab), "nothing is planted any more");
    vm.assert_well();
}

/// Kills vmserial and its gdb as a machine that crashes would: neither says a word.
fn crash(mut session: Session) {
    session.gdb.program.signal("KILL");
    kill(session.debugger, "KILL");
    session.end();
}

fn resume_a_kernel_that_was_left_stopped() {
    let lab = Lab::new();
    let vm = lab.up();
    let mut session = lab.debug();
    session.gdb.command("break __x64_sys_getpid");
    session.gdb.command("stepi");
    crash(session);
    let ended = lab.run(&["resume", "demo"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("freed"), "{}", ended.stderr);
    vm.assert_well();
    let again = lab.run(&["resume", "demo"]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(again.stderr.contains("left alone"), "{}", again.stderr);
    vm.assert_well();
}

fn resume_behind_a_breakpoint_that_was_hit_with_nobody_there() {
    let lab = Lab::new();
    let vm = lab.up();
    let mut session = lab.debug();
    session.continue_to_getpid(&lab);
    crash(session);
    let mut console = connect(&vm.socket("ser0.sock"));
    console
        .write_all(b"\rsh -c 'echo pid-$$-'; echo lives-$((40+2))\r")
        .expect("the console takes it");
    // The echo comes before the breakpoint, and nothing after it.
    read_until(&mut console, b"echo lives-$((40+2))");
    let ended = lab.run(&["resume", "demo"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    // The process that stood on the breakpoint goes on where it was.
    let shown = read_until(&mut console, b"lives-42");
    assert!(contains(&shown, b"pid-"), "{}", String::from_utf8_lossy(&shown));
    drop(console);
    assert!(ended.stderr.contains("freed"), "{}", ended.stderr);
    assert!(!planted(&lab), "nothing is planted any more");
    vm.assert_well();
}

fn debug_interrupted_at_every_stage_leaves_nothing() {
    let stages = [
        ("[1/2] start the QEMU VM", "INT", 130),
        ("[2/2] wait until", "INT", 130),
        ("Bridge (debug port)", "INT", 130),
        ("Breaking in", "INT", 130),
        ("Kernel stopped", "INT", 130),
        ("Starting `gdb", "TERM", 130),
    ];
    for (stage, signal, code) in stages {
        let lab = Lab::new();
        let script = lab.script("tbreak __x64_sys_getpid\ncontinue\n");
        let mut command = lab
            .sandbox
            .vmserial(["debug", "--batch", "--yes", "-x", script.as_str()]);
        let mut running = Running::start(&mut command);
        running.wait_line(stage);
        running.signal(signal);
        assert_eq!(running.wait_end(), code, "{stage}: {}", running.said());
        lab.assert_nothing_left();
    }
}

fn debug_failures_have_their_exit_codes() {
    // gdb's script fails.
    let lab = Lab::new();
    let script = lab.script("this-is-no-command\n");
    let ended = lab.run(&["debug", "--batch", "--yes", "-x", &script]);
    assert_eq!(ended.code, Some(6), "{}", ended.stderr);
    lab.assert_nothing_left();

    // There is no gdb.
    let lab = Lab::with(&Change {
        program: Some("no-such-gdb"),
        ..Change::default()
    });
    let ended = lab.run(&["debug", "--batch", "--yes"]);
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    assert!(ended.stderr.contains("apt-get install gdb"), "{}", ended.stderr);
    lab.assert_nothing_left();

    // The kernel has no kgdb on any port.
    let lab = Lab::with(&Change {
        kgdboc: Some(""),
        ..Change::default()
    });
    let ended = lab.run(&["debug", "--batch", "--yes", "--wait", "8s"]);
    assert_eq!(ended.code, Some(7), "{}", ended.stderr);
    assert!(ended.stderr.contains("did not stop"), "{}", ended.stderr);
    lab.assert_nothing_left();

    // Nobody said yes.
    let ended = Lab::new().run(&["debug", "--batch"]);
    assert_eq!(ended.code, Some(5), "{}", ended.stderr);
}

fn debug_leaves_stopped_when_asked() {
    let lab = Lab::new();
    let vm = lab.up();
    let script = lab.script("disconnect\n");
    let ended = lab.run(&["debug", "--batch", "--yes", "--leave-stopped", "-x", &script]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let mut console = connect(&vm.socket("ser0.sock"));
    console
        .write_all(b"\recho lives-$((40+2))\r")
        .expect("the console takes it");
    console
        .set_read_timeout(Some(Duration::from_millis(1500)))
        .expect("a deadline");
    let mut buffer = [0; 64];
    let read = std::io::Read::read(&mut console, &mut buffer);
    assert!(read.is_err(), "a stopped kernel says nothing: {read:?}");
    drop(console);
    let ended = lab.run(&["resume", "demo"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    vm.assert_well();
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

fn debug_through_the_gdb_stub() {
    let port = free_port();
    let lab = Lab::with(&Change {
        kgdboc: Some(""),
        one_port: true,
        keep: true,
        more: &format!("    transport: {{gdbstub: {{port: {port}, stop_at_start: true}}}}\n"),
        ..Change::default()
    });
    let script = lab.script("hbreak start_kernel\ncontinue\nbt\ndelete\ndetach\n");
    let ended = lab.run(&["debug", "--batch", "--yes", "-x", &script]);
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("start_kernel ("), "{}", ended.stdout);
    let vm = Vm(&lab);
    let mut console = connect(&vm.socket("ser0.sock"));
    console.write_all(b"\r").expect("the console takes it");
    read_until(&mut console, b"kgdbtest# ");
    drop(console);
    vm.assert_well();
}
