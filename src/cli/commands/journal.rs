//! `vmserial journal`.

use crate::cli::commands::undo::host;
use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::ui::Ui;
use crate::model::{FailureKind, Problem};
use crate::session::journal::{Entry, Found, StepState};
use crate::session::marks::{host_journal, journal};
use crate::session::planning::RealHosts;
use comfy_table::Table;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Lists what was done to hosts and VMs, the newest first; or shows one entry.
///
/// Example: vmserial journal --json
#[derive(Debug, clap::Args)]
pub struct JournalArgs {
    /// Show this entry, by its name or the beginning of it
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// Read the copies that a host keeps itself: `local`, `[user@]host`, or a host of the profile (`-p`)
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
}

/// Runs `vmserial journal`.
///
/// # Errors
///
/// The journal cannot be read; no entry has that name (4).
pub fn run(args: &JournalArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let hosts = RealHosts::new(&context.state);
    let folder = context.host_folder();
    let journal = match &args.host {
        Some(word) => host_journal(&hosts, &host(word, context)?, folder.as_deref())?,
        None => journal(&hosts, &context.state, folder.as_deref())?,
    };
    let entries: Vec<Found> = journal
        .entries()?
        .into_iter()
        .filter(|found| {
            args.id
                .as_ref()
                .is_none_or(|id| found.id().starts_with(id.as_str()))
        })
        .collect();
    if let (Some(id), true) = (&args.id, entries.is_empty()) {
        return Err(
            Problem::new(FailureKind::NotFound, format!("the journal has no entry `{id}`"))
                .hint("`vmserial journal` lists them.")
                .into(),
        );
    }
    if ui.is_json() {
        let entries: Vec<Value> = entries.iter().map(entry_json).collect();
        ui.data_json(&json!({ "v": 1, "entries": entries }))?;
    } else if args.id.is_some() {
        for found in &entries {
            ui.data(&details(found))?;
        }
    } else if entries.is_empty() {
        ui.status("The journal is empty.");
    } else {
        let mut table = Table::new();
        table
            .load_style(comfy_table::presets::NOTHING)
            .set_header(["ID", "TARGETS", "STATE", "COMMAND"]);
        for found in &entries {
            match found {
                Found::Entry(entry) => {
                    let targets: Vec<String> = entry
                        .data
                        .targets
                        .iter()
                        .map(|target| target.name.to_string())
                        .collect();
                    table.add_row([
                        entry.id.clone(),
                        targets.join(" "),
                        state(entry).to_owned(),
                        entry.data.command.clone(),
                    ]);
                }
                Found::Unknown { id, reason } => {
                    table.add_row([id.clone(), String::new(), "unknown".to_owned(), reason.clone()]);
                }
            }
        }
        ui.data(&table.trim_fmt())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn state(entry: &Entry) -> &'static str {
    if entry.data.is_in_force() {
        "in force"
    } else {
        "undone"
    }
}

fn word(state: StepState) -> &'static str {
    match state {
        StepState::Pending => "pending",
        StepState::Started => "started",
        StepState::Done => "done",
        StepState::Undone => "undone",
        StepState::Failed => "failed",
    }
}

fn entry_json(found: &Found) -> Value {
    match found {
        Found::Entry(entry) => {
            json!({ "id": entry.id, "in_force": entry.data.is_in_force(), "entry": entry.data })
        }
        Found::Unknown { id, reason } => json!({ "id": id, "unknown": reason }),
    }
}

fn details(found: &Found) -> String {
    match found {
        Found::Unknown { id, reason } => format!("{id}: {reason}"),
        Found::Entry(entry) => {
            let mut text = format!(
                "{} ({})\n  {} by vmserial {}: {}",
                entry.id,
                state(entry),
                entry.data.time,
                entry.data.version,
                entry.data.command
            );
            for record in &entry.data.steps {
                text.push_str(&format!(
                    "\n  {:<8} {} [{}]",
                    word(record.state),
                    record.step.summary,
                    record.step.host
                ));
                if let Some(error) = &record.error {
                    text.push_str(&format!("\n           {error}"));
                }
            }
            text
        }
    }
}
