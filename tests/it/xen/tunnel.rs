//! `tunnel: ssh`: the host behind a real OpenSSH server on loopback; the VM's port is the host's own.

use super::{Host, UUID, free_port, trial};
use crate::kit::{PATIENCE, Running, Sandbox, is_fast, read_until, wait_until};
use crate::sshd::missing;
use libtest_mimic::{Completion, Failed, Trial};
use std::fs;
use std::net::TcpStream;

pub fn trials() -> Vec<Trial> {
    let left_out = || is_fast().then(|| "its logins are left out (VMSERIAL_TEST_FAST=1)".to_owned());
    let reason = missing().or_else(left_out);
    let through = move || match &reason {
        Some(reason) => Ok(Completion::ignored_with(reason.clone())),
        None => {
            a_windows_guests_port_through_the_tunnel();
            Ok::<_, Failed>(Completion::Completed)
        }
    };
    vec![
        Trial::ignorable_test("xen::a_windows_guests_port_through_the_tunnel", through),
        trial(
            "what_no_tunnel_reaches_is_refused_by_its_field",
            what_no_tunnel_reaches_is_refused_by_its_field,
        ),
    ]
}

/// Connects to the bridge, whose line names its free port.
fn client(debug: &mut Running) -> TcpStream {
    let line = debug.wait_line("listening on listen:tcp:127.0.0.1:");
    let port: u16 = line.rsplit(':').next().unwrap().parse().unwrap();
    let stream = wait_until("the bridge answers", || {
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The shipped profile: plan, apply, and a debug session whose bytes come through SSH, also after a reboot.
fn a_windows_guests_port_through_the_tunnel() {
    let host = Host::xapi().behind_ssh();
    let port = free_port();
    let profile = include_str!("../../../profiles/xcpng-windows-windbg.yaml")
        .replace("root@xcp1.lab", "lab")
        .replace("127.0.0.1:7001", &format!("127.0.0.1:{port}"))
        .replace("listen:pipe:win11-kd", "listen:tcp:127.0.0.1:0");
    fs::write(host.sandbox.path("lab.yaml"), profile).unwrap();
    let planned = host.sandbox.run(["plan", "-p", "lab.yaml"]);
    assert_eq!(planned.code, Some(0), "{planned:?}");
    let ends = format!("VM listens on tcp:127.0.0.1:{port}, vmserial connects through SSH (lab)");
    assert!(planned.stdout.contains(&ends), "{planned:?}");
    assert!(!planned.stdout.contains("not served yet"), "{planned:?}");
    let applied = host.sandbox.run(["apply", "-p", "lab.yaml", "--yes"]);
    assert_eq!(applied.code, Some(0), "{applied:?}");
    let mut debug = host.sandbox.start(["debug", "-p", "lab.yaml", "win11-kd"]);
    let mut client = client(&mut debug);
    host.must(&format!("xe vm-start uuid={UUID}"));
    read_until(&mut client, b"domain 1");
    host.must(&format!("xe vm-shutdown uuid={UUID} --force"));
    host.must(&format!("xe vm-start uuid={UUID}"));
    read_until(&mut client, b"domain 2");
    debug.signal("TERM");
    assert_eq!(debug.wait_end_with_input_open(), 0, "{}", debug.said());
    // Set up by flags, the line for the bridge has the same way.
    let line = format!("setup xen --host lab --vm win11-dev --endpoint listen:tcp:127.0.0.1:{port} --as kd");
    let shown = host.sandbox.run(line.split_whitespace());
    let expected = format!("vmserial bridge 'connect:tcp:127.0.0.1:{port},via=lab' ");
    assert!(shown.stdout.contains(&expected), "{shown:?}");
}

fn what_no_tunnel_reaches_is_refused_by_its_field() {
    let sandbox = Sandbox::new();
    for (attach, part) in [
        ("listen:tcp:0.0.0.0:7001", "expected its loopback address"),
        ("connect:tcp:127.0.0.1:7001", "vmserial connects to the VM"),
        ("listen:telnet:127.0.0.1:7001", "carries no `telnet`"),
    ] {
        let profile = format!(
            "version: 1\nhosts: {{x: {{hypervisor: xen, ssh: lab}}}}\ntargets:\n  a: {{host: x, vm: v, ports: [{{port: 1, as: kd, tunnel: ssh, attach: \"{attach}\"}}]}}\n"
        );
        fs::write(sandbox.path("lab.yaml"), profile).unwrap();
        let refused = sandbox.run(["profile", "check", "-p", "lab.yaml"]);
        assert_eq!(refused.code, Some(3), "{refused:?}");
        assert!(
            refused.stderr.contains(part) && refused.stderr.contains("targets.a.ports[0].attach"),
            "{refused:?}"
        );
    }
}
