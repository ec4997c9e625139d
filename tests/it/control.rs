//! One owner per port and its control socket, with real processes.

use crate::kit::{Running, Sandbox, attach, connect, contains, read_until, wait_until};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;

pub fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn()| {
        Trial::test(format!("control::{name}"), move || {
            test();
            Ok(())
        })
    };
    vec![
        trial(
            "a_second_bridge_is_told_who_owns_the_port",
            a_second_bridge_is_told_who_owns_the_port,
        ),
        trial(
            "what_a_killed_owner_left_is_replaced",
            what_a_killed_owner_left_is_replaced,
        ),
        trial(
            "the_socket_is_private_and_goes_with_its_bridge",
            the_socket_is_private_and_goes_with_its_bridge,
        ),
        trial(
            "methods_answer_as_they_are_documented",
            methods_answer_as_they_are_documented,
        ),
        trial(
            "attach_turns_the_connection_into_bytes",
            attach_turns_the_connection_into_bytes,
        ),
        trial("who_watches_hears_the_end", who_watches_hears_the_end),
        trial("socat_is_a_client", socat_is_a_client),
        trial("a_break_in_tells_what_it_saw", a_break_in_tells_what_it_saw),
        trial("the_g_goes_to_the_break_port", the_g_goes_to_the_break_port),
        trial(
            "a_break_port_that_is_owned_is_asked_for",
            a_break_port_that_is_owned_is_asked_for,
        ),
        trial("a_held_qmp_socket_is_named", a_held_qmp_socket_is_named),
    ]
}

/// The VM's end of a port: accepts once.
fn vm(sandbox: &Sandbox) -> UnixListener {
    UnixListener::bind(sandbox.path("vm")).unwrap()
}

fn accepted(listener: &UnixListener) -> UnixStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(crate::kit::PATIENCE)).unwrap();
    stream
}

/// A bridge with a console on `c`, and the VM's end of it.
fn bridge(sandbox: &Sandbox) -> (Running, UnixStream) {
    let listener = vm(sandbox);
    let bridge = sandbox.bridge([
        sandbox.endpoint("connect:unix", "vm"),
        sandbox.endpoint("listen:unix", "c"),
        "--as=console".into(),
    ]);
    (bridge, accepted(&listener))
}

/// The one control socket of a sandbox.
pub fn control_socket(sandbox: &Sandbox) -> PathBuf {
    let folder = sandbox.path("run/vmserial");
    let sockets: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(sockets.len(), 1, "{sockets:?}");
    sockets[0].clone()
}

/// Asks as a script does: a line there, a line back.
pub struct Asker(BufReader<UnixStream>);

impl Asker {
    pub fn new(sandbox: &Sandbox) -> Self {
        Self(BufReader::new(connect(&control_socket(sandbox))))
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: `{line}`"))
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        let request = json!({ "v": 1, "id": 5, "method": method, "params": params });
        self.0
            .get_mut()
            .write_all(format!("{request}\n").as_bytes())
            .unwrap();
        let reply = self.line();
        assert_eq!(reply["id"], 5, "{reply}");
        reply
    }

    pub fn result(&mut self, method: &str, params: Value) -> Value {
        let reply = self.ask(method, params);
        assert!(reply["error"].is_null(), "{reply}");
        reply["result"].clone()
    }
}

fn a_second_bridge_is_told_who_owns_the_port() {
    let sandbox = Sandbox::new();
    let (_first, _vm) = bridge(&sandbox);
    let second = sandbox.run(["bridge", "connect:unix:./vm", "listen:unix:d"]);
    insta::assert_snapshot!(second.shown(&sandbox), @r"
    exit code: 5
    --- standard output
    --- standard error
    error: the port `connect:unix:[SANDBOX]/vm` is owned by pid [PID]: `vmserial bridge connect:unix:[SANDBOX]/vm listen:unix:[SANDBOX]/c '--as=console'`
    hint: Join it with `vmserial console connect:unix:[SANDBOX]/vm`, or end it first.
    ");
    assert!(!sandbox.path("d").exists(), "a refused bridge opens nothing");
}

fn what_a_killed_owner_left_is_replaced() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let arguments = [
        sandbox.endpoint("connect:unix", "vm"),
        sandbox.endpoint("listen:unix", "c"),
        "--as=console".into(),
    ];
    let mut first = sandbox.bridge(&arguments);
    let _vm = accepted(&listener);
    first.signal("KILL");
    assert_eq!(first.wait_end(), 128 + 9);
    let socket = control_socket(&sandbox);
    assert!(socket.exists(), "kill -9 leaves the socket behind");
    let second = sandbox.bridge(&arguments);
    let mut vm = accepted(&listener);
    let identity = Asker::new(&sandbox).result("hello", json!({}));
    assert_eq!(identity["pid"], second.pid());
    let mut client = attach(&sandbox.path("c"), &mut vm);
    vm.write_all(b"alive").unwrap();
    read_until(&mut client, b"alive");
}

fn the_socket_is_private_and_goes_with_its_bridge() {
    let sandbox = Sandbox::new();
    let (mut bridge, _vm) = bridge(&sandbox);
    let socket = control_socket(&sandbox);
    let metadata = std::fs::metadata(&socket).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let folder = std::fs::metadata(socket.parent().unwrap()).unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
    assert!(!socket.exists());
    let locks: Vec<u64> = std::fs::read_dir(sandbox.path("state/ports"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .collect();
    assert_eq!(locks, [0], "the lock file names nobody");
}

fn methods_answer_as_they_are_documented() {
    let sandbox = Sandbox::new();
    let (mut bridge, mut vm) = bridge(&sandbox);
    let mut asker = Asker::new(&sandbox);
    let hello = asker.result("hello", json!({}));
    assert_eq!(hello["pid"], bridge.pid());
    assert_eq!(hello["policy"], "console");
    assert!(
        hello["command"]
            .as_str()
            .unwrap()
            .starts_with("vmserial bridge connect:unix:")
    );

    vm.write_all(b"boot\n").unwrap();
    let mut client = connect(&sandbox.path("c"));
    let status = wait_until("the client and the bytes are counted", || {
        let status = asker.result("status", json!({}));
        (status["clients"].as_array()?.len() == 1 && status["from_target"] == 5).then_some(status)
    });
    assert_eq!(status["target"], "up");
    assert_eq!(status["clients"][0]["client"], 1);

    let history = asker.result("history", json!({ "since": { "offset": 1 }, "limit": 3 }));
    assert_eq!(
        history,
        json!({ "offset": 1, "skipped": 0, "end": 5, "base64": "b290" })
    );

    let log = sandbox.path("port.log");
    asker.result("log", json!({ "path": log }));
    vm.write_all(b"logged\n").unwrap();
    wait_until("the log has it", || {
        contains(&std::fs::read(&log).unwrap_or_default(), b"logged\n").then_some(())
    });
    let error = asker.ask("log", json!({ "path": "relative" }));
    assert_eq!(error["error"]["kind"], "usage");
    asker.result("log", json!({ "path": null }));

    let connection = status["clients"][0]["connection"].clone();
    asker.result("detach", json!({ "connection": connection }));
    client.read_to_end(&mut Vec::new()).unwrap();
    let error = asker.ask("detach", json!({ "connection": connection }));
    assert_eq!(error["error"]["kind"], "not_found");

    let mut writer = connect(&sandbox.path("c"));
    wait_until("it is attached", || {
        (asker.result("status", json!({}))["clients"].as_array()?.len() == 1).then_some(())
    });
    assert_eq!(asker.result("take_over", json!({})), json!({ "detached": 1 }));
    writer.read_to_end(&mut Vec::new()).unwrap();

    let error = asker.ask("reboot", json!({}));
    assert!(
        error["error"]["message"]
            .as_str()
            .unwrap()
            .contains("unknown method `reboot`")
    );
    asker.result("stop", json!({}));
    assert_eq!(bridge.wait_end(), 0);
}

fn attach_turns_the_connection_into_bytes() {
    let sandbox = Sandbox::new();
    let (_bridge, mut vm) = bridge(&sandbox);
    vm.write_all(b"first ").unwrap();
    let mut stream = connect(&control_socket(&sandbox));
    // What stands behind the request is typed already.
    let request = br#"{"v":1,"id":1,"method":"attach","params":{"since":{"offset":0}}}"#;
    stream.write_all(&[&request[..], b"\ntyped"].concat()).unwrap();
    read_until(&mut vm, b"typed");
    vm.write_all(b"second").unwrap();
    let all = read_until(&mut stream, b"second");
    let end = all.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    let reply: Value = serde_json::from_slice(&all[..end]).unwrap();
    assert_eq!(reply["id"], 1);
    assert_eq!(&all[end..], b"first second");

    // One that only reads is not heard.
    let mut reader = connect(&control_socket(&sandbox));
    reader
        .write_all(b"{\"v\":1,\"id\":1,\"method\":\"attach\",\"params\":{\"mode\":\"ro\"}}\nunheard")
        .unwrap();
    read_until(&mut reader, b"\n");
    stream.write_all(b"heard").unwrap();
    assert_eq!(read_until(&mut vm, b"heard"), b"heard");
}

fn who_watches_hears_the_end() {
    let sandbox = Sandbox::new();
    let (mut bridge, vm) = bridge(&sandbox);
    let mut asker = Asker::new(&sandbox);
    asker.result("hello", json!({ "events": true }));
    drop(vm);
    let away = asker.line();
    assert_eq!(
        (away["event"].as_str(), away["state"].as_str()),
        (Some("target"), Some("away"))
    );
    assert_eq!(away["v"], 1);
    bridge.signal("TERM");
    loop {
        let event = asker.line();
        if event["event"] == "stopped" {
            break;
        }
    }
    assert_eq!(
        asker.0.read_line(&mut String::new()).unwrap(),
        0,
        "and then the connection ends"
    );
    assert_eq!(bridge.wait_end(), 0);
}

fn socat_is_a_client() {
    let sandbox = Sandbox::new();
    let (_bridge, _vm) = bridge(&sandbox);
    let socket = format!("UNIX-CONNECT:{}", control_socket(&sandbox).display());
    let mut socat = Running::start(Command::new("socat").args(["-t", "30", "-", &socket]));
    socat.type_bytes(b"{\"v\":1,\"id\":1,\"method\":\"status\"}\n");
    let said = socat.wait_output(b"\n");
    let reply: Value = serde_json::from_slice(&said).unwrap();
    assert_eq!(reply["result"]["target"], "up");
}

/// A kernel with kgdb on its console: BREAK, then `g` within the SysRq time.
fn kernel(mut vm: UnixStream, answer: &'static [u8]) {
    std::thread::spawn(move || {
        let mut heard = Vec::new();
        let mut buffer = [0; 64];
        while let Ok(count @ 1..) = vm.read(&mut buffer) {
            heard.extend_from_slice(&buffer[..count]);
            if contains(&heard, b"\xff\xf3g") {
                vm.write_all(answer).unwrap();
                heard.clear();
            }
        }
    });
}

fn a_break_in_tells_what_it_saw() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let endpoint = sandbox.endpoint("connect:unix", "vm");
    let bridge = sandbox.bridge([&endpoint, "listen:unix:c", "--as=console", "--break-with=telnet"]);
    kernel(accepted(&listener), b"\r\nKGDB: Entering KGDB\r\n");
    let stopped = sandbox.run(["break", &endpoint]);
    insta::assert_snapshot!(stopped.shown(&sandbox), @r"
    exit code: 0
    --- standard output
    The kernel stopped in kgdb (BREAK by telnet; the kernel said `Entering KGDB`).
    --- standard error
    ");
    drop(bridge);

    // Nobody owns the port: it is opened for the break-in, and given back.
    let accept = std::thread::spawn(move || {
        kernel(
            accepted(&listener),
            b"sysrq: This sysrq operation is disabled.\r\n",
        )
    });
    let ran_on = sandbox.run(["break", &endpoint, "--break-with=telnet"]);
    accept.join().unwrap();
    insta::assert_snapshot!(ran_on.shown(&sandbox), @r"
    exit code: 7
    --- standard output
    --- standard error
    error: BREAK and `g` were sent (telnet), and no sign of a stopped kernel came within 1.6 s
    hint: Does the kernel have kgdb on a port (`kgdboc=ttyS0` or `kgdboc=ttyS1`), and is this the port of its console?
    hint: Does `/proc/sys/kernel/sysrq` allow it (1, or with 8), and is there no `lockdown=` on its command line?
    hint: Some kernels take BREAK and drop the `g` (8250 driver, 2025 to 2026): `echo g > /proc/sysrq-trigger` in the guest works there.
    ");

    let nobody = sandbox.run([
        "break",
        "connect:unix:absent",
        "--break-with=telnet",
        "--wait=50ms",
    ]);
    insta::assert_snapshot!(nobody.shown(&sandbox), @r"
    exit code: 7
    --- standard output
    --- standard error
    error: the target is away: absent
    hint: Start the VM, or check where its port is.
    ");
}

/// A VM whose kernel has kgdb on one port and its console on another.
fn two_ports(sandbox: &Sandbox, console_break: &str) -> (Running, UnixStream, UnixListener) {
    let console = UnixListener::bind(sandbox.path("console")).unwrap();
    let listener = vm(sandbox);
    let bridge = sandbox.bridge([
        "connect:unix:vm",
        "listen:unix:c",
        "--as=console",
        "--break-port=connect:unix:console",
        console_break,
    ]);
    (bridge, accepted(&listener), console)
}

fn the_g_goes_to_the_break_port() {
    let sandbox = Sandbox::new();
    let (_bridge, mut vm, console) = two_ports(&sandbox, "--break-with=telnet");
    let kernel = std::thread::spawn(move || {
        let mut console = accepted(&console);
        assert_eq!(read_until(&mut console, b"g"), b"\xff\xf3g");
        vm.write_all(b"$T05thread:01;#07 KGDB: Entering KGDB").unwrap();
        // It is given back by itself: somebody else may want it.
        assert_eq!(console.read_to_end(&mut Vec::new()).unwrap(), 0);
        vm
    });
    let ended = sandbox.run(["break", "connect:unix:vm"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    kernel.join().unwrap();
}

fn a_break_port_that_is_owned_is_asked_for() {
    let sandbox = Sandbox::new();
    let (_bridge, mut vm, console) = two_ports(&sandbox, "--break-with=none");
    let mut owner = sandbox.bridge([
        "connect:unix:console",
        "listen:unix:d",
        "--as=console",
        "--break-with=telnet",
    ]);
    let mut console = accepted(&console);
    let kernel = std::thread::spawn(move || {
        // The owner's one connection carries it, so no second one is needed.
        assert_eq!(read_until(&mut console, b"g"), b"\xff\xf3g");
        vm.write_all(b"KGDB: Entering KGDB").unwrap();
        (vm, console)
    });
    let ended = sandbox.run(["--json", "break", "connect:unix:vm"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let result: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(result["way"], format!("console of pid {}", owner.pid()));
    assert_eq!(result["stopped_in"], "kgdb");
    owner.wait_line("break by telnet: sent");
    kernel.join().unwrap();
}

fn a_held_qmp_socket_is_named() {
    let sandbox = Sandbox::new();
    // It accepts, because its backlog does, and never greets, because another client has it.
    let _held = UnixListener::bind(sandbox.path("qmp")).unwrap();
    let listener = vm(&sandbox);
    let _bridge = sandbox.bridge([
        "connect:unix:vm",
        "listen:unix:c",
        "--as=console",
        "--break-with=qmp:qmp",
    ]);
    let _vm = accepted(&listener);
    let ended = sandbox.run(["break", "connect:unix:vm"]);
    insta::assert_snapshot!(ended.shown(&sandbox), @r"
    exit code: 6
    --- standard output
    --- standard error
    error: qmp:qmp: the QMP socket `qmp` accepts and does not greet: another client holds it
    ");
}
