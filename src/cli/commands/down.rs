//! `vmserial down`.

use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::target::targets;
use crate::cli::ui::Ui;
use crate::model::{FailureKind, Problem, TargetName};
use crate::session::apply::{ApplyOptions, Consent};
use crate::session::firewall_end::OpenPorts;
use crate::session::guest_stage::GuestLook;
use crate::session::interrupt::Interrupt;
use crate::session::lifetime::{end_vms, started_targets};
use crate::session::planning::RealHosts;
use std::process::ExitCode;

/// Stops VMs that vmserial started. Others are never stopped.
///
/// Everything else that was set up stays; `vmserial undo` takes that back.
///
/// Example: vmserial down demo
#[derive(Debug, clap::Args)]
pub struct DownArgs {
    /// Targets by name or glob, or a profile file; a VM that `vmserial setup` started by its name [default: all of the profile]
    #[arg(value_name = "TARGET|PROFILE")]
    targets: Vec<String>,
}

/// Runs `vmserial down`.
///
/// # Errors
///
/// A name is neither a target's nor a VM's that vmserial started: 4. A VM cannot be ended: 6.
pub fn run(args: &DownArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let hosts = RealHosts::new(&context.state);
    let options = ApplyOptions {
        consent: Consent::Given,
        confirmed: Vec::new(),
        remove: false,
        start_vm: false,
        guests: GuestLook::Leave,
        state: context.state.clone(),
        host_folder: context.host_folder(),
        interrupt: Interrupt::catch()?,
    };
    let started = started_targets(&hosts, &options)?;
    // What runs can be ended without the profile that it was started from.
    let known: Vec<TargetName> = args
        .targets
        .iter()
        .filter_map(|word| word.parse().ok())
        .filter(|name| started.contains(name))
        .collect();
    let names = if !args.targets.is_empty() && known.len() == args.targets.len() {
        known
    } else {
        let chosen = targets(&args.targets, context).map_err(|failure| hinted(failure, &started))?;
        chosen.into_iter().map(|target| target.name).collect()
    };
    let count = end_vms(&names, &hosts, &options, ui)?;
    // What runs can be ended without its profile; what a profile opened for a time is known by it.
    let chosen = targets(&args.targets, context).unwrap_or_default();
    let closed = OpenPorts::begin(&hosts, &options)?.close_temporary(&chosen, &hosts, ui)?;
    if count + closed == 0 {
        ui.status("Nothing to stop: vmserial started none of these VMs.");
    }
    Ok(ExitCode::SUCCESS)
}

fn hinted(failure: Failure, started: &std::collections::BTreeSet<TargetName>) -> Failure {
    if started.is_empty() || failure.kind != FailureKind::NotFound {
        return failure;
    }
    let names: Vec<&str> = started.iter().map(TargetName::as_str).collect();
    let problem = Problem::new(failure.kind, failure.error.to_string());
    let hinted = failure.hints.into_iter().fold(problem, Problem::hint);
    hinted
        .hint(format!("vmserial started: {}.", names.join(", ")))
        .into()
}
