//! Where the program is on Windows itself: CI runs the same trials there.

use crate::kit::Sandbox;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the trials' names begin with.
pub const PREFIX: &str = "windows";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_vmserial"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Why the program cannot be run.
pub fn missing() -> Option<String> {
    (!folder().join("testkit.exe").exists())
        .then(|| "`testkit.exe` is not built (`cargo build --package vmserial-testkit`)".into())
}

/// The path of a file, which is what it is.
pub fn windows_path(path: &Path) -> String {
    path.display().to_string()
}

/// Puts a folder before the others in which programs are looked for.
pub fn with_programs(command: &mut Command, folder: &Path) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(folders).unwrap());
}

/// Where the test kit's program is, with what it needs beside it.
pub fn testkit() -> (PathBuf, Vec<PathBuf>) {
    (folder().join("testkit.exe"), Vec::new())
}

/// A program of ours with its arguments, with its state in the sandbox.
pub fn command(sandbox: &Sandbox, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(folder().join(program));
    command
        .args(arguments)
        .env("VMSERIAL_STATE", sandbox.path("state"))
        .current_dir(folder());
    command
}
