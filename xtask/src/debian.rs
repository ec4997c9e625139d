//! The Debian guest: boots through GRUB, has SSH and a login on its first serial port, and runs a kernel with KGDB that came as a
//! package. A second version of that package is the upgrade; Debian's own kernel, which has no KGDB, is installed beside it.
//!
//! Made without any mount or loop device, so that a container may do it: mmdebstrap fills a folder, mke2fs makes a file system of
//! it, and the first boot in QEMU installs the kernel with Debian's own hooks.

use crate::cached;
use crate::kernel::{Kernel, Progress, SOURCE_PACKAGE, inputs};
use crate::process::{must, output, root};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Changing how its kernels are built makes new ones.
const KERNELS_RECIPE: &str = "B1";

/// Changing how the guest is built makes a new one.
const RECIPE: &str = "B1";

/// What the guest has beside Debian's smallest system.
const PROGRAMS: &str = "systemd-sysv,udev,openssh-server,sudo,kmod,initramfs-tools,linux-image-cloud-amd64,grub2-common,grub-pc-bin";

/// How long the first boot may take on a loaded machine, in seconds.
const FIRST_BOOT: &str = "600";

/// Returns the folder of the kernels that today's inputs make. They take longest, so they are kept by themselves.
fn kernels_folder() -> Result<PathBuf> {
    cached::folder(
        "kernels-",
        KERNELS_RECIPE,
        &["kgdb.config", "debian.config", "debian/kernel-hooks.sh"],
        &[SOURCE_PACKAGE, "gcc"],
    )
}

/// Returns the folder of the guest that today's inputs make.
pub fn folder() -> Result<PathBuf> {
    cached::folder(
        "debian-",
        &format!(
            "{RECIPE} {}",
            kernels_folder()?.file_name().unwrap_or_default().display()
        ),
        &["debian/setup.sh", "debian/first-boot.sh"],
        &["mmdebstrap"],
    )
}

/// Makes sure that the guest is in the cache, and links it to `profiles/guest-debian`, where the tests find it.
pub fn ensure() -> Result<PathBuf> {
    let kernels_folder = kernels_folder()?;
    cached::ensure("debian kernels", &kernels_folder, kernels)?;
    let folder = folder()?;
    cached::ensure("debian guest", &folder, |work, progress| {
        stages(&kernels_folder, work, progress)
    })?;
    cached::link(&folder, "profiles/guest-debian")?;
    Ok(folder)
}

fn stages(kernels: &Path, work: &Path, progress: &Progress) -> Result<()> {
    for name in ["first.deb", "second.deb", "bzImage", "vmlinux"] {
        fs::copy(kernels.join(name), work.join(name))?;
    }
    progress.stage("putting Debian into a folder and the folder on a disk (2 to 4 minutes)");
    let mut keygen = Command::new("ssh-keygen");
    keygen
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "guest", "-f"])
        .arg(work.join("key"));
    progress.logged(&mut keygen, |_| {})?;
    fs::write(work.join("sources.list"), sources()?)?;
    progress.logged(&mut mmdebstrap(work)?, |_| {})?;

    progress.stage("booting it, which installs the kernel");
    first_boot(work, progress)?;

    progress.stage("keeping what is needed");
    let mut convert = Command::new("qemu-img");
    convert
        .args(["convert", "-c", "-O", "qcow2"])
        .args([work.join("disk.img"), work.join("disk.qcow2")]);
    progress.logged(&mut convert, |_| {})?;
    for name in [
        "disk.img",
        "core.img",
        "boot.img",
        "bzImage",
        "first.deb",
        "second.deb",
    ] {
        fs::remove_file(work.join(name))?;
    }
    Ok(())
}

/// Makes both versions of the kernel: the second one is a second link.
fn kernels(work: &Path, progress: &Progress) -> Result<()> {
    let mut kernel = Kernel::configured(work, &["kgdb.config", "debian.config"], progress)?;
    kernel.check_configuration(&[
        "CONFIG_KGDB=y",
        "CONFIG_KGDB_SERIAL_CONSOLE=y",
        "CONFIG_KGDB_KDB=y",
        "CONFIG_RANDOMIZE_BASE=y",
        "CONFIG_MAGIC_SYSRQ_SERIAL=y",
        "CONFIG_EXT4_FS=y",
        "CONFIG_VIRTIO_BLK=y",
        "CONFIG_VIRTIO_NET=y",
    ])?;
    progress.stage("compiling the kernel (about 1,200 objects, 5 to 15 minutes)");
    kernel.named("-b1");
    kernel.compile()?;
    fs::copy(kernel.image(), work.join("bzImage"))?;
    fs::copy(kernel.out.join("vmlinux"), work.join("vmlinux"))?;
    package(&kernel, work, "first", progress)?;
    progress.stage("linking its second version");
    kernel.named("-b2");
    kernel.compile()?;
    package(&kernel, work, "second", progress)?;
    for folder in [&kernel.source, &kernel.out] {
        fs::remove_dir_all(folder)?;
    }
    Ok(())
}

/// Packs a kernel as Debian packs its own: `/boot`, `/lib/modules`, and the hooks.
fn package(kernel: &Kernel<'_>, work: &Path, name: &str, progress: &Progress) -> Result<()> {
    let release = kernel.release()?;
    let tree = work.join(name);
    for folder in ["DEBIAN", "boot"] {
        fs::create_dir_all(tree.join(folder))?;
    }
    let control = format!(
        "Package: linux-image-{release}\nVersion: 1\nArchitecture: amd64\nMaintainer: the tests <root@localhost>\n\
         Description: a kernel with KGDB\n"
    );
    fs::write(tree.join("DEBIAN/control"), control)?;
    let hooks = fs::read_to_string(inputs().join("debian/kernel-hooks.sh"))?.replace("@RELEASE@", &release);
    for script in ["postinst", "postrm"] {
        fs::write(tree.join("DEBIAN").join(script), &hooks)?;
    }
    for (from, to) in [
        (kernel.image(), "vmlinuz"),
        (kernel.out.join(".config"), "config"),
        (kernel.out.join("System.map"), "System.map"),
    ] {
        fs::copy(from, tree.join(format!("boot/{to}-{release}")))?;
    }
    kernel.make(&["modules"])?;
    kernel.make(&["modules_install", &format!("INSTALL_MOD_PATH={}", tree.display())])?;
    for link in ["build", "source"] {
        // Where they point to will be gone.
        let _ = fs::remove_file(tree.join("lib/modules").join(&release).join(link));
    }
    must(Command::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(&tree))?;
    must(
        Command::new("chmod")
            .arg("755")
            .args(["postinst", "postrm"].map(|script| tree.join("DEBIAN").join(script))),
    )?;
    let mut pack = Command::new("dpkg-deb");
    pack.args(["--root-owner-group", "--build"])
        .args([tree.clone(), work.join(format!("{name}.deb"))]);
    progress.logged(&mut pack, |_| {})?;
    fs::remove_dir_all(tree)?;
    Ok(())
}

/// Returns where this machine's own apt gets Debian from.
fn sources() -> Result<String> {
    let read = || {
        output(Command::new("apt-get").args([
            "indextargets",
            "--format",
            "$(ORIGIN) $(REPO_URI) $(CODENAME) $(COMPONENT)",
            "Created-By: Packages",
        ]))
    };
    let of = |targets: &str| -> String {
        let mut lines: Vec<String> = targets
            .lines()
            .filter_map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                match words[..] {
                    ["Debian", uri, suite, component] if suite.starts_with("bookworm") => {
                        // The suite's name in the archive has the part behind the slash, the component's has not.
                        let component = component.rsplit('/').next().unwrap_or(component);
                        Some(format!("deb {uri} {suite} {component}\n"))
                    }
                    _ => None,
                }
            })
            .collect();
        lines.sort();
        lines.dedup();
        lines.concat()
    };
    let mut found = of(&read()?);
    if found.is_empty() {
        // Images of containers come without the lists.
        crate::packages::update()?;
        found = of(&read()?);
    }
    if found.is_empty() {
        bail!("this machine's apt knows no Debian 12 (bookworm) to get the guest from");
    }
    Ok(found)
}

fn mmdebstrap(work: &Path) -> Result<Command> {
    let is_root = output(Command::new("id").arg("-u"))?.trim() == "0";
    let mut command = Command::new("mmdebstrap");
    // Root in a container may not mount: nothing that is installed here needs it. Who is not root needs the package uidmap.
    match is_root {
        true => command.args(["--mode=root", "--skip=check/canmount,chroot/mount"]),
        false => command.arg("--mode=unshare"),
    };
    command
        .args(["--variant=minbase", "--format=null"])
        .arg(format!("--include={PROGRAMS}"));
    for left_out in ["doc", "man", "info", "locale"] {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{left_out}/*"));
    }
    let proxies = output(Command::new("apt-config").args([
        "dump",
        "--no-empty",
        "--format",
        "%F \"%v\";%n",
        "Acquire::http",
        "Acquire::https",
    ]))?;
    for line in proxies.lines() {
        command.arg(format!("--aptopt={line}"));
    }
    command
        .arg("--customize-hook=sh \"$VMSERIAL_INPUTS/setup.sh\" \"$1\"")
        .env("VMSERIAL_INPUTS", inputs().join("debian"))
        .env("VMSERIAL_WORK", work)
        .args(["bookworm", "-"])
        .arg(work.join("sources.list"));
    Ok(command)
}

fn first_boot(work: &Path, progress: &Progress) -> Result<()> {
    let console = work.join("first-boot.log");
    let mut qemu = Command::new("timeout");
    qemu.args([FIRST_BOOT, "qemu-system-x86_64", "-accel", "tcg", "-m", "512"])
        .args(["-nodefaults", "-display", "none", "-no-reboot", "-kernel"])
        .arg(work.join("bzImage"))
        .args([
            "-append",
            "root=/dev/vda1 rw init=/first-boot console=ttyS0,115200 tsc=reliable no_timer_check panic=-1",
            "-drive",
        ])
        .arg(format!(
            "file={},format=raw,if=virtio",
            work.join("disk.img").display()
        ))
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .current_dir(root());
    let ended = progress.logged(&mut qemu, |_| {});
    let said = fs::read(&console).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    if !said.contains("first-boot: status 0") {
        ended?;
        bail!("the first boot did not end well; see {}", console.display());
    }
    ended.context("QEMU did not end well")
}
