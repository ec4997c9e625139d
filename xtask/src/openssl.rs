//! OpenSSL for the Windows program, built once. It costs more than all the rest of that program.
//!
//! It is the very one that `cargo build` would build along (the crate `openssl-src`), kept in
//! `${VMSERIAL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vmserial}/openssl/<version>-<compiler>`.

use crate::cached;
use crate::process::{must, output, say};
use anyhow::{Context, Result, anyhow};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What mingw's compiler is called.
const COMPILER: &str = "x86_64-w64-mingw32-gcc";

/// Builds OpenSSL for Windows into a folder: a process of its own, because the crate writes to standard output.
#[derive(Debug, clap::Args)]
pub struct OpensslArgs {
    /// What is built for
    #[arg(long)]
    target: String,
    /// Where it is put
    #[arg(long)]
    into: PathBuf,
}

/// Builds it.
pub fn run(args: &OpensslArgs) -> Result<ExitCode> {
    openssl_src::Build::new()
        .host(&format!("{}-unknown-linux-gnu", std::env::consts::ARCH))
        .target(&args.target)
        .out_dir(&args.into)
        .try_build()
        .map_err(|error| anyhow!(error))?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the folder of OpenSSL for this target, and builds it if it is not there.
pub fn ensure(target: &str) -> Result<PathBuf> {
    let compiler = output(Command::new(COMPILER).arg("-dumpfullversion"))
        .with_context(|| format!("cannot ask `{COMPILER}` for its version"))?;
    let parent = cached::cache()?.join("openssl");
    fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
    // Two of them would take the processors from each other; the second one waits and finds it built.
    let lock = File::create(parent.join("lock"))?;
    lock.lock().context("cannot lock the folder of OpenSSL")?;
    let name = format!("{}-{target}-gcc-{}", openssl_src::version(), compiler.trim());
    let folder = parent.join(name.replace('+', "-"));
    if folder.join("lib/libcrypto.a").is_file() {
        say(&format!("windows: OpenSSL is {}", folder.display()));
        return Ok(folder);
    }
    say(&format!(
        "windows: building OpenSSL {}, once (several minutes)",
        openssl_src::version()
    ));
    let beside = parent.join("new");
    if beside.exists() {
        fs::remove_dir_all(&beside)?;
    }
    build(target, &beside, &parent.join("build.log"))?;
    fs::rename(beside.join("install"), &folder)
        .with_context(|| format!("cannot put OpenSSL into {}", folder.display()))?;
    fs::remove_dir_all(beside)?;
    Ok(folder)
}

fn build(target: &str, into: &Path, log: &Path) -> Result<()> {
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let words = File::create(log)?;
    must(
        Command::new(std::env::current_exe()?)
            .args(["openssl", "--target", target, "--into"])
            .arg(into)
            .env("CARGO_MAKEFLAGS", format!("-j{at_once}"))
            // What the compiler for Windows is called is the crate's matter, not that of who builds for this machine.
            .env_remove("CC")
            .env_remove("CFLAGS")
            .stdout(words.try_clone()?)
            .stderr(words),
    )
    .with_context(|| format!("OpenSSL cannot be built; {} tells why", log.display()))
}

/// Tells cargo to link this OpenSSL, and to build none.
pub fn tell(command: &mut Command, target: &str, folder: &Path) {
    let prefix = target.to_uppercase().replace('-', "_");
    command
        .env(format!("{prefix}_OPENSSL_DIR"), folder)
        .env(format!("{prefix}_OPENSSL_STATIC"), "1")
        .env(format!("{prefix}_OPENSSL_NO_VENDOR"), "1");
}
