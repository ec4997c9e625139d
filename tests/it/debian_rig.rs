//! The Debian guest that `cargo xtask guest --debian` builds: GRUB, SSH, a login on ttyS0, and a kernel with KGDB that came as
//! a package. Each trial boots a copy of its disk that takes the changes.

use crate::guest::{Tap, qmp_ask};
use crate::kit::{Ended, Sandbox, connect, finish_within, is_fast};
use libtest_mimic::{Completion, Trial};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A boot takes 30 to 60 s on an idle machine, and so does what `update-grub` does.
pub const SLOW: Duration = Duration::from_secs(900);

/// The password of `dev`, who may use sudo.
pub const DEV_PASSWORD: &str = "gu3st-dev";

/// Makes a trial that needs the Debian guest, and says why it cannot run where it cannot.
pub fn trial(name: &str, test: fn()) -> Trial {
    let name = format!("debian::{name}");
    Trial::ignorable_test(name, move || match missing() {
        None => {
            test();
            Ok(Completion::Completed)
        }
        Some(reason) => Ok(Completion::ignored_with(reason)),
    })
}

fn missing() -> Option<String> {
    if is_fast() {
        return Some("QEMU is left out (VMSERIAL_TEST_FAST=1)".into());
    }
    (!folder().join("complete").exists())
        .then(|| "the Debian guest is not built (`cargo xtask guest --debian`)".into())
}

/// Where `cargo xtask` linked it.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/guest-debian")
}

/// A Debian guest that runs; ended when dropped.
pub struct Debian {
    qemu: Child,
    ssh_config: PathBuf,
    qmp: PathBuf,
    /// ttyS0, with a login.
    pub console: Tap,
    /// ttyS1, kgdb's own.
    pub kgdb: Tap,
}

impl Debian {
    /// Boots the guest from its disk and waits until one can log in. The sandbox's `ssh` knows it as `guest`, with root's key.
    pub fn start(sandbox: &Sandbox) -> Self {
        let disk = sandbox.path("disk");
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
            .arg(folder().join("disk.qcow2"))
            .arg(&disk)
            .status()
            .expect("qemu-img starts");
        assert!(made.success(), "qemu-img makes a copy");
        let mut command = Command::new("qemu-system-x86_64");
        command
            // With a gigabyte of translated code (the default), each byte that GRUB moves at a reboot is looked up among a million
            // pieces; with much less the kernel and its programs are translated over and over.
            .args([
                "-accel",
                "tcg,tb-size=128",
                "-machine",
                "pc",
                "-m",
                "384",
                "-nodefaults",
            ])
            .args(["-vga", "std", "-display", "none", "-device", "virtio-rng-pci"])
            .args(["-netdev", "user,id=net,hostfwd=tcp:127.0.0.1:0-:22"])
            .args(["-device", "virtio-net-pci,netdev=net,romfile=", "-drive"])
            .arg(format!("file={},if=virtio,cache=unsafe", disk.display()));
        for name in ["ser0", "ser1"] {
            let socket = sandbox.path(name);
            command.arg("-chardev").arg(format!(
                "socket,id={name},path={},server=on,wait=off",
                socket.display()
            ));
            command.arg("-serial").arg(format!("chardev:{name}"));
        }
        let qmp = sandbox.path("qmp");
        command
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", qmp.display()));
        let qemu = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("QEMU starts");
        let guest = Self {
            qemu,
            ssh_config: write_ssh(sandbox, port(&qmp)),
            console: Tap::new(&sandbox.path("ser0"), sandbox.path("console")),
            kgdb: Tap::new(&sandbox.path("ser1"), sandbox.path("kgdb")),
            qmp,
        };
        guest.wait_boot((0, 0));
        guest
    }

    /// Waits until the guest that boots after the mark lets one log in, on the console and through SSH.
    pub fn wait_boot(&self, mark: (usize, usize)) {
        self.console.wait_from_guest_within(mark, "guest login: ", SLOW);
        let until = Instant::now() + SLOW;
        while self.try_ssh("true").code != Some(0) {
            assert!(Instant::now() < until, "nobody can log in through SSH");
        }
    }

    fn try_ssh(&self, line: &str) -> Ended {
        let mut ssh = Command::new("/usr/bin/ssh");
        ssh.arg("-F").arg(&self.ssh_config).args(["guest", line]);
        finish_within(&mut ssh, b"", SLOW)
    }

    /// Runs a line as root through SSH and returns what it said.
    pub fn ssh(&self, line: &str) -> String {
        let ended = self.try_ssh(line);
        assert_eq!(ended.code, Some(0), "{line}: {ended:?}");
        ended.stdout
    }

    /// Every file of what boots and configures the guest, with its rights, owner and digest.
    pub fn files(&self) -> String {
        self.ssh(
            "cd /; find etc boot -type f -exec sha256sum {} + | sort -k 2; \
             find etc boot -printf '%M %U:%G %p -> %l\\n' | sort -k 3",
        )
    }

    /// Fails unless /etc and /boot are as they were.
    pub fn assert_files(&self, before: &str) {
        let now = self.files();
        let changed: Vec<String> = before
            .lines()
            .filter(|line| !now.lines().any(|have| have == *line))
            .map(|line| format!("-{line}"))
            .chain(
                now.lines()
                    .filter(|line| !before.lines().any(|had| had == *line))
                    .map(|line| format!("+{line}")),
            )
            .collect();
        assert!(changed.is_empty(), "{}", changed.join("\n"));
    }

    /// The command line of the kernel that runs.
    pub fn command_line(&self) -> String {
        self.ssh("cat /proc/cmdline")
    }

    /// Restarts the guest as its administrator does, and returns the mark from which the new boot speaks.
    pub fn reboot(&self) -> ((usize, usize), (usize, usize)) {
        let marks = (self.console.mark(), self.kgdb.mark());
        // The connection may be cut before it says so.
        let _ = self.try_ssh("systemctl reboot");
        marks
    }

    /// The same, and waits until the guest is up again.
    pub fn reboot_and_wait(&self) {
        let (console, _) = self.reboot();
        self.wait_boot(console);
    }

    /// Presses the reset button.
    pub fn reset(&self) {
        qmp_ask(&self.qmp, "{\"execute\":\"system_reset\"}");
    }

    /// A gdb with the symbols of the kernel.
    pub fn gdb(&self) -> crate::guest::Gdb {
        crate::guest::Gdb::with_symbols(&folder().join("vmlinux"))
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        // Ended already is fine.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// The port that QEMU has taken on this machine for the guest's SSH.
fn port(qmp: &Path) -> u16 {
    drop(connect(qmp));
    let answer = qmp_ask(
        qmp,
        "{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"info usernet\"}}",
    );
    let line = answer
        .split("\\r\\n")
        .find(|line| line.contains("HOST_FORWARD"))
        .unwrap_or_else(|| panic!("no forwarded port: {answer}"));
    let words: Vec<&str> = line.split_whitespace().collect();
    words[3].parse().unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// Lets the sandbox's `ssh` know the guest: as `guest` root, and as `dev` who must use sudo.
fn write_ssh(sandbox: &Sandbox, port: u16) -> PathBuf {
    let write = |path: &Path, text: &str, mode| {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let ssh = sandbox.path("ssh");
    let bin = sandbox.path("bin");
    for folder in [&ssh, &bin] {
        std::fs::create_dir_all(folder).unwrap();
    }
    let read = |name| std::fs::read_to_string(folder().join(name)).unwrap();
    write(&ssh.join("key"), &read("key"), 0o600);
    let known = format!("[127.0.0.1]:{port} {}", read("host_key.pub"));
    write(&ssh.join("known_hosts"), &known, 0o600);
    let here = ssh.display();
    let config = ssh.join("config");
    let text = format!(
        "Host guest dev plain\n HostName 127.0.0.1\n Port {port}\n IdentityFile {here}/key\n IdentitiesOnly yes\n \
         IdentityAgent none\n UserKnownHostsFile {here}/known_hosts\n GlobalKnownHostsFile /dev/null\n ConnectTimeout 60\n\
         Host guest\n User root\nHost dev\n User dev\nHost plain\n User plain\n"
    );
    write(&config, &text, 0o600);
    let wrapper = format!("#!/bin/sh\nexec /usr/bin/ssh -F {here}/config \"$@\"\n");
    write(&bin.join("ssh"), &wrapper, 0o755);
    config
}
