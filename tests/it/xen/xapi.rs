//! XenServer and XCP-ng.

use super::{Host, NOTHING, OTHER, UUID, free_port, greeting, trial};
use crate::kit::{connect, read_until, wait_until};
use libtest_mimic::Trial;
use std::fs;
use std::net::TcpListener;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_plan_says_what_would_be_run", a_plan_says_what_would_be_run),
        trial("a_second_apply_changes_nothing", a_second_apply_changes_nothing),
        trial("an_absent_key_is_absent_again", an_absent_key_is_absent_again),
        trial(
            "the_users_way_is_nothing_to_change",
            the_users_way_is_nothing_to_change,
        ),
        trial("two_keys_that_differ_are_shown", two_keys_that_differ_are_shown),
        trial(
            "a_running_vm_is_restarted_as_allowed",
            a_running_vm_is_restarted_as_allowed,
        ),
        trial(
            "a_guest_that_cannot_shut_down_runs_on",
            a_guest_that_cannot_shut_down_runs_on,
        ),
        trial("the_pseudo_terminal_is_followed", the_pseudo_terminal_is_followed),
        trial(
            "remove_takes_both_keys_and_undo_brings_them_back",
            remove_takes_both_keys_and_undo_brings_them_back,
        ),
        trial("what_xapi_cannot_do_is_refused", what_xapi_cannot_do_is_refused),
        trial("a_vm_is_found_by_name_or_uuid", a_vm_is_found_by_name_or_uuid),
        trial("a_port_has_one_vm", a_port_has_one_vm),
        trial("a_port_that_is_taken_is_told", a_port_that_is_taken_is_told),
        trial(
            "somebody_elses_change_is_not_undone",
            somebody_elses_change_is_not_undone,
        ),
        trial("a_kill_half_way_is_undone", a_kill_half_way_is_undone),
    ]
}

fn tcp(port: u16) -> String {
    format!("--vm win11-dev --endpoint listen:tcp:127.0.0.1:{port} --as kd")
}

fn a_plan_says_what_would_be_run() {
    let host = Host::xapi();
    let port = free_port();
    let ended = host.setup(&format!("{} --plan", tcp(port)));
    insta::assert_snapshot!(host.shown(&ended, port));
    assert_eq!(host.changes(), Vec::<String>::new());
    assert_eq!(host.key("platform", "hvm_serial"), None);
}

fn a_second_apply_changes_nothing() {
    let host = Host::xapi();
    let port = free_port();
    let first = host.setup(&format!("{} --yes", tcp(port)));
    insta::assert_snapshot!(host.shown(&first, port));
    assert_eq!(
        host.key("platform", "hvm_serial"),
        Some(format!("tcp:127.0.0.1:{port},server,nodelay,nowait"))
    );
    let changes = host.changes();
    let second = host.setup(&format!("{} --yes", tcp(port)));
    assert!(second.stderr.starts_with("Nothing to change.\n"), "{second:?}");
    assert_eq!(host.changes(), changes);
}

fn an_absent_key_is_absent_again() {
    for before in [None, Some("file:/tmp/x")] {
        let host = Host::xapi();
        if let Some(before) = before {
            host.must(&format!(
                "xe vm-param-set uuid={UUID} platform:hvm_serial={before}"
            ));
        }
        assert_eq!(host.setup(&format!("{} --yes", tcp(free_port()))).code, Some(0));
        let ended = host.undo();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(host.key("platform", "hvm_serial").as_deref(), before);
        assert_eq!(host.key("other-config", "vmserial"), None);
        assert_eq!(host.key("platform", "acpi").as_deref(), Some("1"));
        let again = host.undo();
        assert_eq!(again.code, Some(0), "{again:?}");
    }
}

/// As the seed does it: `other-config` alone, on every address, a VM that was started with it.
fn the_users_way_is_nothing_to_change() {
    let host = Host::xapi();
    let port = free_port();
    host.must(&format!(
        "xe vm-param-set other-config:hvm_serial=tcp::{port},server,nodelay,nowait uuid={UUID}"
    ));
    host.must(&format!("xe vm-start uuid={UUID}"));
    let before = host.changes();
    for endpoint in ["", "--endpoint listen:tcp:0.0.0.0:PORT"] {
        let endpoint = endpoint.replace("PORT", &port.to_string());
        let ended = host.setup(&format!("--vm win11-dev {endpoint} --as kd --yes"));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stderr.starts_with("Nothing to change.\n"), "{ended:?}");
        // The bridge goes to where the host itself reaches it.
        assert!(
            ended.stdout.contains(&format!("connect:tcp:127.0.0.1:{port}")),
            "{ended:?}"
        );
    }
    assert_eq!(host.changes(), before);
}

fn two_keys_that_differ_are_shown() {
    let host = Host::xapi();
    let port = free_port();
    host.must(&format!(
        "xe vm-param-set uuid={UUID} other-config:hvm_serial=tcp::1,server,nodelay,nowait"
    ));
    let planned = host.setup(&format!("{} --plan", tcp(port)));
    assert!(
        planned.stdout.contains(
            "note: `other-config:hvm_serial` says `tcp::1,server,nodelay,nowait`; it does not count"
        ),
        "{planned:?}"
    );
    host.must(&format!("xe vm-param-set uuid={UUID} platform:hvm_serial=pty"));
    let ended = host.setup("--vm win11-dev --show");
    insta::assert_snapshot!(host.shown(&ended, port), @r"
    exit code: 0
    --- standard output
    port 1 (COM1, ttyS0): platform:hvm_serial=pty (other-config:hvm_serial=tcp::1,server,nodelay,nowait is there too and does not count); the VM's end is `pty`, ours `pty`
    --- standard error
    ");
}

fn a_running_vm_is_restarted_as_allowed() {
    let host = Host::xapi();
    let port = free_port();
    host.must(&format!("xe vm-start uuid={UUID}"));
    let before = host.changes();
    let asked = host.setup(&format!("{} --yes", tcp(port)));
    assert_eq!(asked.code, Some(5), "{asked:?}");
    assert!(asked.stderr.contains("`--restart graceful`"), "{asked:?}");
    assert_eq!(host.changes(), before);
    let left = host.setup(&format!("{} --yes --restart never", tcp(port)));
    assert_eq!(left.code, Some(0), "{left:?}");
    assert!(
        left.stderr.contains("note: the VM runs: it sees this when"),
        "{left:?}"
    );
    // It is set, and the VM does not have it yet.
    let again = host.setup(&format!("{} --yes --restart never", tcp(port)));
    assert!(again.stderr.starts_with("Nothing to change.\n"), "{again:?}");
    for level in ["graceful", "hard"] {
        let host = Host::xapi();
        host.must(&format!("xe vm-start uuid={UUID}"));
        let before = host.changes().len();
        let port = free_port();
        let ended = host.setup(&format!("{} --yes --restart {level}", tcp(port)));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(greeting(port), "domain 2");
        let force = if level == "hard" { " --force" } else { "" };
        let mut changes = host.changes().split_off(before);
        changes.retain(|change| !change.contains("vmserial="));
        assert_eq!(
            changes,
            [
                format!("xe vm-shutdown uuid={UUID}{force}"),
                format!(
                    "xe vm-param-set uuid={UUID} platform:hvm_serial=tcp:127.0.0.1:{port},server,nodelay,nowait"
                ),
                format!("xe vm-start uuid={UUID}"),
            ]
        );
        let second = host.setup(&format!("{} --yes --restart {level}", tcp(port)));
        assert!(second.stderr.starts_with("Nothing to change.\n"), "{second:?}");
    }
    // What was only set before is started now.
    let ended = host.setup(&format!("{} --yes --restart graceful", tcp(port)));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(greeting(port), "domain 2");
}

fn a_guest_that_cannot_shut_down_runs_on() {
    let host = Host::xapi();
    host.must(&format!("xe vm-start uuid={UUID}"));
    host.fault("no-tools");
    let ended = host.setup(&format!("{} --yes --restart graceful", tcp(free_port())));
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(
        ended.stderr.contains("needs the cooperative shutdown feature"),
        "{ended:?}"
    );
    assert_eq!(host.key("platform", "hvm_serial"), None);
    let power = fs::read_to_string(host.state.join("vms").join(UUID).join("power-state")).unwrap();
    assert_eq!(power, "running");
}

fn the_pseudo_terminal_is_followed() {
    let host = Host::xapi();
    host.must(&format!("xe vm-start uuid={UUID}"));
    let before = host.changes();
    let served = host.sandbox.endpoint("listen:unix", "client");
    let mut setup = host.sandbox.start([
        "setup",
        "xen",
        "--vm",
        "win11-dev",
        "--as",
        "console",
        "--serve",
        &served,
        "--yes",
    ]);
    setup.wait_line("Nothing to change.");
    setup.wait_line("ready");
    let mut client = connect(&host.sandbox.path("client"));
    read_until(&mut client, b"domain 1");
    host.must(&format!("xe vm-shutdown uuid={UUID} --force"));
    host.must(&format!("xe vm-start uuid={UUID}"));
    // A new domain, a new terminal, the same client.
    read_until(&mut client, b"domain 2");
    assert_eq!(host.changes().len(), before.len() + 2);
    setup.signal("TERM");
    assert_eq!(setup.wait_end_with_input_open(), 0, "{}", setup.said());
}

fn remove_takes_both_keys_and_undo_brings_them_back() {
    let host = Host::xapi();
    host.must(&format!(
        "xe vm-param-set uuid={UUID} other-config:hvm_serial=tcp::1,server platform:hvm_serial=none"
    ));
    let ended = host.setup("--vm win11-dev --remove --yes");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let both = |host: &Host| {
        [
            host.key("platform", "hvm_serial"),
            host.key("other-config", "hvm_serial"),
        ]
    };
    assert_eq!(both(&host), [None, None]);
    let second = host.setup("--vm win11-dev --remove --yes");
    assert!(second.stderr.starts_with("Nothing to change.\n"), "{second:?}");
    assert_eq!(host.undo().code, Some(0));
    assert_eq!(
        both(&host),
        [Some("none".to_owned()), Some("tcp::1,server".to_owned())]
    );
}

fn what_xapi_cannot_do_is_refused() {
    let host = Host::xapi();
    for (words, code, part) in [
        (
            "--endpoint listen:telnet:127.0.0.1:7001",
            5,
            "where nobody can reach it",
        ),
        (
            "--endpoint listen:unix:/tmp/x",
            5,
            "a root folder and a user of its own",
        ),
        (
            "--endpoint connect:tcp:127.0.0.1:7001",
            5,
            "does not start while nobody listens",
        ),
        ("--endpoint listen:tcp:127.0.0.1:0", 5, "name the port"),
        ("--endpoint listen:pipe:x", 5, "named pipes are Windows's"),
        ("--port 2", 5, "one serial port, COM1"),
        ("--gdbstub 1234", 5, "no gdb stub"),
    ] {
        let ended = host.setup(&format!("--vm win11-dev {words} --plan"));
        assert_eq!(ended.code, Some(code), "{words}: {ended:?}");
        assert!(ended.stderr.contains(part), "{words}: {ended:?}");
    }
    for (parameter, value, part) in [
        ("HVM-boot-policy", "", "no HVM guest"),
        ("domain-type", "pvh", "no HVM guest"),
        ("is-control-domain", "true", "dom0"),
        ("power-state", "suspended", "is suspended"),
        ("power-state", "paused", "is paused"),
    ] {
        let host = Host::xapi();
        host.set(UUID, parameter, value);
        let ended = host.setup(&format!("{} --plan", tcp(7001)));
        assert_eq!(ended.code, Some(5), "{parameter}: {ended:?}");
        assert!(ended.stderr.contains(part), "{parameter}: {ended:?}");
    }
    for (fault, code, part) in [
        ("supporter", 5, "the pool's coordinator"),
        ("no-daemon", 6, "systemctl status xapi"),
    ] {
        let host = Host::xapi();
        host.fault(fault);
        let ended = host.setup(&format!("{} --plan", tcp(7001)));
        assert_eq!(ended.code, Some(code), "{fault}: {ended:?}");
        assert!(ended.stderr.contains(part), "{fault}: {ended:?}");
    }
}

fn a_vm_is_found_by_name_or_uuid() {
    let host = Host::xapi();
    let none = host.setup("--vm win12 --plan");
    assert_eq!(none.code, Some(4), "{none:?}");
    assert!(none.stderr.contains("xapi knows no VM `win12`"), "{none:?}");
    host.vm(OTHER, "win11-dev");
    let several = host.setup("--vm win11-dev --plan");
    assert_eq!(several.code, Some(4), "{several:?}");
    assert!(
        several.stderr.contains(UUID) && several.stderr.contains(OTHER),
        "{several:?}"
    );
    let by_uuid = host.setup(&format!("--vm {UUID} --endpoint listen:tcp:127.0.0.1:7001 --yes"));
    assert_eq!(by_uuid.code, Some(0), "{by_uuid:?}");
    assert!(host.key("platform", "hvm_serial").is_some());
}

fn a_port_has_one_vm() {
    let host = Host::xapi();
    let port = free_port();
    host.vm(OTHER, "win10");
    host.must(&format!(
        "xe vm-param-set uuid={OTHER} other-config:hvm_serial=tcp::{port},server,nodelay,nowait"
    ));
    let ended = host.setup(&format!("{} --plan", tcp(port)));
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(
        ended.stderr.contains("is set for the VM `win10` already"),
        "{ended:?}"
    );
    // At home on different hosts they do not meet.
    host.set(OTHER, "affinity", "bbbb");
    host.set(UUID, "affinity", "aaaa");
    let ended = host.setup(&format!("{} --plan", tcp(port)));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    host.set(UUID, "affinity", NOTHING);
}

/// Something else on the host has the port: the VM does not start, and QEMU's words are shown.
fn a_port_that_is_taken_is_told() {
    let host = Host::xapi();
    host.must(&format!("xe vm-start uuid={UUID}"));
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let endpoint = format!("--vm win11-dev --endpoint listen:tcp:127.0.0.1:{port} --yes --restart graceful");
    let ended = host.setup(&endpoint);
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(ended.stderr.contains("Address already in use"), "{ended:?}");
    drop(other);
    // The undo gives the setting back, and the VM starts with it.
    let undone = host.undo();
    assert_eq!(undone.code, Some(0), "{undone:?}");
    assert_eq!(host.key("platform", "hvm_serial"), None);
    host.must(&format!("xe vm-start uuid={UUID}"));
}

fn somebody_elses_change_is_not_undone() {
    let host = Host::xapi();
    let port = free_port();
    assert_eq!(host.setup(&format!("{} --yes", tcp(port))).code, Some(0));
    host.must(&format!("xe vm-param-set uuid={UUID} platform:hvm_serial=none"));
    let ended = host.undo();
    insta::assert_snapshot!(host.shown(&ended, port));
    assert_eq!(ended.code, Some(5));
    assert_eq!(host.key("platform", "hvm_serial").as_deref(), Some("none"));
    // As it was before: nothing is left to do.
    host.must(&format!(
        "xe vm-param-remove uuid={UUID} param-name=platform param-key=hvm_serial"
    ));
    assert_eq!(host.undo().code, Some(0));
}

fn a_kill_half_way_is_undone() {
    for (fault, changed) in [("hangs-before-set", false), ("hangs-after-set", true)] {
        let host = Host::xapi();
        host.fault(fault);
        let line = format!("setup xen {} --yes", tcp(free_port()));
        let mut setup = host.sandbox.start(line.split_whitespace());
        wait_until("the setting is begun", || {
            let begun = host.changes().iter().any(|change| change.contains("hvm_serial="));
            (begun && host.key("platform", "hvm_serial").is_some() == changed).then_some(())
        });
        setup.signal("KILL");
        setup.wait_end_with_input_open();
        host.fault("");
        // The stand-in may be at its work still.
        wait_until("the command ends", || {
            let there = host.key("platform", "hvm_serial").is_some();
            there.then_some(())
        });
        let ended = host.undo();
        assert_eq!(ended.code, Some(0), "{fault}: {ended:?}");
        assert_eq!(host.key("platform", "hvm_serial"), None, "{fault}");
    }
}
