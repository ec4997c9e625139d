//! `vmserial setup vmware`.

use super::common::{CommonArgs, Site};
use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::port::usage;
use crate::cli::ui::Ui;
use crate::model::{FailureKind, HypervisorKind, Problem, TargetSpec, VmRef};
use std::process::ExitCode;

/// Gives a VM of VMware Workstation, Player or Fusion a serial port, or VMware's gdb stub.
///
/// Edits the VM's .vmx file: only the port's own lines, every other byte stays. The VM must be off and its tab closed,
/// because VMware writes the file over at power-off; with vmrun on the PATH, --restart graceful powers a running VM off
/// and on again. Without --endpoint a port that is there stays where it is, and a new one listens beside the file.
///
/// Example: vmserial setup vmware --vm ~/vm/dev.vmx --port 2 --endpoint listen:unix:/tmp/dev.sock --as gdb --plan
#[derive(Debug, clap::Args)]
pub struct VmwareArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Let the guest use hardware virtualization itself
    #[arg(long)]
    nested: bool,
}

/// Runs `vmserial setup vmware`.
///
/// # Errors
///
/// No such file: 4; VM running, open or suspended, or an endpoint that VMware has not: 5; a file that cannot be edited: 3;
/// the plan's refusals and the bridge's failures.
pub fn run(args: &VmwareArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
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
    if let Some(stub) = &target.gdb_stub {
        ui.status(&format!(
            "When the VM runs, gdb finds it with `target remote 127.0.0.1:{}`.",
            stub.port
        ));
    }
    site.bridge(common, &target, context, ui)
}

fn target(args: &VmwareArgs) -> Result<TargetSpec, Failure> {
    let common = &args.common;
    let Some(vm) = &common.vm else {
        return Err(Problem::new(FailureKind::Usage, "which VM is meant is missing")
            .hint("Name it by its file: `--vm ~/vm/dev.vmx`.")
            .into());
    };
    let path = std::path::absolute(vm)?;
    let name = path
        .file_stem()
        .map_or_else(|| vm.clone(), |stem| stem.to_string_lossy().into_owned());
    let vm = VmRef::new(path.to_string_lossy());
    let mut target = common.target(HypervisorKind::Vmware, vm, &name)?;
    target.nested = args.nested && !common.remove;
    let no_port = common.port.is_none() && common.endpoint.is_none();
    if no_port && (target.gdb_stub.is_some() || args.nested) && !common.show {
        target.ports.clear();
    }
    for port in &mut target.ports {
        // VMware takes relative paths from the VM's folder; on a command line they are the current folder's.
        if let Some(endpoint) = &port.attach {
            let here = std::env::current_dir()?;
            port.attach = Some(endpoint.resolved(&here, None).map_err(usage)?);
        }
    }
    Ok(target)
}
