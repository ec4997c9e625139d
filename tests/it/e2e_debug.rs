//! `vmserial debug`, `resume`, `up` and `down` with a real kernel, a real QEMU and a real gdb.

use crate::debug_lab::{Change, Lab, Vm, crash, planted};
use crate::guest::trial;
use crate::kit::{Running, connect, contains, kill, read_until, wait_until};
use libtest_mimic::Trial;
use std::io::Write;
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
        trial(
            "debug_attaches_to_anothers_bridge",
            debug_attaches_to_anothers_bridge,
        ),
        trial("debug_through_the_gdb_stub", debug_through_the_gdb_stub),
    ]
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

fn debug_attaches_to_anothers_bridge() {
    let lab = Lab::new();
    let vm = lab.up();
    let script = lab.script("bt 1\ndetach\n");
    let attach = ["debug", "demo", "--attach", "--batch", "-x", script.as_str()];
    let alone = lab.run(&attach);
    assert_eq!(alone.code, Some(5), "{}", alone.stderr);
    let endpoint = |name: &str| format!("connect:unix:{}", vm.socket(name).display());
    let mut bridge = lab.sandbox.bridge([
        endpoint("ser1.sock"),
        "gdb=listen:tcp:127.0.0.1:0".to_owned(),
        format!("--break-with=qmp:{}", vm.socket("qmp.sock").display()),
        format!("--break-port={}", endpoint("ser0.sock")),
    ]);
    let ended = lab.run(&attach);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("kgdb_breakpoint"), "{}", ended.stdout);
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
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
    let vm = Vm(&lab);
    let script = lab.script("hbreak start_kernel\ncontinue\nbt\ndelete\ndetach\n");
    let ended = lab.run(&["debug", "--batch", "--yes", "-x", &script]);
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("start_kernel ("), "{}", ended.stdout);
    let mut console = connect(&vm.socket("ser0.sock"));
    console.write_all(b"\r").expect("the console takes it");
    read_until(&mut console, b"kgdbtest# ");
    drop(console);
    vm.assert_well();
}
