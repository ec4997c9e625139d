//! `vmserial setup xen`.

use super::common::{CommonArgs, Site, may_restart};
use super::firewall::FirewallArgs;
use super::hyperv::secure_boot;
use crate::cli::cables;
use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::ui::Ui;
use crate::model::join::{JoinEnd, JoinSpec};
use crate::model::profile::SecureBoot;
use crate::model::{FailureKind, HypervisorKind, LogSpec, Policy, Problem, TargetSpec, VmRef};
use crate::session::firewall_end::OpenPorts;
use std::path::Path;
use std::process::ExitCode;

/// Gives a VM of Xen a serial port: XenServer and XCP-ng through xapi's xe, plain Xen through xl and the VM's file.
///
/// Which of both the host has is asked. xapi has one port, COM1, which is a pseudo terminal of the host already: without
/// --endpoint there is nothing to change. Elsewhere the VM listens on TCP (--endpoint listen:tcp:127.0.0.1:7001). A port
/// changes when the VM is shut down and started: --restart graceful does that, --restart never leaves it to you. A debugger's port
/// also needs Secure Boot off, which is a step of the plan; on a Windows guest it wants --confirm secure-boot.
///
/// Example: vmserial setup xen --vm win11-dev --endpoint listen:tcp:127.0.0.1:7001 --as kd --restart graceful --plan
#[derive(Debug, clap::Args)]
pub struct XenArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Join the port to that of this VM of the same host: --vm is debugged, NAME has the debugger
    #[arg(long, value_name = "NAME|ID|PATH", conflicts_with_all = ["serve", "show", "remove", "allow_from"])]
    join: Option<String>,
    /// What becomes of Secure Boot (xapi): off where a debugger needs it, kept, or off
    #[arg(long, value_name = "auto|keep|off", value_parser = secure_boot, default_value = "auto")]
    secure_boot: SecureBoot,
    #[command(flatten)]
    firewall: FirewallArgs,
}

/// Runs `vmserial setup xen`.
///
/// # Errors
///
/// No such VM, several of the name, or neither xe nor xl: 4; suspended, no HVM guest, an endpoint that Xen has not, a port
/// that another VM has: 5; a file that cannot be edited: 3; the plan's refusals and the bridge's failures.
pub fn run(args: &XenArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let common = &args.common;
    let mut target = target(common, common.vm.as_ref())?;
    target.secure_boot = args.secure_boot;
    if let Some(other) = &args.join {
        return joined(args, target, other, context, ui);
    }
    args.firewall.wish(common, &mut target)?;
    let site = Site::new(common, false, context)?;
    if common.show {
        let firewall = args.firewall.shown(&site, &target)?;
        let code = site.show_with(common, &target, Some(&firewall), ui)?;
        if !ui.is_json() {
            for line in firewall {
                ui.data(&format!("firewall: {line}"))?;
            }
        }
        return Ok(code);
    }
    if common.plan {
        site.apply(&target, ui)?;
        return Ok(ExitCode::SUCCESS);
    }
    let open = OpenPorts::begin(site.hosts.as_ref(), &site.options)?;
    let result = set_up(&site, common, &target, context, ui);
    // However the session ended: what is temporary is closed, what stays is told.
    match (result, args.firewall.end(&site, &open, &target.host, ui)) {
        (Err(failure), Err(end)) => {
            ui.warning(&end.error.to_string());
            Err(failure)
        }
        (result, ended) => ended.and(result),
    }
}

fn set_up(
    site: &Site,
    common: &CommonArgs,
    target: &TargetSpec,
    context: &Context,
    ui: &mut Ui,
) -> Result<ExitCode, Failure> {
    site.apply(target, ui)?;
    if common.remove {
        return Ok(ExitCode::SUCCESS);
    }
    site.bridge(common, target, context, ui)
}

/// Gives both VMs a port and joins them.
fn joined(
    args: &XenArgs,
    debugged: TargetSpec,
    other: &String,
    context: &Context,
    ui: &mut Ui,
) -> Result<ExitCode, Failure> {
    let common = &args.common;
    let policy = common.policy.unwrap_or(Policy::Raw);
    let mut targets = [target(common, Some(other))?, debugged];
    // The endpoint and the log are those of `--vm`.
    for port in &mut targets[0].ports {
        port.attach = None;
        port.log = LogSpec::default();
    }
    for port in targets.iter_mut().flat_map(|target| &mut target.ports) {
        port.policy = policy;
    }
    let end = |target: &TargetSpec| JoinEnd {
        target: target.name.clone(),
        port: common.port(),
    };
    let join = JoinSpec {
        a: end(&targets[0]),
        b: end(&targets[1]),
        policy,
    };
    let site = Site::new(common, false, context)?;
    site.apply_all(&targets, ui)?;
    if common.plan || common.no_bridge {
        return Ok(ExitCode::SUCCESS);
    }
    cables::run(
        site.hosts.as_ref(),
        &targets,
        &[join],
        context,
        ui,
        |ui| match may_restart(common.restart) {
            true => site.apply_all(&targets, ui).map(drop),
            false => Ok(()),
        },
    )
}

fn target(common: &CommonArgs, vm: Option<&String>) -> Result<TargetSpec, Failure> {
    let Some(vm) = vm else {
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
