//! `vmserial helper`.

use crate::cli::error::Failure;
use crate::session::helper;
use std::process::ExitCode;

/// Opens pipes, devices and sockets of this machine for a vmserial on another one, and carries their bytes over standard
/// input and output. Started by that vmserial, through WSL or SSH, not by hand; it ends with its standard input.
///
/// Protocol: docs/dev/helper-protocol.md
#[derive(Debug, clap::Args)]
pub struct HelperArgs {}

/// Runs the helper until its standard input ends.
///
/// # Errors
///
/// Precondition: the other end speaks another protocol; connection lost: what came was no protocol.
pub fn run(_args: &HelperArgs) -> Result<ExitCode, Failure> {
    helper::run()?;
    Ok(ExitCode::SUCCESS)
}
