//! Options that all commands share that change something.

use crate::cli::commands::setup::common::restart_level;
use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::target::targets;
use crate::config::merge::{Overrides, with_overrides};
use crate::model::{RestartPolicy, TargetSpec};
use crate::session::apply::ApplyOptions;
use crate::session::consent::Consent;
use crate::session::guest_stage::GuestLook;
use crate::session::interrupt::Interrupt;

/// How far a command goes.
#[derive(Debug, Clone, clap::Args)]
pub struct ChangeArgs {
    /// Only show what would be done
    #[arg(long)]
    pub plan: bool,
    /// Do it without asking
    #[arg(long)]
    pub yes: bool,
    /// How far to go when a change needs the VM powered off
    #[arg(long, value_name = "never|ask|graceful|hard", value_parser = restart_level)]
    pub restart: Option<RestartPolicy>,
}

impl ChangeArgs {
    /// Returns the consent that is given.
    pub fn consent(&self) -> Consent {
        match (self.plan, self.yes) {
            (true, _) => Consent::ShowOnly,
            (false, true) => Consent::Given,
            (false, false) => Consent::Ask,
        }
    }
}

/// Returns the chosen targets with what flags say about them.
///
/// # Errors
///
/// See [`targets`].
pub fn chosen(
    words: &[String],
    restart: Option<RestartPolicy>,
    context: &Context,
) -> Result<Vec<TargetSpec>, Failure> {
    let overrides = Overrides { restart };
    Ok(targets(words, context)?
        .into_iter()
        .map(|target| with_overrides(target, overrides))
        .collect())
}

/// Returns how an apply is wanted that sets up and starts nothing by itself.
pub fn options(consent: Consent, interrupt: Interrupt, context: &Context) -> ApplyOptions {
    ApplyOptions {
        consent,
        confirmed: Vec::new(),
        remove: false,
        start_vm: false,
        guests: GuestLook::Leave,
        state: context.state.clone(),
        host_folder: context.host_folder(),
        interrupt,
    }
}
