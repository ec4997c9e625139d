//! `vmserial setup`: flags instead of a profile, then the bridge.

pub mod common;
pub mod qemu;

use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::ui::Ui;
use std::process::ExitCode;

/// Gives a VM a serial port by flags instead of a profile, then opens the bridge to it.
///
/// Shows the plan, applies it after a yes (`--yes`), and ends in the bridge: this terminal for a console, `--serve` for
/// anything else. `--show` only prints the port as it is, `--remove` takes it away; both for ports that vmserial did not
/// set up too. `vmserial undo` takes back what was done.
#[derive(Debug, clap::Args)]
pub struct SetupArgs {
    #[command(subcommand)]
    hypervisor: Hypervisor,
}

#[derive(Debug, clap::Subcommand)]
enum Hypervisor {
    /// A VM of QEMU without a manager: one to start, or one that runs
    Qemu(Box<qemu::QemuArgs>),
}

/// Runs `vmserial setup`.
///
/// # Errors
///
/// The plan's refusals, a step's failure, and the bridge's.
pub fn run(args: SetupArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    match args.hypervisor {
        Hypervisor::Qemu(args) => qemu::run(&args, context, ui),
    }
}
