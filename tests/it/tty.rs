//! `tty:` endpoints over a pseudo terminal, whose master is the other end of the wire.

use crate::bridge_rig::{random, read_exactly};
use crate::kit::{PATIENCE, Running, Sandbox, connect, kill, read_until, wait_until};
use libtest_mimic::{Completion, Failed, Trial};
use rustix::pty::OpenptFlags;
use rustix::termios::{ControlModes, InputModes, LocalModes, OutputModes, Termios};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

pub fn trials() -> Vec<Trial> {
    let trial = |name: &'static str, run: fn()| {
        Trial::test(format!("tty::{name}"), move || -> Result<(), Failed> {
            run();
            Ok(())
        })
    };
    let strace = Path::new("/usr/bin/strace").exists();
    vec![
        trial("every_byte_passes_both_ways", every_byte_passes_both_ways),
        trial("the_settings_are_those_written", the_settings_are_those_written),
        trial("a_device_is_a_client_too", a_device_is_a_client_too),
        trial("an_unplugged_device_comes_back", an_unplugged_device_comes_back),
        trial("a_device_is_for_one", a_device_is_for_one),
        trial("what_is_no_device_is_refused", what_is_no_device_is_refused),
        Trial::ignorable_test("tty::a_break_is_held_for_a_quarter_of_a_second", move || {
            if !strace {
                return Ok::<_, Failed>(Completion::ignored_with("`strace` is not there (Debian: strace)"));
            }
            a_break_is_held();
            Ok(Completion::Completed)
        }),
        Trial::ignorable_test("tty::modem_lines_are_set", move || {
            if !strace {
                return Ok::<_, Failed>(Completion::ignored_with("`strace` is not there (Debian: strace)"));
            }
            modem_lines_are_set();
            Ok(Completion::Completed)
        }),
    ]
}

/// A wire: its other end, and a link to the device at this end.
struct Wire {
    end: File,
    link: PathBuf,
}

impl Wire {
    fn plug_in(link: PathBuf) -> Self {
        let master =
            rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        rustix::pty::grantpt(&master).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let device = rustix::pty::ptsname(&master, Vec::new()).unwrap();
        std::os::unix::fs::symlink(device.to_str().unwrap(), &link).unwrap();
        Self {
            end: File::from(master),
            link,
        }
    }

    fn device(&self) -> PathBuf {
        std::fs::read_link(&self.link).unwrap()
    }

    fn settings(&self) -> Termios {
        rustix::termios::tcgetattr(&self.end).unwrap()
    }

    /// Unplugs the device: the node is gone, and who has it open is told.
    fn unplug(self) {
        std::fs::remove_file(&self.link).unwrap();
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        use rustix::event::{PollFd, PollFlags, poll};
        let patience = rustix::time::Timespec {
            tv_sec: PATIENCE.as_secs().try_into().unwrap(),
            tv_nsec: 0,
        };
        let mut ready = [PollFd::new(&self.end, PollFlags::IN)];
        assert!(poll(&mut ready, Some(&patience)).unwrap() > 0, "nothing came");
        self.end.read(buffer)
    }
}

/// A bridge from the device `d` to the Unix socket `c`, up.
fn up(sandbox: &Sandbox, options: &str) -> (Running, Wire) {
    let wire = Wire::plug_in(sandbox.path("d"));
    (bridge(sandbox, options), wire)
}

fn bridge(sandbox: &Sandbox, options: &str) -> Running {
    let target = format!("{}{options}", sandbox.endpoint("tty", "d"));
    let mut bridge = sandbox.start(["-v", "bridge", &target, &sandbox.endpoint("listen:unix", "c")]);
    bridge.wait_line("ready");
    bridge.wait_line("target up");
    bridge
}

fn every_byte_passes_both_ways() {
    let sandbox = Sandbox::new();
    let (mut bridge, mut wire) = up(&sandbox, "");
    let mut client = connect(&sandbox.path("c"));
    bridge.wait_line("client 1 attached");
    let all: Vec<u8> = (0..=255).collect();
    client.write_all(&all).unwrap();
    assert_eq!(read_exactly(&mut wire, 256), all);
    wire.end.write_all(&all).unwrap();
    assert_eq!(read_exactly(&mut client, 256), all);
    let sent = random(300_000);
    let mut writer = wire.end.try_clone().unwrap();
    let bytes = sent.clone();
    let writing = std::thread::spawn(move || writer.write_all(&bytes).unwrap());
    assert!(read_exactly(&mut client, sent.len()) == sent);
    writing.join().unwrap();
    let bytes = sent.clone();
    let writing = std::thread::spawn(move || client.write_all(&bytes).map(|()| client).unwrap());
    assert!(read_exactly(&mut wire, sent.len()) == sent);
    writing.join().unwrap();
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
}

fn the_settings_are_those_written() {
    let sandbox = Sandbox::new();
    let wire = Wire::plug_in(sandbox.path("d"));
    // As a login shell's terminal has it, and more.
    let mut cooked = wire.settings();
    cooked.control_modes |= ControlModes::CSTOPB | ControlModes::CRTSCTS;
    cooked.input_modes |= InputModes::IXON | InputModes::ICRNL | InputModes::ISTRIP;
    rustix::termios::tcsetattr(&wire.end, rustix::termios::OptionalActions::Now, &cooked).unwrap();
    let first = bridge(&sandbox, "");
    let plain = wire.settings();
    assert_eq!(
        plain.local_modes & (LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG),
        LocalModes::empty()
    );
    assert_eq!(
        plain.input_modes & (InputModes::IXON | InputModes::ICRNL | InputModes::ISTRIP),
        InputModes::empty()
    );
    assert_eq!(plain.output_modes & OutputModes::OPOST, OutputModes::empty());
    assert_eq!(
        plain.control_modes & (ControlModes::CSTOPB | ControlModes::CRTSCTS),
        ControlModes::empty()
    );
    assert!(
        plain
            .control_modes
            .contains(ControlModes::CLOCAL | ControlModes::CREAD | ControlModes::CS8)
    );
    drop(first);
    wire.unplug();

    let (bridge, wire) = up(&sandbox, ",baud=57600,stop=2,flow=rtscts");
    let set = wire.settings();
    assert_eq!((set.input_speed(), set.output_speed()), (57600, 57600));
    assert!(
        set.control_modes
            .contains(ControlModes::CSTOPB | ControlModes::CRTSCTS)
    );
    drop(bridge);
    wire.unplug();

    let (_bridge, wire) = up(&sandbox, ",baud=250000,flow=xonxoff");
    let set = wire.settings();
    assert_eq!(set.output_speed(), 250_000, "a speed that has no name");
    assert!(set.input_modes.contains(InputModes::IXON));
}

fn a_device_is_a_client_too() {
    let sandbox = Sandbox::new();
    let listener = crate::bridge_rig::vm(&sandbox);
    let mut wire = Wire::plug_in(sandbox.path("d"));
    let mut bridge = crate::bridge_rig::bridge(&sandbox, &[], &["tty@d"]);
    let mut vm = crate::bridge_rig::accepted(&listener);
    // Until then the wire is an ordinary terminal, which echoes.
    bridge.wait_line("client 1 attached");
    wire.end.write_all(b"key").unwrap();
    read_until(&mut vm, b"key");
    vm.write_all(b"text").unwrap();
    assert_eq!(read_exactly(&mut wire, 4), b"text");
}

fn an_unplugged_device_comes_back() {
    let sandbox = Sandbox::new();
    let (mut bridge, wire) = up(&sandbox, "");
    let mut client = connect(&sandbox.path("c"));
    bridge.wait_line("client 1 attached");
    wire.unplug();
    let line = bridge.wait_line("target away");
    assert!(line.ends_with("target away: the device is gone"), "{line}");
    let line = bridge.wait_line("target away");
    assert!(line.ends_with("target away: absent"), "{line}");
    let mut wire = Wire::plug_in(sandbox.path("d"));
    bridge.wait_line("target up");
    wire.end.write_all(b"back").unwrap();
    read_until(&mut client, b"back");
    client.write_all(b"again").unwrap();
    assert_eq!(read_exactly(&mut wire, 5), b"again");
}

fn a_device_is_for_one() {
    let sandbox = Sandbox::new();
    let (mut bridge, wire) = up(&sandbox, "");
    // Another user's vmserial knows nothing of our locks.
    let other = Sandbox::new();
    let mut second = other.start([
        "bridge",
        &sandbox.endpoint("tty", "d"),
        &other.endpoint("listen:unix", "c"),
    ]);
    let line = second.wait_line("target away");
    assert!(line.contains("target away: busy: `vmserial "), "{line}");
    // Who may do everything may open it; a plain user may not.
    let device = wire.device();
    std::fs::set_permissions(&device, std::fs::Permissions::from_mode(0o666)).unwrap();
    let opens = || {
        let script = format!(": <>{}", device.display());
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--bounding-set=-all",
                "sh",
            ]);
            command
        } else {
            Command::new("sh")
        };
        command.args(["-c", &script]).stderr(Stdio::null());
        command.status().unwrap().success()
    };
    assert!(!opens(), "closed to others while we have it");
    second.signal("TERM");
    assert_eq!(second.wait_end(), 0);
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
    assert!(
        opens(),
        "open again, though the other end of the wire never closed"
    );
    drop(wire);
}

fn what_is_no_device_is_refused() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("file"), "").unwrap();
    for (endpoint, code, part) in [
        (sandbox.endpoint("tty", "file"), 5, "is no terminal device"),
        ("tty:/dev/null".into(), 5, "is no terminal device"),
        (
            format!("{},baud=0", sandbox.endpoint("tty", "d")),
            2,
            "option `baud`: got",
        ),
        (
            format!("{},parity=mark", sandbox.endpoint("tty", "d")),
            2,
            "expected none, even or odd",
        ),
        (
            format!("{},data=9", sandbox.endpoint("tty", "d")),
            2,
            "expected 5, 6, 7 or 8",
        ),
        (
            format!("{},speed=9", sandbox.endpoint("tty", "d")),
            2,
            "`baud=`, `data=`, `parity=`, `stop=`, `flow=`, `via=`",
        ),
    ] {
        let ended = sandbox.run(["bridge", &endpoint, "pty"]);
        assert_eq!(ended.code, Some(code), "{endpoint}: {ended:?}");
        assert!(ended.stderr.contains(part), "{endpoint}: {ended:?}");
    }
    // One that is not there yet is waited for, on every system.
    let ended = sandbox.run(["bridge", "tty:COM3,baud=115200", "pty", "--wait", "200ms"]);
    assert_eq!(ended.code, Some(7), "{ended:?}");
    assert!(ended.stderr.contains("target away: absent"), "{ended:?}");
}

/// A pseudo terminal has no modem lines: what is asked of the system is what a serial port would be asked.
fn modem_lines_are_set() {
    let sandbox = Sandbox::new();
    let mut wire = Wire::plug_in(sandbox.path("d"));
    let target = sandbox.endpoint("tty", "d");
    let mut bridge = sandbox.start(["-v", "bridge", &target, "listen:rfc2217:0"]);
    let line = bridge.wait_line("listening client 1 ");
    let address = line.split_once("rfc2217:").unwrap().1.to_owned();
    bridge.wait_line("target up");
    let trace = sandbox.path("trace");
    let mut strace = Running::start(
        Command::new("strace")
            .args(["-f", "-e", "trace=ioctl", "-o"])
            .arg(&trace)
            .args(["-p", &bridge.pid().to_string()]),
    );
    strace.wait_line("attached");
    let mut client = std::net::TcpStream::connect(address).unwrap();
    // RFC 2217: WILL COM-PORT-OPTION, and SET-CONTROL (5) DTR on (8), DTR off (9), RTS on (11), RTS off (12).
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(&[255, 251, 44]).unwrap();
    // NOTIFY-MODEMSTATE: carrier, data set ready, clear to send.
    read_until(&mut client, &[255, 250, 44, 107]);
    for value in [8, 9, 11, 12] {
        client.write_all(&[255, 250, 44, 5, value, 255, 240]).unwrap();
        // Each is acknowledged (105) with what was asked for.
        read_until(&mut client, &[255, 250, 44, 105, value, 255, 240]);
    }
    wait_until("the lines were set", || {
        let text = std::fs::read_to_string(&trace).unwrap_or_default();
        let seen: Vec<&str> = text.lines().filter(|line| line.contains("TIOCM")).collect();
        let all = ["TIOCM_DTR", "TIOCM_RTS"].iter().all(|line| {
            ["TIOCMBIS", "TIOCMBIC"]
                .iter()
                .all(|way| seen.iter().any(|seen| seen.contains(way) && seen.contains(line)))
        });
        all.then_some(())
    });
    kill(strace.pid(), "TERM");
    strace.wait_end();
    // A device that has no such lines still passes bytes.
    client.write_all(b"on").unwrap();
    assert_eq!(read_exactly(&mut wire, 2), b"on");
}

fn a_break_is_held() {
    let sandbox = Sandbox::new();
    let (mut bridge, mut wire) = up(&sandbox, "");
    let trace = sandbox.path("trace");
    let mut strace = Running::start(
        Command::new("strace")
            .args(["-f", "-ttt", "-e", "trace=ioctl", "-o"])
            .arg(&trace)
            .args(["-p", &bridge.pid().to_string()]),
    );
    strace.wait_line("attached");
    let started = Instant::now();
    let ended = sandbox.run(["break", &sandbox.endpoint("tty", "d"), "--only-break"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "BREAK sent (tty).\n"),
        "{}",
        ended.stderr
    );
    assert!(started.elapsed().as_millis() >= 250);
    bridge.wait_line("break by tty: sent");
    kill(strace.pid(), "TERM");
    wait_until("the trace is whole", || {
        let text = std::fs::read_to_string(&trace).unwrap_or_default();
        text.contains("TIOCCBRK").then_some(())
    });
    strace.wait_end();
    let text = std::fs::read_to_string(&trace).unwrap();
    let at = |name: &str| -> f64 {
        let line = text
            .lines()
            .find(|line| line.contains(name))
            .unwrap_or_else(|| panic!("no {name} in {text}"));
        line.split_whitespace()
            .find_map(|word| word.parse().ok().filter(|time: &f64| *time > 1e9))
            .unwrap()
    };
    assert!(at("TIOCCBRK") - at("TIOCSBRK") >= 0.25, "{text}");
    assert!(
        text.find("TIOCOUTQ") < text.find("TIOCSBRK"),
        "what was written goes first: {text}"
    );
    let mut client = connect(&sandbox.path("c"));
    client.write_all(b"on").unwrap();
    assert_eq!(read_exactly(&mut wire, 2), b"on", "the BREAK is no byte");
}
