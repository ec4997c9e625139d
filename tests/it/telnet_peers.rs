//! Telnet and RFC 2217 endpoints against the programs that people use: pyserial, ser2net, telnet, QEMU.

use crate::bridge_rig::{accepted, read_exactly, vm};
use crate::census::Census;
use crate::kit::{Running, Sandbox, connect, is_fast, read_until, wait_until};
use crate::telnet::{EACH_BYTE, listening};
use libtest_mimic::{Completion, Trial};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

/// Debian's Python: `python3-serial` is for that one.
const PYTHON: &str = "/usr/bin/python3";

pub fn trials() -> Vec<Trial> {
    vec![
        needs(
            "pyserial_opens_writes_reads_breaks_and_opens_again",
            pyserial_is_missing,
            pyserial,
        ),
        needs("ser2net_serves_rfc2217", ser2net_is_missing, ser2net),
        needs(
            "the_systems_telnet_client_types_and_breaks",
            telnet_is_missing,
            telnet_program,
        ),
        needs("qemu_listens_with_telnet", qemu_is_missing, qemu_listens),
        needs("qemu_connects_with_telnet", qemu_is_missing, qemu_connects),
    ]
}

fn needs(name: &str, missing: fn() -> Option<String>, test: fn()) -> Trial {
    Trial::ignorable_test(format!("telnet::{name}"), move || match missing() {
        None => {
            test();
            Ok(Completion::Completed)
        }
        Some(reason) => Ok(Completion::ignored_with(reason)),
    })
}

fn program_is_missing(words: &[&str]) -> bool {
    let ran = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    !ran.is_ok_and(|status| status.success())
}

fn pyserial_is_missing() -> Option<String> {
    program_is_missing(&[PYTHON, "-c", "import serial.rfc2217"])
        .then(|| "`python3-serial` is not installed".into())
}

fn ser2net_is_missing() -> Option<String> {
    program_is_missing(&["ser2net", "-v"]).then(|| "`ser2net` is not installed".into())
}

fn telnet_is_missing() -> Option<String> {
    program_is_missing(&["inetutils-telnet", "--version"])
        .then(|| "`inetutils-telnet` is not installed".into())
}

fn qemu_is_missing() -> Option<String> {
    if is_fast() {
        return Some("QEMU is left out (VMSERIAL_TEST_FAST=1)".into());
    }
    program_is_missing(&["qemu-system-x86_64", "--version"])
        .then(|| "`qemu-system-x86_64` is not installed".into())
}

/// What a lab's script does, with its waits (50 ms each, 300 ms at the end) made short.
const CLIENT: &str = r#"
import sys, time
import serial.rfc2217
url, count = sys.argv[1], int(sys.argv[2])
nap = time.sleep
serial.rfc2217.time.sleep = lambda seconds: nap(min(seconds, 0.005))
def opened(baud):
    return serial.serial_for_url(url, baudrate=baud, timeout=30)
every = bytes(range(256))
port = opened(9600)
port.write(every)
assert port.read(256) == every
port.send_break(0.05)
port.write(b"g")
assert port.read(1) == b"G"
port.baudrate = 115200
port.bytesize, port.parity, port.stopbits = 7, "E", 2
port.rtscts = True
port.dtr = False
port.rts = False
port.reset_input_buffer()
port.reset_output_buffer()
assert port.cts and port.dsr and port.cd and not port.ri
port.close()
for turn in range(count):
    port = opened(115200)
    port.write(b"%d." % turn)
    answer = port.read_until(b".")
    assert answer == b"%d." % turn, answer
    port.close()
    print("turn %d." % turn, file=sys.stderr, flush=True)
"#;

fn pyserial() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let (mut bridge, address) = listening(
        &sandbox,
        &[
            "connect:unix:vm",
            "listen:rfc2217:127.0.0.1:0",
            "--break-with=telnet",
            "--as=console",
        ],
    );
    let mut vm = accepted(&listener);
    let count = if is_fast() { 10 } else { 100 };
    let guest = std::thread::spawn(move || {
        assert_eq!(read_exactly(&mut vm, 256), EACH_BYTE);
        vm.write_all(&EACH_BYTE).unwrap();
        assert_eq!(read_exactly(&mut vm, 3), b"\xff\xf3g");
        vm.write_all(b"G").unwrap();
        let mut buffer = [0; 100];
        while let Ok(count @ 1..) = vm.read(&mut buffer) {
            vm.write_all(&buffer[..count]).unwrap();
        }
    });
    bridge.wait_line("target up");
    let mut census = Census::of(&sandbox, &bridge);
    let before = census.with_nobody();
    let url = format!("rfc2217://{address}");
    let mut client = Running::start(Command::new(PYTHON).args(["-c", CLIENT, &url, &count.to_string()]));
    for turn in 0..count {
        client.wait_line(&format!("turn {turn}."));
    }
    assert_eq!(client.wait_end(), 0, "{}", client.said());
    census.assert_back_at(before);
    bridge.wait_line("break by telnet: sent");
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
    guest.join().unwrap();
}

fn ser2net() {
    let sandbox = Sandbox::new();
    let (line, far) = (sandbox.path("line"), sandbox.path("far"));
    let pair = |link: &Path| format!("pty,raw,echo=0,link={}", link.display());
    let _socat = Running::start(Command::new("socat").args([pair(&line), pair(&far)]));
    wait_until("the pair is there", || {
        (line.exists() && far.exists()).then_some(())
    });
    let port = free_port();
    let configuration = format!(
        "connection: &port\n  accepter: telnet(rfc2217),tcp,127.0.0.1,{port}\n  connector: serialdev,{},115200n81,local\n",
        line.display()
    );
    std::fs::write(sandbox.path("ser2net.yaml"), configuration).unwrap();
    let _ser2net = Running::start(Command::new("ser2net").args([
        "-n".as_ref(),
        "-d".as_ref(),
        "-c".as_ref(),
        sandbox.path("ser2net.yaml").as_os_str(),
    ]));
    let target = format!("connect:rfc2217:127.0.0.1:{port},baud=9600");
    let mut bridge = sandbox.bridge([&*target, "listen:unix:c", "--as=console"]);
    bridge.wait_line("target up");
    let mut client = connect(&sandbox.path("c"));
    let mut far = std::fs::File::options().read(true).write(true).open(far).unwrap();
    client.write_all(&EACH_BYTE).unwrap();
    assert_eq!(read_exactly(&mut far, 256), EACH_BYTE);
    far.write_all(&EACH_BYTE).unwrap();
    assert_eq!(read_exactly(&mut client, 256), EACH_BYTE);
    wait_until("the line has its speed", || {
        let line = std::fs::File::open(&line).unwrap();
        let settings = rustix::termios::tcgetattr(line).unwrap();
        (settings.output_speed() == 9600).then_some(())
    });
    // A pseudo terminal shows no BREAK; that ser2net agreed to RFC 2217, or this would fail, is what is seen.
    let ended = sandbox.run(["break", &target, "--only-break"]);
    assert_eq!(
        (ended.code, &*ended.stdout),
        (Some(0), "BREAK sent (rfc2217).\n"),
        "{ended:?}"
    );
    client.write_all(b"after").unwrap();
    assert_eq!(read_exactly(&mut far, 5), b"after");
}

/// A port that nobody has now, for programs that cannot take a free one themselves.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A person at a terminal.
const PERSON: &str = r#"
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp("inetutils-telnet", ["inetutils-telnet"] + sys.argv[1:])
seen = b""
def until(part):
    global seen
    while part not in seen:
        seen += os.read(terminal, 1000)
    seen = seen.split(part, 1)[1]
until(b"Escape character")
until(b"login: ")
os.write(terminal, b"me")
until(b"ME")
os.write(terminal, b"\x1d")
until(b"telnet> ")
os.write(terminal, b"send brk\r")
os.write(terminal, b"\x1d")
until(b"telnet> ")
os.write(terminal, b"close\r")
os.waitpid(pid, 0)
"#;

fn telnet_program() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let (mut bridge, address) = listening(
        &sandbox,
        &[
            "connect:unix:vm",
            "listen:telnet:127.0.0.1:0",
            "--break-with=telnet",
        ],
    );
    let mut vm = accepted(&listener);
    bridge.wait_line("target up");
    let (host, port) = address.rsplit_once(':').unwrap();
    let mut person = Running::start(Command::new(PYTHON).args(["-c", PERSON, host, port]));
    bridge.wait_line("client 1 attached");
    vm.write_all(b"login: ").unwrap();
    // Each key comes by itself: the terminal is a character terminal.
    assert_eq!(read_exactly(&mut vm, 2), b"me");
    vm.write_all(b"ME").unwrap();
    assert_eq!(read_exactly(&mut vm, 2), b"\xff\xf3");
    bridge.wait_line("break by telnet: sent");
    assert_eq!(person.wait_end(), 0, "{}", person.said());
    bridge.wait_line("client 1 detached");
}

/// A QEMU whose firmware speaks on the serial port.
fn qemu(serial: &str) -> Running {
    Running::start(Command::new("qemu-system-x86_64").args([
        "-nographic",
        "-nodefaults",
        "-monitor",
        "none",
        "-m",
        "32M",
        "-serial",
        serial,
    ]))
}

fn qemu_listens() {
    let sandbox = Sandbox::new();
    let address = format!("127.0.0.1:{}", free_port());
    let mut bridge = sandbox.bridge([
        &*format!("connect:telnet:{address}"),
        "listen:unix:c",
        "--as=console",
        "--replay=64KiB",
    ]);
    let mut client = connect(&sandbox.path("c"));
    let _qemu = qemu(&format!("telnet:{address},server=on,wait=on"));
    bridge.wait_line("target up");
    let text = read_until(&mut client, b"SeaBIOS");
    assert!(!text.contains(&0xff), "{text:x?}");
}

fn qemu_connects() {
    let sandbox = Sandbox::new();
    let (mut bridge, address) = listening(&sandbox, &["listen:telnet:127.0.0.1:0", "listen:unix:c"]);
    let mut client = connect(&sandbox.path("c"));
    bridge.wait_line("client 1 attached");
    let _qemu = qemu(&format!("telnet:{address}"));
    let text = read_until(&mut client, b"SeaBIOS");
    assert!(!text.contains(&0xff), "{text:x?}");
}
