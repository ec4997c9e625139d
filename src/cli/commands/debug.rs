//! `vmserial debug`.

use crate::bridge::control::Call;
use crate::bridge::control::client::ask_once;
use crate::cli::commands::debug_kd;
use crate::cli::commands::setup::common::restart_level;
use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::quantity::parse_duration;
use crate::cli::target::one_target;
use crate::cli::ui::Ui;
use crate::config::merge::{Overrides, with_overrides};
use crate::debugger::gdb::GdbMode;
use crate::model::{
    BreakIn, Deadline, DebuggerKind, DebuggerSpec, FailureKind, Policy, Problem, RestartPolicy, TargetSpec,
};
use crate::plan::Step;
use crate::session::apply::{ApplyOptions, Consent, plan_and_apply};
use crate::session::bridges;
use crate::session::debug::{DebugOptions, DebugPort, SessionPorts, check_debugger, run as run_session};
use crate::session::events::SessionEvents;
use crate::session::firewall_end::OpenPorts;
use crate::session::guest_stage::GuestLook;
use crate::session::host_sysrq::give_back;
use crate::session::interrupt::Interrupt;
use crate::session::join::any_owner;
use crate::session::lifetime::Lifetime;
use crate::session::planning::RealHosts;
use crate::session::resume::free_stub;
use crate::session::session_journal::SessionJournal;
use crate::session::target_port::target_port;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long another vmserial may take to answer.
const ASK: Duration = Duration::from_secs(5);

/// How long a guest may take to answer: it may be stopped in its debugger already.
const GUEST_LOOK: Duration = Duration::from_secs(8);

/// A VM that was running has had its boot; one that we started may still be at it.
const PATIENCE_RUNNING: Duration = Duration::from_secs(20);
const PATIENCE_STARTED: Duration = Duration::from_secs(120);

/// Stops a VM's kernel in its debugger and starts gdb on it, in one command.
///
/// Shows and applies the profile's plan, starts the VM if the profile says so, opens its ports, breaks the kernel in,
/// starts gdb with symbols and source lines, and frees the kernel at the end, however gdb ends. The console stays
/// readable meanwhile with `vmserial console TARGET` in a second terminal. On a port with `as: kd` it serves a Windows
/// kernel and starts WinDbg or kd; where there is none, it prints their command line.
///
/// Example: vmserial debug dev; vmserial debug profiles/demo-qemu.yaml --batch -x script.gdb
#[derive(Debug, clap::Args)]
pub struct DebugArgs {
    /// A target's name (the profile's file may stand beside it), or a profile file with one target
    #[arg(value_name = "TARGET|PROFILE", num_args = 0..=2)]
    words: Vec<String>,
    /// Run gdb without a person: scripts only, no prompt. Ends with 0 only if gdb did and the kernel was freed
    #[arg(long)]
    batch: bool,
    /// Run this gdb script once the kernel is stopped (can be repeated)
    #[arg(short = 'x', value_name = "FILE")]
    scripts: Vec<PathBuf>,
    /// Only show what would be changed
    #[arg(long)]
    plan: bool,
    /// Apply the plan without asking
    #[arg(long)]
    yes: bool,
    /// Confirm a step that wants it by its own name, as the plan says (can be repeated)
    #[arg(long, value_name = "NAME")]
    confirm: Vec<String>,
    /// How far to go when a change needs the VM powered off
    #[arg(long, value_name = "LEVEL", value_parser = restart_level)]
    restart: Option<RestartPolicy>,
    /// Leave the kernel as gdb leaves it
    #[arg(long)]
    leave_stopped: bool,
    /// Leave a VM running that this session started
    #[arg(long)]
    keep: bool,
    /// Do not break in first: start gdb at once
    #[arg(long)]
    no_break: bool,
    /// Start gdb on the bridge that another vmserial has on the debug port, and change nothing
    #[arg(long, conflicts_with_all = ["plan", "leave_stopped", "keep", "no_break", "wait"])]
    attach: bool,
    /// Give up when the kernel did not stop within T [default: 20s, 2m for a VM that was just started]
    #[arg(long, value_name = "T", value_parser = parse_duration)]
    wait: Option<Duration>,
    /// Further arguments for gdb
    #[arg(last = true, value_name = "GDB-ARGUMENT")]
    debugger_arguments: Vec<String>,
}

/// Runs `vmserial debug`.
///
/// # Errors
///
/// gdb failed or the kernel could not be freed: 6; no break-in: 7; gdb missing: 4; the plan's refusals.
pub fn run(args: &DebugArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let target = with_overrides(
        one_target(&args.words, context)?,
        Overrides {
            restart: args.restart,
        },
    );
    let debugger = debugger(&target);
    let is_gdb = debugger.kind == DebuggerKind::Gdb;
    let mut checked = check_image(&debugger);
    if is_gdb {
        checked = checked.and_then(|()| check_debugger(&debugger));
    }
    match checked {
        // A plan is for looking at: what stands against the session is told beside it.
        Err(problem) if args.plan => {
            ui.warning(&format!("{}: the session would end at once", problem.message));
            for hint in &problem.hints {
                ui.status(hint);
            }
        }
        checked => checked?,
    }
    let hosts = RealHosts::new(&context.state);
    let interrupt = Interrupt::catch()?;
    let events = SessionEvents::catch_signals()?;
    if args.attach && !is_gdb {
        let message = "`--attach` is for gdb: KD has one debugger at a time";
        return Err(Problem::new(FailureKind::Precondition, message).into());
    }
    if args.attach {
        return attach(&target, &debugger, args, context, &events, ui);
    }
    let options = ApplyOptions {
        consent: match (args.plan, args.yes) {
            (true, _) => Consent::ShowOnly,
            (false, true) => Consent::Given,
            (false, false) => Consent::Ask,
        },
        confirmed: args.confirm.clone(),
        remove: false,
        start_vm: true,
        guests: GuestLook::Ssh(GUEST_LOOK),
        state: context.state.clone(),
        host_folder: context.host_folder(),
        interrupt,
    };
    let lifetime = Lifetime::begin(&hosts, &options)?;
    let before = SessionJournal::begin(&hosts, &options)?;
    let open = OpenPorts::begin(&hosts, &options)?;
    let parts = Parts {
        target: &target,
        debugger: &debugger,
        args,
        hosts: &hosts,
        context,
        events: &events,
    };
    let result = apply_and_debug(&parts, &options, ui);
    // What this session started, it ends, however far it came, unless it is to be kept.
    let kept = args.keep || target.start.as_ref().is_some_and(|start| start.keep);
    let ended = match kept {
        true => Ok(()),
        false => lifetime.end(&target.name, &hosts, ui),
    };
    let ended = ended.and(give_back(&before, &hosts, ui));
    let closed = match args.plan {
        true => Ok(()),
        false => open.end(std::slice::from_ref(&target), &hosts, ui),
    };
    let ended = ended.and(closed);
    match (result, ended) {
        (Err(failure), Err(problem)) => {
            ui.warning(&problem.to_string());
            Err(failure)
        }
        (result, ended) => {
            result?;
            ended?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Runs gdb on somebody else's bridge, which breaks in when gdb comes and frees the kernel when gdb is gone.
fn attach(
    target: &TargetSpec,
    debugger: &DebuggerSpec,
    args: &DebugArgs,
    context: &Context,
    events: &SessionEvents,
    ui: &mut Ui,
) -> Result<ExitCode, Failure> {
    let port = target.debug_port().ok_or_else(|| {
        Problem::new(
            FailureKind::Configuration,
            format!("`{}` has no port for a debugger", target.name),
        )
    })?;
    let place = target_port(&RealHosts::new(&context.state), target, port)?;
    let owner = any_owner(&context.state, &place.keys)?.ok_or_else(|| {
        Problem::new(
            FailureKind::Precondition,
            format!("nobody has port {} of `{}` open", port.port, target.name),
        )
        .hint("Leave out `--attach`: the session then opens the port itself.")
    })?;
    let deadline = Deadline::after(Instant::now(), ASK);
    let status = ask_once(&owner.socket, Call::Status, deadline)?;
    let listening: Vec<String> = status
        .get("gdb")
        .and_then(|list| serde_json::from_value(list.clone()).ok())
        .unwrap_or_default();
    let address = bridges::served_address(&listening).ok_or_else(|| {
        Problem::new(
            FailureKind::Precondition,
            format!("the bridge of pid {} serves nothing that gdb can open", owner.pid),
        )
    })?;
    ui.status(&format!(
        "Joined the bridge of pid {} (`{}`).",
        owner.pid, owner.command
    ));
    let options = DebugOptions {
        mode: if args.batch {
            GdbMode::Batch
        } else {
            GdbMode::Interactive
        },
        scripts: args.scripts.clone(),
        debugger_arguments: args.debugger_arguments.clone(),
        leave_stopped: false,
        ways: Vec::new(),
        patience: PATIENCE_RUNNING,
        folder: context
            .state_folder("sessions")
            .join(format!("{}-attached", target.name)),
    };
    let ports = SessionPorts {
        console: None,
        // The kernel is the owner's to free.
        debug: DebugPort::Stub(Arc::new(|| Ok(String::new()))),
        address,
    };
    run_session(&target.name, debugger, &ports, &options, events, ui)?;
    Ok(ExitCode::SUCCESS)
}

/// What a session is made of.
struct Parts<'a> {
    target: &'a TargetSpec,
    debugger: &'a DebuggerSpec,
    args: &'a DebugArgs,
    hosts: &'a RealHosts,
    context: &'a Context,
    events: &'a SessionEvents,
}

fn apply_and_debug(parts: &Parts<'_>, options: &ApplyOptions, ui: &mut Ui) -> Result<(), Failure> {
    let applied = plan_and_apply(parts.hosts, std::slice::from_ref(parts.target), options, ui)?;
    if parts.args.plan {
        return Ok(());
    }
    if parts.debugger.kind != DebuggerKind::Gdb {
        return debug_kd::session(
            parts.hosts,
            parts.target,
            parts.debugger,
            &parts.context.state,
            &parts.args.debugger_arguments,
            parts.events,
            ui,
        );
    }
    let powers = |step: &Step| step.power.is_some();
    let powered = applied.plan.has_later_stages() || applied.plan.ready_steps().any(powers);
    let started = applied.journal.is_some() && (powered || parts.target.start.is_some());
    session(parts, started, ui)
}

fn session(parts: &Parts<'_>, started: bool, ui: &mut Ui) -> Result<(), Failure> {
    let (target, args) = (parts.target, parts.args);
    let bridges = bridges::start(parts.hosts, target, &parts.context.state, args.leave_stopped)?;
    for (port, bridge) in [("console", &bridges.console), ("debug", &bridges.debug)] {
        for served in bridge.iter().flat_map(|bridge| &bridge.listening) {
            ui.status(&format!("Bridge ({port} port): listening on {served}"));
        }
    }
    let debug = match (&bridges.debug, &target.gdb_stub) {
        (Some(bridge), _) => DebugPort::Bridge(bridge.handle.clone()),
        (None, Some(stub)) => {
            ui.status(&format!("Gdb stub: on 127.0.0.1:{}", stub.port));
            let (hosts, target, stub) = (parts.hosts.clone(), target.clone(), stub.clone());
            DebugPort::Stub(Arc::new(move || {
                free_stub(&hosts, &target, &stub).map_err(|problem| problem.message)
            }))
        }
        (None, None) => {
            return Err(Problem::new(
                FailureKind::Internal,
                "the session has neither a bridge nor a stub",
            )
            .into());
        }
    };
    let is_stub = matches!(debug, DebugPort::Stub(_));
    let options = DebugOptions {
        mode: if args.batch {
            GdbMode::Batch
        } else {
            GdbMode::Interactive
        },
        scripts: args.scripts.clone(),
        debugger_arguments: args.debugger_arguments.clone(),
        leave_stopped: args.leave_stopped,
        // A stub stops the VM when gdb attaches.
        ways: if args.no_break || is_stub {
            Vec::new()
        } else {
            ways(parts.debugger)
        },
        patience: args.wait.unwrap_or(if started {
            PATIENCE_STARTED
        } else {
            PATIENCE_RUNNING
        }),
        folder: parts.context.state_folder("sessions").join(target.name.as_str()),
    };
    let ports = SessionPorts {
        console: bridges.console_handle(),
        debug,
        address: bridges.address.clone(),
    };
    let result = run_session(&target.name, parts.debugger, &ports, &options, parts.events, ui);
    bridges.stop();
    Ok(result?)
}

/// Returns the ways of breaking in, in the profile's order, else QMP's BREAK and then the console's shell.
fn ways(debugger: &DebuggerSpec) -> Vec<BreakIn> {
    if debugger.break_in.is_empty() {
        vec![BreakIn::Break, BreakIn::Sysrq]
    } else {
        debugger.break_in.clone()
    }
}

fn debugger(target: &TargetSpec) -> DebuggerSpec {
    let default = || DebuggerSpec {
        kind: match target.debug_port().map(|port| port.policy) {
            Some(Policy::Kd) => DebuggerKind::Windbg,
            _ => DebuggerKind::Gdb,
        },
        program: None,
        vmlinux: None,
        source: std::collections::BTreeMap::new(),
        modules: Vec::new(),
        break_in: Vec::new(),
    };
    target.debugger.clone().unwrap_or_else(default)
}

/// Checks that the kernel's image is there, before anything is changed for its sake.
fn check_image(debugger: &DebuggerSpec) -> Result<(), Problem> {
    if let Some(vmlinux) = debugger.vmlinux.as_ref().filter(|path| !path.is_file()) {
        return Err(Problem::new(
            FailureKind::NotFound,
            format!("there is no kernel image `{}`", vmlinux.display()),
        )
        .hint("Correct `debugger.vmlinux` in the profile; without it gdb has no symbols."));
    }
    Ok(())
}
