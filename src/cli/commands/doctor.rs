//! `vmserial doctor`.

use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::ui::Ui;
use crate::model::{CheckState, Deadline, FailureKind, HostRef, HypervisorKind, Problem, Wait};
use crate::session::doctor::doctor;
use crate::session::interrupt::Interrupt;
use crate::session::planning::RealHosts;
use serde_json::json;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long all looks together may take: the first PowerShell of a day takes ten seconds.
const LOOK: Duration = Duration::from_secs(60);

/// Tells what is missing before VMs can be set up from here, and the command that mends it.
///
/// Changes nothing. Ends with 5 when something must be mended.
///
/// Example: vmserial doctor hyperv --host admin@hv1
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// For which hypervisor
    #[arg(value_name = "HYPERVISOR", default_value = "hyperv")]
    hypervisor: HypervisorKind,
    /// The host that runs the VMs [default: this machine]
    #[arg(long, value_name = "[USER@]HOST")]
    host: Option<String>,
}

/// Runs `vmserial doctor`.
///
/// # Errors
///
/// Something must be mended, or the hypervisor has no checks: precondition.
pub fn run(args: &DoctorArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let host = match &args.host {
        Some(destination) => HostRef::Ssh(destination.clone()),
        None => HostRef::Local,
    };
    let interrupt = Interrupt::catch()?;
    let deadline = Deadline::after(Instant::now(), LOOK);
    let wait = Wait::new(
        deadline,
        interrupt.soft.clone(),
        format!("{} on {host}", args.hypervisor),
    );
    let checks = doctor(&RealHosts::new(&context.state), args.hypervisor, &host, &wait)?;
    if checks.is_empty() {
        let message = format!("this version checks nothing for `{}`", args.hypervisor);
        return Err(Problem::new(FailureKind::Precondition, message).into());
    }
    let missing = checks
        .iter()
        .filter(|check| check.state == CheckState::Missing)
        .count();
    if ui.is_json() {
        ui.data_json(&json!({
            "v": 1, "host": host.to_string(), "hypervisor": args.hypervisor, "good": missing == 0, "checks": checks,
        }))?;
    } else {
        ui.data(&format!("{} on {host}:", args.hypervisor))?;
        for check in &checks {
            let word = match check.state {
                CheckState::Good => "good",
                CheckState::Advice => "advice",
                CheckState::Missing => "MISSING",
                CheckState::NotLookedAt => "-",
            };
            ui.data(&format!("  {word:<8} {}: {}", check.name, check.found))?;
            for sentence in &check.mend {
                ui.data(&format!("           {sentence}"))?;
            }
        }
    }
    if missing == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let things = if missing == 1 {
        "1 thing".to_owned()
    } else {
        format!("{missing} things")
    };
    Err(Problem::new(FailureKind::Precondition, format!("{things} must be mended")).into())
}
