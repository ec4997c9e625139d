//! `pty` endpoints with the users that they have: terminal programs, ones that die badly, a plain user's bridge.

use crate::bridge_rig::{accepted, bridge, read_exactly, vm};
use crate::kit::{PATIENCE, Running, Sandbox, kill, read_until, wait_until};
use libtest_mimic::{Failed, Trial};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::termios::{LocalModes, OptionalActions, OutputModes};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

pub fn trials() -> Vec<Trial> {
    let trial = |name: &'static str, run: fn()| {
        Trial::test(format!("pty::{name}"), move || -> Result<(), Failed> {
            run();
            Ok(())
        })
    };
    vec![
        trial(
            "what_a_dead_user_left_is_taken_back",
            what_a_dead_user_left_is_taken_back,
        ),
        trial(
            "a_plain_users_bridge_takes_it_back_too",
            a_plain_users_bridge_takes_it_back_too,
        ),
        trial("last_words_are_delivered", last_words_are_delivered),
        trial("the_last_of_several_users", the_last_of_several_users),
        trial(
            "a_look_at_the_settings_is_no_end",
            a_look_at_the_settings_is_no_end,
        ),
        trial(
            "nobody_reads_what_was_for_another",
            nobody_reads_what_was_for_another,
        ),
        trial(
            "a_hundred_users_leave_nothing_behind",
            a_hundred_users_leave_nothing_behind,
        ),
    ]
}

/// A user of the terminal at `link`.
struct User(File);

impl User {
    fn comes(link: &Path) -> Self {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let terminal = wait_until("the terminal can be opened", || {
            rustix::fs::open(link, flags, Mode::empty()).ok()
        });
        Self(File::from(terminal))
    }
}

impl Read for User {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let patience = rustix::time::Timespec {
            tv_sec: PATIENCE.as_secs().try_into().unwrap(),
            tv_nsec: 0,
        };
        let mut ready = [PollFd::new(&self.0, PollFlags::IN)];
        assert!(poll(&mut ready, Some(&patience)).unwrap() > 0, "nothing came");
        self.0.read(buffer)
    }
}

/// A bridge that is up, from the VM's end to the terminal `p`.
fn up(sandbox: &Sandbox, words: &[&str]) -> (Running, UnixStream) {
    let listener = vm(sandbox);
    let mut bridge = bridge(sandbox, words, &["pty@p"]);
    let vm = accepted(&listener);
    bridge.wait_line("target up");
    (bridge, vm)
}

/// Makes the terminal as bad as a user can leave it: for itself alone, echoing, translating.
fn spoil(terminal: &File) {
    rustix::termios::ioctl_tiocexcl(terminal).unwrap();
    let mut settings = rustix::termios::tcgetattr(terminal).unwrap();
    settings.local_modes |= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
    settings.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
    rustix::termios::tcsetattr(terminal, OptionalActions::Now, &settings).unwrap();
}

fn assert_serves(bridge: &mut Running, vm: &mut UnixStream, link: &Path) {
    let mut user = User::comes(link);
    bridge.wait_line("client 1 attached");
    let settings = rustix::termios::tcgetattr(&user.0).unwrap();
    assert_eq!(
        settings.local_modes & (LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG),
        LocalModes::empty()
    );
    assert_eq!(settings.output_modes & OutputModes::OPOST, OutputModes::empty());
    vm.write_all(b"boot\r\n\x03").unwrap();
    assert_eq!(read_exactly(&mut user, 7), b"boot\r\n\x03");
    user.0.write_all(b"\x04key\n").unwrap();
    // An echo of the VM's own bytes would be in front.
    assert_eq!(read_exactly(vm, 5), b"\x04key\n");
    drop(user);
    bridge.wait_line("client 1 detached");
}

fn what_a_dead_user_left_is_taken_back() {
    let sandbox = Sandbox::new();
    let (mut bridge, mut vm) = up(&sandbox, &[]);
    let link = sandbox.path("p");
    for _ in 0..3 {
        let user = User::comes(&link);
        bridge.wait_line("client 1 attached");
        spoil(&user.0);
        drop(user);
        bridge.wait_line("client 1 detached");
        assert_serves(&mut bridge, &mut vm, &link);
    }
}

/// Who may do everything may open an exclusive terminal. A plain user may not, not even its own.
fn a_plain_users_bridge_takes_it_back_too() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let program = sandbox.path("vmserial");
    std::fs::copy(env!("CARGO_BIN_EXE_vmserial"), &program).unwrap();
    let open =
        |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    open(&sandbox.path(""), 0o777);
    open(&sandbox.path("run"), 0o777);
    open(&sandbox.path("vm"), 0o777);
    let plain = |words: &[&str]| {
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--bounding-set=-all",
            ]);
            command.arg(words[0]);
            command
        } else {
            Command::new(words[0])
        };
        command
            .args(&words[1..])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", sandbox.path(""))
            .env("VMSERIAL_STATE", sandbox.path("state"))
            .env("XDG_RUNTIME_DIR", sandbox.path("run"))
            .current_dir(sandbox.path(""));
        command
    };
    let program = program.to_string_lossy().into_owned();
    let mut bridge = Running::start(&mut plain(&[
        &program,
        "-v",
        "bridge",
        "connect:unix:vm",
        "pty:p",
    ]));
    bridge.wait_line("ready");
    let mut vm = accepted(&listener);
    bridge.wait_line("target up");
    for boot in ["first", "second", "third"] {
        // A user that makes it exclusive and cooked, talks, and is killed: `socat` has both settings.
        let mut user = Running::start(&mut plain(&[
            "socat",
            "-u",
            "-",
            "OPEN:p,icanon=1,echo=1,opost=1,onlcr=1,ioctl-void=0x540C",
        ]));
        bridge.wait_line("client 1 attached");
        user.type_bytes(format!("{boot}\n").as_bytes());
        read_until(&mut vm, boot.as_bytes());
        let opens = plain(&["sh", "-c", ": <>p"])
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(!opens.success(), "the user has it for itself");
        kill(user.pid(), "KILL");
        bridge.wait_line("client 1 detached");
        let mut next = Running::start(&mut plain(&["socat", "-", "OPEN:p"]));
        bridge.wait_line("client 1 attached");
        vm.write_all(format!("to the one after {boot}\n").as_bytes())
            .unwrap();
        next.wait_output(format!("to the one after {boot}\n").as_bytes());
        next.type_bytes(b"typed\n");
        let typed = read_until(&mut vm, b"typed\n");
        assert!(
            !crate::kit::contains(&typed, b"to the one"),
            "no echo: {}",
            String::from_utf8_lossy(&typed)
        );
        drop(next.stdin.take());
        next.wait_end();
        bridge.wait_line("client 1 detached");
    }
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
    assert!(!sandbox.path("p").is_symlink());
}

fn last_words_are_delivered() {
    let sandbox = Sandbox::new();
    let (mut bridge, mut vm) = up(&sandbox, &[]);
    for round in 0..50 {
        let text = format!("last words {round};");
        let mut user = User::comes(&sandbox.path("p"));
        user.0.write_all(text.as_bytes()).unwrap();
        drop(user);
        assert_eq!(read_exactly(&mut vm, text.len()), text.as_bytes());
        bridge.wait_line("client 1 detached");
    }
}

fn the_last_of_several_users() {
    let sandbox = Sandbox::new();
    let (mut bridge, mut vm) = up(&sandbox, &[]);
    let link = sandbox.path("p");
    let first = User::comes(&link);
    bridge.wait_line("client 1 attached");
    let mut second = User::comes(&link);
    spoil(&second.0);
    let exclusive = || {
        let tries = rustix::fs::open(&link, OFlags::RDWR | OFlags::NOCTTY, Mode::empty());
        tries.is_err() || rustix::process::geteuid().is_root()
    };
    assert!(exclusive());
    drop(first);
    let mut settings = rustix::termios::tcgetattr(&second.0).unwrap();
    settings.make_raw();
    rustix::termios::tcsetattr(&second.0, OptionalActions::Now, &settings).unwrap();
    vm.write_all(b"for the second").unwrap();
    assert_eq!(read_exactly(&mut second, 14), b"for the second");
    second.0.write_all(b"still here").unwrap();
    assert_eq!(read_exactly(&mut vm, 10), b"still here");
    assert!(!bridge.said().contains("detached"), "{}", bridge.said());
    assert!(exclusive(), "it stays the second one's");
    drop(second);
    bridge.wait_line("client 1 detached");
    assert_serves(&mut bridge, &mut vm, &link);
}

fn a_look_at_the_settings_is_no_end() {
    let sandbox = Sandbox::new();
    let (mut bridge, mut vm) = up(&sandbox, &[]);
    let mut user = User::comes(&sandbox.path("p"));
    bridge.wait_line("client 1 attached");
    for _ in 0..10 {
        let looked = Command::new("stty")
            .arg("-F")
            .arg(sandbox.path("p"))
            .arg("-a")
            .output()
            .unwrap();
        assert!(looked.status.success());
        vm.write_all(b"x").unwrap();
        assert_eq!(read_exactly(&mut user, 1), b"x");
    }
    assert!(!bridge.said().contains("detached"), "{}", bridge.said());
}

fn nobody_reads_what_was_for_another() {
    let sandbox = Sandbox::new();
    let (mut bridge, mut vm) = up(&sandbox, &[]);
    let user = User::comes(&sandbox.path("p"));
    bridge.wait_line("client 1 attached");
    vm.write_all(b"unread").unwrap();
    // It is there, and nobody takes it.
    let mut ready = [PollFd::new(&user.0, PollFlags::IN)];
    assert_eq!(poll(&mut ready, None).unwrap(), 1);
    drop(user);
    bridge.wait_line("client 1 detached");
    let mut next = User::comes(&sandbox.path("p"));
    bridge.wait_line("client 1 attached");
    vm.write_all(b"fresh").unwrap();
    assert_eq!(read_exactly(&mut next, 5), b"fresh");
}

fn a_hundred_users_leave_nothing_behind() {
    let sandbox = Sandbox::new();
    let (mut bridge, mut vm) = up(&sandbox, &[]);
    let open = |bridge: &Running| {
        std::fs::read_dir(format!("/proc/{}/fd", bridge.pid()))
            .unwrap()
            .count()
    };
    let mut before = None;
    for _ in 0..100 {
        let mut user = User::comes(&sandbox.path("p"));
        bridge.wait_line("client 1 attached");
        vm.write_all(b"a").unwrap();
        assert_eq!(read_exactly(&mut user, 1), b"a");
        user.0.write_all(b"b").unwrap();
        assert_eq!(read_exactly(&mut vm, 1), b"b");
        drop(user);
        bridge.wait_line("client 1 detached");
        before.get_or_insert_with(|| open(&bridge));
    }
    wait_until("as many descriptors are open as after the first", || {
        (Some(open(&bridge)) <= before).then_some(())
    });
}
