//! `vmserial guest linux`.

mod way;
mod wish;

use super::hand::HandArgs;
use super::look_time;
use super::port::port_to_hear;
use crate::cli::change::{ChangeArgs, options};
use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::target::{GuestTarget, guest_target_of};
use crate::cli::ui::Ui;
use crate::guest::linux::by_hand::lines;
use crate::guest::linux::{show, verdict};
use crate::model::profile::{GuestOs, VariableName};
use crate::model::{EndpointSpec, FailureKind, Problem};
use crate::session::by_hand::wait_for_hand;
use crate::session::find_tty::find_tty;
use crate::session::guest::{LinuxWish, look, plan};
use crate::session::host_apply::apply_to_host;
use crate::session::interrupt::Interrupt;
use crate::session::planning::{Hosts as _, RealHosts};
use std::path::PathBuf;
use std::process::ExitCode;

/// Makes a Linux guest ready for kernel debugging, and back again with `vmserial undo`.
///
/// Looks at the kernel's configuration, lockdown, serial ports, SysRq, console and boot loader first (`--show` ends there), then
/// points kgdb at the port and lets BREAK and `g` break in, without a reboot. A boot entry of its own and a console on every
/// kernel come with the next boot. A kernel without kgdb is told at once.
///
/// Example: vmserial guest linux --host root@dev --tty ttyS1 --plan
#[derive(Debug, clap::Args)]
pub struct LinuxArgs {
    /// A target whose profile has `guest:`, or a profile with one target
    #[arg(value_name = "TARGET|PROFILE", conflicts_with_all = ["local", "host", "serial", "root"])]
    words: Vec<String>,
    #[command(flatten)]
    way: WayArgs,
    /// Become root by sudo there
    #[arg(long)]
    sudo: bool,
    /// Who logs in on a serial console
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The environment variable with the password, for the login and for sudo
    #[arg(long, value_name = "VARIABLE")]
    password_env: Option<VariableName>,
    /// Only look, and tell what is missing
    #[arg(long)]
    show: bool,
    #[command(flatten)]
    wish: wish::WishArgs,
    #[command(flatten)]
    hand: HandArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

/// The way into the guest.
#[derive(Debug, clap::Args)]
#[group(id = "way", multiple = false)]
pub struct WayArgs {
    /// This machine is the guest
    #[arg(long)]
    local: bool,
    /// The guest's own SSH
    #[arg(long, value_name = "[USER@]HOST")]
    host: Option<String>,
    /// The guest's serial console: an endpoint, with our role
    #[arg(long, value_name = "ENDPOINT")]
    serial: Option<EndpointSpec>,
    /// The folder where the guest's disk is mounted: files only, nothing that runs
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// None: print the lines to type as root, and wait until the wire shows that they worked
    #[arg(long)]
    by_hand: bool,
}

/// Runs `vmserial guest linux`.
///
/// # Errors
///
/// No way in is named: 2. The kernel cannot be debugged, or is not root's to change: 5. No consent: 5 or 14.
pub fn run(args: &LinuxArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let target = guest_target_of(&args.words, GuestOs::Linux, context)?;
    let hosts = RealHosts::new(&context.state);
    let options = options(args.change.consent(), Interrupt::catch()?, context);
    let look_wait = || look_time::look(&options.interrupt);
    let wish = args.wish.wish(target.as_ref());
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
    let root = place.root.as_deref();
    let mut wish = wish;
    if let Some(word) = &args.wish.find {
        let port = port_to_hear(word, target.as_ref(), &hosts)?;
        let facts = look(runner.as_ref(), root, &look_wait())?;
        let name = find_tty(runner.as_ref(), &facts, &port, &context.state, &look_wait())?;
        ui.status(&format!("That port is {name} in the guest."));
        wish = args.wish.on(name, target.as_ref());
    }
    if args.show {
        let facts = look(runner.as_ref(), root, &look_wait())?;
        let shown = place.root.clone().unwrap_or_else(|| place.host.to_string());
        if ui.is_json() {
            ui.data_json(&show::json(&shown, &facts))?;
        } else {
            ui.data(show::text(&shown, &facts).trim_end())?;
        }
        verdict::check_able(&facts)?;
        return Ok(ExitCode::SUCCESS);
    }
    check_something(&wish)?;
    let look_and_plan = || {
        let facts = look(runner.as_ref(), root, &look_wait())?;
        plan(runner.as_ref(), &place, &facts, &wish, &look_wait())
    };
    apply_to_host(&hosts, &place.host, &look_and_plan, &options, ui)?;
    Ok(ExitCode::SUCCESS)
}

fn check_something(wish: &LinuxWish) -> Result<(), Problem> {
    if *wish != LinuxWish::default() {
        return Ok(());
    }
    Err(Problem::new(FailureKind::Usage, "nothing is wanted of the guest")
        .hint("`--show` tells how it is; `--tty ttyS1` points kgdb at that port."))
}

/// Prints what is to be typed; on a terminal waits until the port shows that it worked.
fn by_hand(
    args: &LinuxArgs,
    wish: &LinuxWish,
    target: Option<&GuestTarget>,
    hosts: &RealHosts,
    context: &Context,
    ui: &mut Ui,
    interrupt: &Interrupt,
) -> Result<ExitCode, Failure> {
    check_something(wish)?;
    let live = &wish.live;
    if live.kgdb.is_none() {
        return Err(
            Problem::new(FailureKind::Usage, "`--by-hand` is for kgdb's port: which one?")
                .hint("Name it as the guest calls it: `--tty ttyS1`.")
                .into(),
        );
    }
    let waits = ui.can_ask() && !args.change.plan;
    let mut hand = args.hand.listen(target, hosts, waits, context)?;
    let mark = format!("vmserial-{}", std::process::id());
    ui.status("Type these lines in the guest, as root:");
    for line in lines(live, &mark) {
        ui.data(&line)?;
    }
    if wish.boot != Default::default() {
        ui.warning("boot entries and consoles of the next boot are made by a way in only: `--host`, `--serial`, `--local`, `--root`");
    }
    if args.change.plan {
        return Ok(ExitCode::SUCCESS);
    }
    let what = "the last one to arrive at the port";
    hand.wait(what, interrupt, ui, &mut |ear, ui, wait| {
        let mut told = |problem: &Problem| ui.warning(&problem.message);
        wait_for_hand(ear, live, &mark, &mut told, wait)
    })?;
    ui.status("The guest is ready: kgdb is on that port.");
    Ok(ExitCode::SUCCESS)
}
