//! `vmserial resume`.

use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::target::one_target;
use crate::cli::ui::Ui;
use crate::session::planning::RealHosts;
use crate::session::resume::resume;
use std::process::ExitCode;

/// Frees a kernel that was left stopped in its debugger.
///
/// For a kernel whose debugger or whose vmserial was killed: takes out the breakpoints that gdb planted, puts the program
/// counter back where it stands behind one of them, and lets the kernel run. One that runs already is left alone.
///
/// Example: vmserial resume dev
#[derive(Debug, clap::Args)]
pub struct ResumeArgs {
    /// A target's name (the profile's file may stand beside it), or a profile file with one target
    #[arg(value_name = "TARGET|PROFILE", num_args = 0..=2)]
    words: Vec<String>,
}

/// Runs `vmserial resume`.
///
/// # Errors
///
/// The VM does not run, or another vmserial has its port: 5; the kernel could not be freed: 6.
pub fn run(args: &ResumeArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let target = one_target(&args.words, context)?;
    let done = resume(&RealHosts::new(&context.state), &target, &context.state)?;
    if ui.is_json() {
        ui.data_json(&serde_json::json!({ "target": target.name, "done": done }))?;
    } else {
        for what in done {
            ui.status(&format!("`{}`: {what}.", target.name));
        }
    }
    Ok(ExitCode::SUCCESS)
}
