//! The Debian packages that demo and test need: one list for both.

use crate::process::{must, say};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, IsTerminal, Write};
use std::process::{Command, Stdio};

/// A package with the reason for it.
pub type Package = (&'static str, &'static str);

/// What the test guest, the demo and the tests on Linux need.
pub const GUEST: &[&[Package]] = &[PACKAGES];

/// What all tests need.
pub const ALL: &[&[Package]] = &[PACKAGES, DEBIAN, WINDOWS];

/// Builds the Debian guest.
const DEBIAN: &[Package] = &[
    ("mmdebstrap", "fills the Debian guest's disk"),
    ("fdisk", "makes that disk's partition"),
    ("e2fsprogs", "makes that disk's file system"),
    ("qemu-utils", "keeps that disk small, and gives each test a copy"),
];

/// Builds and runs the Windows program.
pub const WINDOWS: &[Package] = &[
    ("gcc-mingw-w64-x86-64", "links the Windows program"),
    ("make", "builds OpenSSL for the Windows program"),
    ("perl", "builds OpenSSL for the Windows program"),
    ("wine64", "runs the Windows program"),
];

const PACKAGES: &[Package] = &[
    ("linux-source-6.1", "the guest's kernel"),
    ("gcc", "builds the kernel"),
    ("make", "builds the kernel"),
    ("flex", "builds the kernel"),
    ("bison", "builds the kernel"),
    ("bc", "builds the kernel"),
    ("libelf-dev", "builds the kernel"),
    ("libssl-dev", "builds the kernel, and SSH into the program"),
    ("pkg-config", "finds OpenSSL"),
    ("cpio", "builds the kernel"),
    ("kmod", "builds the guest's module"),
    ("xz-utils", "unpacks the kernel's source"),
    ("busybox-static", "the guest's programs"),
    ("qemu-system-x86", "runs the guest"),
    ("gdb", "the debugger"),
    ("netcat-openbsd", "a client in tests"),
    ("socat", "the peer in tests and benchmarks"),
    ("openssh-client", "tests go through SSH"),
    ("openssh-server", "tests go through SSH, to a server of their own"),
    ("openssl", "hashes the passwords of the users of that server"),
    ("sudo", "tests become another user behind SSH"),
    ("iptables", "a host's firewall in tests, in a network namespace"),
    ("iproute2", "the network between two namespaces in tests"),
    ("strace", "tests look at what is asked of a serial device"),
    ("microcom", "a terminal program in tests"),
    ("tio", "a terminal program in tests"),
    ("python3-serial", "pyserial, the client of RFC 2217 in tests"),
    (
        "ser2net",
        "the server of RFC 2217 in tests, and the peer in benchmarks",
    ),
    ("inetutils-telnet", "the client of telnet in tests"),
    ("grub-common", "checks the boot entries that are made for guests"),
    ("systemd-boot", "reads the boot entries that are made for guests"),
    ("procps", "the tests look for left-over processes"),
    ("util-linux", "taskset for benchmarks"),
];

/// Whether missing packages may be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Install {
    /// Without asking.
    Yes,
    /// After asking on the terminal.
    Ask,
    /// Never: say what is missing.
    No,
}

fn missing(lists: &[&[Package]]) -> Result<Vec<Package>> {
    let mut missing: Vec<Package> = Vec::new();
    for &(package, reason) in lists.iter().copied().flatten() {
        let output = Command::new("dpkg-query")
            .args(["-W", "-f", "${db:Status-Status}", package])
            .stderr(Stdio::null())
            .output()
            .context("cannot run dpkg-query: demo and test set up Debian and Ubuntu only")?;
        let is_listed = missing.iter().any(|(name, _)| *name == package);
        if output.stdout != b"installed" && !is_listed {
            missing.push((package, reason));
        }
    }
    Ok(missing)
}

/// Makes sure that all packages of these lists are there.
pub fn ensure(lists: &[&[Package]], install: Install) -> Result<()> {
    let missing = missing(lists)?;
    if missing.is_empty() {
        let count: usize = lists.iter().map(|list| list.len()).sum();
        say(&format!("packages: all {count} are installed"));
        return Ok(());
    }
    say("packages: these are needed and not installed:");
    for (package, reason) in &missing {
        say(&format!("  {package:<18} {reason}"));
    }
    let names: Vec<&str> = missing.iter().map(|(package, _)| *package).collect();
    let by_hand = format!("apt-get install --no-install-recommends {}", names.join(" "));
    match install {
        Install::Yes => {}
        Install::No => bail!("packages are missing; install them with `{by_hand}`, or run this with --yes"),
        Install::Ask => {
            if !std::io::stdin().is_terminal() {
                bail!(
                    "packages are missing and there is no terminal to ask on; run this with --yes, or `{by_hand}`"
                );
            }
            let mut stderr = std::io::stderr().lock();
            write!(stderr, "Install them with apt-get? [y/N] ")?;
            stderr.flush()?;
            let mut answer = String::new();
            std::io::stdin().lock().read_line(&mut answer)?;
            if !matches!(answer.trim(), "y" | "Y" | "yes") {
                bail!("nothing was installed; `{by_hand}` does it by hand");
            }
        }
    }
    update()?;
    must(
        apt()
            .args(["install", "-y", "-q", "--no-install-recommends"])
            .args(&names),
    )
}

/// Gets the lists of packages.
pub fn update() -> Result<()> {
    must(apt().args(["update", "-q"])).context("cannot update the package lists")
}

fn apt() -> Command {
    let root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout == b"0\n");
    let mut command = if root {
        Command::new("apt-get")
    } else {
        Command::new("sudo")
    };
    if !root {
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    }
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}
