//! A Xen host behind a real OpenSSH server: set-up, undo, kills, and the bridge to its VMs.

use super::{Host, UUID, free_port};
use crate::kit::{Running, connect, is_fast, read_until, wait_until};
use crate::sshd::missing;
use libtest_mimic::{Completion, Failed, Trial};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

const DEBUGGER: &[u8] = include_bytes!("../../data/xen/debugger.cfg");

pub fn trials() -> Vec<Trial> {
    let left_out = || is_fast().then(|| "Xen behind SSH is left out (VMSERIAL_TEST_FAST=1)".to_owned());
    let reason = missing().or_else(left_out);
    let all: [(&str, fn()); 8] = [
        (
            "over_ssh_xapi_is_set_up_and_undone",
            over_ssh_xapi_is_set_up_and_undone,
        ),
        (
            "over_ssh_xl_is_set_up_and_undone",
            over_ssh_xl_is_set_up_and_undone,
        ),
        (
            "over_ssh_a_kill_half_way_is_undone",
            over_ssh_a_kill_half_way_is_undone,
        ),
        (
            "over_ssh_the_tcp_port_needs_no_open_port",
            over_ssh_the_tcp_port_needs_no_open_port,
        ),
        (
            "over_ssh_the_pseudo_terminal_is_followed",
            over_ssh_the_pseudo_terminal_is_followed,
        ),
        (
            "over_ssh_the_pseudo_terminal_by_the_systems_ssh",
            over_ssh_the_pseudo_terminal_by_the_systems_ssh,
        ),
        (
            "over_ssh_a_lost_link_leaves_no_reader",
            over_ssh_a_lost_link_leaves_no_reader,
        ),
        ("over_ssh_a_dial_asks_xapi_once", over_ssh_a_dial_asks_xapi_once),
    ];
    all.into_iter()
        .map(|(name, run)| {
            let reason = reason.clone();
            Trial::ignorable_test(format!("xen::{name}"), move || match reason {
                Some(reason) => Ok(Completion::ignored_with(reason)),
                None => {
                    run();
                    Ok::<_, Failed>(Completion::Completed)
                }
            })
        })
        .collect()
}

fn over_ssh_xapi_is_set_up_and_undone() {
    let host = Host::xapi().behind_ssh();
    host.must(&format!("xe vm-start uuid={UUID}"));
    let before = host.changes();
    let port = free_port();
    let words = format!("--vm win11-dev --endpoint listen:tcp:127.0.0.1:{port} --as kd --restart graceful");
    let planned = host.setup(&format!("{words} --plan"));
    assert_eq!(planned.code, Some(0), "{planned:?}");
    assert!(planned.stdout.contains("on lab"), "{planned:?}");
    assert_eq!(host.changes(), before);
    let applied = host.setup(&format!("{words} --yes"));
    assert_eq!(applied.code, Some(0), "{applied:?}");
    assert_eq!(
        host.key("platform", "hvm_serial"),
        Some(format!("tcp:127.0.0.1:{port},server,nodelay,nowait"))
    );
    // The line to paste goes through SSH too.
    assert!(
        applied
            .stdout
            .contains(&format!("connect:tcp:127.0.0.1:{port},via=lab")),
        "{applied:?}"
    );
    let second = host.setup(&format!("{words} --yes"));
    assert!(second.stderr.starts_with("Nothing to change.\n"), "{second:?}");
    let undone = host.undo();
    assert_eq!(undone.code, Some(0), "{undone:?}");
    assert_eq!(host.key("platform", "hvm_serial"), None);
    assert_eq!(host.key("other-config", "vmserial"), None);
    assert_eq!(host.logins(), 4, "each of the four commands logged in once");
}

fn over_ssh_xl_is_set_up_and_undone() {
    let host = Host::new("xl").behind_ssh();
    let cfg = host.sandbox.path("vm.cfg");
    fs::write(&cfg, DEBUGGER).unwrap();
    let words = format!(
        "--vm {} --endpoint listen:unix:/run/dev.sock --as kd",
        cfg.display()
    );
    let planned = host.setup(&format!("{words} --plan"));
    assert_eq!(
        (planned.code, fs::read(&cfg).unwrap().as_slice()),
        (Some(0), DEBUGGER)
    );
    let applied = host.setup(&format!("{words} --yes"));
    assert_eq!(applied.code, Some(0), "{applied:?}");
    let text = fs::read_to_string(&cfg).unwrap();
    assert!(
        text.contains("serial = [ \"unix:/run/dev.sock,server,nowait\" ]"),
        "{text}"
    );
    let second = host.setup(&format!("{words} --yes"));
    assert!(second.stderr.starts_with("Nothing to change.\n"), "{second:?}");
    assert_eq!(host.undo().code, Some(0));
    assert_eq!(fs::read(&cfg).unwrap(), DEBUGGER);
}

fn over_ssh_a_kill_half_way_is_undone() {
    for (fault, changed) in [("hangs-before-set", false), ("hangs-after-set", true)] {
        let host = Host::xapi().behind_ssh();
        host.fault(fault);
        let endpoint = format!("listen:tcp:127.0.0.1:{}", free_port());
        let line = format!("setup xen --host lab --vm win11-dev --endpoint {endpoint} --yes");
        let mut setup = host.sandbox.start(line.split_whitespace());
        wait_until("the setting is begun", || {
            let begun = host.changes().iter().any(|change| change.contains("hvm_serial="));
            (begun && host.key("platform", "hvm_serial").is_some() == changed).then_some(())
        });
        setup.signal("KILL");
        setup.wait_end_with_input_open();
        host.fault("");
        // The other end does its work, whoever is gone.
        wait_until("the command ends", || host.key("platform", "hvm_serial"));
        let ended = host.undo();
        assert_eq!(ended.code, Some(0), "{fault}: {ended:?}");
        assert_eq!(host.key("platform", "hvm_serial"), None, "{fault}");
    }
}

/// Says something until the VM, which sends back what it gets, has answered it.
fn echo(client: &mut UnixStream, word: &[u8]) {
    wait_until("the VM answers", || {
        client.write_all(word).unwrap();
        let mut all = Vec::new();
        let mut buffer = [0; 256];
        while !all.ends_with(word) {
            match client.read(&mut buffer) {
                Ok(count @ 1..) => all.extend_from_slice(&buffer[..count]),
                _ => return None,
            }
        }
        Some(())
    });
}

fn bridge(host: &Host, more: &str) -> Running {
    let served = host.sandbox.endpoint("listen:unix", "client");
    let line = format!("-v setup xen --host lab --vm win11-dev --as console --serve {served} --yes {more}");
    let mut setup = host.sandbox.start(line.split_whitespace());
    setup.wait_line("ready");
    setup
}

/// The seed's main path, without its firewall: KD's port on loopback of the host, reached through SSH, through reboots.
fn over_ssh_the_tcp_port_needs_no_open_port() {
    let host = Host::xapi().behind_ssh();
    let port = free_port();
    let mut setup = bridge(&host, &format!("--endpoint listen:tcp:127.0.0.1:{port}"));
    let mut client = connect(&host.sandbox.path("client"));
    setup.wait_line("client 1 attached");
    host.must(&format!("xe vm-start uuid={UUID}"));
    setup.wait_line("target up");
    read_until(&mut client, b"domain 1");
    echo(&mut client, b"0123456789");
    host.must(&format!("xe vm-shutdown uuid={UUID} --force"));
    setup.wait_line("target away");
    host.must(&format!("xe vm-start uuid={UUID}"));
    read_until(&mut client, b"domain 2");
    setup.signal("TERM");
    assert_eq!(setup.wait_end_with_input_open(), 0, "{}", setup.said());
    assert!(
        host.logins() <= 2,
        "the set-up, the tunnel and all dials share a login, or two on a slow host"
    );
}

fn follow(host: &Host, more: &str) {
    host.must(&format!("xe vm-start uuid={UUID}"));
    let before = host.changes();
    let mut setup = bridge(host, more);
    let mut client = connect(&host.sandbox.path("client"));
    for domain in 1..4 {
        read_until(&mut client, format!("domain {domain}").as_bytes());
        echo(
            &mut client,
            &[b'x', 0x03, 0x11, 0x13, 0x1a, 0xff, b'\r', b'\n', 0x04, b'y'],
        );
        host.must(&format!("xe vm-shutdown uuid={UUID} --force"));
        setup.wait_line("target away");
        host.must(&format!("xe vm-start uuid={UUID}"));
    }
    read_until(&mut client, b"domain 4");
    assert_eq!(host.changes().len(), before.len() + 6, "the host was not changed");
    setup.signal("TERM");
    assert_eq!(setup.wait_end_with_input_open(), 0, "{}", setup.said());
}

fn over_ssh_the_pseudo_terminal_is_followed() {
    let host = Host::xapi().behind_ssh();
    follow(&host, "");
    assert!(host.logins() <= 2, "reboots cost no login");
}

fn over_ssh_the_pseudo_terminal_by_the_systems_ssh() {
    follow(&Host::xapi().behind_ssh(), "--ssh-engine system");
}

/// A reader that is left behind would take what is meant for the next one.
fn over_ssh_a_lost_link_leaves_no_reader() {
    let host = Host::xapi().behind_ssh();
    host.must(&format!("xe vm-start uuid={UUID}"));
    let mut setup = bridge(&host, "");
    let mut client = connect(&host.sandbox.path("client"));
    read_until(&mut client, b"domain 1");
    let device = fs::read_to_string(host.state.join("xenstore/%local%domain%1%serial%0%tty")).unwrap();
    for _ in 0..3 {
        host.server.as_ref().unwrap().drop_connections();
        setup.wait_line("target away");
        setup.wait_line("target up");
        wait_until("one reader is left", || (readers(&device) == 1).then_some(()));
        echo(&mut client, b"0123456789");
    }
    setup.signal("TERM");
    assert_eq!(setup.wait_end_with_input_open(), 0, "{}", setup.said());
    wait_until("no reader is left", || (readers(&device) == 0).then_some(()));
}

/// How many processes read the device: `cat` has it as its standard input.
fn readers(device: &str) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let device = std::path::Path::new(device);
    processes
        .filter(|process| fs::read_link(process.path().join("fd/0")).is_ok_and(|input| input == device))
        .count()
}

fn over_ssh_a_dial_asks_xapi_once() {
    let host = Host::xapi().behind_ssh();
    host.must(&format!("xe vm-start uuid={UUID}"));
    let mut setup = bridge(&host, "");
    let mut client = connect(&host.sandbox.path("client"));
    read_until(&mut client, b"domain 1");
    setup.wait_line("target up");
    let asked = || {
        let log = fs::read_to_string(host.state.join("log")).unwrap();
        let lines: Vec<String> = log.lines().map(ToOwned::to_owned).collect();
        lines
    };
    let before = asked().len();
    host.server.as_ref().unwrap().drop_connections();
    setup.wait_line("target away");
    setup.wait_line("target up");
    let asked = asked().split_off(before);
    // The dials until it is back: each one question to xapi, by the identifier, and one to xenstore if that was answered.
    let xe: Vec<&String> = asked.iter().filter(|line| line.starts_with("xe ")).collect();
    let by_uuid = format!("xe vm-list uuid={UUID} ");
    assert!(
        !xe.is_empty() && xe.iter().all(|line| line.starts_with(&by_uuid)),
        "{asked:?}"
    );
    let xenstore = asked.len() - xe.len();
    assert!((1..=xe.len()).contains(&xenstore), "{asked:?}");
    setup.signal("TERM");
    assert_eq!(setup.wait_end_with_input_open(), 0, "{}", setup.said());
}
