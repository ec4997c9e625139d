//! `vmserial setup`: flags instead of a profile, then the bridge.

pub mod common;
pub mod firewall;
pub mod helper;
pub mod hyperv;
pub mod qemu;
mod show;
pub mod vmware;
pub mod xen;

use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::ui::Ui;
use crate::model::{FailureKind, HypervisorKind, Problem};
use crate::session::planning::{Hosts, RealHosts};
use std::ffi::OsString;
use std::process::ExitCode;

/// Gives a VM a serial port by flags instead of a profile, then opens the bridge to it.
///
/// Shows the plan, applies it after a yes (`--yes`), and ends in the bridge: this terminal for a console, `--serve` for
/// anything else. `--show` only prints the port as it is, `--remove` takes it away; both for ports that vmserial did not
/// set up too. `vmserial undo` takes back what was done.
#[derive(Debug, clap::Args)]
pub struct SetupArgs {
    #[command(subcommand)]
    hypervisor: Hypervisor,
}

#[derive(Debug, clap::Subcommand)]
enum Hypervisor {
    /// A VM of Hyper-V, from Windows, WSL or over SSH
    Hyperv(Box<hyperv::HypervArgs>),
    /// A VM of QEMU without a manager: one to start, or one that runs
    Qemu(Box<qemu::QemuArgs>),
    /// A VM of VMware Workstation, Player or Fusion, by its .vmx file
    Vmware(Box<vmware::VmwareArgs>),
    /// A VM of XenServer, XCP-ng (by xapi's xe) or plain Xen (by xl)
    Xen(Box<xen::XenArgs>),
    /// The helper that opens named pipes for WSL and other hosts: vmserial.exe on the Windows side
    Helper(helper::HelperSetupArgs),
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

/// Runs `vmserial setup`.
///
/// # Errors
///
/// The plan's refusals, a step's failure, and the bridge's.
pub fn run(args: SetupArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    match args.hypervisor {
        Hypervisor::Hyperv(args) => hyperv::run(&args, context, ui),
        Hypervisor::Qemu(args) => qemu::run(&args, context, ui),
        Hypervisor::Vmware(args) => vmware::run(&args, context, ui),
        Hypervisor::Xen(args) => xen::run(&args, context, ui),
        Hypervisor::Helper(args) => helper::run(&args, context, ui),
        Hypervisor::Other(words) => Err(not_served(&words, context).into()),
    }
}

/// Says of a hypervisor that this version has no driver for it, and of anything else that it is none.
fn not_served(words: &[OsString], context: &Context) -> Problem {
    let name = words
        .first()
        .map(|word| word.to_string_lossy())
        .unwrap_or_default();
    let kind = match name.parse::<HypervisorKind>() {
        Ok(kind) => kind,
        Err(error) => return Problem::new(FailureKind::Usage, error.to_string()),
    };
    match RealHosts::new(&context.state).driver(kind) {
        Err(problem) => problem,
        Ok(_) => Problem::new(
            FailureKind::Precondition,
            format!("`vmserial setup {kind}` is not served yet"),
        ),
    }
}
