//! `vmserial bridge`.

use crate::bridge::{
    BreakMeans, BreakPort, BridgeSpec, Outcome, RunningBridge, Signals, StopSignal, TargetSource,
    choose_policy,
};
use crate::cli::bridge_events::EventPrinter;
use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::port::{here, named_break, usage};
use crate::cli::quantity::{parse_bytes, parse_duration};
use crate::cli::ui::Ui;
use crate::model::endpoint::check_places;
use crate::model::log::DEFAULT_KEEP;
use crate::model::{
    Address, BreakWith, ClientSpec, EndpointSpec, FailureKind, LogSpec, Policy, Problem, Role, Rotation,
};
use crate::session::break_port::OwnedOrDialled;
use crate::session::port_key::PortKey;
use crate::session::serve::start_owned;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Joins a VM's serial port to consoles, a debugger or other programs, and stays through the VM's reboots.
///
/// Endpoints: unix:/path, tcp:HOST:PORT, telnet:HOST:PORT, rfc2217:HOST:PORT (all with `listen:` or `connect:` in front:
/// our side of it), pty[:/link], tty:/dev/ttyUSB0[,baud=115200], stdio, exec:COMMAND; file:/path as a client; unix and tcp
/// with `,via=[user@]HOST` through SSH. No profile is needed.
///
/// Example: vmserial bridge connect:unix:/run/vm1.serial listen:tcp:127.0.0.1:7001
#[derive(Debug, clap::Args)]
pub struct BridgeArgs {
    /// Where the VM's port is, with our role
    #[arg(value_name = "VM-ENDPOINT")]
    target: EndpointSpec,
    /// Who is served: [console=|gdb=|kd=|ro=]ENDPOINT
    #[arg(value_name = "CLIENT", required = true)]
    clients: Vec<ClientSpec>,
    /// How bytes flow [default: by the clients' prefixes and number]
    #[arg(long = "as", value_name = "console|gdb|kd|console+gdb|raw")]
    policy: Option<Policy>,
    /// Append what the VM sends to this file
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Append it to this file with times, offsets and boots, one JSON object a line
    #[arg(long, value_name = "FILE")]
    log_json: Option<PathBuf>,
    /// A log of this size makes room: FILE becomes FILE.1, that FILE.2 (64MiB) [default: it grows for ever]
    #[arg(long, value_name = "BYTES", value_parser = parse_log_size)]
    log_max: Option<u64>,
    /// With --log-max: keep this many full logs beside the one that is written
    #[arg(long, value_name = "N", requires = "log_max", default_value_t = DEFAULT_KEEP)]
    log_keep: u32,
    /// raw: keep the newest BYTES for the next client while nobody is attached (64KiB, 1MiB)
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, default_value = "0")]
    hold: usize,
    /// console: give a new client the latest BYTES of history
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, default_value = "0")]
    replay: usize,
    /// console: one client writes at a time; who comes later reads, and writes once that one left
    #[arg(long)]
    one_writer: bool,
    /// A second client of a port for one replaces the first instead of being refused
    #[arg(long)]
    take_over: bool,
    /// Dial an absent VM this often
    #[arg(long, value_name = "T", value_parser = parse_duration, default_value = "100ms")]
    reconnect_every: Duration,
    /// Give up when the VM did not come within T (exit 7)
    #[arg(long, value_name = "T", value_parser = parse_duration)]
    wait: Option<Duration>,
    /// How BREAK reaches the guest: telnet, rfc2217, tty, qmp:PATH[,id=ID],
    /// exec:COMMAND or none
    /// [default: the endpoint's own (telnet, rfc2217, tty)]
    #[arg(long, value_name = "WAY")]
    break_with: Option<BreakWith>,
    /// Where the `g` after BREAK goes, if the debugger has a port of its own: the console's endpoint
    #[arg(long, value_name = "ENDPOINT")]
    break_port: Option<EndpointSpec>,
    /// End when the first stream ends
    #[arg(long)]
    once: bool,
    /// With --once (and after the end of stdin): how long the other side may be silent
    #[arg(long, value_name = "T", value_parser = parse_duration, default_value = "1s")]
    linger: Duration,
    /// gdb: leave a kernel stopped that is stopped at the bridge's end
    #[arg(long)]
    leave_stopped: bool,
}

fn parse_log_size(text: &str) -> Result<u64, String> {
    match parse_bytes(text)? {
        0 => Err("a log of 0 bytes holds nothing".into()),
        bytes => Ok(bytes as u64),
    }
}

/// Runs a bridge until it ends or is stopped.
pub fn run(args: BridgeArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let spec = specification(args, context)?;
    run_spec(spec, &[], context, ui)
}

fn specification(args: BridgeArgs, context: &Context) -> Result<BridgeSpec, Problem> {
    let policy = choose_policy(args.policy, &args.clients)?;
    let target = here(&args.target).map_err(usage)?;
    let break_port = args.break_port.as_ref().map(here).transpose().map_err(usage)?;
    target.check_as_target().map_err(usage)?;
    let mut clients = args.clients;
    for client in &mut clients {
        client.endpoint = here(&client.endpoint).map_err(usage)?;
        client.endpoint.check_as_client().map_err(usage)?;
    }
    check_places(std::iter::once(&target).chain(clients.iter().map(|client| &client.endpoint)))?;
    if let Some(endpoint) = &break_port {
        check_break_port(endpoint, &target, policy)?;
    }
    let takes_break = break_port.as_ref().unwrap_or(&target);
    let means = match &args.break_with {
        Some(way) => named_break(way, takes_break)?,
        None => BreakMeans::native_of(takes_break),
    };
    let mut spec = BridgeSpec::to(target, clients, policy);
    spec.break_means = means;
    if args.log.is_some() && args.log == args.log_json {
        return Err(
            Problem::new(FailureKind::Usage, "`--log` and `--log-json` name the same file")
                .hint("Give each its own: `--log vm1.log --log-json vm1.jsonl`."),
        );
    }
    spec.log = LogSpec {
        raw: args.log,
        json: args.log_json,
        rotation: args.log_max.map(|max_bytes| Rotation {
            max_bytes,
            keep: args.log_keep,
        }),
    };
    spec.hold_bytes = args.hold;
    spec.replay_bytes = args.replay;
    spec.take_over = args.take_over;
    if args.one_writer && !matches!(policy, Policy::Console | Policy::ConsoleGdb) {
        return Err(Problem::new(
            FailureKind::Usage,
            format!("`--one-writer` is for consoles, and the policy is `{policy}`"),
        )
        .hint("Write `--as console`, or name several clients."));
    }
    spec.one_writer = args.one_writer;
    spec.reconnect_every = args.reconnect_every;
    spec.wait = args.wait;
    spec.once = args.once;
    spec.linger = args.linger;
    spec.leave_stopped = args.leave_stopped;
    if let Some(endpoint) = break_port {
        spec.break_port = BreakPort::Asked(Arc::new(OwnedOrDialled {
            state: context.state.clone(),
            endpoint,
        }));
    }
    Ok(spec)
}

/// Refuses a break port that nothing would ever be sent to.
fn check_break_port(endpoint: &EndpointSpec, target: &EndpointSpec, policy: Policy) -> Result<(), Problem> {
    let refuse = |message: String, hint: &str| Err(Problem::new(FailureKind::Usage, message).hint(hint));
    let example = "Name the console's port: `--break-port connect:unix:/run/ser0`.";
    if policy == Policy::Kd {
        return refuse(
            "`--break-port` is for kgdb, and KD breaks in on its own port".to_owned(),
            "Leave it out.",
        );
    }
    if endpoint.address == Address::Stdio {
        let message = "`--break-port stdio` is this bridge's own terminal, and no VM's console";
        return refuse(message.to_owned(), example);
    }
    if endpoint == target {
        let message = format!("`--break-port` names the bridge's own port: `{endpoint}`");
        return refuse(message, example);
    }
    endpoint.check_as_target().map_err(usage)
}

/// Runs a bridge that is described already: claims its port (`keys` besides its fixed endpoint's), prints the ready lines,
/// tells its events, and maps its end to an exit code. `setup` ends here too.
pub fn run_spec(
    spec: BridgeSpec,
    keys: &[PortKey],
    context: &Context,
    ui: &mut Ui,
) -> Result<ExitCode, Failure> {
    run_spec_then(spec, keys, context, ui, |_| Ok(()))
}

/// The same, with something to be done as soon as all listeners are there. Where that fails, the bridge ends.
pub fn run_spec_then(
    spec: BridgeSpec,
    keys: &[PortKey],
    context: &Context,
    ui: &mut Ui,
    when_ready: impl FnOnce(&mut Ui) -> Result<(), Failure>,
) -> Result<ExitCode, Failure> {
    let mut keys = keys.to_vec();
    let target = match &spec.target {
        TargetSource::Fixed(endpoint) => Some(endpoint.clone()),
        TargetSource::Asked(_) => None,
    };
    keys.extend(target.as_ref().map(PortKey::of_endpoint));
    let clients: Vec<EndpointSpec> = spec
        .clients
        .iter()
        .map(|client| client.endpoint.clone())
        .collect();
    let on_stdio = clients
        .iter()
        .chain(&target)
        .any(|endpoint| endpoint.address == Address::Stdio);
    let cannot_break =
        matches!(spec.break_means, BreakMeans::None) && !matches!(spec.break_port, BreakPort::Owner(_));
    if matches!(spec.policy, Policy::Gdb | Policy::ConsoleGdb) && cannot_break && !ui.is_json() {
        ui.warning(
            "there is no way to send BREAK (--break-with): a running kernel cannot be stopped from gdb",
        );
    }
    if spec.policy == Policy::Kd && !ui.is_json() {
        ui.warning(
            "KD: a kernel that its debugger leaves stopped is told (`the kernel is left stopped`) and not freed by this version",
        );
    }
    let running = start_owned(&context.state, &keys, spec, Signals::Handled)?;
    if let Some(endpoint) = &running.target_listening {
        ui.status(&format!("listening target {endpoint}"));
    }
    for (index, (served, wanted)) in running.listening.iter().zip(&clients).enumerate() {
        if wanted.role == Some(Role::Listen) || matches!(wanted.address, Address::Pty { .. }) {
            ui.status(&format!("listening client {} {served}", index + 1));
        }
    }
    ui.status("ready");
    if let Err(failure) = when_ready(ui) {
        // A bridge that has ended already needs no stop.
        let _ = running.handle.stop("what it was started for failed").wait();
        running.join();
        return Err(failure);
    }
    tell_events(running, on_stdio, context.verbose > 0, ui)
}

/// Prints events beside the bridge until its last one, then returns how the bridge ended.
fn tell_events(
    mut running: RunningBridge,
    on_stdio: bool,
    verbose: bool,
    ui: &mut Ui,
) -> Result<ExitCode, Failure> {
    let rest = running.events.resubscribe();
    let events = std::mem::replace(&mut running.events, rest);
    let printer = EventPrinter::start(events, on_stdio, verbose, ui)?;
    let (outcome, signal) = running.join();
    printer.finish();
    match outcome {
        Outcome::Ended | Outcome::Stopped => Ok(match signal {
            Some(StopSignal::Interrupt) => ExitCode::from(FailureKind::Interrupted.exit_code()),
            Some(StopSignal::Terminate) | None => ExitCode::SUCCESS,
        }),
        Outcome::NeverCame { reason } => Err(Problem::new(
            FailureKind::Deadline,
            format!("the target never came within `--wait`: {reason}"),
        )
        .hint("Start the VM, check its endpoint, or leave out `--wait` to wait for ever.")
        .into()),
        Outcome::Failed(problem) => Err(problem.into()),
    }
}
