//! Starts a bridge as its port's owner: lock, debug protocol, control socket, bridge.

use crate::bridge::{
    self, Beside, BreakMeans, BreakPort, BridgeSpec, GdbPolicy, GdbPolicySpec, KdPolicy, RunningBridge,
    Signals,
};
use crate::model::{Policy, Problem};
use crate::rsp::WhenGdbDies;
use crate::runner::opener::ProcessOpener;
use crate::session::owner::{Claim, claim, owner_with_pid};
use crate::session::planted::PlantedFiles;
use crate::session::port_key::PortKey;
use std::path::Path;
use std::sync::Arc;

/// Claims a port under all its keys and starts its bridge with the control socket beside it. The port is given back when
/// the bridge has ended. A `gdb` or `console+gdb` bridge without a mediator gets the one of kgdb, with what an earlier bridge on this port
/// wrote down.
///
/// # Errors
///
/// Precondition when somebody owns the port (pid and command are named); see [`bridge::start`] and `session::owner`.
pub fn start_owned(
    state: &Path,
    keys: &[PortKey],
    mut spec: BridgeSpec,
    signals: Signals,
) -> Result<RunningBridge, Problem> {
    let ownership = match claim(state, keys)? {
        Claim::Ours(ownership) => ownership,
        Claim::Theirs(owner) => return Err(owner.refusal()),
    };
    if matches!(spec.policy, Policy::Gdb | Policy::ConsoleGdb) && spec.mediator.is_none() {
        spec.mediator = Some(Box::new(gdb_policy(state, keys, &spec)?));
    }
    if spec.policy == Policy::Kd && spec.mediator.is_none() {
        spec.mediator = Some(Box::new(KdPolicy::default()));
    }
    if spec.opener.is_none() {
        spec.opener = Some(Arc::new(ProcessOpener::new()));
    }
    let beside: Beside = Box::new(move |handle| {
        let server = ownership.listen()?;
        Ok(Box::pin(async move {
            // Dropped after the control socket is gone.
            let _ownership = ownership;
            server.serve(handle).await;
        }))
    });
    bridge::start(spec, signals, Some(beside)).map_err(|problem| explained(problem, state))
}

/// Says of a place that another vmserial has which port it serves there, and how to join it.
fn explained(problem: Problem, state: &Path) -> Problem {
    let owner = problem.holder.and_then(|pid| owner_with_pid(state, pid));
    match owner {
        Some(owner) => {
            let hint = format!(
                "Pid {} serves the port `{}` there. {}",
                owner.pid,
                owner.port,
                owner.join_hint()
            );
            Problem {
                hints: vec![hint],
                ..problem
            }
            .hint("Or choose another place for this one.")
        }
        None => problem,
    }
}

fn gdb_policy(state: &Path, keys: &[PortKey], spec: &BridgeSpec) -> Result<GdbPolicy, Problem> {
    let files = PlantedFiles::new(state, keys);
    let mut policy = match spec.policy {
        Policy::ConsoleGdb => GdbPolicySpec::shared_port(),
        _ => GdbPolicySpec::own_port(),
    };
    policy.break_way = match (&spec.break_port, &spec.break_means) {
        (BreakPort::Owner(owner), _) => Some(owner.way()),
        (_, BreakMeans::None) => None,
        (_, means) => Some(means.way()),
    };
    policy.leave_stopped = spec.leave_stopped;
    if spec.free_when_debugger_dies {
        policy.when_gdb_dies = WhenGdbDies::Free;
    }
    policy.planted = files.load()?;
    policy.keep = Some(Box::new(move |planted| {
        if let Err(error) = files.keep(planted) {
            tracing::warn!(%error, "the planted breakpoints could not be written down");
        }
    }));
    Ok(GdbPolicy::new(policy))
}
