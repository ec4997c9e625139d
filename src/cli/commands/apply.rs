//! `vmserial apply`.

use crate::cli::change::{ChangeArgs, chosen, options};
use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::ui::Ui;
use crate::plan::show;
use crate::session::apply::{ApplyOptions, plan_and_apply};
use crate::session::guest_stage::GuestLook;
use crate::session::interrupt::Interrupt;
use crate::session::planning::RealHosts;
use serde_json::json;
use std::process::ExitCode;

/// Brings targets to what the profile says: shows the plan, asks, does it step by step with a journal on disk.
///
/// It starts no VM; `vmserial up` and `vmserial debug` do. A second apply says "Nothing to change."
///
/// Example: vmserial apply dev --yes
#[derive(Debug, clap::Args)]
pub struct ApplyArgs {
    /// Targets by name or glob, or a profile file [default: all targets]
    #[arg(value_name = "TARGET|PROFILE")]
    targets: Vec<String>,
    #[command(flatten)]
    change: ChangeArgs,
    /// Confirm a step that wants it by its own name, as the plan says (can be repeated)
    #[arg(long, value_name = "NAME")]
    confirm: Vec<String>,
}

/// Runs `vmserial apply`.
///
/// # Errors
///
/// See [`plan_and_apply`].
pub fn run(args: &ApplyArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let targets = chosen(&args.targets, args.change.restart, context)?;
    let options = ApplyOptions {
        confirmed: args.confirm.clone(),
        guests: GuestLook::All,
        ..options(args.change.consent(), Interrupt::catch()?, context)
    };
    let applied = plan_and_apply(&RealHosts::new(&context.state), &targets, &options, ui)?;
    if ui.is_json() {
        ui.data_json(&json!({
            "v": 1,
            "changed": applied.journal.is_some(),
            "journal": applied.journal,
            "plan": show::json(&applied.plan),
        }))?;
    }
    Ok(ExitCode::SUCCESS)
}
