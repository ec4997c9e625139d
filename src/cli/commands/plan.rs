//! `vmserial plan`.

use crate::cli::change::{chosen, options};
use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::ui::Ui;
use crate::model::FailureKind;
use crate::session::Front;
use crate::session::apply::{ApplyOptions, Planned, plan_only};
use crate::session::consent::Consent;
use crate::session::guest_stage::GuestLook;
use crate::session::interrupt::Interrupt;
use crate::session::planning::RealHosts;
use std::process::ExitCode;

/// Shows what `vmserial apply` would change: steps, diffs, how each is undone. Changes nothing.
///
/// Example: vmserial plan dev --json
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    /// Targets by name or glob, or a profile file [default: all targets]
    #[arg(value_name = "TARGET|PROFILE")]
    targets: Vec<String>,
    /// End with 10 if there is something to change
    #[arg(long)]
    exit_code: bool,
}

/// Runs `vmserial plan`.
///
/// # Errors
///
/// The profile's, and whatever stands against the plan.
pub fn run(args: &PlanArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let targets = chosen(&args.targets, None, context)?;
    let options = ApplyOptions {
        guests: GuestLook::All,
        ..options(Consent::ShowOnly, Interrupt::catch()?, context)
    };
    let Planned { plan, refused } = plan_only(&RealHosts::new(&context.state), &targets, &options)?;
    ui.planned(&plan)?;
    if let Some(problem) = refused {
        return Err(problem.into());
    }
    Ok(if args.exit_code && !plan.is_empty() {
        ExitCode::from(FailureKind::ChangesPending.exit_code())
    } else {
        ExitCode::SUCCESS
    })
}
