//! What is wanted inside a guest, whichever system it has.

use crate::guest::linux::live::Place;
use crate::guest::windows::steps::{self, WindowsWish};
use crate::model::{Problem, TargetSpec, Wait};
use crate::plan::Step;
use crate::session::guest::{self, LinuxWish};
use crate::session::planning::Hosts;
use crate::session::windows_guest;

/// A guest's wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestWish {
    /// Of a Linux guest.
    Linux(Box<LinuxWish>),
    /// Of a Windows guest.
    Windows(WindowsWish),
}

impl GuestWish {
    /// Returns what a target's profile wants inside its guest; `None`: nothing.
    pub fn of(target: &TargetSpec) -> Option<Self> {
        let linux = guest::wish_of(target).map(|wish| Self::Linux(Box::new(wish)));
        linux.or_else(|| windows_guest::wish_of(target).map(Self::Windows))
    }

    /// Finds the way in that the target's profile names.
    ///
    /// # Errors
    ///
    /// The hypervisor does not say where the console is.
    pub fn way_in(&self, target: &TargetSpec, hosts: &dyn Hosts) -> Result<Option<Place>, Problem> {
        match self {
            Self::Linux(_) => guest::way_in(target, hosts),
            Self::Windows(_) => windows_guest::way_in(target, hosts),
        }
    }

    /// Looks at the guest, and plans.
    ///
    /// # Errors
    ///
    /// The way there failed, or the guest cannot have it.
    pub fn steps(&self, hosts: &dyn Hosts, place: &Place, wait: &Wait) -> Result<Vec<Step>, Problem> {
        let runner = hosts.runner(&place.host)?;
        match self {
            Self::Linux(wish) => {
                let facts = guest::look(runner.as_ref(), None, wait)?;
                guest::plan(runner.as_ref(), place, &facts, wish, wait)
            }
            Self::Windows(wish) => steps::steps(place, &windows_guest::look(runner.as_ref(), wait)?, wish),
        }
    }

    /// Returns the word of `vmserial guest` for it.
    pub fn command(&self) -> &'static str {
        match self {
            Self::Linux(_) => "linux",
            Self::Windows(_) => "windows",
        }
    }

    /// Names what may change.
    pub fn may_change(&self) -> Vec<String> {
        let all = match self {
            Self::Linux(wish) => {
                let (live, boot) = (&wish.live, &wish.boot);
                vec![
                    (live.kgdb.is_some(), "kgdboc"),
                    (live.sysrq || live.keep_sysrq, "sysctl"),
                    (boot.entry.is_some(), "boot entry"),
                    (boot.console.is_some(), "console"),
                    (wish.autologin.is_some(), "autologin"),
                ]
            }
            Self::Windows(wish) => vec![
                (wish.debug.is_some(), "debugger's settings"),
                (wish.boot_debug, "boot debugging"),
                (wish.ems.is_some(), "EMS"),
            ],
        };
        all.into_iter()
            .filter(|(wanted, _)| *wanted)
            .map(|(_, name)| name.to_owned())
            .collect()
    }
}
