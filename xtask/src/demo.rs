//! `cargo xtask demo`: from a clean machine to a breakpoint in a real kernel.

use crate::guest;
use crate::packages::{self, Install};
use crate::process::{cargo, must, root, say};
use anyhow::Result;
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
    packages::ensure(if args.yes { Install::Yes } else { Install::Ask })?;
    guest::ensure()?;
    say("building vmserial");
    must(cargo().args(["build", "--quiet", "--package", "vmserial"]))?;
    let program = root().join("target/debug/vmserial");
    let mut command = Command::new(program);
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
