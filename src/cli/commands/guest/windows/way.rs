//! How a Windows guest is reached: flags before the profile; SSH, then PowerShell Direct, then the console.

use super::WindowsArgs;
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
    args: &WindowsArgs,
    target: Option<&GuestTarget>,
    hosts: &RealHosts,
) -> Result<Option<Place>, Failure> {
    let way = &args.way;
    if way.by_hand {
        return Ok(None);
    }
    let Some(host) = host(args, target, hosts)? else {
        if !args.show && target.is_some_and(|target| target.spec.debug_port().is_some()) {
            return Ok(None);
        }
        let message = "there is no way into the guest";
        return Err(Problem::new(FailureKind::Usage, message)
            .hint("Name one: `--host admin@GUEST` (its SSH), `--vm NAME` (PowerShell Direct on its Hyper-V host), `--serial ENDPOINT` (its EMS console), `--local` (inside it), `--by-hand`, or `guest: {os: windows, ssh: …}` in the profile.")
            .into());
    };
    let guest = target.map(|target| &target.guest);
    let given = args.password_env.clone().map(Secret::Env);
    let login = HostLogin {
        user: args
            .user
            .clone()
            .or_else(|| guest.and_then(|guest| guest.user.clone())),
        password: given.or_else(|| guest.and_then(|guest| guest.password.clone())),
        sudo: false,
    };
    if let Some(key) = host.login_key() {
        set_login(&key, login);
    }
    Ok(Some(Place {
        host,
        target: target.map(|target| target.spec.name.clone()),
        root: None,
    }))
}

fn host(
    args: &WindowsArgs,
    target: Option<&GuestTarget>,
    hosts: &RealHosts,
) -> Result<Option<HostRef>, Failure> {
    let way = &args.way;
    if way.local {
        return Ok(Some(HostRef::Local));
    }
    if let Some(destination) = &way.host {
        return Ok(Some(HostRef::Ssh(destination.clone())));
    }
    if let Some(vm) = &way.vm {
        let behind = args.hyperv.clone().map_or(HostRef::Local, HostRef::Ssh);
        return Ok(Some(HostRef::Direct {
            vm: vm.clone(),
            host: Box::new(behind),
        }));
    }
    if let Some(endpoint) = &way.serial {
        return Ok(Some(HostRef::Sac(serial_endpoint(endpoint)?.to_string())));
    }
    let Some(target) = target else {
        return Ok(None);
    };
    if let Some(host) = target
        .guest
        .way(target.spec.hypervisor, target.spec.vm.as_str(), &target.spec.host)
    {
        return Ok(Some(host));
    }
    let console = console_of(&target.spec, hosts)?;
    Ok(console.map(|endpoint| HostRef::Sac(endpoint.to_string())))
}
