//! `vmserial drift`.

use crate::cli::change::{chosen, options};
use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::ui::Ui;
use crate::model::FailureKind;
use crate::plan::{StageContent, TargetPlan};
use crate::session::apply::{Planned, plan_only};
use crate::session::consent::Consent;
use crate::session::interrupt::Interrupt;
use crate::session::planning::RealHosts;
use serde_json::json;
use std::process::ExitCode;

/// Tells which targets are no longer as the profile says, a line each.
///
/// Example: vmserial drift --exit-code || vmserial plan
#[derive(Debug, clap::Args)]
pub struct DriftArgs {
    /// Targets by name or glob, or a profile file [default: all targets]
    #[arg(value_name = "TARGET|PROFILE")]
    targets: Vec<String>,
    /// End with 10 if a target is not as the profile says
    #[arg(long)]
    exit_code: bool,
}

/// Runs `vmserial drift`.
///
/// # Errors
///
/// The profile's, and whatever keeps a host from being looked at.
pub fn run(args: &DriftArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let targets = chosen(&args.targets, None, context)?;
    let options = options(Consent::ShowOnly, Interrupt::catch()?, context);
    let Planned { plan, refused } = plan_only(&RealHosts::new(&context.state), &targets, &options)?;
    let mut drifted = Vec::new();
    for target in &plan.targets {
        let changes = changes(target);
        if !ui.is_json() {
            let line = if changes.is_empty() {
                "as the profile says".to_owned()
            } else {
                changes.join("; ")
            };
            ui.data(&format!("{}: {line}", target.target))?;
        }
        drifted.push(json!({ "target": target.target, "changes": changes }));
    }
    if ui.is_json() {
        ui.data_json(&json!({ "v": 1, "drift": !plan.is_empty(), "targets": drifted }))?;
    }
    if let Some(problem) = refused {
        return Err(problem.into());
    }
    Ok(if args.exit_code && !plan.is_empty() {
        ExitCode::from(FailureKind::ChangesPending.exit_code())
    } else {
        ExitCode::SUCCESS
    })
}

fn changes(target: &TargetPlan) -> Vec<String> {
    target
        .stages
        .iter()
        .flat_map(|stage| match &stage.content {
            StageContent::Planned(steps) => steps.iter().map(|step| step.summary.clone()).collect(),
            StageContent::Later { after, may_change } => vec![format!("{after}: {}", may_change.join(", "))],
        })
        .collect()
}
