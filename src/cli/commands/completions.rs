//! `vmserial completions`.

use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::ui::Ui;
use clap::CommandFactory;
use std::process::ExitCode;

/// Prints shell completions.
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// Shell to complete for
    shell: clap_complete::Shell,
}

/// Prints the completions of the chosen shell on standard output.
pub fn run(args: &CompletionsArgs, _context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut crate::cli::Cli::command(),
        "vmserial",
        &mut script,
    );
    ui.data_bytes(&script)?;
    Ok(ExitCode::SUCCESS)
}
