//! Where the Windows program is on Linux, and how Wine runs it.

use crate::kit::{Sandbox, is_fast};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the trials' names begin with.
pub const PREFIX: &str = "wine";

/// Why the Windows program cannot be run.
pub fn missing() -> Option<String> {
    if is_fast() {
        return Some("Wine is left out (VMSERIAL_TEST_FAST=1)".into());
    }
    if wine().is_none() {
        return Some("Wine is not installed".into());
    }
    if prefix().is_none() {
        return Some("VMSERIAL_TEST_WINE_PREFIX is not set (`cargo xtask windows` says it)".into());
    }
    ["vmserial.exe", "testkit.exe", "bcryptprimitives.dll"]
        .into_iter()
        .find(|name| !folder().join(name).exists())
        .map(|name| format!("`{name}` is not built (`cargo xtask windows`)"))
}

fn prefix() -> Option<PathBuf> {
    std::env::var_os("VMSERIAL_TEST_WINE_PREFIX").map(PathBuf::from)
}

/// Debian's package `wine64` alone puts nothing on PATH.
fn wine() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .flat_map(|folder| [folder.join("wine64"), folder.join("wine")])
        .chain([PathBuf::from("/usr/lib/wine/wine64")])
        .find(|program| program.is_file())
}

/// Where `cargo build --target x86_64-pc-windows-gnu` puts the programs.
fn folder() -> PathBuf {
    let own = Path::new(env!("CARGO_BIN_EXE_vmserial"));
    let target = own.ancestors().nth(2).unwrap();
    target.join("x86_64-pc-windows-gnu/debug")
}

/// The path of a file of this machine as Windows programs see it.
pub fn windows_path(path: &Path) -> String {
    format!("Z:{}", path.display().to_string().replace('/', "\\"))
}

/// Puts a folder before the others in which programs are looked for.
pub fn with_programs(command: &mut Command, folder: &Path) {
    command.env("WINEPATH", windows_path(folder));
}

/// Where the test kit's program is, with what it needs beside it.
pub fn testkit() -> (PathBuf, Vec<PathBuf>) {
    (
        folder().join("testkit.exe"),
        vec![folder().join("bcryptprimitives.dll")],
    )
}

/// A Windows program of ours with its arguments, hermetic, in the sandbox.
pub fn command(sandbox: &Sandbox, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(wine().unwrap());
    command
        .arg(folder().join(program))
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", sandbox.path(""))
        .env("WINEPREFIX", prefix().unwrap())
        .env("WINEDEBUG", "-all")
        .env("WINEDLLOVERRIDES", "mscoree,mshtml=")
        .env("VMSERIAL_STATE", windows_path(&sandbox.path("state")))
        .current_dir(sandbox.path(""));
    command
}
