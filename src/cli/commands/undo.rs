//! `vmserial undo`.

use crate::cli::change::ChangeArgs;
use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::target::note_logins;
use crate::cli::ui::Ui;
use crate::config::{find as find_profile, load};
use crate::model::HostRef;
use crate::session::interrupt::Interrupt;
use crate::session::marks::{host_journal, journal};
use crate::session::planning::RealHosts;
use crate::session::undo::{UndoOptions, find, undo};
use serde_json::json;
use std::process::ExitCode;

/// Takes back what an apply did: newest step first, only our values, only where they still are ours.
///
/// Without an ID it takes the newest entry of the journal that is not wholly undone; also after a crash in the middle.
///
/// Example: vmserial undo --plan
#[derive(Debug, clap::Args)]
pub struct UndoArgs {
    /// An entry of `vmserial journal`, or the beginning of its name
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// Use the copies that a host keeps itself, for a machine without the journal: `local`, `[user@]host`, or a host of the profile (`-p`)
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Confirm the undo of a step that wants it by its own name, as is shown (can be repeated)
    #[arg(long, value_name = "NAME")]
    confirm: Vec<String>,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Returns the host that a word on the command line means: a name of the profile that was given with `-p`, this machine, or a
/// destination of SSH. How the profile's hosts are logged in to is known then.
///
/// # Errors
///
/// The profile's.
pub fn host(word: &str, context: &Context) -> Result<HostRef, Failure> {
    if context.profile.is_some() {
        let surroundings = context.surroundings()?;
        let loaded = load(
            &find_profile(context.profile.as_deref(), &surroundings)?,
            &surroundings,
        )?;
        note_logins(&loaded.profile);
        if let Some(host) = loaded.profile.hosts.get(word) {
            return Ok(host.ssh.clone().map_or(HostRef::Local, HostRef::Ssh));
        }
    }
    Ok(match word {
        "local" | "localhost" => HostRef::Local,
        destination => HostRef::Ssh(destination.to_owned()),
    })
}

/// Runs `vmserial undo`.
///
/// # Errors
///
/// Somebody else changed what is ours (5, with the three versions), an unknown format (3), no such entry (4).
pub fn run(args: &UndoArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let hosts = RealHosts::new(&context.state);
    let folder = context.host_folder();
    let journal = match &args.host {
        Some(word) => host_journal(&hosts, &host(word, context)?, folder.as_deref())?,
        None => journal(&hosts, &context.state, folder.as_deref())?,
    };
    let Some(entry) = find(&journal, args.id.as_deref())? else {
        ui.status("Nothing to undo.");
        return nothing(None, ui);
    };
    let id = entry.id.clone();
    if !entry.data.is_in_force() {
        ui.status(&format!("Nothing to undo: nothing of {id} is in force."));
        return nothing(Some(&id), ui);
    }
    let options = UndoOptions {
        consent: args.change.consent(),
        confirmed: args.confirm.clone(),
        restart: args.change.restart,
        state: context.state.clone(),
        interrupt: Interrupt::catch()?,
    };
    let data = undo(entry, &hosts, &options, ui)?;
    if ui.is_json() {
        ui.data_json(&json!({ "v": 1, "journal": id, "undone": !args.change.plan,
            "first": data.first, "steps": data.steps, "last": data.last }))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn nothing(id: Option<&str>, ui: &mut Ui) -> Result<ExitCode, Failure> {
    if ui.is_json() {
        ui.data_json(
            &json!({ "v": 1, "journal": id, "undone": false, "first": [], "steps": [], "last": [] }),
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
