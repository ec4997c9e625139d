//! QEMU tells the owners of a VM's ports that it was reset: a mark in the log, a new boot, a gdb that hears of it.

use crate::debug_lab::{Change, Lab};
use crate::guest::{qmp_command, trial};
use crate::kit::{Running, wait_until};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "a_reset_is_a_mark_in_the_log_and_the_client_stays",
            mark_in_the_log,
        ),
        trial("a_reset_ends_gdbs_session_at_once", gdb_is_told),
    ]
}

/// The marks of a JSON-lines log, each with its boot.
fn marks(log: &str) -> Vec<(u64, String)> {
    let records = log.lines().filter_map(|line| serde_json::from_str(line).ok());
    records
        .filter_map(|record: serde_json::Value| {
            let mark = record["mark"].as_str()?.to_owned();
            Some((record["boot"].as_u64()?, mark))
        })
        .collect()
}

/// How many boots the console has shown to their shell.
fn boots(console: &mut Running) -> usize {
    let shown = String::from_utf8_lossy(console.output_so_far()).into_owned();
    let after_last_start = shown.rsplit("guest: ready").next().unwrap_or_default();
    shown
        .matches("guest: ready")
        .count()
        .saturating_sub(usize::from(!after_last_start.contains("kgdbtest# ")))
}

fn mark_in_the_log() {
    let lab = Lab::with(&Change {
        port: ", log_json: boots.jsonl",
        ..Change::default()
    });
    let vm = lab.up();
    let mut command = lab.sandbox.vmserial(["console", "demo", "--linger", "60s"]);
    let mut console = Running::start(&mut command);
    console.type_bytes(b"echo first-$((40+2))\r");
    console.wait_output(b"first-42");
    let read = || std::fs::read_to_string(lab.sandbox.path("boots.jsonl")).unwrap_or_default();
    for boot in 2..4 {
        let before = boots(&mut console);
        qmp_command(&vm.socket("qmp.sock"), "system_reset");
        wait_until("the reset is in the log", || {
            marks(&read()).contains(&(boot, "reset".to_owned())).then_some(())
        });
        wait_until("the new boot has a shell, on the old connection", || {
            (boots(&mut console) > before).then_some(())
        });
        console.type_bytes(format!("echo boot-$(({boot}+1000))\r").as_bytes());
        console.wait_output(format!("boot-{}", boot + 1000).as_bytes());
    }
    // A reboot by the guest itself is one too.
    console.type_bytes(b"reboot -f\r");
    wait_until("the reboot is in the log", || {
        marks(&read()).contains(&(4, "reset".to_owned())).then_some(())
    });
    console.signal("TERM");
    console.wait_end();
    let log = read();
    let names: Vec<(u64, &str)> =
        Vec::from_iter([(0, "opened"), (1, "up"), (2, "reset"), (3, "reset"), (4, "reset")]);
    let seen = marks(&log);
    let seen: Vec<(u64, &str)> = seen.iter().map(|(boot, mark)| (*boot, mark.as_str())).collect();
    assert_eq!(
        seen, names,
        "one mark for each, and the stream never ended: {log}"
    );
}

fn gdb_is_told() {
    let lab = Lab::new();
    let vm = lab.up();
    let mut session = lab.debug();
    session.gdb.command("break __x64_sys_getpid");
    session.gdb.type_line("continue");
    lab.assert_kernel_runs();
    qmp_command(&vm.socket("qmp.sock"), "system_reset");
    // Without a Ctrl-C, and without a byte on kgdb's port that would tell.
    let said = session.gdb.done();
    assert!(
        said.contains("SIGKILL") && !said.contains("internal-error"),
        "{said}"
    );
    session.gdb.type_line("quit");
    session.end();
    vm.wait_shell();
    vm.assert_well();
}
