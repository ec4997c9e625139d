//! gdb comes back in the moment in which it left, on a real kernel: never turned away, whatever kgdb still does with its port.

use crate::guest::{Gdb, Guest, trial};
use crate::kit::{Running, Sandbox};
use crate::shared_rig::{Stage, TICK};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("shared_detach_and_attach_at_once", shared_at_once),
        trial("shared_ctrl_c_right_after_continue", shared_ctrl_c_at_once),
        trial("own_detach_and_attach_at_once", own_at_once),
    ]
}

/// As often as it takes for a BREAK to be lost where one can be (seen once in 5 on a busy host).
const TIMES: usize = 10;

/// Detaches and attaches in one go.
fn back(gdb: &mut Gdb, bridge: &mut Running, sandbox: &Sandbox, time: usize) {
    gdb.type_line("detach");
    gdb.attach(sandbox);
    let trace = gdb.command("bt");
    let told = String::from_utf8_lossy(bridge.output_so_far()).into_owned();
    assert!(trace.contains("sysrq_handle_dbg"), "time {time}: {trace}{told}");
    for event in ["gdb_refused", "gdb_held", "kernel_gone"] {
        assert!(!told.contains(event), "time {time}: {told}");
    }
}

fn shared_at_once() {
    let mut stage = Stage::new();
    stage.attach_to_a_running_kernel();
    for time in 0..TIMES {
        back(&mut stage.gdb, &mut stage.bridge, &stage.sandbox, time);
    }
    let mark = stage.shell.mark();
    stage.gdb.command("detach");
    stage.shell.wait(mark, TICK);
    stage.end();
}

fn shared_ctrl_c_at_once() {
    let mut stage = Stage::new();
    stage.attach_to_a_running_kernel();
    for time in 0..TIMES {
        let sent = stage.guest.console.mark();
        stage.gdb.type_line("continue");
        stage.guest.console.wait_to_guest(sent, "$c#63");
        stage.gdb.program.signal("INT");
        let said = stage.gdb.done();
        assert!(said.contains("received signal SIGTRAP"), "time {time}: {said}");
    }
    stage.gdb.command("detach");
    stage.end();
}

fn own_at_once() {
    let sandbox = Sandbox::new();
    let guest = Guest::start(&sandbox);
    let mut bridge = guest.bridge(&sandbox);
    let mut gdb = guest.gdb();
    gdb.attach(&sandbox);
    for time in 0..TIMES {
        back(&mut gdb, &mut bridge, &sandbox, time);
    }
    gdb.command("detach");
    guest.assert_well();
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
}
