//! Looks at a Linux guest and plans what is wanted of it, through any runner that reaches it.

use crate::bridge::TargetSource;
use crate::guest::linux::boot::{self, BootWish, ConsoleWish, EntryWish};
use crate::guest::linux::facts::OBSERVE;
use crate::guest::linux::live::{self, Files, LiveWish, Place, look_at_echo};
use crate::guest::linux::{LinuxFacts, getty};
use crate::model::profile::{ConsoleMode, GuestOs};
use crate::model::{
    Deadline, EndpointSpec, FailureKind, HostLogin, HostPath, HostRef, Invocation, Policy, PortIndex,
    Problem, TargetSpec, Wait,
};
use crate::plan::Step;
use crate::runner::local::must_succeed;
use crate::runner::ssh::options::set_login;
use crate::runner::{RunError, Runner};
use crate::session::planning::Hosts;
use crate::session::target_port::target_port;
use std::time::{Duration, Instant};

/// What kgdb and a console run at, where nothing else is said.
pub const BAUD: u32 = 115_200;

/// How long the hypervisor may take to say where a port is.
const LOCATE: Duration = Duration::from_secs(10);

/// What is wanted of a Linux guest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinuxWish {
    /// Without a reboot.
    pub live: LiveWish,
    /// From the next boot on.
    pub boot: BootWish,
    /// A login as root without a password on this port.
    pub autologin: Option<String>,
}

/// Returns what a target's profile wants inside its guest; `None`: nothing of a Linux guest.
pub fn wish_of(target: &TargetSpec) -> Option<LinuxWish> {
    let guest = target.guest.as_ref().filter(|guest| guest.os == GuestOs::Linux)?;
    // COM2 of the VM is the guest's ttyS1 wherever the guest has no other UARTs.
    let kgdb = target
        .debug_port()
        .filter(|port| matches!(port.policy, Policy::Gdb | Policy::ConsoleGdb))
        .map(|port| (port.port.linux_name(), BAUD));
    let console = || {
        let port = target.console_port().map_or(PortIndex::FIRST, |port| port.port);
        port.linux_name()
    };
    let entry = guest.boot_entry.as_ref().zip(kgdb.clone());
    let wish = LinuxWish {
        live: LiveWish {
            sysrq: kgdb.is_some(),
            kgdb,
            ..LiveWish::default()
        },
        boot: BootWish {
            entry: entry.map(|(entry, kgdb)| EntryWish {
                kgdb,
                kgdbwait: entry.kgdbwait,
                nokaslr: entry.nokaslr,
                append: entry.append.clone(),
            }),
            console: (guest.console == Some(ConsoleMode::Persistent)).then(|| ConsoleWish {
                port: (console(), BAUD),
                screen_last: false,
            }),
            ..BootWish::default()
        },
        autologin: guest.autologin.then(console),
    };
    (wish != LinuxWish::default()).then_some(wish)
}

/// Finds the way into a target's guest that its profile names: its SSH, else its console where somebody can log in there.
/// Notes how one logs in.
///
/// # Errors
///
/// The hypervisor does not say where the console is.
pub fn way_in(target: &TargetSpec, hosts: &dyn Hosts) -> Result<Option<Place>, Problem> {
    let Some(guest) = &target.guest else {
        return Ok(None);
    };
    let login = HostLogin {
        user: guest.user.clone(),
        password: guest.password.clone(),
        sudo: guest.sudo,
    };
    let host = if let Some(destination) = &guest.ssh {
        set_login(destination, login);
        HostRef::Ssh(destination.clone())
    } else if guest.user.is_some() {
        let Some(endpoint) = console_of(target, hosts)? else {
            return Ok(None);
        };
        let endpoint = endpoint.to_string();
        set_login(&endpoint, login);
        HostRef::Serial(endpoint)
    } else {
        return Ok(None);
    };
    Ok(Some(Place {
        host,
        target: Some(target.name.clone()),
        root: None,
    }))
}

/// Returns where a target's console is now, if it has one.
///
/// # Errors
///
/// The hypervisor does not say.
pub fn console_of(target: &TargetSpec, hosts: &dyn Hosts) -> Result<Option<EndpointSpec>, Problem> {
    let Some(port) = target.console_port() else {
        return Ok(None);
    };
    match target_port(hosts, target, port)?.source {
        TargetSource::Fixed(endpoint) => Ok(Some(endpoint)),
        TargetSource::Asked(dialer) => {
            let deadline = Deadline::after(Instant::now(), LOCATE);
            dialer.locate(deadline).map(Some).map_err(|reason| {
                let message = format!("the console of `{}` cannot be reached: {reason}", target.name);
                Problem::new(FailureKind::Precondition, message)
            })
        }
    }
}

/// Looks at a guest, or at the root folder of one.
///
/// # Errors
///
/// The host's refusal, or an answer that makes no sense: it is no Linux.
pub fn look(runner: &dyn Runner, root: Option<&str>, wait: &Wait) -> Result<LinuxFacts, Problem> {
    let arguments = ["-c", OBSERVE, "sh", root.unwrap_or_default()];
    let invocation = Invocation::reads("sh", arguments);
    let output = runner.run(&invocation, wait).map_err(|error| match error {
        RunError::ProgramNotFound { program, host } => Problem::new(
            FailureKind::Precondition,
            format!("there is no `{program}` on {host}: it is no Linux guest"),
        ),
        error => error.into(),
    })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    LinuxFacts::parse(&text).map_err(|error| {
        // A look that failed says why on standard error; the script itself is no news to anybody.
        let words = crate::runner::local::tail(&output.stderr);
        Problem::new(
            FailureKind::Host,
            format!("cannot look at the guest on {}: {error}{words}", runner.host()),
        )
    })
}

/// Looks at what is wanted beside the facts, and plans.
///
/// # Errors
///
/// The guest cannot have it, or the host refuses to be looked at.
pub fn plan(
    runner: &dyn Runner,
    place: &Place,
    facts: &LinuxFacts,
    wish: &LinuxWish,
    wait: &Wait,
) -> Result<Vec<Step>, Problem> {
    let mut files = Files::new();
    if wish.live.keep_sysrq {
        read(runner, place, live::SYSCTL, &mut files, wait)?;
    }
    for path in boot::files_to_read(facts, &wish.boot) {
        read(runner, place, &path, &mut files, wait)?;
    }
    if let Some(tty) = &wish.autologin {
        read(runner, place, &getty::drop_in_path(tty), &mut files, wait)?;
    }
    let echoes = match &wish.live.no_echo {
        Some(tty) => Some(echoes(runner, tty, wait)?),
        None => None,
    };
    let mut steps = live::steps(place, facts, &wish.live, echoes, &files)?;
    steps.extend(boot::steps(place, facts, &wish.boot, &files)?);
    if let Some(tty) = &wish.autologin {
        steps.extend(getty::steps(place, facts, tty, &files)?);
    }
    Ok(steps)
}

fn read(
    runner: &dyn Runner,
    place: &Place,
    path: &str,
    files: &mut Files,
    wait: &Wait,
) -> Result<(), Problem> {
    let path_there: HostPath = place.path(path);
    let file = runner.read(&path_there, wait)?;
    files.insert(path.to_owned(), file.map(|file| file.bytes));
    Ok(())
}

fn echoes(runner: &dyn Runner, tty: &str, wait: &Wait) -> Result<bool, Problem> {
    let look = look_at_echo(tty);
    let output = runner.run(&look, wait)?;
    let output = must_succeed(runner.host(), &look, output)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim() == "on")
}
