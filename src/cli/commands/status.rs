//! `vmserial status`.

use crate::cli::change::chosen;
use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::ui::Ui;
use crate::model::{Cancel, Deadline, Observed, TargetSpec, Wait};
use crate::session::owner::find_owner;
use crate::session::planning::{RealHosts, observe};
use crate::session::port_key::PortKey;
use comfy_table::Table;
use serde_json::json;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long looking at all hosts may take.
const LOOK: Duration = Duration::from_secs(30);

/// Shows the targets of a profile: power, ports, and who has each port open.
///
/// Example: vmserial status --json
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Targets by name or glob, or a profile file [default: all targets]
    #[arg(value_name = "TARGET|PROFILE")]
    targets: Vec<String>,
}

/// Runs `vmserial status`. A target whose host cannot be looked at is shown with the reason.
///
/// # Errors
///
/// The profile's.
pub fn run(args: &StatusArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let hosts = RealHosts::new(&context.state);
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_header(["TARGET", "POWER", "PORT", "AS", "ENDPOINT", "OWNER"]);
    let mut all = Vec::new();
    for target in chosen(&args.targets, None, context)? {
        let wait = Wait::new(Deadline::after(Instant::now(), LOOK), Cancel::new(), "the hosts");
        let seen = observe(&hosts, std::slice::from_ref(&target), &wait);
        let (power, problem) = match &seen {
            Ok(seen) => (
                seen.first()
                    .map_or("unknown".to_owned(), |vm| vm.power.to_string()),
                None,
            ),
            Err(problem) => ("unknown".to_owned(), Some(problem.message.clone())),
        };
        let vm = seen.as_ref().ok().and_then(|seen| seen.first());
        let mut ports = Vec::new();
        for port in &target.ports {
            let owner = find_owner(&context.state, &PortKey::of_target(&target, port.port))?;
            let endpoint = endpoint(&target, port.port, vm);
            let who = owner
                .as_ref()
                .map_or(String::new(), |owner| format!("pid {}", owner.pid));
            table.add_row([
                target.name.to_string(),
                power.clone(),
                port.port.to_string(),
                port.policy.to_string(),
                endpoint.clone(),
                who,
            ]);
            let owner = owner.map(|owner| json!({ "pid": owner.pid, "command": owner.command }));
            ports.push(json!({ "port": port.port, "as": port.policy, "endpoint": endpoint, "owner": owner }));
        }
        if target.ports.is_empty() {
            table.add_row([target.name.to_string(), power.clone()]);
        }
        if let Some(problem) = &problem {
            ui.warning(&format!("{}: {problem}", target.name));
        }
        all.push(json!({ "target": target.name, "power": power, "problem": problem, "ports": ports }));
    }
    if ui.is_json() {
        ui.data_json(&json!({ "v": 1, "targets": all }))?;
    } else {
        ui.data(&table.trim_fmt())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn endpoint(target: &TargetSpec, port: crate::model::PortIndex, seen: Option<&Observed>) -> String {
    let found = seen.and_then(|seen| seen.ports.iter().find(|found| found.port == port));
    let found = found.and_then(|found| found.endpoint.as_ref());
    let wanted = target.port(port).and_then(|port| port.attach.as_ref());
    found.or(wanted).map_or(String::new(), ToString::to_string)
}
