//! Joins a port's owner, or becomes it.

use crate::bridge::{BridgeSpec, Outcome, RunningBridge, Signals};
use crate::model::{FailureKind, Problem};
use crate::session::owner::{OwnerRecord, find_owner};
use crate::session::port_key::PortKey;
use crate::session::serve::start_owned;
use std::path::Path;

/// A port that can be asked through its owner's control socket.
#[derive(Debug)]
pub struct JoinedPort {
    /// Who owns it.
    pub owner: OwnerRecord,
    bridge: Option<RunningBridge>,
}

impl JoinedPort {
    /// Tells whether we opened the port for ourselves.
    pub fn is_ours(&self) -> bool {
        self.bridge.is_some()
    }

    /// Gives the port back if we opened it. Tells how its bridge ended.
    pub fn close(self, reason: &str) -> Option<Outcome> {
        let bridge = self.bridge?;
        // A bridge that has ended already needs no stop.
        let _ = bridge.handle.stop(reason).wait();
        Some(bridge.join().0)
    }
}

/// Returns who owns a port under any of its keys.
///
/// # Errors
///
/// See [`find_owner`].
pub fn any_owner(state: &Path, keys: &[PortKey]) -> Result<Option<OwnerRecord>, Problem> {
    for key in keys {
        if let Some(owner) = find_owner(state, key)? {
            return Ok(Some(owner));
        }
    }
    Ok(None)
}

/// Joins the owner of a port if there is one, else opens the port with the bridge that `open` describes, which then lives
/// until [`JoinedPort::close`]. Others can join it meanwhile.
///
/// # Errors
///
/// See [`find_owner`] and [`start_owned`].
pub fn join_or_open(
    state: &Path,
    keys: &[PortKey],
    open: impl FnOnce() -> Result<BridgeSpec, Problem>,
) -> Result<JoinedPort, Problem> {
    let joined = |owner| JoinedPort { owner, bridge: None };
    if let Some(owner) = any_owner(state, keys)? {
        return Ok(joined(owner));
    }
    match start_owned(state, keys, open()?, Signals::LeftAlone) {
        Ok(bridge) => match any_owner(state, keys)? {
            Some(owner) => Ok(JoinedPort {
                owner,
                bridge: Some(bridge),
            }),
            None => Err(Problem::new(
                FailureKind::Internal,
                "the port that was just opened has no owner",
            )),
        },
        // Somebody was faster.
        Err(problem) if problem.kind == FailureKind::Precondition => match any_owner(state, keys)? {
            Some(owner) => Ok(joined(owner)),
            None => Err(problem),
        },
        Err(problem) => Err(problem),
    }
}
