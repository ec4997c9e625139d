//! `vmserial guest`: makes a guest ready for kernel debugging, and back again.

mod hand;
mod linux;
mod look_time;
mod port;
mod windows;

use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::ui::Ui;
use crate::model::{FailureKind, Problem};
use std::ffi::OsString;
use std::process::ExitCode;

/// Makes the inside of a guest ready for kernel debugging.
///
/// Looks first, shows what it would change, does it after a yes (`--yes`), and `vmserial undo` takes it back.
#[derive(Debug, clap::Args)]
pub struct GuestArgs {
    #[command(subcommand)]
    os: Os,
}

#[derive(Debug, clap::Subcommand)]
enum Os {
    /// A Linux guest: kgdb on a serial port, SysRq, console
    Linux(Box<linux::LinuxArgs>),
    /// A Windows guest: KD on a serial port, EMS
    Windows(Box<windows::WindowsArgs>),
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

/// Runs `vmserial guest`.
///
/// # Errors
///
/// The guest's refusals, no consent, a step's failure.
pub fn run(args: GuestArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    match args.os {
        Os::Linux(args) => linux::run(&args, context, ui),
        Os::Windows(args) => windows::run(&args, context, ui),
        Os::Other(words) => {
            let name = words
                .first()
                .map(|word| word.to_string_lossy().into_owned())
                .unwrap_or_default();
            let message = format!("`{name}` is no guest system: expected `linux` or `windows`");
            Err(Problem::new(FailureKind::Usage, message).into())
        }
    }
}
