//! Guests on which something fails half-way: a full `/boot`, a read-only one, nobody who may change anything. Their shells are
//! this machine's, behind a serial port, with a `/boot` and an `/etc` of their own in a mount namespace.

use crate::guest_serial::Terminal;
use crate::guest_trees::copy_tree;
use crate::kit::{Ended, Sandbox, is_fast, wait_until};
use crate::namespace::{self, command, way};
use libtest_mimic::{Completion, Failed, Trial};
use std::fs;
use std::process::{Child, Command, Stdio};

pub fn trials() -> Vec<Trial> {
    let all: [(&str, fn()); 4] = [
        (
            "a_full_boot_is_told_and_left_as_it_was",
            a_full_boot_is_told_and_left_as_it_was,
        ),
        ("a_read_only_boot_is_told", a_read_only_boot_is_told),
        (
            "who_is_not_root_is_told_before_anything",
            who_is_not_root_is_told_before_anything,
        ),
        (
            "a_disk_that_fills_half_way_is_undone",
            a_disk_that_fills_half_way_is_undone,
        ),
    ];
    let trial = |(name, run): (&str, fn())| {
        Trial::ignorable_test(format!("guest_bad::{name}"), move || {
            if let Some(reason) = missing() {
                return Ok(Completion::ignored_with(reason));
            }
            run();
            Ok::<_, Failed>(Completion::Completed)
        })
    };
    all.into_iter().map(trial).collect()
}

fn missing() -> Option<String> {
    if is_fast() {
        return Some("dialogues over a console are left out (VMSERIAL_TEST_FAST=1)".to_owned());
    }
    namespace::missing()
}

/// A Fedora on small disks of its own. Ended when dropped, and its disks with it.
struct Guest {
    sandbox: Sandbox,
    holder: Child,
}

const DISKS: &str = r#"set -e
mkdir "$1/keep" && cp /etc/passwd /etc/group "$1/keep"
mount -t tmpfs -o size=1m none /etc && cp "$1"/keep/* /etc && cp -r "$1"/tree/etc/. /etc
mount -t tmpfs -o size=64k none /boot && cp -r "$1"/tree/boot/. /boot
: > "$1/ready"
exec cat"#;

impl Guest {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        copy_tree("fedora-41", &sandbox.path("tree"));
        let holder = way()
            .unshare()
            .args(["sh", "-c", DISKS, "sh"])
            .arg(sandbox.path(""))
            .stdin(Stdio::piped())
            .spawn()
            .expect("a namespace");
        wait_until("the guest's disks are there", || {
            sandbox.path("ready").exists().then_some(())
        });
        Self { sandbox, holder }
    }

    /// What the guest's shell says, beside any terminal.
    fn inside(&self, script: &str) -> String {
        let output = command(&way().enter(self.holder.id()))
            .args(["sh", "-c", script])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// All that vmserial may change.
    fn world(&self) -> String {
        self.inside(
            "find /boot /etc/default /etc/kernel -type f ! -name filler 2>/dev/null | sort | xargs sha256sum",
        )
    }

    /// Runs vmserial with a shell of the guest on its serial console.
    fn run(&self, shell: &str, words: &[&str]) -> Ended {
        let terminal = Terminal::start(&self.sandbox, shell);
        let ended = self.sandbox.run(words);
        drop(terminal);
        let _ = fs::remove_file(self.sandbox.path("tty"));
        ended
    }

    fn root_shell(&self) -> String {
        format!("{} sh -i", way().enter(self.holder.id()))
    }

    fn wish(&self, more: &[&str]) -> Ended {
        let serial = self.sandbox.endpoint("connect:unix", "tty");
        let words = ["guest", "linux", "--serial", &serial, "--console", "ttyS0"];
        self.run(&self.root_shell(), &[&words, more].concat())
    }

    fn undo(&self) -> Ended {
        self.run(&self.root_shell(), &["undo", "--yes"])
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn a_full_boot_is_told_and_left_as_it_was() {
    let guest = Guest::new();
    guest.inside("dd if=/dev/zero of=/boot/filler bs=1k");
    let before = guest.world();
    let failed = guest.wish(&["--yes"]);
    assert_eq!(failed.code, Some(6), "{failed:?}");
    for part in ["No space left on device", "/boot/loader/entries/"] {
        assert!(failed.stderr.contains(part), "{part}: {failed:?}");
    }
    assert_eq!(
        guest.world(),
        before,
        "nothing is half done, and no file of ours is left over"
    );
    // With room the same command goes on, and comes back.
    guest.inside("rm /boot/filler");
    let applied = guest.wish(&["--yes"]);
    assert_eq!(applied.code, Some(0), "{applied:?}");
    assert!(
        guest
            .inside("cat /boot/loader/entries/*.conf")
            .contains("console=ttyS0,115200")
    );
    let undone = guest.undo();
    assert_eq!((undone.code, guest.world()), (Some(0), before), "{undone:?}");
}

fn a_disk_that_fills_half_way_is_undone() {
    let guest = Guest::new();
    let before = guest.world();
    // The entries in /boot can be written; what follows them cannot.
    guest.inside("dd if=/dev/zero of=/etc/filler bs=1k");
    let failed = guest.wish(&["--yes"]);
    assert_eq!(failed.code, Some(6), "{failed:?}");
    assert!(failed.stderr.contains("No space left on device"), "{failed:?}");
    let told = "What was done until then is taken back by `vmserial undo";
    assert!(failed.stderr.contains(told), "{failed:?}");
    assert_ne!(guest.world(), before, "the first steps were done");
    let undone = guest.undo();
    assert_eq!((undone.code, guest.world()), (Some(0), before), "{undone:?}");
}

fn a_read_only_boot_is_told() {
    let guest = Guest::new();
    guest.inside("mount -o remount,ro none /boot");
    let before = guest.world();
    let failed = guest.wish(&["--yes"]);
    assert!(matches!(failed.code, Some(5 | 6)), "{failed:?}");
    assert!(
        failed.stderr.to_lowercase().contains("read-only") && failed.stderr.contains("/boot"),
        "{failed:?}"
    );
    assert_eq!(guest.world(), before);
}

fn who_is_not_root_is_told_before_anything() {
    let guest = Guest::new();
    let before = guest.world();
    let serial = guest.sandbox.endpoint("connect:unix", "tty");
    let words = [
        "guest",
        "linux",
        "--serial",
        &serial,
        "--console",
        "ttyS0",
        "--yes",
    ];
    let user = format!("{} sh -i", way().nobody());
    let refused = guest.run(&user, &words);
    assert_eq!(refused.code, Some(5), "{refused:?}");
    // Nobody without sudo becomes root.
    let bare = guest.sandbox.path("bare");
    fs::create_dir(&bare).unwrap();
    for program in [
        "sh",
        "stty",
        "base64",
        "mktemp",
        "dd",
        "tr",
        "wc",
        "cat",
        "rm",
        "id",
        "sha256sum",
        "cut",
    ] {
        let which = Command::new("sh")
            .args(["-c", &format!("command -v {program}")])
            .output()
            .unwrap();
        let path = String::from_utf8(which.stdout).unwrap();
        std::os::unix::fs::symlink(path.trim(), bare.join(program)).unwrap();
    }
    let without_sudo = format!("env PATH={} sh -i", bare.display());
    let refused = guest.run(&without_sudo, &[&words[..], &["--sudo"]].concat());
    assert_eq!(refused.code, Some(5), "{refused:?}");
    assert!(refused.stderr.contains("sudo"), "{refused:?}");
    assert_eq!(guest.world(), before);
}
