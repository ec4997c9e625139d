//! `vmserial guest linux` in a real Debian: its GRUB, its SSH and its sudo.

use crate::debian_rig::{DEV_PASSWORD, Debian, SLOW, trial};
use crate::guest::Gdb;
use crate::kit::{Ended, Running, Sandbox, finish_within};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    vec![trial(
        "kgdb_s_entry_is_booted_once_over_ssh",
        kgdb_s_entry_is_booted_once_over_ssh,
    )]
}

fn sandbox() -> Sandbox {
    Sandbox::new().with("GUEST_PASSWORD", DEV_PASSWORD)
}

/// Root's own key.
const ROOT: &str = "--host guest";

/// Who is not root, with the password that sudo wants: for each command anew.
const SUDO: &str = "--host dev --sudo --password-env GUEST_PASSWORD";

/// Runs the program, which may take as long as a boot and never shows the password.
fn vmserial(sandbox: &Sandbox, words: &str) -> Ended {
    let ended = finish_within(&mut sandbox.vmserial(words.split_whitespace()), b"", SLOW);
    assert!(
        !ended.stderr.contains(DEV_PASSWORD) && !ended.stdout.contains(DEV_PASSWORD),
        "the password is shown: {ended:?}"
    );
    ended
}

fn done(ended: Ended) -> Ended {
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    ended
}

fn undo(sandbox: &Sandbox) -> Ended {
    done(vmserial(sandbox, "undo --yes"))
}

/// A debugger on a kernel that waits at its boot: stops in the first mount of user space, and lets it go.
fn debug_the_boot(sandbox: &Sandbox, guest: &Debian) {
    let mut gdb: Gdb = guest.gdb();
    let attached = gdb.attach(sandbox);
    let trace = gdb.command("bt");
    assert!(
        trace.contains("kgdb"),
        "{attached}{trace}\n{}",
        gdb.program.said()
    );
    gdb.command("tbreak __x64_sys_mount");
    let stopped = gdb.command("continue");
    let trace = gdb.command("bt");
    assert!(
        stopped.contains("Temporary breakpoint 1") && trace.contains("do_syscall_64"),
        "{stopped}{trace}"
    );
    let left = gdb.command("detach");
    assert!(left.contains("detached"), "{left}");
    gdb.type_line("quit");
}

fn end(mut bridge: Running) {
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0, "{}", bridge.said());
}

fn kgdb_s_entry_is_booted_once_over_ssh() {
    let sandbox = sandbox();
    let guest = Debian::start(&sandbox);
    let before = guest.files();
    let shown = done(vmserial(&sandbox, &format!("guest linux {SUDO} --show")));
    for part in [
        "Debian GNU/Linux 12 (bookworm)",
        "has kgdb on a serial port",
        "GRUB",
        "KASLR: on",
    ] {
        assert!(shown.stdout.contains(part), "no `{part}`: {}", shown.stdout);
    }
    let words = format!("guest linux {ROOT} --tty ttyS1 --boot-entry --kgdbwait --nokaslr --once --yes");
    done(vmserial(&sandbox, &words));
    let again = done(vmserial(&sandbox, &words));
    assert!(again.stderr.starts_with("Nothing to change."), "{again:?}");
    let bridge = sandbox.bridge([
        guest.kgdb.endpoint(),
        format!("gdb={}", sandbox.endpoint("listen:unix", "gdb")),
        "--break-with=none".into(),
        "--json".into(),
    ]);
    let (console, kgdb) = guest.reboot();
    // This kernel has KDB, which speaks first.
    guest.kgdb.wait_from_guest_within(kgdb, "kdb> ", SLOW);
    debug_the_boot(&sandbox, &guest);
    guest.wait_boot(console);
    let line = guest.command_line();
    assert!(
        line.contains("kgdboc=ttyS1,115200 kgdbwait rodata=off nokaslr"),
        "{line}"
    );
    end(bridge);
    guest.reboot_and_wait();
    let line = guest.command_line();
    assert!(!line.contains("kgdboc"), "the default entry is as it was: {line}");
    undo(&sandbox);
    guest.assert_files(&before);
}
