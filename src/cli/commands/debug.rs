//! `vmserial debug`.

use crate::cli::commands::setup::common::restart_level;
use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::target::one_target;
use crate::cli::ui::Ui;
use crate::config::merge::{Overrides, with_overrides};
use crate::debugger::gdb::GdbMode;
use crate::model::{BreakIn, DebuggerKind, DebuggerSpec, FailureKind, Problem, RestartPolicy, TargetSpec};
use crate::session::apply::{ApplyOptions, Consent, host_folder, plan_and_apply};
use crate::session::bridges;
use crate::session::debug::{DebugOptions, SessionPorts, run as run_session};
use crate::session::events::SessionEvents;
use crate::session::interrupt::Interrupt;
use crate::session::lifetime::Lifetime;
use crate::session::planning::{Hosts, RealHosts};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// A VM that was running has had its boot; one that we started may still be at it.
const PATIENCE_RUNNING: Duration = Duration::from_secs(20);
const PATIENCE_STARTED: Duration = Duration::from_secs(120);

/// Stops a VM's kernel in its debugger and starts gdb on it, in one command.
///
/// Shows and applies the profile's plan, starts the VM if the profile says so, opens its ports, breaks the kernel in,
/// starts gdb with symbols and source lines, and frees the kernel at the end, however gdb ends. The console stays
/// readable meanwhile with `vmserial console TARGET` in a second terminal.
///
/// Example: vmserial debug dev; vmserial debug profiles/demo-qemu.yaml --batch -x script.gdb
#[derive(Debug, clap::Args)]
pub struct DebugArgs {
    /// A target's name, or a profile file with one target
    #[arg(value_name = "TARGET|PROFILE")]
    target: Option<String>,
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
    /// How far to go when a change needs the VM powered off
    #[arg(long, value_name = "LEVEL", value_parser = restart_level)]
    restart: Option<RestartPolicy>,
    /// Leave the kernel as gdb leaves it
    #[arg(long)]
    leave_stopped: bool,
    /// Do not break in first: start gdb at once
    #[arg(long)]
    no_break: bool,
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
        one_target(args.target.as_ref(), context)?,
        Overrides {
            restart: args.restart,
        },
    );
    let debugger = debugger(&target)?;
    let hosts = RealHosts::new(&context.state);
    let interrupt = Interrupt::catch()?;
    let events = SessionEvents::catch_signals()?;
    let options = ApplyOptions {
        consent: match (args.plan, args.yes) {
            (true, _) => Consent::ShowOnly,
            (false, true) => Consent::Given,
            (false, false) => Consent::Ask,
        },
        remove: false,
        start_vm: true,
        state: context.state.clone(),
        host_folder: host_folder(None),
        interrupt,
    };
    let lifetime = Lifetime::begin(&options)?;
    let result = apply_and_debug(&target, &debugger, args, &hosts, &options, context, &events, ui);
    // What this session started, it ends, however far it came, unless it is to be kept.
    if target.start.as_ref().is_some_and(|start| !start.keep) {
        lifetime.end(&target.name, &hosts, ui)?;
    }
    result?;
    Ok(ExitCode::SUCCESS)
}

#[expect(
    clippy::too_many_arguments,
    reason = "the one place where all parts of a session meet"
)]
fn apply_and_debug(
    target: &TargetSpec,
    debugger: &DebuggerSpec,
    args: &DebugArgs,
    hosts: &dyn Hosts,
    options: &ApplyOptions,
    context: &Context,
    events: &SessionEvents,
    ui: &mut Ui,
) -> Result<(), Failure> {
    let applied = plan_and_apply(hosts, std::slice::from_ref(target), options, ui)?;
    if args.plan {
        return Ok(());
    }
    let started = applied.journal.is_some() && target.start.is_some();
    session(target, debugger, args, started, hosts, context, events, ui)
}

#[expect(
    clippy::too_many_arguments,
    reason = "the one place where all parts of a session meet"
)]
fn session(
    target: &TargetSpec,
    debugger: &DebuggerSpec,
    args: &DebugArgs,
    started: bool,
    hosts: &dyn Hosts,
    context: &Context,
    events: &SessionEvents,
    ui: &mut Ui,
) -> Result<(), Failure> {
    let bridges = bridges::start(hosts, target, &context.state, args.leave_stopped)?;
    for (port, bridge) in [
        ("console", bridges.console.as_ref()),
        ("debug", Some(&bridges.debug)),
    ] {
        if let Some(bridge) = bridge {
            for served in &bridge.listening {
                ui.status(&format!("Bridge ({port} port): listening on {served}"));
            }
        }
    }
    let options = DebugOptions {
        mode: if args.batch {
            GdbMode::Batch
        } else {
            GdbMode::Interactive
        },
        scripts: args.scripts.clone(),
        debugger_arguments: args.debugger_arguments.clone(),
        leave_stopped: args.leave_stopped,
        ways: if args.no_break { Vec::new() } else { ways(debugger) },
        patience: if started {
            PATIENCE_STARTED
        } else {
            PATIENCE_RUNNING
        },
        folder: context.state_folder("sessions").join(target.name.as_str()),
    };
    let (console, debug) = bridges::handles(&bridges);
    let ports = SessionPorts {
        console,
        debug,
        address: bridges.address.clone(),
    };
    let result = run_session(&target.name, debugger, &ports, &options, events, ui);
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

fn debugger(target: &TargetSpec) -> Result<DebuggerSpec, Failure> {
    let default = || DebuggerSpec {
        kind: DebuggerKind::Gdb,
        program: None,
        vmlinux: None,
        source: std::collections::BTreeMap::new(),
        modules: Vec::new(),
        break_in: Vec::new(),
    };
    let debugger = target.debugger.clone().unwrap_or_else(default);
    if debugger.kind != DebuggerKind::Gdb {
        return Err(Problem::new(
            FailureKind::Precondition,
            "this version starts gdb only, and the profile asks for another debugger",
        )
        .hint("Serve the port with `vmserial bridge` and start the debugger yourself.")
        .into());
    }
    if let Some(vmlinux) = debugger.vmlinux.as_ref().filter(|path| !path.is_file()) {
        return Err(Problem::new(
            FailureKind::NotFound,
            format!("there is no kernel image `{}`", vmlinux.display()),
        )
        .hint("Correct `debugger.vmlinux` in the profile; without it gdb has no symbols.")
        .into());
    }
    Ok(debugger)
}
