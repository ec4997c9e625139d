//! The endpoint grammar as a user meets it: what a right one is served as (wrong ones: `endpoint_errors`).

use crate::kit::{Sandbox, connect, read_until};
use libtest_mimic::Trial;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

pub fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn()| {
        Trial::test(format!("endpoint::{name}"), move || {
            test();
            Ok(())
        })
    };
    vec![
        trial(
            "kinds_that_are_not_served_are_refused_by_name",
            kinds_that_are_not_served_are_refused_by_name,
        ),
        trial("a_free_port_on_loopback_is_told", a_free_port_on_loopback_is_told),
        trial("a_comma_in_a_path_is_two_commas", a_comma_in_a_path_is_two_commas),
        trial("a_tilde_is_the_home_folder", a_tilde_is_the_home_folder),
        trial(
            "a_file_is_appended_to_and_private",
            a_file_is_appended_to_and_private,
        ),
    ]
}

fn kinds_that_are_not_served_are_refused_by_name() {
    let sandbox = Sandbox::new();
    let ended = sandbox.run(["bridge", "connect:pipe:vm", "stdio", "--wait=100ms"]);
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.stderr.contains("no helper was found"), "{ended:?}");
}

fn a_free_port_on_loopback_is_told() {
    let sandbox = Sandbox::new();
    let vm = UnixListener::bind(sandbox.path("vm")).unwrap();
    let mut bridge = sandbox.start(["bridge", "connect:unix:vm", "listen:tcp:0"]);
    let line = bridge.wait_line("listening client 1");
    let address = line.strip_prefix("listening client 1 listen:tcp:").unwrap();
    assert!(
        address.starts_with("127.0.0.1:") && !address.ends_with(":0"),
        "{line}"
    );
    bridge.wait_line("ready");
    let (mut vm, _) = vm.accept().unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"over tcp").unwrap();
    read_until(&mut vm, b"over tcp");
}

fn a_comma_in_a_path_is_two_commas() {
    let sandbox = Sandbox::new();
    let _vm = UnixListener::bind(sandbox.path("vm")).unwrap();
    let mut bridge = sandbox.start(["bridge", "connect:unix:vm", "listen:unix:a,,b"]);
    assert_eq!(
        bridge.wait_line("listening"),
        "listening client 1 listen:unix:a,,b"
    );
    bridge.wait_line("ready");
    connect(&sandbox.path("a,b"));
}

fn a_tilde_is_the_home_folder() {
    let sandbox = Sandbox::new();
    let vm = UnixListener::bind(sandbox.path("vm")).unwrap();
    let _bridge = sandbox.bridge(["connect:unix:~/vm", "listen:unix:~/c"]);
    let (mut vm, _) = vm.accept().unwrap();
    connect(&sandbox.path("c")).write_all(b"home").unwrap();
    read_until(&mut vm, b"home");
}

fn a_file_is_appended_to_and_private() {
    let sandbox = Sandbox::new();
    let vm = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("connect:tcp:{}", vm.local_addr().unwrap());
    std::fs::write(sandbox.path("old"), "before ").unwrap();
    let mut bridge = sandbox.bridge([&endpoint, "file:old", "file:new", "--as=console"]);
    let (mut vm, _) = vm.accept().unwrap();
    vm.write_all(b"boot").unwrap();
    let read = |name: &str| std::fs::read_to_string(sandbox.path(name)).unwrap_or_default();
    crate::kit::wait_until("both files have it", || {
        (read("old") == "before boot" && read("new") == "boot").then_some(())
    });
    let mode = std::fs::metadata(sandbox.path("new"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);

    let ended = sandbox.run(["bridge", "file:old", "stdio"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
}
