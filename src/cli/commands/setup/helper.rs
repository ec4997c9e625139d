//! `vmserial setup helper`.

use crate::cli::change::{ChangeArgs, options};
use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::ui::Ui;
use crate::model::{Deadline, HostRef, Wait};
use crate::session::consent::Consent;
use crate::session::helper_setup::{answer, plan_install, plan_removal};
use crate::session::host_apply::apply_to_host;
use crate::session::interrupt::Interrupt;
use crate::session::planning::{Hosts as _, RealHosts};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long looking may take.
const LOOK: Duration = Duration::from_secs(60);

/// Installs vmserial.exe on the Windows side or on a Windows host, where WSL and SSH find it for named pipes.
///
/// It goes to %LOCALAPPDATA%\vmserial\bin, is shown first, and is taken back with `vmserial undo`. Without `--from` it is
/// the program that VMSERIAL_EXE names, this one on Windows, or vmserial.exe on the PATH. At the end it is started once,
/// and the versions of both ends are compared.
///
/// Example: vmserial setup helper --from /mnt/c/Users/me/Downloads/vmserial.exe --plan
///
/// Example: vmserial setup helper --host admin@hv1 --from vmserial.exe
#[derive(Debug, clap::Args)]
pub struct HelperSetupArgs {
    /// Copy this program
    #[arg(long, value_name = "FILE", conflicts_with = "remove")]
    from: Option<PathBuf>,
    /// The Windows host that gets it, through SSH [default: the Windows of this machine]
    #[arg(long, value_name = "[USER@]HOST")]
    host: Option<String>,
    /// Take the installed program away
    #[arg(long)]
    remove: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Runs `vmserial setup helper`.
///
/// # Errors
///
/// No Windows here, or a file that is no program of Windows: 5; no program to copy: 4; no consent: 5 or 14.
pub fn run(args: &HelperSetupArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let hosts = RealHosts::new(&context.state);
    let options = options(args.change.consent(), Interrupt::catch()?, context);
    let host = match &args.host {
        Some(destination) => HostRef::Ssh(destination.clone()),
        None => HostRef::Local,
    };
    let runner = hosts.runner(&host)?;
    let from = args.from.as_ref().map(std::path::absolute).transpose()?;
    let look = || {
        let deadline = Deadline::after(Instant::now(), LOOK);
        let wait = Wait::new(
            deadline,
            options.interrupt.soft.clone(),
            format!("the helper of {host}"),
        );
        if args.remove {
            plan_removal(runner.as_ref(), &wait)
        } else {
            plan_install(runner.as_ref(), from.as_deref(), &wait)
        }
    };
    apply_to_host(&hosts, &host, &look, &options, ui)?;
    if !args.remove && options.consent != Consent::ShowOnly {
        match answer(&host) {
            Ok(heard) => ui.status(&format!(
                "vmserial {} answers as the helper (`{}`).",
                heard.version, heard.name
            )),
            Err(error) => ui.warning(&format!("the helper does not answer: {error}")),
        }
    }
    Ok(ExitCode::SUCCESS)
}
