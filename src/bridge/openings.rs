//! How a bridge opens what it goes to: its own kinds by itself, `exec:` and `via=` through its [`Opener`], and so named
//! pipes where the system has none.

use crate::bridge::channel::Channel;
use crate::bridge::dial::{Opener, Remarks};
use crate::bridge::open::{self, Side, check_served};
use crate::bridge::sys;
use crate::model::{Address, EndpointSpec, FailureKind, Problem};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// A remote endpoint is dialled at most this rarely.
const LONGEST_REMOTE_PAUSE: Duration = Duration::from_secs(2);

/// A command is started again at most this rarely: starting one costs more than a dial.
const LONGEST_COMMAND_PAUSE: Duration = Duration::from_secs(5);

/// The means to open endpoints. Cheap to clone.
#[derive(Clone)]
pub struct Openings {
    opener: Option<Arc<dyn Opener>>,
    remarks: Remarks,
}

impl Openings {
    /// Makes them; without an opener `exec:` and `via=` are refused.
    pub fn new(opener: Option<Arc<dyn Opener>>, remarks: Remarks) -> Self {
        Self { opener, remarks }
    }

    /// Refuses what cannot be served, by its name, with what to use instead.
    ///
    /// # Errors
    ///
    /// Precondition; usage for a kind that is not for this side.
    pub fn check(&self, endpoint: &EndpointSpec, side: Side) -> Result<(), Problem> {
        if !needs_opener(endpoint) {
            return check_served(endpoint, side);
        }
        match &self.opener {
            Some(opener) => opener.check(endpoint),
            None => Err(Problem::new(
                FailureKind::Precondition,
                format!("`{endpoint}`: this bridge starts no processes"),
            )),
        }
    }

    /// Goes to an endpoint once.
    ///
    /// # Errors
    ///
    /// See [`open::dial`] and [`Opener::open`].
    pub async fn dial(&self, endpoint: &EndpointSpec) -> io::Result<Channel> {
        match &self.opener {
            Some(opener) if needs_opener(endpoint) => opener.open(endpoint, &self.remarks).await,
            _ => open::dial(endpoint).await,
        }
    }
}

impl fmt::Debug for Openings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Openings")
            .field("opener", &self.opener.is_some())
            .finish_non_exhaustive()
    }
}

fn needs_opener(endpoint: &EndpointSpec) -> bool {
    let is_foreign = matches!(endpoint.address, Address::Pipe { .. }) && !sys::HAS_NAMED_PIPES;
    !endpoint.via.is_empty() || starts_something(endpoint) || is_foreign
}

/// Tells whether each dial starts a process, which says nothing of whether it will serve: the pause between two dials
/// grows with each one that ended soon.
pub fn starts_something(endpoint: &EndpointSpec) -> bool {
    matches!(endpoint.address, Address::Exec(_))
}

/// Returns the longest pause between two dials of an endpoint; `every` is the first one.
pub fn longest_pause(endpoint: &EndpointSpec, every: Duration) -> Duration {
    if starts_something(endpoint) {
        LONGEST_COMMAND_PAUSE.max(every)
    } else if endpoint.is_local() {
        every
    } else {
        LONGEST_REMOTE_PAUSE.max(every)
    }
}
