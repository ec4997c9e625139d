//! The test guest: a small kernel with KGDB and an initramfs, built once and cached.
//!
//! It is kept in `${VMSERIAL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vmserial}/guest/<hash>`, where the hash covers the
//! configuration, the scripts of this file's folder and the versions of the packages that go in.

use crate::cached;
use crate::debian;
use crate::kernel::{Kernel, Progress, SOURCE_PACKAGE, inputs};
use crate::packages::{self, Install};
use crate::process::data;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// Changing how the guest is built makes a new one.
const RECIPE: &str = "A3";

const BUSYBOX: &str = "/bin/busybox";

/// Builds the test guest, or tells where it is.
#[derive(Debug, clap::Args)]
pub struct GuestArgs {
    /// Install missing packages without asking
    #[arg(long)]
    yes: bool,
    /// Only print the folder where it is or would be
    #[arg(long)]
    path: bool,
    /// The Debian guest, which boots through GRUB and has SSH
    #[arg(long)]
    debian: bool,
}

/// Builds the guest if it is not cached, and prints its folder.
pub fn run(args: &GuestArgs) -> Result<ExitCode> {
    if !args.path {
        let install = if args.yes { Install::Yes } else { Install::Ask };
        let lists = if args.debian {
            packages::ALL
        } else {
            packages::GUEST
        };
        packages::ensure(lists, install)?;
    }
    let folder = match (args.path, args.debian) {
        (true, false) => folder()?,
        (true, true) => debian::folder()?,
        (false, false) => ensure()?,
        (false, true) => debian::ensure()?,
    };
    data(&folder.display().to_string());
    Ok(ExitCode::SUCCESS)
}

/// Returns the folder of the guest that today's inputs make.
pub fn folder() -> Result<PathBuf> {
    cached::folder(
        "",
        RECIPE,
        &[
            "kgdb.config",
            "init",
            "initramfs.list",
            "module/Makefile",
            "module/kgdbtest.c",
        ],
        &[SOURCE_PACKAGE, "busybox-static", "gcc"],
    )
}

/// Makes sure that the guest is in the cache, and links it to `profiles/guest`, where the demo's profile finds it.
pub fn ensure() -> Result<PathBuf> {
    let folder = folder()?;
    cached::ensure("guest", &folder, stages)?;
    cached::link(&folder, "profiles/guest")?;
    Ok(folder)
}

fn stages(work: &Path, progress: &Progress) -> Result<()> {
    let kernel = Kernel::configured(work, &["kgdb.config"], progress)?;
    kernel.check_configuration(&[
        "CONFIG_KGDB=y",
        "CONFIG_KGDB_SERIAL_CONSOLE=y",
        "CONFIG_MAGIC_SYSRQ_SERIAL=y",
        "CONFIG_DEBUG_INFO=y",
    ])?;

    progress.stage("compiling the kernel (about 700 objects, 3 to 8 minutes)");
    kernel.compile()?;

    progress.stage("compiling the test module");
    let module = work.join("module");
    fs::create_dir_all(&module)?;
    for name in ["Makefile", "kgdbtest.c"] {
        fs::copy(inputs().join("module").join(name), module.join(name))?;
    }
    // Makes the linker script of modules, which `bzImage` alone does not.
    kernel.make(&["modules_prepare"])?;
    kernel.make(&[&format!("M={}", module.display()), "modules"])?;

    progress.stage("packing the initramfs");
    let list = fs::read_to_string(inputs().join("initramfs.list"))?
        .replace("{GUEST}", &inputs().display().to_string())
        .replace("{BUSYBOX}", BUSYBOX)
        .replace("{MODULE}", &module.join("kgdbtest.ko").display().to_string());
    let list_path = work.join("initramfs.list");
    fs::write(&list_path, list)?;
    let archive = Command::new(kernel.out.join("usr/gen_init_cpio"))
        .arg(&list_path)
        .stderr(progress.log()?)
        .output()?;
    if !archive.status.success() {
        bail!("gen_init_cpio ended with {}", archive.status);
    }
    let initrd = File::create(work.join("initrd.gz"))?;
    let mut gzip = Command::new("gzip")
        .args(["-9", "-n"])
        .stdin(Stdio::piped())
        .stdout(initrd)
        .spawn()?;
    gzip.stdin
        .take()
        .context("gzip has a standard input")?
        .write_all(&archive.stdout)?;
    if !gzip.wait()?.success() {
        bail!("gzip failed");
    }

    progress.stage("keeping what is needed");
    fs::copy(kernel.image(), work.join("bzImage"))?;
    fs::copy(kernel.out.join(".config"), work.join("config"))?;
    fs::copy(module.join("kgdbtest.ko"), work.join("kgdbtest.ko"))?;
    keep_sources(&kernel.source, &kernel.out, &work.join("linux"))?;
    // After the sources: gdb warns of source files that are younger than the program.
    fs::copy(kernel.out.join("vmlinux"), work.join("vmlinux"))?;
    for folder in [&kernel.source, &kernel.out, &module] {
        fs::remove_dir_all(folder)?;
    }
    Ok(())
}

/// Keeps the source files that the kernel was made from, as the compiler's dependency files tell: gdb shows their lines.
fn keep_sources(source: &Path, out: &Path, kept: &Path) -> Result<()> {
    let mut folders = vec![out.to_owned()];
    let prefix = format!("{}/", source.display());
    let mut wanted = std::collections::BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry.file_name().to_string_lossy().ends_with(".o.cmd") {
                let text = fs::read_to_string(entry.path()).unwrap_or_default();
                for word in text.split_whitespace() {
                    let word = word.trim_end_matches(['\\', ')']);
                    if let Some(path) = word.strip_prefix(&prefix)
                        && (path.ends_with(".c") || path.ends_with(".h") || path.ends_with(".S"))
                    {
                        wanted.insert(path.to_owned());
                    }
                }
            }
        }
    }
    for path in wanted {
        let to = kept.join(&path);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        // A generated file that the list names may be gone; gdb then shows the line's number alone.
        let _ = fs::copy(source.join(&path), to);
    }
    Ok(())
}
