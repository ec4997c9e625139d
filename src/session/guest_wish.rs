//! What is wanted inside a guest, whichever system it has.

use crate::guest::linux::live::Place;
use crate::guest::windows::steps::{self, Guard, WindowsWish};
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

/// What a look at a guest led to.
#[derive(Debug, Clone)]
pub struct GuestPlan {
    /// What is to be changed now, or why it cannot be.
    pub steps: Result<Vec<Step>, Problem>,
    /// What BitLocker does about a change of the firmware's settings; `None`: there is no such thing.
    pub guard: Option<Guard>,
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
    pub fn plan(&self, hosts: &dyn Hosts, place: &Place, wait: &Wait) -> Result<GuestPlan, Problem> {
        let runner = hosts.runner(&place.host)?;
        match self {
            Self::Linux(wish) => {
                let facts = guest::look(runner.as_ref(), None, wait)?;
                let steps = guest::plan(runner.as_ref(), place, &facts, wish, wait)?;
                Ok(GuestPlan {
                    steps: Ok(steps),
                    guard: None,
                })
            }
            Self::Windows(wish) => {
                let facts = windows_guest::look(runner.as_ref(), wait)?;
                // The VM goes off and on, and then the guest's own settings want another boot.
                let wish_of_restart = WindowsWish {
                    boots: 2,
                    ..wish.clone()
                };
                Ok(GuestPlan {
                    steps: steps::steps(place, &facts, wish),
                    guard: Some(steps::guard(place, &facts, &wish_of_restart)),
                })
            }
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
