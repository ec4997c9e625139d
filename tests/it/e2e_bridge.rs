//! `vmserial bridge --as gdb` between a real kgdb and a real gdb.

use crate::guest::{Guest, trial};
use crate::kit::{Sandbox, connect, read_until};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("break_continue_step_detach", break_continue_step_detach),
        trial("ctrl_c_stops_a_running_kernel", ctrl_c_stops_a_running_kernel),
        trial(
            "a_reboot_is_seen_by_a_client_that_stays",
            a_reboot_is_seen_by_a_client_that_stays,
        ),
        trial("a_reset_while_gdb_is_stopped", a_reset_while_gdb_is_stopped),
        trial("a_reset_while_gdb_waits", a_reset_while_gdb_waits),
        trial("gdb_killed_while_stopped", gdb_killed_while_stopped),
        trial("gdb_killed_while_running", gdb_killed_while_running),
        trial(
            "a_breakpoint_hit_with_nobody_there",
            a_breakpoint_hit_with_nobody_there,
        ),
        trial(
            "a_killed_bridge_is_made_up_for_by_the_next",
            a_killed_bridge_is_made_up_for_by_the_next,
        ),
    ]
}

const FREED: &str = r#""event":"kernel","state":"running""#;

fn break_continue_step_detach() {
    let sandbox = Sandbox::new();
    let guest = Guest::start(&sandbox);
    let mut bridge = guest.bridge(&sandbox);
    let mut gdb = guest.gdb();
    gdb.attach(&sandbox);
    let trace = gdb.command("bt");
    assert!(trace.contains("sysrq_handle_dbg"), "{trace}");
    gdb.command("tbreak __x64_sys_getpid");
    let mark = guest.kgdb.mark();
    gdb.type_line("continue");
    guest.kgdb.wait_to_guest(mark, "$c#63");
    guest.kgdb.wait_from_guest(mark, "+");
    guest.call_getpid();
    let trace = gdb.command("bt");
    assert!(
        trace.contains("Temporary breakpoint 1") && trace.contains("getpid ("),
        "{trace}"
    );
    assert!(trace.contains(".c:"), "source lines: {trace}");
    let before = gdb.command("p/x $rip");
    let after = gdb.command("stepi\np/x $rip");
    assert_ne!(before.split("0x").last(), after.split("0x").last());
    let end = gdb.command("detach");
    assert!(end.contains("detached"), "{end}");
    guest.assert_well();
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
    guest.assert_well();
}

fn ctrl_c_stops_a_running_kernel() {
    let sandbox = Sandbox::new();
    let guest = Guest::start(&sandbox);
    let mut bridge = guest.bridge(&sandbox);
    let mut gdb = guest.gdb();
    gdb.attach(&sandbox);
    for _ in 0..2 {
        let mark = guest.kgdb.mark();
        gdb.type_line("continue");
        guest.kgdb.wait_to_guest(mark, "$c#63");
        guest.kgdb.wait_from_guest(mark, "+");
        gdb.program.signal("INT");
        let said = gdb.done();
        assert!(said.contains("received signal SIGTRAP"), "{said}");
    }
    assert!(
        !guest.kgdb.guest_was_sent((0, 0)).contains('\u{3}'),
        "kgdb would not hear it"
    );
    gdb.command("detach");
    guest.assert_well();
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
}

fn a_reboot_is_seen_by_a_client_that_stays() {
    let sandbox = Sandbox::new();
    let guest = Guest::start(&sandbox);
    let _console = sandbox.bridge([
        guest.console.endpoint(),
        sandbox.endpoint("console=listen:unix", "client"),
        guest.break_with(),
    ]);
    let _kgdb = guest.bridge(&sandbox);
    let mut client = connect(&sandbox.path("client"));
    let mut gdb = guest.gdb();
    gdb.attach(&sandbox);
    let mark = guest.kgdb.mark();
    gdb.type_line("continue");
    guest.kgdb.wait_to_guest(mark, "$c#63");
    guest.kgdb.wait_from_guest(mark, "+");
    let console = guest.console.mark();
    guest.console.type_text("reboot -f\r");
    let log = read_until(&mut client, b"guest: ready");
    assert!(
        String::from_utf8_lossy(&log).contains("Linux version"),
        "the new boot's log on the old connection"
    );
    guest.wait_boot(console);
    // The kernel said goodbye; the next session is with the new one.
    let said = gdb.done();
    assert!(said.contains("exited"), "{said}");
    gdb.attach(&sandbox);
    let trace = gdb.command("bt");
    assert!(trace.contains("sysrq_handle_dbg"), "{trace}");
    gdb.command("detach");
    guest.assert_well();
}

fn a_reset_while_gdb_is_stopped() {
    let sandbox = Sandbox::new();
    let guest = Guest::start(&sandbox);
    let mut bridge = guest.bridge(&sandbox);
    let mut gdb = guest.gdb();
    gdb.attach(&sandbox);
    gdb.command("break __x64_sys_getpid");
    guest.kgdb.wait_acknowledged();
    let (console, kgdb) = (guest.console.mark(), guest.kgdb.mark());
    guest.reset();
    guest.wait_boot(console);
    let said = gdb.command("x/2xg $sp");
    bridge.wait_output(b"kernel_gone");
    assert!(!said.contains("internal-error"), "{said}");
    gdb.command("detach");
    // A question of the bridge's own (`qC`) and not one byte of gdb's.
    let sent = guest.kgdb.guest_was_sent(kgdb);
    assert_eq!(sent.replace("$qC#b4", ""), "", "{sent}");
    guest.assert_well();
    // The next session is with the new kernel.
    gdb.attach(&sandbox);
    let trace = gdb.command("bt");
    assert!(trace.contains("sysrq_handle_dbg"), "{trace}");
    gdb.command("detach");
    guest.assert_well();
}

fn a_reset_while_gdb_waits() {
    let sandbox = Sandbox::new();
    let guest = Guest::start(&sandbox);
    let mut bridge = guest.bridge(&sandbox);
    let mut gdb = guest.gdb();
    gdb.attach(&sandbox);
    gdb.command("break __x64_sys_getpid");
    let running = guest.kgdb.mark();
    gdb.type_line("continue");
    guest.kgdb.wait_to_guest(running, "$c#63");
    guest.kgdb.wait_from_guest(running, "+");
    let (console, kgdb) = (guest.console.mark(), guest.kgdb.mark());
    guest.reset();
    guest.wait_boot(console);
    guest.assert_well();
    assert_eq!(guest.kgdb.guest_was_sent(kgdb), "", "nobody asked for anything");
    // Ctrl-C stops the new kernel, which does not know this gdb.
    gdb.program.signal("INT");
    let said = gdb.done();
    bridge.wait_output(b"kernel_gone");
    assert!(
        said.contains("SIGKILL") && !said.contains("internal-error"),
        "{said}"
    );
    let sent = guest.kgdb.guest_was_sent(kgdb);
    assert_eq!(
        sent.replace("$?#3f", "").replace('+', ""),
        "",
        "our question and our acknowledgement: {sent}"
    );
    drop(gdb);
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
    guest.assert_well();
}

fn gdb_killed_while_stopped() {
    let sandbox = Sandbox::new();
    let guest = Guest::start(&sandbox);
    let mut bridge = guest.bridge(&sandbox);
    let mut gdb = guest.gdb();
    gdb.attach(&sandbox);
    gdb.command("break __x64_sys_getpid");
    gdb.program.signal("KILL");
    bridge.wait_output(b"kernel_left_stopped");
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
    guest.assert_well();
}

fn gdb_killed_while_running() {
    let sandbox = Sandbox::new();
    let guest = Guest::start(&sandbox);
    let mut bridge = guest.bridge(&sandbox);
    let mut gdb = guest.gdb();
    gdb.attach(&sandbox);
    gdb.command("break __x64_sys_getpid");
    let mark = guest.kgdb.mark();
    gdb.type_line("continue");
    guest.kgdb.wait_to_guest(mark, "$c#63");
    guest.kgdb.wait_from_guest(mark, "+");
    gdb.program.signal("KILL");
    bridge.wait_output(b"client_detached");
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
    let sent = guest.kgdb.guest_was_sent(mark);
    assert!(sent.contains("$D#44"), "it was broken into and freed: {sent}");
    guest.assert_well();
}

fn a_breakpoint_hit_with_nobody_there() {
    let sandbox = Sandbox::new();
    let guest = Guest::start(&sandbox);
    let mut bridge = guest.bridge(&sandbox);
    let mut gdb = guest.gdb();
    gdb.attach(&sandbox);
    gdb.command("break __x64_sys_getpid");
    let mark = guest.kgdb.mark();
    gdb.type_line("continue");
    guest.kgdb.wait_to_guest(mark, "$c#63");
    guest.kgdb.wait_from_guest(mark, "+");
    gdb.program.signal("KILL");
    bridge.wait_output(b"client_detached");
    let console = guest.console.mark();
    guest.call_getpid();
    bridge.wait_output(b"kernel_left_stopped");
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
    // The process that ran into it lives on and says so.
    guest.console.wait_from_guest(console, "\npid ");
    assert!(guest.kgdb.guest_was_sent(mark).contains("$P10="));
    guest.assert_well();
}

fn a_killed_bridge_is_made_up_for_by_the_next() {
    let sandbox = Sandbox::new();
    let guest = Guest::start(&sandbox);
    let mut bridge = guest.bridge(&sandbox);
    let mut gdb = guest.gdb();
    gdb.attach(&sandbox);
    gdb.command("break __x64_sys_getpid");
    let mark = guest.kgdb.mark();
    gdb.type_line("continue");
    guest.kgdb.wait_to_guest(mark, "$c#63");
    guest.kgdb.wait_from_guest(mark, "+");
    bridge.signal("KILL");
    bridge.wait_end();
    drop(gdb);
    let console = guest.console.mark();
    guest.call_getpid();
    guest.kgdb.wait_from_guest(mark, "$T05");
    let mut next = guest.bridge(&sandbox);
    next.wait_output(FREED.as_bytes());
    guest.console.wait_from_guest(console, "\npid ");
    guest.assert_well();
    next.signal("TERM");
    assert_eq!(next.wait_end(), 0);
}
