//! `TARGET|PROFILE` on the command line: which targets of which profile are meant.

use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::config::load::{Arguments, split_arguments};
use crate::config::{find, load};
use crate::model::join::{JoinEnd, JoinSpec};
use crate::model::profile::{GuestOs, GuestProfile, Profile};
use crate::model::{FailureKind, HostLogin, Problem, TargetSpec};
use crate::runner::ssh::options::set_login;

/// Returns the targets that names, globs and profile files choose; all of the profile if nothing is named.
///
/// # Errors
///
/// The profile's; not found for a name that it does not have; usage for two profiles.
pub fn targets(words: &[String], context: &Context) -> Result<Vec<TargetSpec>, Failure> {
    Ok(targets_and_joins(words, context)?.0)
}

/// Returns the chosen targets and the cables that have both ends among them.
///
/// # Errors
///
/// As [`targets`].
pub fn targets_and_joins(
    words: &[String],
    context: &Context,
) -> Result<(Vec<TargetSpec>, Vec<JoinSpec>), Failure> {
    let Arguments { profile, patterns } = split_arguments(words)?;
    let named = profile.or_else(|| context.profile.clone());
    let surroundings = context.surroundings()?;
    let loaded = load(&find(named.as_deref(), &surroundings)?, &surroundings)?;
    note_logins(&loaded.profile);
    let targets = loaded.targets(&patterns)?;
    let is_chosen = |end: &JoinEnd| targets.iter().any(|target| target.name == end.target);
    let joins = loaded
        .joins()
        .into_iter()
        .filter(|join| is_chosen(&join.a) && is_chosen(&join.b))
        .collect();
    Ok((targets, joins))
}

/// A target with what its profile says of the inside of its guest.
#[derive(Debug, Clone)]
pub struct GuestTarget {
    /// The target.
    pub spec: TargetSpec,
    /// What is wanted of its guest.
    pub guest: GuestProfile,
}

/// Returns the one target that is meant, with its guest.
///
/// # Errors
///
/// As [`one_target`]; configuration: the profile says nothing of its guest.
pub fn guest_target(words: &[String], context: &Context) -> Result<GuestTarget, Failure> {
    let Arguments { profile, patterns } = split_arguments(words)?;
    let named = profile.or_else(|| context.profile.clone());
    let surroundings = context.surroundings()?;
    let loaded = load(&find(named.as_deref(), &surroundings)?, &surroundings)?;
    note_logins(&loaded.profile);
    let spec = the_one(loaded.targets(&patterns)?)?;
    let guest = loaded
        .profile
        .targets
        .get(&spec.name)
        .and_then(|target| target.guest.clone());
    let guest = guest.ok_or_else(|| {
        let message = format!("`{}` is not there: nothing is said of this guest", spec.field_path("guest"));
        Problem::new(FailureKind::Configuration, message)
            .hint("Add `guest: {os: linux, ssh: root@GUEST}` to the target, or name the way in: `--host`, `--serial`, `--local`, `--by-hand`.")
    })?;
    Ok(GuestTarget { spec, guest })
}

/// Returns the one target that is meant, if one is, whose guest must have this system.
///
/// # Errors
///
/// As [`guest_target`]; configuration: its guest has another one.
pub fn guest_target_of(
    words: &[String],
    os: GuestOs,
    context: &Context,
) -> Result<Option<GuestTarget>, Failure> {
    if words.is_empty() {
        return Ok(None);
    }
    let target = guest_target(words, context)?;
    if target.guest.os == os {
        return Ok(Some(target));
    }
    let message = format!(
        "`{}` says `os: {}`, and this is for guests with `os: {os}`",
        target.spec.field_path("guest"),
        target.guest.os
    );
    Err(Problem::new(FailureKind::Configuration, message)
        .hint(format!(
            "`vmserial guest {} {}` is for this one.",
            target.guest.os, target.spec.name
        ))
        .into())
}

/// Notes how the profile's hosts are logged in to, for whoever goes there.
pub fn note_logins(profile: &Profile) {
    for host in profile.hosts.values() {
        if let Some(destination) = &host.ssh {
            set_login(
                destination,
                HostLogin {
                    user: None,
                    password: host.password.clone(),
                    sudo: host.sudo,
                },
            );
        }
    }
}

/// Returns the one target that is meant: named, or the only one of its profile.
///
/// # Errors
///
/// As [`targets`]; usage when more than one is meant.
pub fn one_target(words: &[String], context: &Context) -> Result<TargetSpec, Failure> {
    the_one(targets(words, context)?)
}

/// Returns the only one of some targets.
///
/// # Errors
///
/// Usage when there are more.
pub fn the_one(mut targets: Vec<TargetSpec>) -> Result<TargetSpec, Failure> {
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
