//! The Windows program, built on Linux, and the Wine that its tests run in.
//!
//! The programs are cargo's own (`target/x86_64-pc-windows-gnu/debug`); Wine's folder is made once and kept in
//! `${VMSERIAL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vmserial}/wine/<version of Wine>`.

use crate::cached;
use crate::openssl;
use crate::packages::{self, Install};
use crate::process::{cargo, data, must, output, root, say};
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// What rustc calls Windows as mingw builds for it.
const TARGET: &str = "x86_64-pc-windows-gnu";

/// Debian's Rust for where rustup cannot fetch: a recent compiler, and the source of its standard library.
const DEBIAN_RUST: &[packages::Package] = &[
    ("rustc-web", "compiles for Windows"),
    ("cargo-web", "compiles for Windows"),
    (
        "rust-web-src",
        "the standard library, which is compiled for Windows",
    ),
];

/// Where Debian's package `wine64` has its programs; on its own it puts none on PATH.
const WINE_FOLDER: &str = "/usr/lib/wine";

/// Builds the Windows program and the Wine that its tests run in.
#[derive(Debug, clap::Args)]
pub struct WindowsArgs {
    /// Install missing packages without asking
    #[arg(long)]
    yes: bool,
}

/// Builds everything, and prints what the tests want to be told.
pub fn run(args: &WindowsArgs) -> Result<ExitCode> {
    packages::ensure(
        &[packages::WINDOWS],
        if args.yes { Install::Yes } else { Install::Ask },
    )?;
    let wine = ensure(if args.yes { Install::Yes } else { Install::Ask })?;
    data(&format!("VMSERIAL_TEST_WINE_PREFIX={}", wine.prefix.display()));
    Ok(ExitCode::SUCCESS)
}

/// How the standard library for Windows comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Library {
    /// It is installed.
    There,
    /// Cargo compiles it from its source.
    Compiled,
    /// So does Debian's cargo.
    CompiledByDebian,
}

impl Library {
    /// Returns the cargo that can build for Windows.
    fn cargo(self) -> Command {
        let mut command = match self {
            Self::CompiledByDebian => Command::new("/usr/bin/cargo"),
            Self::There | Self::Compiled => cargo(),
        };
        command.current_dir(root());
        if self == Self::CompiledByDebian {
            command
                .env("RUSTC", "/usr/bin/rustc")
                .env("RUSTDOC", "/usr/bin/rustdoc");
        }
        if self != Self::There {
            // The flag that compiles the standard library is for nightly compilers only.
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        command
    }

    /// Returns what comes behind `cargo build` or `cargo test`.
    fn flags(self) -> Vec<String> {
        let mut flags = vec![format!("--target={TARGET}")];
        if self != Self::There {
            flags.push("-Zbuild-std=std,panic_abort".into());
        }
        flags
    }
}

/// The Windows programs and the Wine that runs them.
#[derive(Debug)]
pub struct Wine {
    prefix: PathBuf,
    standard: Library,
    openssl: PathBuf,
}

/// Builds what is not built yet.
pub fn ensure(install: Install) -> Result<Wine> {
    let library = library(install)?;
    let openssl = openssl::ensure(TARGET)?;
    say("windows: building vmserial.exe and testkit.exe");
    let mut command = library.cargo();
    openssl::tell(&mut command, TARGET, &openssl);
    must(
        command
            .arg("build")
            .args(["--package", "vmserial", "--package", "vmserial-testkit"])
            .args(library.flags()),
    )?;
    shim()?;
    Ok(Wine {
        prefix: prefix()?,
        standard: library,
        openssl,
    })
}

fn sysroot(rustc: &str) -> Result<PathBuf> {
    Ok(PathBuf::from(
        output(Command::new(rustc).args(["--print", "sysroot"]))?.trim(),
    ))
}

/// Makes sure that there is a standard library for Windows, or the source of one.
fn library(install: Install) -> Result<Library> {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let rustlib = sysroot(&rustc)?.join("lib/rustlib");
    if rustlib.join(TARGET).join("lib").is_dir() {
        say(&format!("windows: the target {TARGET} is installed"));
        return Ok(Library::There);
    }
    say(&format!("windows: rustup target add {TARGET}"));
    let added = Command::new("rustup").args(["target", "add", TARGET]).status();
    if added.is_ok_and(|status| status.success()) {
        return Ok(Library::There);
    }
    if rustlib.join("src/rust/library/std").is_dir() {
        say("windows: no rustup; the standard library is compiled from the toolchain's own source");
        return Ok(Library::Compiled);
    }
    say("windows: no rustup and no source of the standard library; Debian has a Rust with one");
    packages::ensure(&[DEBIAN_RUST], install)?;
    let source = sysroot("/usr/bin/rustc")?.join("lib/rustlib/src/rust/library/std");
    if !source.is_dir() {
        bail!("the package rust-web-src has no `{}`", source.display());
    }
    Ok(Library::CompiledByDebian)
}

/// Builds the library that Wine 8 lacks and every Rust program wants, beside the programs.
fn shim() -> Result<()> {
    let source = root().join("tests/testkit/windows/bcryptprimitives.c");
    let folder = root().join("target").join(TARGET).join("debug");
    let library = folder.join("bcryptprimitives.dll");
    must(
        Command::new("x86_64-w64-mingw32-gcc")
            .args(["-Os", "-s", "-shared", "-o"])
            .arg(&library)
            .arg(&source)
            .arg("-ladvapi32"),
    )?;
    // Test binaries lie one folder deeper.
    fs::create_dir_all(folder.join("deps"))?;
    fs::copy(&library, folder.join("deps/bcryptprimitives.dll"))?;
    Ok(())
}

/// Finds one of Wine's programs.
fn wine(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| Path::new(WINE_FOLDER).join(name))
}

/// Starts one of Wine's programs, with an end if it hangs. It shows nothing and asks nothing.
fn in_wine(prefix: &Path, seconds: u32, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command
        .arg("--kill-after=5")
        .arg(seconds.to_string())
        .arg(wine(program))
        .args(arguments)
        .env("WINEPREFIX", prefix)
        .env("WINEDEBUG", "-all")
        // No offer to fetch Mono and Gecko.
        .env("WINEDLLOVERRIDES", "mscoree,mshtml=")
        .env_remove("DISPLAY")
        .stdin(Stdio::null());
    command
}

/// Makes Wine's folder, once.
fn prefix() -> Result<PathBuf> {
    let version = output(Command::new("dpkg-query").args(["-W", "-f", "${Version}", "wine64"]))
        .context("cannot ask for the version of the package wine64")?;
    let version = version.replace(|character: char| !character.is_ascii_alphanumeric(), "-");
    let parent = cached::cache()?.join("wine");
    fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
    // Two of them would make each other's folder; the second one waits and finds it made.
    let lock = File::create(parent.join("lock"))?;
    lock.lock().context("cannot lock the folder of Wine")?;
    let prefix = parent.join(version);
    let complete = prefix.join("complete");
    if complete.exists() {
        say(&format!("windows: Wine's folder is {}", prefix.display()));
        return Ok(prefix);
    }
    say(&format!(
        "windows: making Wine's folder {} (half a minute)",
        prefix.display()
    ));
    if prefix.exists() {
        fs::remove_dir_all(&prefix)?;
    }
    must(&mut in_wine(&prefix, 240, "wine64", &["wineboot", "--init"]))?;
    // Until everything that was started is done.
    must(&mut in_wine(&prefix, 120, "wineserver", &["-w"]))?;
    File::create(complete)?;
    Ok(prefix)
}

impl Wine {
    /// Tells the integration tests where Wine's folder is.
    pub fn tell_tests(&self, command: &mut Command) {
        command.env("VMSERIAL_TEST_WINE_PREFIX", &self.prefix);
    }

    /// Returns the unit tests of what only Windows compiles.
    pub fn unit_tests(&self) -> Command {
        let mut command = self.standard.cargo();
        openssl::tell(&mut command, TARGET, &self.openssl);
        command
            .args(["test", "--package", "vmserial", "--lib"])
            .args(self.standard.flags())
            .arg("sys::")
            .env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER", wine("wine64"))
            .env("WINEPREFIX", &self.prefix)
            .env("WINEDEBUG", "-all")
            .env("WINEDLLOVERRIDES", "mscoree,mshtml=")
            .env_remove("DISPLAY");
        command
    }

    /// Ends what still runs in our Wine, and nobody else's.
    pub fn stop(&self) {
        // Nothing runs there any more: then it says so by its status.
        let _ = in_wine(&self.prefix, 30, "wineserver", &["-k"]).status();
    }
}
