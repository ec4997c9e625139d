//! `vmserial guest`: makes a guest ready for kernel debugging, and back again.

mod linux;

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
        Os::Other(words) => {
            let name = words
                .first()
                .map(|word| word.to_string_lossy().into_owned())
                .unwrap_or_default();
            let problem = if name == "windows" {
                Problem::new(FailureKind::Precondition, "`vmserial guest windows` is not served yet")
                    .hint("In the guest: `bcdedit /dbgsettings serial debugport:1 baudrate:115200`, then `bcdedit /debug on`.")
            } else {
                Problem::new(
                    FailureKind::Usage,
                    format!("`{name}` is no guest system: expected `linux`"),
                )
            };
            Err(problem.into())
        }
    }
}
