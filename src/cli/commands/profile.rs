//! `vmserial profile`.

use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::ui::Ui;
use crate::config::{find, load};
use crate::model::{FailureKind, Problem};
use clap::Subcommand;
use serde_json::json;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// What a new profile begins with.
const STARTER: &str = include_str!("../../../profiles/starter.yaml");

/// Makes, checks and explains profiles.
#[derive(Debug, clap::Args)]
pub struct ProfileArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write a commented profile to begin with
    New {
        /// Where; an existing file is not touched
        #[arg(default_value = "vmserial.yaml")]
        file: PathBuf,
    },
    /// Check a profile and show everything that is wrong with it
    Check {
        /// Which; absent: the one that other commands would read
        file: Option<PathBuf>,
    },
    /// Print a profile as it is understood, defaults included
    Show {
        /// Which; absent: the one that other commands would read
        file: Option<PathBuf>,
    },
    /// Print the JSON schema of profiles
    Schema,
}

/// Runs `vmserial profile`.
///
/// # Errors
///
/// As the exit codes say: 3 for a profile that is wrong, 4 for one that is not there, 5 for one that is in the way.
pub fn run(args: &ProfileArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    match &args.action {
        Action::New { file } => {
            let failed = |error: std::io::Error| match error.kind() {
                std::io::ErrorKind::AlreadyExists => Problem::new(
                    FailureKind::Precondition,
                    format!("`{}` is there already", file.display()),
                )
                .hint("Name another file; this one is left as it is."),
                _ => Problem::new(
                    FailureKind::Host,
                    format!("cannot write `{}`: {error}", file.display()),
                ),
            };
            let mut new = std::fs::File::create_new(file).map_err(failed)?;
            new.write_all(STARTER.as_bytes()).map_err(failed)?;
            ui.status(&format!(
                "Wrote {}; edit it, then run `vmserial plan`.",
                file.display()
            ));
        }
        Action::Check { file } => {
            let surroundings = context.surroundings()?;
            let path = find(file.as_deref().or(context.profile.as_deref()), &surroundings)?;
            let loaded = load(&path, &surroundings)?;
            let names: Vec<&str> = loaded.targets.iter().map(|target| target.name.as_str()).collect();
            if ui.is_json() {
                ui.data_json(&json!({ "v": 1, "profile": path, "targets": names }))?;
            } else {
                let count = names.len();
                let plural = if count == 1 { "" } else { "s" };
                ui.status(&format!(
                    "The profile {} is right: {count} target{plural}.",
                    path.display()
                ));
                for name in names {
                    ui.data(name)?;
                }
            }
        }
        Action::Show { file } => {
            let surroundings = context.surroundings()?;
            let path = find(file.as_deref().or(context.profile.as_deref()), &surroundings)?;
            let loaded = load(&path, &surroundings)?;
            if ui.is_json() {
                ui.data_json(&loaded.profile)?;
            } else {
                ui.data(crate::config::yaml::to_yaml(&loaded.profile)?.trim_end())?;
            }
        }
        Action::Schema => {
            let schema = serde_json::to_string_pretty(&crate::config::load::schema())
                .map_err(|error| Failure::new(FailureKind::Internal, error))?;
            ui.data(&schema)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
