//! Looks at a Windows guest, through any runner that runs its programs, and finds the way to it.

use crate::guest::linux::live::Place;
use crate::guest::windows::WindowsFacts;
use crate::guest::windows::facts::{look_at_bitlocker, looks};
use crate::guest::windows::program;
use crate::guest::windows::steps::WindowsWish;
use crate::model::profile::{Bitlocker, GuestOs};
use crate::model::{HostLogin, HostRef, Policy, Problem, TargetSpec, Wait};
use crate::runner::Runner;
use crate::runner::ssh::options::set_login;
use crate::session::boot_settings::ask;
use crate::session::guest::{BAUD, console_of};
use crate::session::planning::Hosts;

/// Looks at a guest: its boot settings, rights, Secure Boot, BitLocker.
///
/// # Errors
///
/// There is no way to it, or it is no Windows.
pub fn look(runner: &dyn Runner, wait: &Wait) -> Result<WindowsFacts, Problem> {
    let mut facts = WindowsFacts::read(&ask(&program::run(&looks()), runner, wait)?);
    if let Some(drive) = facts.drive().map(ToOwned::to_owned) {
        let said = ask(&program::run(&[look_at_bitlocker(&drive)]), runner, wait)?;
        if let Some(said) = said.first() {
            facts.take_bitlocker(said);
        }
    }
    Ok(facts)
}

/// Returns what a target's profile wants inside its guest; `None`: nothing of a Windows guest.
pub fn wish_of(target: &TargetSpec) -> Option<WindowsWish> {
    let guest = target
        .guest
        .as_ref()
        .filter(|guest| guest.os == GuestOs::Windows)?;
    let kd = target.ports.iter().find(|port| port.policy == Policy::Kd);
    let wish = WindowsWish {
        debug: kd.map(|port| (port.port.number(), BAUD)),
        boot_debug: guest.boot_debug,
        ems: guest.ems.map(|port| (port.number(), BAUD)),
        suspend_bitlocker: guest.bitlocker != Some(Bitlocker::Keep),
        ..WindowsWish::default()
    };
    (!wish.is_empty()).then_some(wish)
}

/// Finds the way into a target's guest that its profile names: its SSH, PowerShell Direct, else its EMS console where somebody can
/// log in there. Notes how one logs in.
///
/// # Errors
///
/// The hypervisor does not say where the console is.
pub fn way_in(target: &TargetSpec, hosts: &dyn Hosts) -> Result<Option<Place>, Problem> {
    let Some(guest) = &target.guest else {
        return Ok(None);
    };
    let host = match guest.way(target.hypervisor, target.vm.as_str(), &target.host) {
        Some(host) => Some(host),
        None if guest.user.is_some() => {
            console_of(target, hosts)?.map(|endpoint| HostRef::Sac(endpoint.to_string()))
        }
        None => None,
    };
    let Some(host) = host else {
        return Ok(None);
    };
    if let Some(key) = host.login_key() {
        let login = HostLogin {
            user: guest.user.clone(),
            password: guest.password.clone(),
            sudo: false,
        };
        set_login(&key, login);
    }
    Ok(Some(Place {
        host,
        target: Some(target.name.clone()),
        root: None,
    }))
}
