//! `vmserial profile`.

use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::ui::Ui;
use crate::config::load::{LoadError, load_or_explain};
use crate::config::node::Issue;
use crate::config::yaml::to_yaml;
use crate::config::{find, load};
use crate::model::{FailureKind, HypervisorKind, Problem};
use crate::plan::conflict::check_conflicts;
use clap::Subcommand;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What a new profile begins with, where vmserial describes and starts the VM itself.
const STARTER: &str = include_str!("../../../profiles/starter.yaml");

/// What a new profile begins with for a VM that is there; its host is replaced.
const STARTER_VM: &str = include_str!("../../../profiles/starter-vm.yaml");

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
        /// For VMs of this hypervisor
        #[arg(long, value_name = "NAME", default_value = "qemu")]
        hypervisor: HypervisorKind,
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
        Action::New { file, hypervisor } => {
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
            new.write_all(starter(*hypervisor).as_bytes()).map_err(failed)?;
            ui.status(&format!(
                "Wrote {}; edit it, then run `vmserial plan`.",
                file.display()
            ));
        }
        Action::Check { file } => {
            let surroundings = context.surroundings()?;
            let path = find(file.as_deref().or(context.profile.as_deref()), &surroundings)?;
            let loaded = match load_or_explain(&path, &surroundings) {
                Err(LoadError::Wrong { issues, problem }) if ui.is_json() => {
                    ui.status(&format!("error: {problem}"));
                    ui.data_json(&errors_as_json(&path, &issues))?;
                    return Ok(ExitCode::from(problem.kind.exit_code()));
                }
                loaded => loaded.map_err(Problem::from)?,
            };
            check_conflicts(&loaded.targets)?;
            let names: Vec<&str> = loaded.targets.iter().map(|target| target.name.as_str()).collect();
            if ui.is_json() {
                ui.data_json(&json!({ "v": 1, "profile": path, "targets": names, "errors": [] }))?;
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
            let profile = loaded.profile.with_defaults();
            if ui.is_json() {
                ui.data_json(&profile)?;
            } else {
                ui.data(to_yaml(&profile)?.trim_end())?;
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

/// Returns the text of a new profile.
fn starter(hypervisor: HypervisorKind) -> String {
    if hypervisor.starts_described_vms() {
        STARTER.to_owned()
    } else {
        STARTER_VM.replacen("host: vmware", &format!("host: {hypervisor}"), 1)
    }
}

/// Each error by itself, for editors and CI.
fn errors_as_json(path: &Path, issues: &[Issue]) -> Value {
    let errors: Vec<Value> = issues
        .iter()
        .map(|issue| {
            json!({
                "path": issue.path.to_string(), "line": issue.place.line, "column": issue.place.column,
                "message": issue.message,
            })
        })
        .collect();
    json!({ "v": 1, "profile": path, "targets": [], "errors": errors })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::config::load::parse;
    use crate::config::validate::Base;

    #[test]
    fn every_hypervisor_has_a_starter_that_is_right() {
        let base = Base {
            folder: "/p".into(),
            home: None,
        };
        for kind in HypervisorKind::ALL {
            let (_, targets) = parse(&starter(kind), &base).unwrap();
            assert_eq!(targets[0].hypervisor, kind);
        }
    }
}
