//! `TARGET|PROFILE` on the command line: which targets of which profile are meant.

use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::config::{find, load};
use crate::model::{FailureKind, Problem, TargetSpec};
use std::path::PathBuf;

/// Returns the targets that names, globs and profile files choose; all of the profile if nothing is named.
///
/// # Errors
///
/// The profile's; not found for a name that it does not have; usage for two profiles.
pub fn targets(words: &[String], context: &Context) -> Result<Vec<TargetSpec>, Failure> {
    let is_file = |text: &&String| text.ends_with(".yaml") || text.ends_with(".yml");
    let files: Vec<&String> = words.iter().filter(is_file).collect();
    let patterns: Vec<String> = words.iter().filter(|word| !is_file(word)).cloned().collect();
    let named = match files.as_slice() {
        [] => context.profile.clone(),
        [file] => Some(PathBuf::from(file)),
        [one, other, ..] => {
            return Err(Problem::new(
                FailureKind::Usage,
                format!("two profiles are named, `{one}` and `{other}`"),
            )
            .into());
        }
    };
    let surroundings = context.surroundings()?;
    let loaded = load(&find(named.as_deref(), &surroundings)?, &surroundings)?;
    Ok(loaded.targets(&patterns)?)
}

/// Returns the one target that is meant: named, or the only one of its profile.
///
/// # Errors
///
/// As [`targets`]; usage when more than one is meant.
pub fn one_target(word: Option<&String>, context: &Context) -> Result<TargetSpec, Failure> {
    let words: Vec<String> = word.into_iter().cloned().collect();
    let mut targets = targets(&words, context)?;
    match (targets.pop(), targets.len()) {
        (Some(target), 0) => Ok(target),
        (last, _) => {
            let names: Vec<String> = targets
                .iter()
                .chain(&last)
                .map(|target| target.name.to_string())
                .collect();
            Err(Problem::new(
                FailureKind::Usage,
                format!(
                    "this is for one target, and {} are meant: {}",
                    names.len(),
                    names.join(", ")
                ),
            )
            .hint("Name one of them.")
            .into())
        }
    }
}
