//! `via=`: streams through a real OpenSSH server, by both engines.

use crate::bridge_rig::{accepted, in_use, random, read_exactly, vm};
use crate::kit::{Running, Sandbox, connect, is_fast, read_until, wait_until};
use crate::sshd::{Sshd, missing};
use libtest_mimic::{Failed, Trial};
use std::io::{Read, Write};
use std::net::TcpListener;

type Run = fn(&str);

pub fn trials() -> Vec<Trial> {
    let reason = missing();
    let all: [(&str, Run); 10] = [
        ("a_unix_socket_of_another_host", a_unix_socket_of_another_host),
        ("a_tcp_port_of_another_host", a_tcp_port_of_another_host),
        ("megabytes_and_half_closes", megabytes_and_half_closes),
        ("through_a_jump", through_a_jump),
        (
            "a_vm_that_reboots_costs_no_login",
            a_vm_that_reboots_costs_no_login,
        ),
        ("a_lost_link_comes_back", a_lost_link_comes_back),
        (
            "the_far_ends_refusals_are_states",
            the_far_ends_refusals_are_states,
        ),
        ("what_ssh_says_is_the_reason", what_ssh_says_is_the_reason),
        ("nothing_is_left_behind", nothing_is_left_behind),
        (
            "what_is_not_served_is_refused_by_name",
            what_is_not_served_is_refused_by_name,
        ),
    ];
    let trial = |engine: &'static str, name: &'static str, run: Run| {
        let left_out = (engine == SYSTEM && is_fast())
            .then(|| "the other engine is left out (VMSERIAL_TEST_FAST=1)".to_owned());
        let reason = reason.clone().or(left_out);
        Trial::ignorable_test(format!("via::{engine}::{name}"), move || match reason {
            Some(reason) => Ok(libtest_mimic::Completion::ignored_with(reason)),
            None => {
                run(engine);
                Ok::<_, Failed>(libtest_mimic::Completion::Completed)
            }
        })
    };
    let both = all
        .iter()
        .flat_map(|&(name, run)| [("builtin", name, run), (SYSTEM, name, run)]);
    both.map(|(engine, name, run)| trial(engine, name, run)).collect()
}

/// The engine that is the `ssh` program.
const SYSTEM: &str = "system";

fn sandbox(engine: &str) -> Sandbox {
    Sandbox::new().with("VMSERIAL_SSH_ENGINE", engine)
}

/// A bridge from `target` to the Unix socket `c`.
fn bridge(sandbox: &Sandbox, target: &str) -> Running {
    let mut bridge = sandbox.start(["-v", "bridge", target, &sandbox.endpoint("listen:unix", "c")]);
    bridge.wait_line("ready");
    bridge
}

fn via_unix(sandbox: &Sandbox) -> String {
    format!("{},via=lab", sandbox.endpoint("connect:unix", "vm"))
}

fn a_unix_socket_of_another_host(engine: &str) {
    let sandbox = sandbox(engine);
    let _server = Sshd::start(&sandbox);
    let listener = vm(&sandbox);
    let mut bridge = bridge(&sandbox, &via_unix(&sandbox));
    bridge.wait_line("target up");
    let mut client = connect(&sandbox.path("c"));
    let mut vm = in_use(&mut client, || accepted(&listener));
    client.write_all(b"question\n").unwrap();
    read_until(&mut vm, b"question\n");
    vm.write_all(b"answer\n").unwrap();
    read_until(&mut client, b"answer\n");
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
}

fn a_tcp_port_of_another_host(engine: &str) {
    let sandbox = sandbox(engine);
    let server = Sshd::start(&sandbox);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // The port of the server is written out: the configuration has none for this name.
    let target = format!("connect:tcp:127.0.0.1:{port},via=127.0.0.1:{}", server.port);
    let mut bridge = bridge(&sandbox, &target);
    let line = bridge.wait_line("target up");
    assert!(line.contains("connected"), "{line}");
    let mut client = connect(&sandbox.path("c"));
    let mut vm = in_use(&mut client, || listener.accept().unwrap().0);
    vm.write_all(b"login: ").unwrap();
    read_until(&mut client, b"login: ");
    client.write_all(b"root\n").unwrap();
    assert_eq!(read_exactly(&mut vm, 5), b"root\n");
}

fn megabytes_and_half_closes(engine: &str) {
    let sandbox = sandbox(engine);
    let _server = Sshd::start(&sandbox);
    let listener = vm(&sandbox);
    let mut bridge = sandbox.start([
        "-v",
        "bridge",
        &via_unix(&sandbox),
        &sandbox.endpoint("listen:unix", "c"),
        "--once",
        "--linger",
        "20s",
    ]);
    bridge.wait_line("ready");
    let mut vm = accepted(&listener);
    bridge.wait_line("target up");
    let mut client = connect(&sandbox.path("c"));
    bridge.wait_line("client 1 attached");
    let sent = random(3 << 20);
    let bytes = sent.clone();
    let writing = std::thread::spawn(move || {
        client.write_all(&bytes).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).unwrap();
        back
    });
    let mut seen = Vec::new();
    vm.read_to_end(&mut seen).unwrap();
    assert!(seen == sent, "{} bytes", seen.len());
    // The other direction goes on after the half-close.
    vm.write_all(&sent).unwrap();
    drop(vm);
    let back = writing.join().unwrap();
    assert!(back == sent, "{} bytes came back", back.len());
    assert_eq!(bridge.wait_end(), 0);
}

fn through_a_jump(engine: &str) {
    let sandbox = sandbox(engine);
    let server = Sshd::start(&sandbox);
    let listener = vm(&sandbox);
    let target = format!(
        "{},via=lab,via=127.0.0.1:{}",
        sandbox.endpoint("connect:unix", "vm"),
        server.port
    );
    let mut bridge = bridge(&sandbox, &target);
    bridge.wait_line("target up");
    let mut client = connect(&sandbox.path("c"));
    let mut vm = in_use(&mut client, || accepted(&listener));
    vm.write_all(b"from afar").unwrap();
    read_until(&mut client, b"from afar");
    wait_until("both servers were logged in to", || {
        (server.logins() > 0).then_some(())
    });
}

fn a_vm_that_reboots_costs_no_login(engine: &str) {
    let sandbox = sandbox(engine);
    let server = Sshd::start(&sandbox);
    let listener = vm(&sandbox);
    let mut bridge = bridge(&sandbox, &via_unix(&sandbox));
    let mut client = connect(&sandbox.path("c"));
    for boot in 0..5 {
        bridge.wait_line("target up");
        let mut vm = in_use(&mut client, || accepted(&listener));
        vm.write_all(format!("boot {boot}\n").as_bytes()).unwrap();
        read_until(&mut client, format!("boot {boot}\n").as_bytes());
        drop(vm);
        bridge.wait_line("target away: ended");
    }
    assert_eq!(server.logins(), 1);
}

fn a_lost_link_comes_back(engine: &str) {
    let sandbox = sandbox(engine);
    let mut server = Sshd::start(&sandbox);
    let listener = vm(&sandbox);
    let mut bridge = bridge(&sandbox, &via_unix(&sandbox));
    let mut client = connect(&sandbox.path("c"));
    bridge.wait_line("target up");
    let first = in_use(&mut client, || accepted(&listener));
    server.drop_connections();
    let line = bridge.wait_line("target away");
    let reason = match engine {
        SYSTEM => "closed by remote host",
        _ => "lost the connection to lab: the host closed it",
    };
    assert!(line.contains(reason), "{line}");
    bridge.wait_line("target up");
    let mut second = in_use(&mut client, || accepted(&listener));
    second.write_all(b"again").unwrap();
    read_until(&mut client, b"again");
    drop((first, second));
    server.stop();
    bridge.wait_line("Connection refused");
    server.restart();
    bridge.wait_line("target up");
    let mut third = in_use(&mut client, || accepted(&listener));
    third.write_all(b"third").unwrap();
    read_until(&mut client, b"third");
}

fn the_far_ends_refusals_are_states(engine: &str) {
    let sandbox = sandbox(engine);
    let server = Sshd::start(&sandbox);
    let port = {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap();
        closed.local_addr().unwrap().port()
    };
    let target = format!("connect:tcp:127.0.0.1:{port},via=lab");
    let mut bridge = bridge(&sandbox, &target);
    let line = bridge.wait_line("target away");
    assert!(line.ends_with("target away: refused"), "{line}");
    assert!(!bridge.said().contains("target up"), "{}", bridge.said());
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let (_vm, _) = listener.accept().unwrap();
    bridge.wait_line("target up");
    assert_eq!(server.logins(), 1, "the login stays while the VM is away");
    drop(bridge);

    let target = format!("{},via=lab", sandbox.endpoint("connect:unix", "absent"));
    let mut absent = self::bridge(&sandbox, &target);
    let line = absent.wait_line("target away");
    assert!(line.contains("connect failed"), "{line}");
    assert!(!absent.said().contains("target up"), "{}", absent.said());
}

fn what_ssh_says_is_the_reason(engine: &str) {
    let sandbox = sandbox(engine);
    let server = Sshd::start(&sandbox);
    std::fs::write(sandbox.path("ssh/known_hosts"), "").unwrap();
    let ended = sandbox.run(["bridge", &via_unix(&sandbox), "pty", "--wait", "3s"]);
    assert_eq!(ended.code, Some(7), "{}", ended.stderr);
    assert!(
        ended.stderr.contains(match engine {
            SYSTEM => "target away: Host key verification failed.",
            _ => "target away: the key of `lab` is not known: ssh-ed25519 SHA256:",
        }),
        "{}",
        ended.stderr
    );
    drop(server);
    let ended = sandbox.run(["bridge", &via_unix(&sandbox), "pty", "--wait", "2s"]);
    assert!(
        ended.stderr.contains(match engine {
            SYSTEM => "target away: ssh: connect to host 127.0.0.1 port",
            _ => "target away: cannot reach `lab` (127.0.0.1:",
        }),
        "{}",
        ended.stderr
    );
}

fn nothing_is_left_behind(engine: &str) {
    let sandbox = sandbox(engine);
    let _server = Sshd::start(&sandbox);
    let listener = vm(&sandbox);
    let mut bridge = bridge(&sandbox, &via_unix(&sandbox));
    let _vm = accepted(&listener);
    bridge.wait_line("target up");
    if engine != SYSTEM {
        assert_eq!(
            children(bridge.pid()),
            Vec::<String>::new(),
            "no process is started"
        );
        bridge.signal("TERM");
        assert_eq!(bridge.wait_end(), 0);
        return;
    }
    let folder = || {
        std::fs::read_dir(sandbox.path("run"))
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.join("s").exists())
    };
    let path = folder().expect("the forwarded socket is in the runtime folder");
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o700
    );
    let ssh = children(bridge.pid());
    assert_eq!(ssh.len(), 1, "one ssh: {ssh:?}");
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
    assert!(
        !std::path::Path::new(&format!("/proc/{}", ssh[0])).exists(),
        "ssh has ended"
    );
    assert_eq!(folder(), None);
    assert!(!path.exists());
}

/// The processes that a program has started, whichever of its threads did.
fn children(pid: u32) -> Vec<String> {
    let threads: String = std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .collect();
    threads.split_whitespace().map(str::to_owned).collect()
}

fn what_is_not_served_is_refused_by_name(engine: &str) {
    let sandbox = sandbox(engine);
    for (endpoint, part) in [
        ("pty:/tmp/x,via=h", "`pty` behind `via=` is not served yet"),
        ("listen:pipe:x,via=h", "served by a vmserial that runs on Windows"),
        (
            "listen:tcp:127.0.0.1:1,via=h",
            "to listen behind `via=` is not served yet",
        ),
        ("connect:unix:vm,via=h", "must begin with `/`"),
    ] {
        let ended = sandbox.run(["bridge", endpoint, "stdio"]);
        assert_eq!(ended.code, Some(5), "{endpoint}: {ended:?}");
        assert!(
            ended.stderr.contains(part) && ended.stderr.contains("hint:"),
            "{endpoint}: {ended:?}"
        );
    }
}
