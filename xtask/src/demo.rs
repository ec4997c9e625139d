//! `cargo xtask demo`: from a clean machine to a breakpoint in a real kernel.

use crate::guest;
use crate::packages::{self, Install};
use crate::process::{cargo, must, root, say};
use anyhow::Result;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Sets everything up and shows a breakpoint hit in a real kernel.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Install missing packages without asking
    #[arg(long)]
    yes: bool,
    /// End at gdb's prompt instead of running the demo's script
    #[arg(long)]
    interactive: bool,
}

/// Runs the demo. Its status is that of `vmserial debug`.
pub fn run(args: &DemoArgs) -> Result<ExitCode> {
    packages::ensure(
        packages::GUEST,
        if args.yes { Install::Yes } else { Install::Ask },
    )?;
    guest::ensure()?;
    say("building vmserial");
    must(cargo().args(["build", "--quiet", "--package", "vmserial"]))?;
    let program = root().join("target/debug/vmserial");
    // The demo's script asks the running session's console, so it must find the program and the profile.
    let folder = program.parent().map(PathBuf::from).unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(folder).chain(std::env::split_paths(&path)))?;
    let mut command = Command::new(program);
    command
        .env("PATH", path)
        .env("VMSERIAL_PROFILE", root().join("profiles/demo-qemu.yaml"));
    command
        .current_dir(root())
        .args(["debug", "profiles/demo-qemu.yaml", "--yes"]);
    if !args.interactive {
        command.args(["--batch", "-x", "profiles/demo.gdb"]);
    }
    say(&format!("running {}", crate::process::show(&command)));
    let status = command.status()?;
    say(&format!("vmserial ended with {status}"));
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}
