//! `vmserial break`.

use crate::bridge::BridgeSpec;
use crate::bridge::control::client::ask_once;
use crate::bridge::control::{BreakParameters, Call};
use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::port::{PortArgs, PortPlace};
use crate::cli::quantity::parse_duration;
use crate::cli::ui::Ui;
use crate::model::{Deadline, FailureKind, Policy, Problem};
use crate::session::console::wait_for_target;
use crate::session::join::{JoinedPort, join_or_open};
use serde_json::Value;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The owner answers within 300 ms, BREAK's 500 ms, the pause, 1.5 s for a sign of the stop, all but the first once more on
/// a port that kgdb shares, and another 1.6 s.
const ANSWER: Duration = Duration::from_secs(8);

/// Breaks the kernel of a VM into its debugger (BREAK, then `g`), and tells whether it stopped.
///
/// Asks whoever has the port open; nobody: opens it, breaks in and gives it back. BREAK works on the port of the kernel's console.
///
/// Example: vmserial break dev
#[derive(Debug, clap::Args)]
pub struct BreakArgs {
    #[command(flatten)]
    port: PortArgs,
    /// Send BREAK alone, without the `g`, and look for nothing
    #[arg(long)]
    only_break: bool,
    /// How long to wait for a VM that is away (exit 7)
    #[arg(long, value_name = "T", value_parser = parse_duration, default_value = "2s")]
    wait: Duration,
}

/// Breaks in and tells what was observed.
pub fn run(args: &BreakArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let place = PortPlace::find(&args.port, context)?;
    let port = join_or_open(&context.state, &place.keys, || {
        let mut spec = BridgeSpec::new(place.target.clone(), Vec::new(), Policy::Console);
        spec.break_means = place.break_means.clone();
        Ok(spec)
    })?;
    let result = break_in(&port, args);
    port.close("its break-in is done");
    let result = result?;
    let way = result["way"].as_str().unwrap_or_default();
    if args.only_break {
        tell(ui, &result, &format!("BREAK sent ({way})."))?;
        return Ok(ExitCode::SUCCESS);
    }
    match (result["stopped_in"].as_str(), result["evidence"].as_str()) {
        (Some(debugger), Some(evidence)) => {
            let sentence = format!("The kernel stopped in {debugger} (BREAK by {way}; {evidence}).");
            tell(ui, &result, &sentence)?;
            Ok(ExitCode::SUCCESS)
        }
        _ => Err(Problem::new(
            FailureKind::Deadline,
            format!("BREAK and `g` were sent ({way}), and no sign of a stopped kernel came within 1.6 s"),
        )
        .hint("Does the kernel have kgdb on a port (`kgdboc=ttyS0` or `kgdboc=ttyS1`), and is this the port of its console?")
        .hint("Does `/proc/sys/kernel/sysrq` allow it (1, or with 8), and is there no `lockdown=` on its command line?")
        .hint("Some kernels take BREAK and drop the `g` (8250 driver, 2025 to 2026): `echo g > /proc/sysrq-trigger` in the guest works there.")
        .into()),
    }
}

fn tell(ui: &mut Ui, result: &Value, sentence: &str) -> Result<(), Failure> {
    if ui.is_json() {
        ui.data_json(result)?;
    } else {
        ui.data(sentence)?;
    }
    Ok(())
}

fn break_in(port: &JoinedPort, args: &BreakArgs) -> Result<Value, Problem> {
    // A port that was opened just now is being dialled, and a VM that reboots comes back.
    wait_for_target(&port.owner.socket, args.wait)?;
    let parameters = BreakParameters {
        break_in: !args.only_break,
        observe: !args.only_break,
    };
    ask_once(
        &port.owner.socket,
        Call::Break(parameters),
        Deadline::after(Instant::now(), ANSWER),
    )
}
