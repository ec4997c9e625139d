//! `vmserial setup hyperv`.

use super::common::{CommonArgs, Site};
use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::port::usage;
use crate::cli::ui::Ui;
use crate::model::profile::SecureBoot;
use crate::model::{FailureKind, HypervisorKind, Problem, TargetSpec, VmRef};
use std::process::ExitCode;

/// Puts a COM port of a Hyper-V VM on a named pipe, from Windows, from WSL, or over SSH with --host.
///
/// Hyper-V changes ports only while the VM is off, and the guest sees them after a cold start: --restart graceful shuts a
/// running VM down and starts it again. A port for a debugger (--as kd, gdb) also needs Secure Boot off, which is a step
/// of the plan; on a Windows guest it wants --confirm secure-boot, because BitLocker may ask for its recovery key.
///
/// Example: vmserial setup hyperv --vm dev --port 2 --pipe dev-gdb --as gdb --plan
#[derive(Debug, clap::Args)]
pub struct HypervArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Name of the pipe that the VM listens on: dev-gdb is \\.\pipe\dev-gdb [default: as it is, else VM-comN]
    #[arg(long, value_name = "NAME", conflicts_with = "endpoint")]
    pipe: Option<String>,
    /// What becomes of Secure Boot: off where a debugger needs it, kept, or off
    #[arg(long, value_name = "auto|keep|off", value_parser = secure_boot, default_value = "auto")]
    secure_boot: SecureBoot,
}

/// Parses `--secure-boot`.
///
/// # Errors
///
/// The words that there are.
pub(super) fn secure_boot(text: &str) -> Result<SecureBoot, String> {
    match text {
        "auto" => Ok(SecureBoot::Auto),
        "keep" => Ok(SecureBoot::Keep),
        "off" => Ok(SecureBoot::Off),
        _ => Err("expected one of auto, keep, off".to_owned()),
    }
}

/// Runs `vmserial setup hyperv`.
///
/// # Errors
///
/// No such VM, no PowerShell, no Hyper-V module: 4; two VMs of the name, not elevated, VM running or saved, pipe taken: 5;
/// the plan's refusals and the bridge's failures.
pub fn run(args: &HypervArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let common = &args.common;
    let mut target = target(args)?;
    let site = Site::new(common, false, context)?;
    if common.show {
        return site.show(common, &target, ui);
    }
    site.apply(&target, ui)?;
    if common.plan || common.remove {
        return Ok(ExitCode::SUCCESS);
    }
    // Looked up once: the bridge asks for it before every dial, and a PowerShell takes a second.
    site.settle(&mut target)?;
    site.bridge(common, &target, context, ui)
}

fn target(args: &HypervArgs) -> Result<TargetSpec, Failure> {
    let common = &args.common;
    let Some(vm) = &common.vm else {
        return Err(Problem::new(FailureKind::Usage, "which VM is meant is missing")
            .hint("Name it as `Get-VM` lists it, or by its GUID: `--vm dev`.")
            .into());
    };
    let mut common = common.clone();
    if let Some(pipe) = &args.pipe {
        // Taken with its path too, as Hyper-V shows it.
        let name = pipe.strip_prefix(r"\\.\pipe\").unwrap_or(pipe);
        let endpoint = format!("listen:pipe:{}", name.replace(',', ",,"));
        common.endpoint = Some(endpoint.parse().map_err(usage)?);
    }
    let mut target = common.target(HypervisorKind::Hyperv, VmRef::new(vm), vm)?;
    target.secure_boot = args.secure_boot;
    Ok(target)
}
