//! The menu of `vmserial console` behind the escape key, and every way its terminal comes back.

use crate::bridge_rig::{accepted, bridge, vm};
use crate::kit::{Sandbox, attach, kill, read_until, wait_until};
use crate::terminal_rig::OnTerminal;
use libtest_mimic::Trial;
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::Command;

pub fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn()| {
        Trial::test(format!("console_menu::{name}"), move || {
            test();
            Ok(())
        })
    };
    vec![
        trial("who_is_attached_and_taking_over", who_is_attached_and_taking_over),
        trial("history_is_printed_again", history_is_printed_again),
        trial("a_log_begins_and_ends", a_log_begins_and_ends),
        trial("a_file_is_pasted_line_by_line", a_file_is_pasted_line_by_line),
        trial("a_paste_stops", a_paste_stops),
        trial("power_is_asked_for_by_name", power_is_asked_for_by_name),
        trial(
            "the_shell_has_the_terminal_meanwhile",
            the_shell_has_the_terminal_meanwhile,
        ),
        trial(
            "without_a_shell_nothing_is_suspended",
            without_a_shell_nothing_is_suspended,
        ),
        trial(
            "in_a_container_nothing_is_suspended",
            in_a_container_nothing_is_suspended,
        ),
        trial(
            "a_killed_owner_and_a_lost_terminal_end_it",
            a_killed_owner_and_a_lost_terminal_end_it,
        ),
    ]
}

/// A console of its own on a terminal, and the VM's end.
fn console(sandbox: &Sandbox, more: &[&str]) -> (OnTerminal, UnixStream) {
    let listener = vm(sandbox);
    let mut arguments = vec!["console", "connect:unix:vm"];
    arguments.extend(more);
    let mut console = OnTerminal::start(sandbox, &arguments);
    let mut target = accepted(&listener);
    console.wait("Escape key is");
    target.write_all(b"<up>").unwrap();
    console.wait("<up>");
    (console, target)
}

fn who_is_attached_and_taking_over() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let mut rig = bridge(
        &sandbox,
        &["--as=console"],
        &["listen:unix@c", "ro=listen:unix@r"],
    );
    let mut target = accepted(&listener);
    let _client = attach(&sandbox.path("c"), &mut target);
    let _reader = UnixStream::connect(sandbox.path("r")).unwrap();
    rig.wait_line("client 2 attached");
    let mut console = OnTerminal::start(&sandbox, &["console", "connect:unix:vm"]);
    console.wait("Escape key is");
    rig.wait_line("client 0 attached");
    console.press(b"\x1dw");
    console.wait("reads and writes, this console]");
    let shown = console.shown();
    assert!(shown.contains("connection 1 (pid"), "{shown}");
    assert!(shown.contains(") reads]"), "{shown}");
    console.press(b"\x1dt");
    console.wait("taken over, 1 was detached]");
    rig.wait_line("client 1 detached");
    console.press(b"key");
    assert_eq!(read_until(&mut target, b"key"), b"key");
    console.press(b"\x1d.");
    assert_eq!(console.end(), Some(0));
}

fn history_is_printed_again() {
    let sandbox = Sandbox::new();
    let (mut console, mut target) = console(&sandbox, &[]);
    target.write_all(&b"0123456789abcde\n".repeat(100)).unwrap();
    target.write_all(b"the end").unwrap();
    console.wait("the end");
    console.forget();
    // Nothing of what is typed at a question goes to the VM.
    console.press(b"\x1dh1\r");
    console.wait("[vmserial: end of history]");
    let shown = console.shown();
    assert!(shown.contains("[vmserial: history, 1024 bytes]"), "{shown}");
    assert!(shown.contains("the end"), "{shown}");
    console.press(b"\x1dhmuch\r");
    console.wait("`much` is no number of KiB");
    console.press(b"\x1dh7\x03");
    console.press(b"typed");
    assert_eq!(read_until(&mut target, b"typed"), b"typed");
}

fn a_log_begins_and_ends() {
    let sandbox = Sandbox::new();
    let (mut console, mut target) = console(&sandbox, &[]);
    console.press(b"\x1dlvm.lox\x7fg\r");
    console.wait("[vmserial: logging to ");
    target.write_all(b"logged").unwrap();
    console.wait("logged");
    console.press(b"\x1dl\r\x1dl-\r");
    console.wait("[vmserial: the log has ended]");
    target.write_all(b"not any more").unwrap();
    console.wait("not any more");
    assert_eq!(fs::read(sandbox.path("vm.log")).unwrap(), b"logged");
    console.press(b"\x1dl/nowhere/log\r");
    console.wait("[vmserial: no log: cannot write the log `/nowhere/log`");
}

fn a_file_is_pasted_line_by_line() {
    let sandbox = Sandbox::new();
    let (mut console, mut target) = console(&sandbox, &["--paste-rate=100000", "--paste-line-delay=0s"]);
    fs::write(sandbox.path("script"), "echo one\r\necho two\nlast").unwrap();
    console.press(b"\x1dpscript\r");
    console.wait("pasting 22 bytes of script");
    // The next line waits for the echo of this one.
    for line in ["echo one\r", "echo two\r", "last"] {
        assert_eq!(read_until(&mut target, line.as_bytes()), line.as_bytes());
        target.write_all(line.as_bytes()).unwrap();
    }
    console.wait("22 of 22 bytes of script pasted, done]");
    console.press(b"after");
    assert_eq!(read_until(&mut target, b"after"), b"after");
    // Without an echo it goes on all the same.
    fs::write(sandbox.path("secret"), "a\nb").unwrap();
    console.press(b"\x1dpsecret\r");
    assert_eq!(read_until(&mut target, b"b"), b"a\rb");
    console.press(b"\x1dpnothing\r");
    console.wait("cannot paste `nothing`");
}

fn a_paste_stops() {
    let sandbox = Sandbox::new();
    let (mut console, mut target) = console(&sandbox, &["--paste-rate=20"]);
    fs::write(sandbox.path("long"), "x".repeat(100_000)).unwrap();
    console.press(b"\x1dplong\r");
    read_until(&mut target, b"xxx");
    // Other keys would stand in the middle of the file.
    console.press(b"y\x03");
    console.wait("bytes of long pasted, stopped]");
    console.press(b"z");
    let rest = read_until(&mut target, b"z");
    assert!(!rest.contains(&b'y') && rest.len() < 1000, "{rest:?}");
    console.press(b"\x1dplong\r");
    read_until(&mut target, b"x");
    drop(target);
    console.wait("bytes of long pasted, the target went away]");
}

fn power_is_asked_for_by_name() {
    let sandbox = Sandbox::new();
    let (mut console, _target) = console(&sandbox, &[]);
    console.press(b"\x1doreset\r");
    console.wait("no power here: `connect:unix:vm` is an endpoint");
    console.press(b"\x1dosleep\r");
    console.wait("expected up, down or reset");
    drop(console);
    let text = "version: 1\ntargets:\n  dev:\n    host: qemu\n    vm: dev\n    ports:\n      - {port: 1, as: console, attach: 'listen:unix:vm'}\n";
    fs::write(sandbox.path("vmserial.yaml"), text).unwrap();
    let mut console = OnTerminal::start(&sandbox, &["console", "vmserial.yaml", "dev"]);
    console.wait("Escape key is");
    console.press(b"\x1dodown\r");
    console.wait("Nothing to stop: vmserial started none of these VMs.]");
    console.press(b"\x1d.");
    assert_eq!(console.end(), Some(0));
}

/// Waits until a process is stopped, or goes on.
fn wait_stopped(pid: u32, stopped: bool) {
    wait_until("the process stops or goes on", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let state = stat.rsplit_once(") ").unwrap().1;
        (state.starts_with('T') == stopped).then_some(())
    });
}

fn the_shell_has_the_terminal_meanwhile() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let mut console = OnTerminal::start_job(&sandbox, &["console", "connect:unix:vm"]);
    let mut target = accepted(&listener);
    console.wait("Escape key is");
    target.write_all(b"up").unwrap();
    console.wait("up");
    let pid = console.child.id();
    for round in 0..2 {
        if round == 0 {
            console.press(b"\x1dz");
        } else {
            // By somebody else, as a shell's `suspend` or `kill` does.
            kill(pid, "TSTP");
        }
        wait_stopped(pid, true);
        assert!(console.is_cooked(), "the shell has its terminal");
        console.wait("suspended, `fg` goes on");
        console.forget();
        kill(pid, "CONT");
        console.wait("the console goes on");
        assert!(!console.is_cooked());
        console.press(b"key");
        assert_eq!(read_until(&mut target, b"key"), b"key");
    }
    // Stopped by force: the shell may have changed the terminal.
    kill(pid, "STOP");
    wait_stopped(pid, true);
    console.cook();
    kill(pid, "CONT");
    wait_until("the terminal is raw again", || {
        (!console.is_cooked()).then_some(())
    });
    console.press(b"\x1d.");
    assert_eq!(console.end(), Some(0));
    assert!(console.is_cooked());
}

fn without_a_shell_nothing_is_suspended() {
    let sandbox = Sandbox::new();
    let (mut console, mut target) = console(&sandbox, &[]);
    console.press(b"\x1dz");
    console.wait("not suspended: no shell would let it go on");
    console.press(b"key");
    assert_eq!(read_until(&mut target, b"key"), b"key");
}

/// Under `docker exec` the leaders of our session and our group are processes that we do not see: their number is 0.
fn in_a_container_nothing_is_suspended() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let inner = sandbox.vmserial(["console", "connect:unix:vm"]);
    command
        .args(["--pid", "--fork", "--kill-child"])
        .arg(inner.get_program())
        .args(inner.get_args());
    if let Some(place) = inner.get_current_dir() {
        command.current_dir(place);
    }
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut console = OnTerminal::start_command(command);
    let mut target = accepted(&listener);
    console.wait("Escape key is");
    console.press(b"\x1dz");
    console.wait("not suspended: no shell would let it go on");
    console.press(b"key");
    assert_eq!(read_until(&mut target, b"key"), b"key");
    console.press(b"\x1d.");
    assert_eq!(console.end(), Some(0));
}

fn a_killed_owner_and_a_lost_terminal_end_it() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let rig = bridge(&sandbox, &["--as=console"], &["listen:unix@c"]);
    let mut target = accepted(&listener);
    let mut console = OnTerminal::start(&sandbox, &["console", "connect:unix:vm"]);
    console.wait("Escape key is");
    target.write_all(b"up").unwrap();
    console.wait("up");
    assert!(!console.is_cooked());
    rig.signal("KILL");
    assert_eq!(console.end(), Some(13));
    assert!(console.is_cooked());
    drop(target);
    drop(rig);

    let mut console = OnTerminal::start(&sandbox, &["console", "connect:unix:vm"]);
    let mut target = accepted(&listener);
    target.write_all(b"again").unwrap();
    console.wait("again");
    // Its terminal is gone: a window was closed.
    console.hang_up();
    assert_eq!(console.end(), Some(0));
}
