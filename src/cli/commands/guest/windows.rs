//! `vmserial guest windows`.

mod way;
mod wish;

use super::hand::HandArgs;
use super::look_time;
use crate::cli::change::{ChangeArgs, options};
use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::target::{GuestTarget, guest_target_of};
use crate::cli::ui::Ui;
use crate::guest::windows::by_hand::lines;
use crate::guest::windows::show;
use crate::guest::windows::steps::{WindowsWish, steps};
use crate::model::profile::{GuestOs, VariableName};
use crate::model::{EndpointSpec, FailureKind, Problem};
use crate::session::by_hand::{wait_for_kd, wait_for_sac};
use crate::session::host_apply::apply_to_host;
use crate::session::interrupt::Interrupt;
use crate::session::planning::{Hosts as _, RealHosts};
use crate::session::windows_guest::look;
use std::process::ExitCode;

/// Makes a Windows guest ready for a kernel debugger on a serial port, and back again with `vmserial undo`.
///
/// Looks at boot settings, rights, Secure Boot and BitLocker first (`--show` ends there). Then the debugger is put on the port and
/// switched on, for the guest's next boot; BitLocker is suspended before. What was there, a network debugger with its key too, is
/// kept and comes back by `vmserial undo`. EMS, whose console (SAC) is a way in of its own, is switched on by `--ems`.
///
/// Examples: vmserial guest windows --host admin@win --port COM1 --plan
///           vmserial guest windows --vm win11 --user Administrator --password-env WIN_PW --port COM1
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct WindowsArgs {
    /// A target whose profile has `guest:`, or a profile with one target
    #[arg(value_name = "TARGET|PROFILE", conflicts_with_all = ["local", "host", "serial", "vm"])]
    words: Vec<String>,
    #[command(flatten)]
    way: WayArgs,
    /// Where the VM's Hyper-V runs [default: this machine, or the Windows around this WSL]
    #[arg(long, value_name = "[USER@]HOST", requires = "vm")]
    hyperv: Option<String>,
    /// Who logs in: PowerShell Direct, the SAC console
    #[arg(long, value_name = "[DOMAIN\\]NAME")]
    user: Option<String>,
    /// The environment variable with the password
    #[arg(long, value_name = "VARIABLE")]
    password_env: Option<VariableName>,
    /// Only look, and tell what is missing
    #[arg(long)]
    show: bool,
    #[command(flatten)]
    wish: wish::WishArgs,
    #[command(flatten)]
    hand: HandArgs,
    /// Confirm a step that wants it by name: bitlocker
    #[arg(long, value_name = "NAME")]
    confirm: Vec<String>,
    #[command(flatten)]
    change: ChangeArgs,
}

/// The way into the guest.
#[derive(Debug, clap::Args)]
#[group(id = "windows_way", multiple = false)]
pub struct WayArgs {
    /// This machine is the guest
    #[arg(long)]
    local: bool,
    /// The guest's own SSH
    #[arg(long, value_name = "[USER@]HOST")]
    host: Option<String>,
    /// PowerShell Direct: the VM on its Hyper-V host, by name or GUID
    #[arg(long, value_name = "NAME|GUID")]
    vm: Option<String>,
    /// The guest's EMS console (SAC): an endpoint, with our role
    #[arg(long, value_name = "ENDPOINT")]
    serial: Option<EndpointSpec>,
    /// None: print the lines to type, and wait until the wire shows that they worked
    #[arg(long)]
    by_hand: bool,
}

/// Runs `vmserial guest windows`.
///
/// # Errors
///
/// No way in is named, EMS and the debugger on one port: 2. Not elevated, Secure Boot, no consent: 5 or 14.
pub fn run(args: &WindowsArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let target = guest_target_of(&args.words, GuestOs::Windows, context)?;
    let wish = args.wish.wish(target.as_ref())?;
    wish.check()?;
    let hosts = RealHosts::new(&context.state);
    let mut options = options(args.change.consent(), Interrupt::catch()?, context);
    options.confirmed = args.confirm.clone();
    let Some(place) = way::place(args, target.as_ref(), &hosts)? else {
        return by_hand(
            args,
            &wish,
            target.as_ref(),
            &hosts,
            context,
            ui,
            &options.interrupt,
        );
    };
    let runner = hosts.runner(&place.host)?;
    if args.show {
        let facts = look(runner.as_ref(), &look_time::look(&options.interrupt))?;
        let shown = place.host.to_string();
        if ui.is_json() {
            ui.data_json(&show::json(&shown, &facts))?;
        } else {
            ui.data(show::text(&shown, &facts).trim_end())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    check_something(&wish)?;
    let look_and_plan = || {
        let facts = look(runner.as_ref(), &look_time::look(&options.interrupt))?;
        steps(&place, &facts, &wish)
    };
    apply_to_host(&hosts, &place.host, &look_and_plan, &options, ui)?;
    Ok(ExitCode::SUCCESS)
}

fn check_something(wish: &WindowsWish) -> Result<(), Problem> {
    if !wish.is_empty() {
        return Ok(());
    }
    Err(Problem::new(FailureKind::Usage, "nothing is wanted of the guest")
        .hint("`--show` tells how it is; `--port COM1` puts the kernel's debugger there."))
}

/// Prints what is to be typed; on a terminal waits until the port shows a kernel that speaks KD, or the console of EMS where only
/// that is wanted.
fn by_hand(
    args: &WindowsArgs,
    wish: &WindowsWish,
    target: Option<&GuestTarget>,
    hosts: &RealHosts,
    context: &Context,
    ui: &mut Ui,
    interrupt: &Interrupt,
) -> Result<ExitCode, Failure> {
    check_something(wish)?;
    let speaks_kd = wish.debug.is_some() || wish.boot_debug;
    let waits = ui.can_ask() && !args.change.plan;
    let mut hand = args.hand.listen(target, hosts, waits, context)?;
    ui.status("Type these lines in the guest, in a prompt that runs as administrator (the last one boots it again):");
    for line in lines(wish) {
        ui.data(&line)?;
    }
    if speaks_kd {
        ui.warning("nobody can look whether BitLocker guards the guest: have the recovery key ready (where it is not on, the line with manage-bde says so and changes nothing), and Secure Boot must be off");
    }
    if args.change.plan {
        return Ok(ExitCode::SUCCESS);
    }
    if speaks_kd {
        let what = "the kernel to speak KD on the port";
        hand.wait(what, interrupt, ui, &mut |ear, _, wait| wait_for_kd(ear, wait))?;
        ui.status("The guest is ready: its kernel speaks KD on that port.");
    } else {
        let what = "the console of EMS to show `SAC>` on the port";
        hand.wait(what, interrupt, ui, &mut |ear, _, wait| wait_for_sac(ear, wait))?;
        ui.status("The guest is ready: the console of EMS is on that port.");
    }
    Ok(ExitCode::SUCCESS)
}
