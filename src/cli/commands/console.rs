//! `vmserial console`.

use crate::bridge::control::{Mode, Since};
use crate::bridge::{BridgeSpec, Outcome};
use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::port::{PortArgs, PortPlace};
use crate::cli::quantity::{parse_bytes, parse_duration};
use crate::cli::since::SinceArg;
use crate::cli::ui::Ui;
use crate::model::{FailureKind, Policy, Problem};
use crate::runner::sys::{StopSignal, StopSignals};
use crate::session::console::{self, ConsoleSpec, End, EscapeKey, InputKind, Pace, PowerOf};
use crate::session::join::join_or_open;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

/// History that is shown at attach: a screen and what led to it.
const SHOWN_HISTORY: usize = 16 << 10;

/// Characters a second of a pasted file: what a shell behind an emulated UART takes in without losing any.
const PASTE_RATE: u32 = 1000;

/// Shows a VM's console here and types to it; joins whoever has the port open already.
///
/// The target's reboots and absences are told and do not end it. Leave with `^]` and then `.`; `^] ?` lists the keys: BREAK, history, log, paste, who is attached, power. Standard input may be a
/// pipe: every byte is typed, and after its end what still comes is shown until the target was silent for --linger.
///
/// Example: echo uptime | vmserial console dev
#[derive(Debug, clap::Args)]
pub struct ConsoleArgs {
    #[command(flatten)]
    port: PortArgs,
    #[command(flatten)]
    manner: Manner,
}

/// How a console behaves.
#[derive(Debug, clap::Args)]
struct Manner {
    /// Only read
    #[arg(long)]
    ro: bool,
    /// Begin with the latest BYTES of history [default: 16KiB]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, conflicts_with = "since")]
    replay: Option<usize>,
    /// Begin at: now, start (all that is kept), boot (the latest), an offset, a duration (5m), a time (14:05)
    #[arg(long, value_name = "WHEN", value_parser = SinceArg::parse)]
    since: Option<SinceArg>,
    /// Detach everybody else who may write
    #[arg(long)]
    take_over: bool,
    /// The key that leads vmserial's own keys in: ^X, or none
    #[arg(long, value_name = "KEY", default_value = "^]")]
    escape: EscapeKey,
    /// Paste a file at this many characters a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), default_value_t = PASTE_RATE)]
    paste_rate: u32,
    /// Pause after each line that is pasted
    #[arg(long, value_name = "T", value_parser = parse_duration, default_value = "20ms")]
    paste_line_delay: Duration,
    /// After the end of a pipe: how long the target may be silent before the console ends
    #[arg(long, value_name = "T", value_parser = parse_duration, default_value = "1s")]
    linger: Duration,
    /// Give up when the target did not come within T (exit 7)
    #[arg(long, value_name = "T", value_parser = parse_duration)]
    wait: Option<Duration>,
}

impl Manner {
    /// As a console is without flags.
    fn plain() -> Self {
        Self {
            ro: false,
            replay: None,
            since: None,
            take_over: false,
            escape: EscapeKey::default(),
            paste_rate: PASTE_RATE,
            paste_line_delay: Duration::from_millis(20),
            linger: Duration::from_secs(1),
            wait: None,
        }
    }
}

/// Runs a console until the user leaves or it ends.
pub fn run(args: &ConsoleArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    show(PortPlace::find(&args.port, context)?, &args.manner, context, ui)
}

/// Runs a console of a port that was found already.
///
/// # Errors
///
/// See [`run`].
pub fn run_here(place: PortPlace, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    show(place, &Manner::plain(), context, ui)
}

fn show(place: PortPlace, args: &Manner, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Caught before the port is opened: from here on nothing ends us without giving it back.
    let mut signals = {
        let _guard = runtime.enter();
        StopSignals::catch()?
    };
    let port = join_or_open(&context.state, &place.keys, || {
        // A kgdb that shares the port must find its rules kept whoever opened it: keys held while it is stopped, and
        // gdb beside the console.
        let (policy, clients) = match &place.shared_with {
            Some(clients) => (Policy::ConsoleGdb, clients.clone()),
            None => (Policy::Console, Vec::new()),
        };
        let mut spec = BridgeSpec::new(place.target.clone(), clients, policy);
        spec.break_means = place.break_means.clone();
        spec.log.clone_from(&place.log);
        Ok(spec)
    })?;
    let greeting = if port.is_ours() {
        format!("Opened {}.", place.shown)
    } else {
        let (pid, command) = (port.owner.pid, &port.owner.command);
        format!(
            "Joined {}, which is owned by pid {pid} (`{command}`).",
            place.shown
        )
    };
    let terminal = std::io::stdin().is_terminal();
    let spec = ConsoleSpec {
        socket: port.owner.socket.clone(),
        greeting,
        mode: if args.ro { Mode::Ro } else { Mode::Rw },
        since: match (args.since, args.replay) {
            (Some(since), _) => since.at(&jiff::Zoned::now()),
            (None, replay) => Since::Last(replay.unwrap_or(SHOWN_HISTORY)),
        },
        take_over: args.take_over,
        input: match (terminal, args.ro) {
            (true, _) => InputKind::Terminal,
            (false, false) => InputKind::Pipe,
            (false, true) => InputKind::Nothing,
        },
        escape: args.escape,
        pace: Pace {
            characters_per_second: args.paste_rate,
            line_delay: args.paste_line_delay,
        },
        power: match &place.profile_target {
            Some((target, profile)) => Ok(PowerOf {
                target: target.clone(),
                profile: profile.clone(),
                state: context.state.clone(),
            }),
            None => Err(format!(
                "`{}` is an endpoint, and only a target of a profile has a host that can be asked",
                place.shown
            )),
        },
        linger: args.linger,
        wait: args.wait,
    };
    let result = runtime.block_on(console::run(&spec, &mut signals, &mut |line| {
        // A raw terminal does not begin a new line by itself.
        if terminal {
            ui.status(&format!("\r\n{line}\r"));
        } else {
            ui.status(line);
        }
    }));
    // The thread that reads standard input waits for a key that never comes.
    runtime.shutdown_background();
    if terminal {
        ui.status("");
    }
    let ended = port.close("its console ended");
    finish(result?, ended)
}

fn finish(end: End, ended: Option<Outcome>) -> Result<ExitCode, Failure> {
    match end {
        End::Left | End::InputEnded | End::OutputClosed => Ok(ExitCode::SUCCESS),
        End::Signal(StopSignal::Interrupt) => Ok(ExitCode::from(FailureKind::Interrupted.exit_code())),
        End::Signal(StopSignal::Terminate | StopSignal::Hangup) => Ok(ExitCode::SUCCESS),
        End::OwnerEnded(reason) => match ended {
            Some(Outcome::Failed(problem)) => Err(problem.into()),
            Some(Outcome::Ended | Outcome::Stopped | Outcome::NeverCame { .. }) => Err(Problem::new(
                FailureKind::ConnectionLost,
                format!("the port's bridge ended: {reason}"),
            )
            .into()),
            None => Err(
                Problem::new(FailureKind::ConnectionLost, format!("lost the console: {reason}"))
                    .hint("Run the same command again: without an owner it opens the port itself.")
                    .into(),
            ),
        },
    }
}
