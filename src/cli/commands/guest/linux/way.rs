//! How a Linux guest is reached: flags before the profile, SSH before the console.

use super::LinuxArgs;
use crate::cli::commands::guest::port::serial_endpoint;
use crate::cli::error::Failure;
use crate::cli::target::GuestTarget;
use crate::guest::linux::live::Place;
use crate::model::profile::Secret;
use crate::model::{FailureKind, HostLogin, HostRef, Problem};
use crate::runner::ssh::options::set_login;
use crate::session::guest::console_of;
use crate::session::planning::RealHosts;

/// Finds how the guest is reached, and notes how one logs in there. `None`: by hand.
///
/// # Errors
///
/// Usage: no way is named, and nothing could be done by hand.
pub fn place(
    args: &LinuxArgs,
    target: Option<&GuestTarget>,
    hosts: &RealHosts,
) -> Result<Option<Place>, Failure> {
    let mut place = Place {
        host: HostRef::Local,
        target: target.map(|target| target.spec.name.clone()),
        root: None,
    };
    let way = &args.way;
    if way.by_hand {
        return Ok(None);
    }
    if let Some(root) = &way.root {
        let root = std::path::absolute(root)?;
        if !root.is_dir() {
            let message = format!("there is no folder `{}`", root.display());
            return Err(Problem::new(FailureKind::NotFound, message).into());
        }
        place.root = Some(root.to_string_lossy().into_owned());
        return Ok(Some(place));
    }
    if way.local {
        return Ok(Some(place));
    }
    let guest = target.map(|target| &target.guest);
    let given = args.password_env.clone().map(Secret::Env);
    let login = HostLogin {
        user: args
            .user
            .clone()
            .or_else(|| guest.and_then(|guest| guest.user.clone())),
        password: given.or_else(|| guest.and_then(|guest| guest.password.clone())),
        sudo: args.sudo || guest.is_some_and(|guest| guest.sudo),
    };
    let ssh = way
        .host
        .as_ref()
        .or_else(|| guest.and_then(|guest| guest.ssh.as_ref()));
    if let Some(destination) = ssh {
        set_login(destination, login);
        place.host = HostRef::Ssh(destination.clone());
        return Ok(Some(place));
    }
    let serial = match (&way.serial, target) {
        (Some(endpoint), _) => Some(serial_endpoint(endpoint)?),
        (None, Some(target)) => console_of(&target.spec, hosts)?,
        (None, None) => None,
    };
    if let Some(endpoint) = serial {
        let endpoint = endpoint.to_string();
        set_login(&endpoint, login);
        place.host = HostRef::Serial(endpoint);
        return Ok(Some(place));
    }
    if !args.show && target.is_some_and(|target| target.spec.debug_port().is_some()) {
        return Ok(None);
    }
    let message = "there is no way into the guest";
    Err(Problem::new(FailureKind::Usage, message)
        .hint("Name one: `--host root@GUEST` (its SSH), `--serial ENDPOINT` (its console), `--local` (inside it), `--root DIR` (its disk, mounted), `--by-hand`, or `guest: {ssh: …}` in the profile.")
        .into())
}
