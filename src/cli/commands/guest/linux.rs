//! `vmserial guest linux`.

use crate::cli::change::{ChangeArgs, options};
use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::target::{GuestTarget, guest_target};
use crate::cli::ui::Ui;
use crate::guest::linux::live::{LiveWish, Place};
use crate::guest::linux::{show, verdict};
use crate::model::profile::GuestOs;
use crate::model::{Deadline, FailureKind, HostLogin, HostRef, Problem, Wait};
use crate::runner::ssh::options::set_login;
use crate::session::guest::{LinuxWish, look, plan};
use crate::session::host_apply::apply_to_host;
use crate::session::interrupt::Interrupt;
use crate::session::planning::{Hosts as _, RealHosts};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long looking may take: a guest that is emulated on a loaded host is slow.
const LOOK: Duration = Duration::from_secs(60);

/// What kgdb and a console run at, where nothing else is said.
const BAUD: u32 = 115_200;

/// Makes a Linux guest ready for kernel debugging, without a reboot.
///
/// Looks at the kernel's configuration, lockdown, serial ports, SysRq, console and boot loader first (`--show` ends there),
/// then points kgdb at the port and lets BREAK and `g` break in. A kernel without kgdb is told at once.
///
/// Example: vmserial guest linux --host root@dev --tty ttyS1 --plan
#[derive(Debug, clap::Args)]
pub struct LinuxArgs {
    /// A target whose profile has `guest:`, or a profile with one target
    #[arg(value_name = "TARGET|PROFILE", conflicts_with_all = ["local", "host", "root"])]
    words: Vec<String>,
    #[command(flatten)]
    way: WayArgs,
    /// Become root by sudo there
    #[arg(long)]
    sudo: bool,
    /// Only look, and tell what is missing
    #[arg(long)]
    show: bool,
    /// kgdb's port, as the guest calls it [default: that of the profile's port with `as: gdb`]
    #[arg(long, value_name = "ttyS0|ttyS1|…")]
    tty: Option<String>,
    /// Speed of the line
    #[arg(long, value_name = "N", default_value_t = BAUD)]
    baud: u32,
    /// Let messages below this level reach the console (8: all)
    #[arg(long, value_name = "1..8", value_parser = clap::value_parser!(u8).range(1..=8))]
    log_level: Option<u8>,
    /// Do not send back what comes in on this port
    #[arg(long, value_name = "ttyS0|…")]
    no_echo: Option<String>,
    /// Keep kernel.sysrq = 1 for the boots to come (/etc/sysctl.d)
    #[arg(long)]
    keep_sysrq: bool,
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
    /// The folder where the guest's disk is mounted: files only, nothing that runs
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// Runs `vmserial guest linux`.
///
/// # Errors
///
/// No way in is named: 2. The kernel cannot be debugged, or is not root's to change: 5. No consent: 5 or 14.
pub fn run(args: &LinuxArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let target = if args.words.is_empty() {
        None
    } else {
        Some(guest_target(&args.words, context)?)
    };
    if let Some(target) = &target {
        check_os(target)?;
    }
    let place = place(args, target.as_ref())?;
    let hosts = RealHosts::new(&context.state);
    let options = options(args.change.consent(), Interrupt::catch()?, context);
    let runner = hosts.runner(&place.host)?;
    let wait = || {
        Wait::new(
            Deadline::after(Instant::now(), LOOK),
            options.interrupt.soft.clone(),
            "the guest",
        )
    };
    if args.show {
        let facts = look(runner.as_ref(), place.root.as_deref(), &wait())?;
        let shown = place.root.clone().unwrap_or_else(|| place.host.to_string());
        if ui.is_json() {
            ui.data_json(&show::json(&shown, &facts))?;
        } else {
            ui.data(show::text(&shown, &facts).trim_end())?;
        }
        verdict::check_able(&facts)?;
        return Ok(ExitCode::SUCCESS);
    }
    let wish = wish(args, target.as_ref());
    if wish == LinuxWish::default() {
        return Err(Problem::new(FailureKind::Usage, "nothing is wanted of the guest")
            .hint("`--show` tells how it is; `--tty ttyS1` points kgdb at that port.")
            .into());
    }
    let look_and_plan = || {
        let facts = look(runner.as_ref(), place.root.as_deref(), &wait())?;
        plan(runner.as_ref(), &place, &facts, &wish, &wait())
    };
    apply_to_host(&hosts, &place.host, &look_and_plan, &options, ui)?;
    Ok(ExitCode::SUCCESS)
}

/// Finds how the guest is reached, and notes how one logs in there.
fn place(args: &LinuxArgs, target: Option<&GuestTarget>) -> Result<Place, Failure> {
    let mut place = Place {
        host: HostRef::Local,
        target: target.map(|target| target.spec.name.clone()),
        root: None,
    };
    let way = &args.way;
    if let Some(root) = &way.root {
        let root = std::path::absolute(root)?;
        if !root.is_dir() {
            let message = format!("there is no folder `{}`", root.display());
            return Err(Problem::new(FailureKind::NotFound, message).into());
        }
        place.root = Some(root.to_string_lossy().into_owned());
        return Ok(place);
    }
    if way.local {
        return Ok(place);
    }
    let guest = target.map(|target| &target.guest);
    let ssh = way
        .host
        .as_ref()
        .or_else(|| guest.and_then(|guest| guest.ssh.as_ref()));
    let Some(destination) = ssh else {
        let message = "there is no way into the guest";
        return Err(Problem::new(FailureKind::Usage, message)
            .hint("Name one: `--host root@GUEST` (its SSH), `--local` (inside it), `--root DIR` (its disk, mounted), or `guest: {ssh: …}` in the profile.")
            .into());
    };
    let login = HostLogin {
        password: guest.and_then(|guest| guest.password.clone()),
        sudo: args.sudo || guest.is_some_and(|guest| guest.sudo),
    };
    set_login(destination, login);
    place.host = HostRef::Ssh(destination.clone());
    Ok(place)
}

fn wish(args: &LinuxArgs, target: Option<&GuestTarget>) -> LinuxWish {
    // COM2 of the VM is the guest's ttyS1 wherever the guest has no other UARTs; `--tty` says it where it has.
    let of_profile = || target?.spec.debug_port().map(|port| port.port.linux_name());
    let tty = args.tty.clone().or_else(of_profile);
    LinuxWish {
        live: LiveWish {
            sysrq: tty.is_some() || args.keep_sysrq,
            kgdb: tty.map(|tty| (tty, args.baud)),
            keep_sysrq: args.keep_sysrq,
            log_level: args.log_level,
            no_echo: args.no_echo.clone(),
        },
    }
}

/// Refuses a target whose guest is another system.
fn check_os(target: &GuestTarget) -> Result<(), Problem> {
    if target.guest.os == GuestOs::Linux {
        return Ok(());
    }
    let message = format!(
        "`{}` says `os: windows`, and this is for Linux guests",
        target.spec.field_path("guest")
    );
    Err(Problem::new(FailureKind::Configuration, message))
}
