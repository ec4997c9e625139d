//! `vmserial guest linux` over a guest's serial console: the real small guest in QEMU, and shells of this machine on a pseudo
//! terminal.

use crate::guest::{Guest, trial};
use crate::kit::{Ended, Sandbox, is_fast, wait_until};
use crate::terminal_rig::OnTerminal;
use libtest_mimic::{Completion, Failed, Trial};
use std::process::{Child, Command, Stdio};

pub fn trials() -> Vec<Trial> {
    let here: [(&str, fn()); 2] = [
        (
            "each_shell_gives_the_same_answer",
            each_shell_gives_the_same_answer,
        ),
        (
            "sudo_is_used_and_its_password_kept",
            sudo_is_used_and_its_password_kept,
        ),
    ];
    let mut trials: Vec<Trial> = here
        .into_iter()
        .map(|(name, run)| {
            Trial::ignorable_test(format!("guest_serial::{name}"), move || {
                if is_fast() {
                    let reason = "dialogues over a console are left out (VMSERIAL_TEST_FAST=1)";
                    return Ok(Completion::ignored_with(reason));
                }
                run();
                Ok::<_, Failed>(Completion::Completed)
            })
        })
        .collect();
    let real: [(&str, fn()); 6] = [
        (
            "kgdb_is_set_up_over_the_console_and_taken_back",
            kgdb_is_set_up_over_the_console_and_taken_back,
        ),
        ("a_login_is_made_and_ended", a_login_is_made_and_ended),
        (
            "a_flood_of_kernel_messages_changes_nothing",
            a_flood_of_kernel_messages_changes_nothing,
        ),
        ("a_reboot_in_the_middle_is_told", a_reboot_in_the_middle_is_told),
        (
            "lines_that_are_typed_by_hand_are_seen_on_the_wire",
            lines_that_are_typed_by_hand_are_seen_on_the_wire,
        ),
        ("a_port_is_found_by_echo", a_port_is_found_by_echo),
    ];
    trials.extend(real.map(|(name, run)| trial(&format!("guest_serial::{name}"), run)));
    trials
}

/// A program on a pseudo terminal behind a Unix socket; ended when dropped.
pub struct Terminal(Child);

impl Terminal {
    pub fn start(sandbox: &Sandbox, program: &str) -> Self {
        let socket = sandbox.path("tty");
        let listen = format!("UNIX-LISTEN:{},unlink-early", socket.display());
        let exec = format!("EXEC:{program},pty,stderr,setsid,ctty,echo=1");
        let child = Command::new("socat")
            .args([listen, exec])
            .stderr(Stdio::null())
            .spawn()
            .expect("socat starts");
        wait_until("socat listens", || socket.exists().then_some(()));
        Self(child)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Ended already is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn json(ended: &Ended) -> serde_json::Value {
    let line = ended.stdout.lines().next().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

fn each_shell_gives_the_same_answer() {
    let sandbox = Sandbox::new();
    let here = json(&sandbox.run(["guest", "linux", "--local", "--show", "--json"]));
    let serial = sandbox.endpoint("connect:unix", "tty");
    for shell in ["bash -i", "dash -i", "busybox sh -i"] {
        let terminal = Terminal::start(&sandbox, shell);
        let there = json(&sandbox.run(["guest", "linux", "--serial", &serial, "--show", "--json"]));
        for fact in ["kernel", "config", "ttys", "os", "mounts", "uid"] {
            assert_eq!(here["facts"][fact], there["facts"][fact], "{shell}: {fact}");
        }
        drop(terminal);
        let _ = std::fs::remove_file(sandbox.path("tty"));
    }
}

/// A `sudo` that asks as the real one does: with the prompt that `-p` names, without echo, three times.
const SUDO: &str = r#"#!/bin/sh
prompt='[sudo] password: '
while :; do case $1 in
  -p) prompt=$2; shift 2;;
  -n) echo 'sudo: a password is required' >&2; exit 1;;
  --) shift; break;;
  *) break;;
esac; done
for time in 1 2 3; do
  stty -echo; printf '%s' "$prompt" >&2; read -r word; stty echo; echo >&2
  [ "$word" = s3cret ] && exec "$@"
  echo 'Sorry, try again.' >&2
done
echo 'sudo: 3 incorrect password attempts' >&2; exit 1
"#;

fn sudo_is_used_and_its_password_kept() {
    use std::os::unix::fs::PermissionsExt as _;
    let sandbox = Sandbox::new()
        .with("GUEST_PASSWORD", "s3cret")
        .with("WRONG_PASSWORD", "no");
    let bin = sandbox.path("far");
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(bin.join("sudo"), SUDO).unwrap();
    std::fs::set_permissions(bin.join("sudo"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let serial = sandbox.endpoint("connect:unix", "tty");
    let shell = format!("env PATH={}\\:/usr/bin\\:/bin sh -i", bin.display());
    let show = |more: &[&str]| {
        let terminal = Terminal::start(&sandbox, &shell);
        let words = [
            "guest", "linux", "--serial", &serial, "--show", "--json", "-vv", "--sudo",
        ];
        let ended = sandbox.run(words.iter().chain(more));
        drop(terminal);
        let _ = std::fs::remove_file(sandbox.path("tty"));
        assert!(
            !ended.stderr.contains("s3cret") && !ended.stdout.contains("s3cret"),
            "{ended:?}"
        );
        ended
    };
    let good = show(&["--password-env", "GUEST_PASSWORD"]);
    assert!(json(&good)["facts"]["kernel"].is_string(), "{good:?}");
    let wrong = show(&["--password-env", "WRONG_PASSWORD"]);
    assert_eq!(wrong.code, Some(5), "{wrong:?}");
    assert!(
        wrong.stderr.contains("`sudo` in the guest refused the password"),
        "{wrong:?}"
    );
    let none = show(&[]);
    assert!(none.stderr.contains("a password is required"), "{none:?}");
}

/// The small guest with all of BusyBox's programs, as a distribution has them.
fn small(sandbox: &Sandbox) -> Guest {
    let guest = Guest::without_kgdb(sandbox);
    guest.shell("/bin/busybox --install -s /bin");
    guest
}

fn over_console(sandbox: &Sandbox, guest: &Guest, words: &str) -> Ended {
    let console = guest.console.endpoint();
    let all = ["guest", "linux", "--serial", &console];
    sandbox.run(all.into_iter().chain(words.split_whitespace()))
}

/// What the guest's own shell says of a file.
fn says(guest: &Guest, file: &str, value: &str) {
    let shown = guest.shell(&format!("echo \"=$(cat {file})=\""));
    assert!(
        shown.contains(&format!("={value}=")),
        "{file} is not {value}: {shown}"
    );
}

const KGDBOC: &str = "/sys/module/kgdboc/parameters/kgdboc";
const SYSRQ: &str = "/proc/sys/kernel/sysrq";

fn kgdb_is_set_up_over_the_console_and_taken_back() {
    let sandbox = Sandbox::new();
    let guest = small(&sandbox);
    guest.shell(&format!("echo 438 > {SYSRQ}"));
    let before = guest.shell("cat /proc/sys/kernel/printk");
    let words = "--tty ttyS1 --log-level 8 --no-echo ttyS1";
    let shown = over_console(&sandbox, &guest, "--show");
    assert_eq!(shown.code, Some(0), "{shown:?}");
    for line in [
        "has kgdb on a serial port",
        "ttyS1 (I/O 0x2F8)",
        "advice   SysRq: 438",
        "advice   kgdboc: set to no port",
    ] {
        assert!(shown.stdout.contains(line), "{line}: {shown:?}");
    }
    let applied = over_console(&sandbox, &guest, &format!("{words} --yes"));
    assert_eq!(applied.code, Some(0), "{applied:?}");
    says(&guest, KGDBOC, "ttyS1,115200");
    says(&guest, SYSRQ, "1");
    let again = over_console(&sandbox, &guest, &format!("{words} --yes"));
    assert!(again.stderr.starts_with("Nothing to change."), "{again:?}");
    // A port that the kernel does not have is told before anything is tried; one that it refuses keeps what works.
    let none = over_console(&sandbox, &guest, "--tty ttyS2 --yes");
    assert_eq!(none.code, Some(4), "{none:?}");
    let script = include_str!("../../templates/sh/guest/set-kgdboc.sh");
    guest.shell(&format!("cat > /tmp/set <<'END'\n{script}END\n:"));
    let refused = guest.shell(&format!("sh /tmp/set {KGDBOC} ttyS9; echo status-$?"));
    assert!(
        refused.contains("`ttyS1,115200` was put back") && refused.contains("status-1"),
        "{refused}"
    );
    says(&guest, KGDBOC, "ttyS1,115200");
    // It works: the kernel stops at the port that was set.
    let mark = guest.kgdb.mark();
    guest.console.type_text("echo g > /proc/sysrq-trigger\r");
    guest.kgdb.type_text("$?#3f");
    guest.kgdb.wait_from_guest(mark, "$S05#b8");
    guest.kgdb.type_text("+$D#44");
    guest.kgdb.wait_from_guest(mark, "$OK#9a");
    guest.kgdb.type_text("+");
    guest.assert_well();
    let undone = sandbox.run(["undo", "--yes"]);
    assert_eq!(undone.code, Some(0), "{undone:?}");
    says(&guest, KGDBOC, "");
    says(&guest, SYSRQ, "438");
    let after = guest.shell("cat /proc/sys/kernel/printk");
    let line = |text: &str| text.lines().find(|line| line.contains('\t')).map(str::to_owned);
    assert_eq!(line(&before), line(&after));
    // What somebody else sets after us is left alone.
    assert_eq!(over_console(&sandbox, &guest, "--tty ttyS1 --yes").code, Some(0));
    guest.shell(&format!("echo 16 > {SYSRQ}"));
    let refused = sandbox.run(["undo", "--yes"]);
    assert_eq!(refused.code, Some(5), "{refused:?}");
    assert!(
        refused.stderr.contains("before `438`, ours `1`, now `16`"),
        "{refused:?}"
    );
    says(&guest, KGDBOC, "ttyS1,115200");
}

fn a_login_is_made_and_ended() {
    let sandbox = Sandbox::new()
        .with("GUEST_PASSWORD", "s3cret")
        .with("WRONG_PASSWORD", "wr0ng");
    let guest = small(&sandbox);
    guest.shell(
        "mkdir -p /etc; echo \"root:$(mkpasswd -m md5 -S aaaaaaaa s3cret):0:0:root:/:/bin/sh\" > /etc/passwd",
    );
    // In place of the shell; when the login ends, init starts the shell again.
    let getty = |guest: &Guest| {
        let mark = guest.console.mark();
        guest.console.type_text("exec getty -L 115200 ttyS0 vt100\r");
        guest.console.wait_from_guest(mark, "login:");
    };
    getty(&guest);
    let mark = guest.console.mark();
    let good = over_console(
        &sandbox,
        &guest,
        "--show --user root --password-env GUEST_PASSWORD -vv",
    );
    assert_eq!(good.code, Some(0), "{good:?}");
    assert!(!good.stderr.contains("s3cret"), "{good:?}");
    assert!(
        !guest.console.guest_sent(mark).contains("s3cret"),
        "the guest echoed it"
    );
    // Logged out: init's shell is back, and shows what is typed.
    guest.console.wait_from_guest(mark, "kgdbtest# ");
    guest.assert_well();
    getty(&guest);
    let wrong = over_console(
        &sandbox,
        &guest,
        "--show --user root --password-env WRONG_PASSWORD",
    );
    assert_eq!(wrong.code, Some(5), "{wrong:?}");
    assert!(
        wrong.stderr.contains("the guest refused the login of `root`"),
        "{wrong:?}"
    );
    let nobody = over_console(&sandbox, &guest, "--show");
    assert!(nobody.stderr.contains("no user is known"), "{nobody:?}");
}

fn a_flood_of_kernel_messages_changes_nothing() {
    let sandbox = Sandbox::new();
    let guest = small(&sandbox);
    guest.shell("dmesg -n 8; (i=0; while :; do i=$((i+1)); echo \"flood <6> message $i of many\" > /dev/kmsg; usleep 30000; done) & true");
    let mark = guest.console.mark();
    let applied = over_console(&sandbox, &guest, "--tty ttyS1 --yes");
    assert_eq!(applied.code, Some(0), "{applied:?}");
    assert!(
        guest.console.guest_sent(mark).matches("of many").count() > 20,
        "it was a flood"
    );
    guest.shell("kill %1; dmesg -n 1");
    says(&guest, KGDBOC, "ttyS1,115200");
}

fn a_reboot_in_the_middle_is_told() {
    let sandbox = Sandbox::new();
    let guest = small(&sandbox);
    // The look lasts until the reset.
    guest.shell("rm /bin/uname; printf '#!/bin/sh\\nsleep 100\\n' > /bin/uname; chmod 755 /bin/uname");
    let mark = guest.console.mark();
    let mut show = sandbox.start(["guest", "linux", "--serial", &guest.console.endpoint(), "--show"]);
    guest.console.wait_to_guest(mark, ":r ");
    guest.reset();
    let code = show.wait_end();
    assert_eq!(code, 13, "{}", show.said());
    assert!(
        show.said().contains("the guest's shell is gone"),
        "{}",
        show.said()
    );
}

fn a_port_is_found_by_echo() {
    let sandbox = Sandbox::new();
    let guest = small(&sandbox);
    for (port, name) in [(&guest.kgdb, "ttyS1"), (&guest.console, "ttyS0")] {
        let found = over_console(&sandbox, &guest, &format!("--find {} --plan", port.endpoint()));
        assert_eq!(found.code, Some(0), "{found:?}");
        assert!(
            found
                .stderr
                .contains(&format!("That port is {name} in the guest.")),
            "{found:?}"
        );
        assert!(
            found.stdout.contains(&format!("point kgdb at {name},115200")),
            "{found:?}"
        );
    }
    // A port that nobody in this guest speaks on.
    let other = std::os::unix::net::UnixListener::bind(sandbox.path("other")).unwrap();
    let none = over_console(
        &sandbox,
        &guest,
        &format!("--find {} --plan", sandbox.endpoint("connect:unix", "other")),
    );
    assert_eq!(none.code, Some(4), "{none:?}");
    drop(other);
}

fn lines_that_are_typed_by_hand_are_seen_on_the_wire() {
    let sandbox = Sandbox::new();
    let guest = small(&sandbox);
    guest.shell(&format!("echo 438 > {SYSRQ}"));
    let heard = guest.kgdb.endpoint();
    let words = ["guest", "linux", "--by-hand", "--tty", "ttyS1", "--heard", &heard];
    let mut by_hand = OnTerminal::start(&sandbox, &words);
    by_hand.wait("Waiting for the last one");
    let shown = by_hand.shown();
    let lines: Vec<&str> = shown.lines().skip(1).take(4).map(str::trim_end).collect();
    assert!(lines[3].ends_with("> /dev/ttyS1"), "{shown}");
    // Who forgets a line is told.
    guest.shell(lines[1]);
    guest.shell(lines[3]);
    by_hand.wait("kernel.sysrq is `438`, not `1`");
    for line in lines {
        guest.shell(line);
    }
    by_hand.wait("The guest is ready");
    assert_eq!(by_hand.end(), Some(0));
}
