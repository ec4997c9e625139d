//! The test guest: a small kernel with KGDB and an initramfs, built once and cached.
//!
//! It is kept in `${VMSERIAL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vmserial}/guest/<hash>`, where the hash covers the
//! configuration, the scripts of this file's folder and the versions of the packages that go in.

use crate::packages::{self, Install};
use crate::process::{data, output, root, say};
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// Changing how the guest is built makes a new one.
const RECIPE: &str = "A3";

const SOURCE_PACKAGE: &str = "linux-source-6.1";
const SOURCE: &str = "/usr/src/linux-source-6.1.tar.xz";
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
}

/// Builds the guest if it is not cached, and prints its folder.
pub fn run(args: &GuestArgs) -> Result<ExitCode> {
    if !args.path {
        packages::ensure(
            packages::GUEST,
            if args.yes { Install::Yes } else { Install::Ask },
        )?;
        ensure()?;
    }
    data(&folder()?.display().to_string());
    Ok(ExitCode::SUCCESS)
}

/// Returns the folder of everything that is built once and kept.
pub fn cache() -> Result<PathBuf> {
    let of = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(cache) = of("VMSERIAL_CACHE") {
        return Ok(cache);
    }
    if let Some(cache) = of("XDG_CACHE_HOME") {
        return Ok(cache.join("vmserial"));
    }
    let home = of("HOME").context("neither VMSERIAL_CACHE nor XDG_CACHE_HOME nor HOME is set")?;
    Ok(home.join(".cache/vmserial"))
}

fn inputs() -> PathBuf {
    root().join("tests/guest")
}

/// Returns the folder of the guest that today's inputs make.
pub fn folder() -> Result<PathBuf> {
    let mut hash = Sha256::new();
    hash.update(RECIPE);
    for name in [
        "kgdb.config",
        "init",
        "initramfs.list",
        "module/Makefile",
        "module/kgdbtest.c",
    ] {
        let path = inputs().join(name);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        hash.update(name);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    }
    for package in [SOURCE_PACKAGE, "busybox-static", "gcc"] {
        let version = output(Command::new("dpkg-query").args(["-W", "-f", "${Version}", package]))
            .with_context(|| format!("cannot ask for the version of the package {package}"))?;
        hash.update(version);
        hash.update(b"\n");
    }
    let digest = hash.finalize();
    let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Ok(cache()?.join("guest").join(name))
}

/// Makes sure that the guest is in the cache, and links it to `profiles/guest`, where the demo's profile finds it.
pub fn ensure() -> Result<PathBuf> {
    let folder = folder()?;
    let parent = folder
        .parent()
        .context("the guest's folder has a parent")?
        .to_owned();
    fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
    // Two builders would do the work twice; the second one waits and finds it done.
    let lock = File::create(parent.join("lock"))?;
    lock.lock().context("cannot lock the guest cache")?;
    if folder.join("complete").exists() {
        say(&format!("guest: cached in {}", folder.display()));
    } else {
        build(&folder)?;
    }
    link(&folder)?;
    Ok(folder)
}

fn link(folder: &Path) -> Result<()> {
    let link = root().join("profiles/guest");
    if fs::read_link(&link).ok().as_deref() == Some(folder) {
        return Ok(());
    }
    if link.is_symlink() {
        fs::remove_file(&link)?;
    }
    std::os::unix::fs::symlink(folder, &link).with_context(|| format!("cannot link {}", link.display()))
}

fn build(folder: &Path) -> Result<()> {
    let started = Instant::now();
    // The lock is ours, so what others left half built is nobody's.
    for entry in fs::read_dir(folder.parent().context("the guest's folder has a parent")?)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().contains(".building-") {
            fs::remove_dir_all(entry.path())?;
        }
    }
    let work = folder.with_extension(format!("building-{}", std::process::id()));
    fs::create_dir_all(&work)?;
    let result = stages(&work, started);
    if let Err(error) = result {
        let log = work.join("build.log");
        bail!("the guest could not be built ({error:#}); see {}", log.display());
    }
    fs::rename(&work, folder).with_context(|| format!("cannot rename to {}", folder.display()))?;
    say(&format!(
        "guest: built in {} s, kept in {}",
        started.elapsed().as_secs(),
        folder.display()
    ));
    Ok(())
}

fn stages(work: &Path, started: Instant) -> Result<()> {
    let log = File::create(work.join("build.log"))?;
    let source = work.join("source");
    let out = work.join("out");
    fs::create_dir_all(&source)?;
    fs::create_dir_all(&out)?;
    let stage = |name: &str| say(&format!("guest: [{:>4} s] {name}", started.elapsed().as_secs()));

    stage("unpacking the kernel's source");
    let jobs = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .to_string();
    logged(
        Command::new("tar")
            .args(["xJf", SOURCE, "--strip-components=1", "-C"])
            .arg(&source),
        &log,
        |_| {},
    )?;

    stage("configuring");
    let make = || {
        let mut command = Command::new("make");
        // The paths in the debug information are the source map's: the same for every build.
        command
            .arg("-C")
            .arg(&source)
            .arg(format!("O={}", out.display()))
            .arg(format!("-j{jobs}"));
        command.arg(format!(
            "KCFLAGS=-fdebug-prefix-map={}=/guest/linux",
            source.display()
        ));
        command
            .env("KBUILD_BUILD_TIMESTAMP", "2000-01-01")
            .env("KBUILD_BUILD_USER", "vmserial");
        command.env("KBUILD_BUILD_HOST", "vmserial");
        command
    };
    logged(make().arg("tinyconfig"), &log, |_| {})?;
    let mut config = fs::read_to_string(out.join(".config"))?;
    config.push_str(&fs::read_to_string(inputs().join("kgdb.config"))?);
    fs::write(out.join(".config"), config)?;
    // Later lines of the same option win, as merge_config does it.
    logged(make().arg("olddefconfig"), &log, |_| {})?;
    check_configuration(&out.join(".config"))?;

    stage("compiling the kernel (about 700 objects, 3 to 8 minutes)");
    let mut objects = 0_u32;
    logged(make().arg("bzImage"), &log, |line| {
        if line.trim_start().starts_with("CC ") {
            objects += 1;
            if objects.is_multiple_of(100) {
                stage(&format!("compiling: {objects} objects"));
            }
        }
    })?;

    stage("compiling the test module");
    let module = work.join("module");
    fs::create_dir_all(&module)?;
    for name in ["Makefile", "kgdbtest.c"] {
        fs::copy(inputs().join("module").join(name), module.join(name))?;
    }
    // Makes the linker script of modules, which `bzImage` alone does not.
    logged(make().arg("modules_prepare"), &log, |_| {})?;
    logged(
        make().arg(format!("M={}", module.display())).arg("modules"),
        &log,
        |_| {},
    )?;

    stage("packing the initramfs");
    let list = fs::read_to_string(inputs().join("initramfs.list"))?
        .replace("{GUEST}", &inputs().display().to_string())
        .replace("{BUSYBOX}", BUSYBOX)
        .replace("{MODULE}", &module.join("kgdbtest.ko").display().to_string());
    let list_path = work.join("initramfs.list");
    fs::write(&list_path, list)?;
    let archive = Command::new(out.join("usr/gen_init_cpio"))
        .arg(&list_path)
        .stderr(log.try_clone()?)
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

    stage("keeping what is needed");
    fs::copy(out.join("arch/x86/boot/bzImage"), work.join("bzImage"))?;
    fs::copy(out.join(".config"), work.join("config"))?;
    fs::copy(module.join("kgdbtest.ko"), work.join("kgdbtest.ko"))?;
    keep_sources(&source, &out, &work.join("linux"))?;
    // After the sources: gdb warns of source files that are younger than the program.
    fs::copy(out.join("vmlinux"), work.join("vmlinux"))?;
    for folder in [&source, &out, &module] {
        fs::remove_dir_all(folder)?;
    }
    fs::write(work.join("complete"), b"")?;
    Ok(())
}

/// Runs a command with its output in the log, and shows each line of standard output to `each`.
fn logged(command: &mut Command, log: &File, mut each: impl FnMut(&str)) -> Result<()> {
    let mut log = log.try_clone()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log.try_clone()?)
        .spawn()
        .with_context(|| format!("cannot start {}", crate::process::show(command)))?;
    for line in BufReader::new(child.stdout.take().context("standard output is a pipe")?).lines() {
        let line = line?;
        each(&line);
        writeln!(log, "{line}")?;
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{} ended with {status}", crate::process::show(command));
    }
    Ok(())
}

/// `olddefconfig` drops what a dependency forbids without a word.
fn check_configuration(config: &Path) -> Result<()> {
    let config = fs::read_to_string(config)?;
    for option in [
        "CONFIG_KGDB=y",
        "CONFIG_KGDB_SERIAL_CONSOLE=y",
        "CONFIG_MAGIC_SYSRQ_SERIAL=y",
        "CONFIG_DEBUG_INFO=y",
    ] {
        if !config.lines().any(|line| line == option) {
            bail!("the kernel's configuration has lost {option}");
        }
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
