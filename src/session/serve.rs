//! Starts a bridge as its port's owner: lock, control socket, bridge.

use crate::bridge::{self, Beside, BridgeSpec, RunningBridge, Signals};
use crate::model::Problem;
use crate::session::owner::{Claim, claim};
use crate::session::port_key::PortKey;
use std::path::Path;

/// Claims a port under all its keys and starts its bridge with the control socket beside it. The port is given back when
/// the bridge has ended.
///
/// # Errors
///
/// Precondition when somebody owns the port (pid and command are named); see [`bridge::start`] and `session::owner`.
pub fn start_owned(
    state: &Path,
    keys: &[PortKey],
    spec: BridgeSpec,
    signals: Signals,
) -> Result<RunningBridge, Problem> {
    let ownership = match claim(state, keys)? {
        Claim::Ours(ownership) => ownership,
        Claim::Theirs(owner) => return Err(owner.refusal()),
    };
    let beside: Beside = Box::new(move |handle| {
        let server = ownership.listen()?;
        Ok(Box::pin(async move {
            // Dropped after the control socket is gone.
            let _ownership = ownership;
            server.serve(handle).await;
        }))
    });
    bridge::start(spec, signals, Some(beside))
}
