//! `console+gdb` on a real kernel whose kgdb shares ttyS0 with the shell: a real gdb, a console beside it, and a process
//! in the guest that prints `$ + - #` all along.

use crate::debug_lab::{Change, Lab, crash};
use crate::guest::{Guest, trial};
use crate::kit::{Running, Sandbox, connect, wait_until};
use crate::shared_rig::{HELD, Shell, Stage, TICK, tick};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("shared_break_step_detach", break_step_detach),
        trial("shared_ctrl_c_stops_a_running_kernel", ctrl_c),
        trial("shared_disconnect_and_attach_again", disconnect_and_attach_again),
        trial("shared_gdb_killed_while_stopped", gdb_killed_while_stopped),
        trial("shared_gdb_killed_while_running", gdb_killed_while_running),
        trial("shared_a_reset_while_gdb_is_stopped", reset_while_stopped),
        trial("shared_a_reset_while_gdb_waits", reset_while_waiting),
        trial("shared_a_kernel_that_stopped_before_the_bridge", stopped_before),
        trial("shared_a_shell_without_a_break_in", shell_without_break),
        trial("shared_a_kernel_without_kgdb", without_kgdb),
        trial("shared_debug_with_a_console_beside_it", debug_with_a_console),
        trial("shared_break_resume_and_a_killed_session", break_and_resume),
        trial("shared_qmp_is_held_by_another_client", qmp_held),
    ]
}

fn break_step_detach() {
    let mut stage = Stage::new();
    stage.attach_to_a_running_kernel();
    stage.gdb.command("tbreak __x64_sys_getpid");
    // Held while the kernel is stopped; then it runs into the breakpoint by itself.
    stage.shell.type_text("sh -c 'echo pid-$$-'");
    stage.shell.wait(0, HELD);
    stage.shell.type_text("\r");
    stage.gdb.type_line("continue");
    let trace = stage.gdb.command("bt");
    assert!(
        trace.contains("Temporary breakpoint 1") && trace.contains("getpid ("),
        "{trace}"
    );
    let before = stage.gdb.command("p/x $rip");
    let after = stage.gdb.command("stepi\np/x $rip");
    assert_ne!(before.split("0x").last(), after.split("0x").last());
    assert_eq!(stage.shell.shown().matches(HELD).count(), 1);
    let mark = stage.shell.mark();
    let end = stage.gdb.command("detach");
    assert!(end.contains("detached"), "{end}");
    stage.shell.wait(mark, "pid-");
    stage.shell.wait(mark, TICK);
    stage.end();
}

fn ctrl_c() {
    let mut stage = Stage::new();
    stage.attach_to_a_running_kernel();
    for _ in 0..2 {
        stage.continue_and_tick();
        stage.gdb.program.signal("INT");
        let said = stage.gdb.done();
        assert!(said.contains("received signal SIGTRAP"), "{said}");
    }
    let sent = stage.guest.console.guest_was_sent((0, 0));
    assert!(!sent.contains('\u{3}'), "the shell would take it for a Ctrl-C");
    stage.gdb.command("detach");
    stage.end();
}

fn disconnect_and_attach_again() {
    let mut stage = Stage::new();
    stage.attach_to_a_running_kernel();
    stage.gdb.command("disconnect");
    stage.bridge.wait_output(b"kernel_left_stopped");
    let breaks = stage.told(r#""event":"break""#);
    stage.attach();
    let trace = stage.gdb.command("bt");
    assert!(trace.contains("sysrq_handle_dbg"), "{trace}");
    assert_eq!(
        stage.told(r#""event":"break""#),
        breaks,
        "it was known to be stopped"
    );
    stage.gdb.command("detach");
    stage.attach_to_a_running_kernel();
    stage.gdb.command("detach");
    stage.end();
}

fn gdb_killed_while_stopped() {
    let mut stage = Stage::new();
    stage.attach_to_a_running_kernel();
    stage.gdb.command("break __x64_sys_getpid");
    stage.gdb.program.signal("KILL");
    stage.bridge.wait_output(b"kernel_left_stopped");
    stage.shell.type_text("echo held-$((40+2))\r");
    stage.shell.wait(0, HELD);
    let mark = stage.guest.console.mark();
    stage.bridge.signal("TERM");
    assert_eq!(stage.bridge.wait_end(), 0);
    stage.guest.console.wait_from_guest(mark, "held-42");
    stage.guest.assert_well();
}

fn gdb_killed_while_running() {
    let mut stage = Stage::new();
    stage.attach_to_a_running_kernel();
    stage.gdb.command("break __x64_sys_getpid");
    stage.continue_and_tick();
    let mark = stage.guest.console.mark();
    stage.gdb.program.signal("KILL");
    stage.bridge.wait_output(b"client_detached");
    stage.bridge.signal("TERM");
    assert_eq!(stage.bridge.wait_end(), 0);
    let sent = stage.guest.console.guest_was_sent(mark);
    assert!(sent.contains("$D#44"), "it was broken into and freed: {sent}");
    stage.guest.assert_well();
}

fn reset_while_stopped() {
    let mut stage = Stage::new();
    stage.attach_to_a_running_kernel();
    stage.gdb.command("break __x64_sys_getpid");
    stage.guest.console.wait_acknowledged();
    // For the kernel that stands there, not for the next one.
    stage.shell.type_text("reboot -f\r");
    stage.shell.wait(0, HELD);
    let mark = stage.guest.console.mark();
    stage.guest.reset();
    stage.guest.wait_boot(mark);
    stage.bridge.wait_output(b"kernel_gone");
    let said = stage.gdb.command("x/2xg $sp");
    assert!(!said.contains("internal-error"), "{said}");
    stage.gdb.command("detach");
    assert_eq!(stage.guest.console.guest_was_sent(mark), "");
    // The next session is with the new kernel.
    let mark = stage.shell.mark();
    stage.shell.type_text("echo new-$((40+2))\r");
    stage.shell.wait(mark, "new-42");
    stage.attach_to_a_running_kernel();
    stage.gdb.command("detach");
    stage.end();
}

fn reset_while_waiting() {
    let mut stage = Stage::new();
    stage.attach_to_a_running_kernel();
    stage.gdb.command("break __x64_sys_getpid");
    stage.continue_and_tick();
    let mark = stage.guest.console.mark();
    stage.guest.reset();
    stage.guest.wait_boot(mark);
    assert_eq!(
        stage.guest.console.guest_was_sent(mark),
        "",
        "nobody asked for anything"
    );
    // Ctrl-C stops the new kernel, which does not know this gdb.
    stage.gdb.program.signal("INT");
    let said = stage.gdb.done();
    stage.bridge.wait_output(b"kernel_gone");
    assert!(
        said.contains("SIGKILL") && !said.contains("internal-error"),
        "{said}"
    );
    let sent = stage.guest.console.guest_was_sent(mark);
    assert_eq!(
        sent.replace("$?#3f", "").replace(['+', 'g'], ""),
        "",
        "the break-in, our question and our acknowledgement: {sent}"
    );
    stage.attach();
    let trace = stage.gdb.command("bt");
    assert!(trace.contains("sysrq_handle_dbg"), "{trace}");
    stage.gdb.command("detach");
    stage.end();
}

fn stopped_before() {
    let sandbox = Sandbox::new();
    let guest = Guest::shared(&sandbox);
    tick(&guest);
    let mark = guest.console.mark();
    guest.console.type_text("echo g > /proc/sysrq-trigger\r");
    guest.console.wait_from_guest(mark, "Entering KGDB");
    let mut bridge = guest.shared_bridge(&sandbox);
    let shell = Shell::open(&sandbox);
    let mut gdb = guest.gdb();
    let said = gdb.attach(&sandbox);
    let trace = gdb.command("bt");
    assert!(trace.contains("sysrq"), "{said}{trace}");
    gdb.command("detach");
    shell.wait(0, TICK);
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
    guest.assert_well();
}

fn shell_without_break() {
    let sandbox = Sandbox::new();
    let guest = Guest::shared(&sandbox);
    let mut bridge = sandbox.bridge([
        guest.console.endpoint(),
        format!("gdb={}", sandbox.endpoint("listen:unix", "gdb")),
        format!("console={}", sandbox.endpoint("listen:unix", "shell")),
        "--json".into(),
    ]);
    let shell = Shell::open(&sandbox);
    refused(&guest, &sandbox, &mut bridge);
    // What gdb typed stands in the shell's line, for its user to see.
    shell.type_text("\u{3}echo here-$((40+2))\r");
    shell.wait(0, "here-42");
    guest.assert_well();
}

fn without_kgdb() {
    let sandbox = Sandbox::new();
    let guest = Guest::without_kgdb(&sandbox);
    let mut bridge = guest.shared_bridge(&sandbox);
    let shell = Shell::open(&sandbox);
    refused(&guest, &sandbox, &mut bridge);
    let said = bridge.wait_output(b"no stop seen");
    assert!(!String::from_utf8_lossy(&said).contains(r#""state":"stopped""#));
    // SysRq `g` is unknown to it: the console has its answer.
    shell.wait(0, "sysrq: HELP");
    shell.type_text("\u{3}echo here-$((40+2))\r");
    shell.wait(0, "here-42");
    guest.assert_well();
}

/// gdb comes to a shell and is sent away with the reason.
fn refused(guest: &Guest, sandbox: &Sandbox, bridge: &mut Running) {
    let mut gdb = guest.gdb();
    gdb.attach(sandbox);
    let said = bridge.wait_output(b"gdb_refused");
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("not in kgdb"), "{said}");
}

fn qmp_held() {
    let sandbox = Sandbox::new();
    let guest = Guest::shared(&sandbox);
    let mut bridge = guest.shared_bridge(&sandbox);
    // QEMU serves this one; it accepts the next and never greets it.
    let holder = connect(&guest.qmp);
    let ended = sandbox.run(["break".to_owned(), guest.console.endpoint()]);
    assert_eq!(ended.code, Some(6), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("qmp:") && ended.stderr.contains("another client holds it"),
        "{}",
        ended.stderr
    );
    bridge.wait_output(br#""event":"break""#);
    drop(holder);
    // QEMU has it back: the next break-in works, and the kernel is freed at the bridge's end.
    let ended = sandbox.run(["break".to_owned(), guest.console.endpoint()]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("stopped in kgdb"), "{}", ended.stdout);
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
    guest.assert_well();
}

fn shared_lab() -> Lab {
    Lab::with(&Change {
        shared: true,
        ..Change::default()
    })
}

fn debug_with_a_console() {
    let lab = shared_lab();
    let vm = lab.up();
    let mut session = lab.debug();
    let trace = session.gdb.command("bt");
    assert!(trace.contains("sysrq"), "{trace}");
    session.gdb.command("tbreak __x64_sys_getpid");
    session.gdb.type_line("continue");
    // A second vmserial joins the port's owner: what it types lets the kernel run into the breakpoint.
    let typed = lab.sandbox.run_with(
        ["console", "demo", "--replay", "0B", "--linger", "100ms"],
        b"sh -c 'echo pid-$$-'\r",
    );
    assert_eq!(typed.code, Some(0), "{}", typed.stderr);
    assert!(!typed.stdout.contains("$T05"), "{}", typed.stdout);
    let trace = session.gdb.command("bt");
    assert!(
        trace.contains("Temporary breakpoint 1") && trace.contains("getpid ("),
        "{trace}"
    );
    let held = lab.sandbox.run_with(
        ["console", "demo", "--replay", "0B", "--linger", "100ms"],
        b"echo later-$((40+2))\r",
    );
    assert!(held.stdout.contains(HELD), "{}", held.stdout);
    let end = session.gdb.command("detach");
    assert!(end.contains("detached"), "{end}");
    // What was held comes whole. Only then the port is closed: QEMU drops what a guest has not taken when its client goes.
    wait_until("the line that was held is run", || {
        let shown = lab
            .sandbox
            .run_with(["console", "demo", "--replay", "4KiB", "--linger", "100ms"], b"");
        shown.stdout.contains("later-42").then_some(())
    });
    session.gdb.type_line("quit");
    assert_eq!(session.end(), 0, "{}", session.gdb.program.said());
    vm.assert_well();
    let down = lab.run(&["down", "demo"]);
    assert_eq!(down.code, Some(0), "{}", down.stderr);
    lab.assert_nothing_left();
}

fn break_and_resume() {
    let lab = shared_lab();
    let vm = lab.up();
    let broken = lab.run(&["break", "demo"]);
    assert_eq!(broken.code, Some(0), "{}", broken.stderr);
    assert!(broken.stdout.contains("stopped in kgdb"), "{}", broken.stdout);
    // It was stopped before this process came, and kgdb waits for a packet.
    let resumed = lab.run(&["resume", "demo"]);
    assert_eq!(resumed.code, Some(0), "{}", resumed.stderr);
    vm.assert_well();
    // A session that dies at a breakpoint leaves what frees the kernel.
    let mut session = lab.debug();
    session.continue_to_getpid(&lab);
    crash(session);
    let resumed = lab.run(&["resume", "demo"]);
    assert_eq!(resumed.code, Some(0), "{}", resumed.stderr);
    vm.assert_well();
}
