//! `vmserial setup xen`.

use super::common::{CommonArgs, Site};
use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::ui::Ui;
use crate::model::{FailureKind, HypervisorKind, Problem, TargetSpec, VmRef};
use std::path::Path;
use std::process::ExitCode;

/// Gives a VM of Xen a serial port: XenServer and XCP-ng through xapi's xe, plain Xen through xl and the VM's file.
///
/// Which of both the host has is asked. xapi has one port, COM1, which is a pseudo terminal of the host already: without
/// --endpoint there is nothing to change. Elsewhere the VM listens on TCP (--endpoint listen:tcp:127.0.0.1:7001). A port
/// changes when the VM is shut down and started: --restart graceful does that, --restart never leaves it to you.
///
/// Example: vmserial setup xen --vm win11-dev --endpoint listen:tcp:127.0.0.1:7001 --as kd --restart graceful --plan
#[derive(Debug, clap::Args)]
pub struct XenArgs {
    #[command(flatten)]
    common: CommonArgs,
}

/// Runs `vmserial setup xen`.
///
/// # Errors
///
/// No such VM, several of the name, or neither xe nor xl: 4; suspended, no HVM guest, an endpoint that Xen has not, a port
/// that another VM has: 5; a file that cannot be edited: 3; the plan's refusals and the bridge's failures.
pub fn run(args: &XenArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let common = &args.common;
    let target = target(args)?;
    let site = Site::new(common, false, context)?;
    if common.show {
        return site.show(common, &target, ui);
    }
    site.apply(&target, ui)?;
    if common.plan || common.remove {
        return Ok(ExitCode::SUCCESS);
    }
    site.bridge(common, &target, context, ui)
}

fn target(args: &XenArgs) -> Result<TargetSpec, Failure> {
    let common = &args.common;
    let Some(vm) = &common.vm else {
        return Err(Problem::new(FailureKind::Usage, "which VM is meant is missing")
            .hint("Name it: `--vm win11-dev`, by its UUID, or for xl by its file: `--vm /etc/xen/dev.cfg`.")
            .into());
    };
    let is_path = vm.contains('/');
    let name = match Path::new(vm).file_stem() {
        Some(stem) if is_path => stem.to_string_lossy().into_owned(),
        _ => vm.clone(),
    };
    // A relative path is this machine's only where the host is; xl wants it absolute.
    let vm = match is_path && common.host.is_none() {
        true => VmRef::new(std::path::absolute(vm)?.to_string_lossy()),
        false => VmRef::new(vm.clone()),
    };
    common
        .target(HypervisorKind::Xen, vm, &name)
        .map_err(Failure::from)
}
