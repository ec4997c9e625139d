//! `vmserial up`.

use crate::cli::cables;
use crate::cli::commands::setup::common::{may_restart, restart_level};
use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::target::targets_and_joins;
use crate::cli::ui::Ui;
use crate::config::merge::{Overrides, with_overrides};
use crate::model::{RestartPolicy, TargetSpec};
use crate::plan::{PowerChange, Step};
use crate::session::apply::{ApplyOptions, Consent, plan_and_apply};
use crate::session::firewall_end::OpenPorts;
use crate::session::guest_stage::GuestLook;
use crate::session::interrupt::Interrupt;
use crate::session::planning::RealHosts;
use std::process::ExitCode;

/// Applies the profile, starts the VMs that it describes and those that are off, and leaves them running.
///
/// `vmserial console`, `debug` and `bridge` then find them; `vmserial down` stops them. A profile with `joins:` has its cables
/// run here until Ctrl-C: each is one bridge between two VMs, through any reboots of both.
///
/// Example: vmserial up demo --yes
#[derive(Debug, clap::Args)]
pub struct UpArgs {
    /// Targets by name or glob, or a profile file [default: all targets]
    #[arg(value_name = "TARGET|PROFILE")]
    targets: Vec<String>,
    /// Only show what would be changed
    #[arg(long)]
    plan: bool,
    /// Apply the plan without asking
    #[arg(long)]
    yes: bool,
    /// Confirm a step that wants it by its own name, as the plan says (can be repeated)
    #[arg(long, value_name = "NAME")]
    confirm: Vec<String>,
    /// How far to go when a change needs the VM powered off
    #[arg(long, value_name = "never|ask|graceful|hard", value_parser = restart_level)]
    restart: Option<RestartPolicy>,
}

/// Runs `vmserial up`.
///
/// # Errors
///
/// See [`plan_and_apply`].
pub fn run(args: &UpArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let overrides = Overrides {
        restart: args.restart,
    };
    let (targets, joins) = targets_and_joins(&args.targets, context)?;
    let targets: Vec<_> = targets
        .into_iter()
        .map(|target| with_overrides(target, overrides))
        .collect();
    let options = ApplyOptions {
        consent: match (args.plan, args.yes) {
            (true, _) => Consent::ShowOnly,
            (false, true) => Consent::Given,
            (false, false) => Consent::Ask,
        },
        confirmed: args.confirm.clone(),
        remove: false,
        start_vm: true,
        guests: GuestLook::Leave,
        state: context.state.clone(),
        host_folder: context.host_folder(),
        interrupt: Interrupt::catch()?,
    };
    let hosts = RealHosts::new(&context.state);
    let open = OpenPorts::begin(&hosts, &options)?;
    let applied = plan_and_apply(&hosts, &targets, &options, ui)?;
    if !args.plan {
        let offs = applied.plan.power_offs();
        let is_started = |target: &TargetSpec| {
            let mut steps = applied.plan.ready_steps();
            let on = |step: &Step| {
                step.power == Some(PowerChange::On) && step.target.as_ref() == Some(&target.name)
            };
            !offs.contains_key(&target.name) && steps.any(on)
        };
        for target in targets
            .iter()
            .filter(|target| target.start.is_some() || is_started(target))
        {
            ui.status(&format!(
                "`{0}` runs. Its console: `vmserial console {0}`; its end: `vmserial down {0}`.",
                target.name
            ));
        }
    }
    if !args.plan && !joins.is_empty() {
        let ran = cables::run(&hosts, &targets, &joins, context, ui, |ui| {
            let allowed = |target: &&TargetSpec| may_restart(target.restart);
            let allowed: Vec<TargetSpec> = targets.iter().filter(allowed).cloned().collect();
            if !allowed.is_empty() {
                plan_and_apply(&hosts, &allowed, &options, ui)?;
            }
            Ok(())
        });
        let ended = open.end(&targets, &hosts, ui);
        let code = ran?;
        ended?;
        return Ok(code);
    }
    if !args.plan {
        for line in open.stays(&targets)? {
            ui.status(&line);
        }
    }
    Ok(ExitCode::SUCCESS)
}
