//! `--as gdb` on a real kernel whose kgdb has ttyS1 alone, with the break-in through ttyS0: gdb leaves and comes back, the
//! kernel stopped before anybody came, a shell has kgdb's port, there is no kgdb. The console prints `$ + - #` all along.

use crate::guest::{Gdb, Guest, trial};
use crate::kit::{Running, Sandbox, wait_until};
use crate::shared_rig::{TICK, tick};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("own_disconnect_and_attach_again", disconnect_and_attach_again),
        trial("own_a_kernel_that_stopped_before_the_bridge", stopped_before),
        trial("own_a_shell_on_kgdbs_port", shell_on_the_port),
        trial("own_a_shell_without_a_break_in", shell_without_break),
        trial("own_a_kernel_without_kgdb", without_kgdb),
        trial("own_a_reset_while_gdb_waits_and_the_new_boot", reset_and_new_boot),
    ]
}

/// What a shell on kgdb's port would have taken for keys.
const SHELL_ON_TTY_S1: &str = "{ setsid sh -c 'exec sh </dev/ttyS1 >/dev/ttyS1 2>&1' & }";

struct Stage {
    sandbox: Sandbox,
    guest: Guest,
    bridge: Running,
    gdb: Gdb,
}

impl Stage {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let guest = Guest::start(&sandbox);
        tick(&guest);
        Self::on(sandbox, guest)
    }

    fn on(sandbox: Sandbox, guest: Guest) -> Self {
        let bridge = guest.bridge(&sandbox);
        let gdb = guest.gdb();
        Self {
            sandbox,
            guest,
            bridge,
            gdb,
        }
    }

    fn attach(&mut self) {
        let said = self.gdb.attach(&self.sandbox);
        let trace = self.gdb.command("bt");
        let told = String::from_utf8_lossy(self.bridge.output_so_far()).into_owned();
        assert!(trace.contains("sysrq"), "{said}{trace}{told}");
    }

    fn breaks(&mut self) -> usize {
        let told = String::from_utf8_lossy(self.bridge.output_so_far()).into_owned();
        told.matches(r#""event":"break""#).count()
    }

    /// Lets the kernel go and waits until its console goes on.
    fn detach(&mut self) {
        let mark = self.guest.console.mark();
        let end = self.gdb.command("detach");
        assert!(end.contains("detached"), "{end}");
        self.guest.console.wait_from_guest(mark, TICK);
    }

    fn end(mut self) {
        self.bridge.signal("TERM");
        assert_eq!(self.bridge.wait_end(), 0);
        self.guest.assert_well();
        let sent = self.guest.kgdb.guest_was_sent((0, 0));
        assert!(!sent.contains('\u{3}'), "kgdb would not hear it: {sent}");
    }
}

fn disconnect_and_attach_again() {
    let mut stage = Stage::new();
    stage.attach();
    stage.gdb.command("disconnect");
    stage.bridge.wait_output(b"kernel_left_stopped");
    let breaks = stage.breaks();
    stage.attach();
    assert_eq!(stage.breaks(), breaks, "it was known to be stopped");
    // A breakpoint goes with the gdb that planted it, and the next session is like the first.
    stage.gdb.command("break __x64_sys_getpid");
    stage.gdb.command("delete");
    stage.detach();
    stage.attach();
    assert!(stage.breaks() > breaks);
    stage.detach();
    stage.end();
}

fn stopped_before() {
    let sandbox = Sandbox::new();
    let guest = Guest::start(&sandbox);
    tick(&guest);
    let mark = guest.console.mark();
    guest.console.type_text("echo g > /proc/sysrq-trigger\r");
    guest.console.wait_from_guest(mark, "Entering KGDB");
    let mut stage = Stage::on(sandbox, guest);
    stage.attach();
    assert_eq!(stage.breaks(), 0, "it answered our question");
    stage.detach();
    stage.end();
}

fn shell_on_the_port() {
    let mut stage = Stage::new();
    stage.guest.shell(SHELL_ON_TTY_S1);
    stage.attach();
    stage.detach();
    // The shell is still there, and what was asked of kgdb while it read stands in its line.
    let mark = stage.guest.kgdb.mark();
    stage.guest.kgdb.type_text("\u{15}echo here-$((40+2))\r");
    stage.guest.kgdb.wait_from_guest(mark, "here-42");
    stage.end();
}

fn without_break(guest: &Guest, sandbox: &Sandbox) -> Running {
    sandbox.bridge([
        guest.kgdb.endpoint(),
        format!("gdb={}", sandbox.endpoint("listen:unix", "gdb")),
        "--json".into(),
    ])
}

fn shell_without_break() {
    let sandbox = Sandbox::new();
    let guest = Guest::start(&sandbox);
    tick(&guest);
    guest.shell(SHELL_ON_TTY_S1);
    let mut bridge = without_break(&guest, &sandbox);
    let mut gdb = guest.gdb();
    gdb.attach(&sandbox);
    let said = bridge.wait_output(b"gdb_refused");
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("not in kgdb"), "{said}");
    guest.assert_well();
}

fn without_kgdb() {
    let sandbox = Sandbox::new();
    let guest = Guest::without_kgdb(&sandbox);
    tick(&guest);
    let mut bridge = guest.bridge(&sandbox);
    let mut gdb = guest.gdb();
    let console = guest.console.mark();
    // It waits for as long as it is held, and that is what its user sees.
    let socket = sandbox.path("gdb");
    wait_until("the bridge listens", || socket.exists().then_some(()));
    gdb.type_line(&format!("target remote {}", socket.display()));
    bridge.wait_output(b"no stop seen");
    // Nothing reads that port: gdb's packet went out once, and is held from then on.
    bridge.wait_output(b"gdb_held");
    guest.console.wait_from_guest(console, "sysrq: HELP");
    let sent = guest.kgdb.guest_was_sent((0, 0));
    assert_eq!(sent.matches("$qSupported").count(), 1, "{sent}");
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
    guest.assert_well();
}

fn reset_and_new_boot() {
    let mut stage = Stage::new();
    stage.attach();
    stage.gdb.command("break __x64_sys_getpid");
    let running = stage.guest.kgdb.mark();
    stage.gdb.type_line("continue");
    stage.guest.kgdb.wait_to_guest(running, "$c#63");
    stage.guest.kgdb.wait_from_guest(running, "+");
    let (console, kgdb) = (stage.guest.console.mark(), stage.guest.kgdb.mark());
    stage.guest.reset();
    stage.guest.wait_boot(console);
    assert_eq!(
        stage.guest.kgdb.guest_was_sent(kgdb),
        "",
        "nobody asked for anything"
    );
    stage.gdb.program.signal("INT");
    let said = stage.gdb.done();
    stage.bridge.wait_output(b"kernel_gone");
    assert!(
        said.contains("SIGKILL") && !said.contains("internal-error"),
        "{said}"
    );
    // The same gdb, the new kernel, which our Ctrl-C has stopped.
    stage.attach();
    let end = stage.gdb.command("detach");
    assert!(end.contains("detached"), "{end}");
    stage.end();
}
