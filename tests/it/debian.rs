//! `vmserial guest linux` in a real Debian: its GRUB, its SSH and sudo, its login on the serial console, its hooks of kernels.

use crate::debian_rig::{DEV_PASSWORD, Debian, SLOW, trial};
use crate::guest::Gdb;
use crate::kit::{Ended, Running, Sandbox, finish_within};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "kgdb_s_entry_is_booted_once_over_ssh",
            kgdb_s_entry_is_booted_once_over_ssh,
        ),
        trial(
            "kgdb_s_entry_is_booted_once_over_the_console_alone",
            kgdb_s_entry_is_booted_once_over_the_console_alone,
        ),
        trial(
            "a_console_outlives_a_kernel_upgrade_and_debian_s_own_kernel_is_refused",
            a_console_outlives_a_kernel_upgrade_and_debian_s_own_kernel_is_refused,
        ),
        trial(
            "a_guest_that_cannot_be_changed_is_left_whole",
            a_guest_that_cannot_be_changed_is_left_whole,
        ),
    ]
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

/// Fails unless the program ended so and said all of this.
fn assert_refused(ended: &Ended, code: i32, parts: &[&str]) {
    assert_eq!(ended.code, Some(code), "{}\n{}", ended.stdout, ended.stderr);
    for part in parts {
        assert!(ended.stderr.contains(part), "no `{part}`: {}", ended.stderr);
    }
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

fn kgdb_s_entry_is_booted_once_over_the_console_alone() {
    let sandbox = sandbox();
    let guest = Debian::start(&sandbox);
    let before = guest.files();
    // A bridge has the port, and the guest is spoken to beside it.
    let bridge = sandbox.bridge([
        guest.console.endpoint(),
        format!("gdb={}", sandbox.endpoint("listen:unix", "gdb")),
        format!("console={}", sandbox.endpoint("listen:unix", "shell")),
        "--break-with=none".into(),
        "--json".into(),
    ]);
    let serial = format!(
        "--serial {} --user dev --sudo --password-env GUEST_PASSWORD",
        guest.console.endpoint()
    );
    let words = format!(
        "guest linux {serial} --tty ttyS0 --boot-entry --kgdbwait --nokaslr --append console=ttyS0,115200 --once --yes"
    );
    done(vmserial(&sandbox, &words));
    let (console, _) = guest.reboot();
    guest.console.wait_from_guest_within(console, "kdb> ", SLOW);
    debug_the_boot(&sandbox, &guest);
    guest.wait_boot(console);
    let line = guest.command_line();
    assert!(
        line.contains("kgdboc=ttyS0,115200 kgdbwait rodata=off nokaslr"),
        "{line}"
    );
    guest.reboot_and_wait();
    let line = guest.command_line();
    assert!(!line.contains("kgdboc"), "the default entry is as it was: {line}");
    undo(&sandbox);
    guest.assert_files(&before);
    end(bridge);
}

fn a_console_outlives_a_kernel_upgrade_and_debian_s_own_kernel_is_refused() {
    let sandbox = sandbox();
    let guest = Debian::start(&sandbox);
    let before = guest.files();
    let words =
        format!("guest linux {ROOT} --console ttyS0 --menu-on-serial 0 --tty ttyS1 --boot-entry --yes");
    done(vmserial(&sandbox, &words));
    let again = done(vmserial(&sandbox, &words));
    assert!(again.stderr.starts_with("Nothing to change."), "{again:?}");
    let first = guest.ssh("uname -r").trim().to_owned();
    assert!(first.ends_with("-kgdb-b1"), "{first}");
    guest.ssh("dpkg -i /upgrade.deb");
    let (console, _) = guest.reboot();
    guest.wait_boot(console);
    let second = guest.ssh("uname -r").trim().to_owned();
    assert!(second.ends_with("-kgdb-b2"), "{second}");
    let line = guest.command_line();
    assert!(line.contains("console=tty0 console=ttyS0,115200"), "{line}");
    let shown = guest.console.guest_sent(console);
    assert!(shown.contains("GNU GRUB"), "its menu is on the port: {shown}");
    let consoles = guest.ssh("cat /proc/consoles");
    assert!(consoles.contains("ttyS0"), "{consoles}");
    a_flood_of_messages_changes_nothing(&sandbox, &guest);
    the_port_logs_in_by_itself_on_request(&sandbox, &guest);
    undo(&sandbox);
    let default = guest.ssh("grep -c console= /boot/grub/grub.cfg || :");
    assert_eq!(default.trim(), "0");
    // Without the upgrade nothing is left of either, and GRUB's configuration is generated anew.
    guest.ssh(&format!("dpkg --purge linux-image-{second}"));
    guest.assert_files(&before);

    let id = guest.ssh(
        "sed -n \"s/.*'\\(gnulinux-[^']*cloud-amd64-advanced-[^']*\\)'.*/\\1/p\" /boot/grub/grub.cfg | head -n 1",
    );
    let submenu =
        guest.ssh("sed -n \"s/^submenu.*'\\(gnulinux-advanced-[^']*\\)'.*/\\1/p\" /boot/grub/grub.cfg");
    guest.ssh(&format!("grub-reboot '{}>{}'", submenu.trim(), id.trim()));
    guest.reboot_and_wait();
    let own = guest.ssh("uname -r");
    assert!(own.trim().ends_with("-cloud-amd64"), "{own}");
    let files = guest.files();
    let shown = vmserial(&sandbox, &format!("guest linux {ROOT} --show"));
    assert!(shown.stdout.contains("MISSING  kernel: "), "{shown:?}");
    let stub = ["was built without CONFIG_KGDB (`/boot/config-", "gdb stub"];
    assert_refused(&shown, 5, &stub);
    let wanted = format!("guest linux {ROOT} --tty ttyS1 --boot-entry --kgdbwait --once --yes");
    assert_refused(&vmserial(&sandbox, &wanted), 5, &stub);
    guest.assert_files(&files);
}

/// The console is the kernel's too, and the kernel speaks all the time while we do.
fn a_flood_of_messages_changes_nothing(sandbox: &Sandbox, guest: &Debian) {
    guest.ssh(
        "systemd-run -q --unit=flood sh -c 'dmesg -n 8; while :; do echo \"<6>flood of many\" > /dev/kmsg; sleep 0.05; done'",
    );
    let mark = guest.console.mark();
    let words = format!(
        "guest linux --serial {} --user dev --sudo --password-env GUEST_PASSWORD --tty ttyS1 --yes",
        guest.console.endpoint()
    );
    done(vmserial(sandbox, &words));
    let seen = guest.console.guest_sent(mark).matches("flood of many").count();
    assert!(seen > 20, "it was a flood: {seen}");
    let kgdboc = guest.ssh("cat /sys/module/kgdboc/parameters/kgdboc");
    assert_eq!(kgdboc.trim(), "ttyS1,115200");
    undo(sandbox);
    guest.ssh("systemctl stop flood; dmesg -n 1");
    let kgdboc = guest.ssh("cat /sys/module/kgdboc/parameters/kgdboc");
    assert_eq!(kgdboc.trim(), "");
}

fn the_port_logs_in_by_itself_on_request(sandbox: &Sandbox, guest: &Debian) {
    let mark = guest.console.mark();
    done(vmserial(
        sandbox,
        &format!("guest linux {ROOT} --autologin ttyS0 --yes"),
    ));
    guest.console.wait_from_guest_within(mark, "root@guest:~# ", SLOW);
    let mark = guest.console.mark();
    undo(sandbox);
    guest.console.wait_from_guest_within(mark, "guest login: ", SLOW);
}

fn a_guest_that_cannot_be_changed_is_left_whole() {
    let sandbox = sandbox();
    let guest = Debian::start(&sandbox);
    guest.ssh("useradd -m plain; cp -a /home/dev/.ssh /home/plain; chown -R plain: /home/plain");
    let before = guest.files();
    let entry = "--tty ttyS1 --boot-entry --kgdbwait --nokaslr --once --yes";

    // Nobody who may change anything.
    let rights = vmserial(&sandbox, &format!("guest linux --host plain {entry}"));
    assert_refused(&rights, 5, &["root"]);
    let sudo = vmserial(
        &sandbox,
        &format!("guest linux --host plain --sudo --password-env GUEST_PASSWORD {entry}"),
    );
    assert_refused(&sudo, 5, &["sudo"]);
    guest.assert_files(&before);

    // A root that is read-only.
    guest.ssh("sync; echo u > /proc/sysrq-trigger");
    while guest.ssh("grep -c ' / ext4 ro' /proc/mounts || :").trim() == "0" {}
    let read_only = vmserial(&sandbox, &format!("guest linux {ROOT} {entry}"));
    assert_refused(&read_only, 5, &["read-only"]);
    guest.ssh("mount -o remount,rw /");
    guest.assert_files(&before);

    // A full /boot.
    guest.ssh("dd if=/dev/zero of=/full bs=64k 2>/dev/null || :; dd if=/dev/zero bs=1 count=100k 2>/dev/null >> /full || :");
    let full = vmserial(&sandbox, &format!("guest linux {ROOT} {entry}"));
    guest.ssh("rm /full");
    assert_refused(&full, 6, &["No space left on device"]);
    undo(&sandbox);
    guest.assert_files(&before);

    // A reset while GRUB's configuration is generated.
    let serial = format!(
        "--serial {} --user dev --sudo --password-env GUEST_PASSWORD",
        guest.console.endpoint()
    );
    let words = format!("guest linux {serial} --console ttyS0 --yes");
    let mark = guest.console.mark();
    let mut setting = sandbox.start(words.split_whitespace());
    guest.ssh("until test -e /boot/grub/grub.cfg.new; do :; done");
    guest.reset();
    let code = setting.wait_end_within(SLOW);
    assert_eq!(code, 13, "{}", setting.said());
    guest.wait_boot(mark);
    undo(&sandbox);
    guest.assert_files(&before);
}
