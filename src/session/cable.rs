//! Two VMs' ports joined by one bridge, which outlives the reboots of both.

use crate::bridge::{BridgeSpec, JoinedVm, TargetSource};
use crate::model::join::{JoinEnd, JoinSpec};
use crate::model::{FailureKind, PortSpec, Problem, TargetSpec};
use crate::session::planning::Hosts;
use crate::session::port_key::PortKey;
use crate::session::target_port::target_port;

/// A cable, ready to be started.
#[derive(Debug)]
pub struct Cable {
    /// Its ends, for people.
    pub name: String,
    /// The names of both ports among vmserial's processes.
    pub keys: Vec<PortKey>,
    /// Its bridge: the debugged VM is the target, the debugger's the client.
    pub spec: BridgeSpec,
}

/// Makes the cable of two targets' ports.
///
/// # Errors
///
/// Not found: a port that no target has. See [`target_port`].
pub fn cable(hosts: &dyn Hosts, targets: &[TargetSpec], join: &JoinSpec) -> Result<Cable, Problem> {
    let (a, a_port) = end(targets, &join.a)?;
    let (b, b_port) = end(targets, &join.b)?;
    let (near, far) = (target_port(hosts, a, a_port)?, target_port(hosts, b, b_port)?);
    let mut spec = BridgeSpec::new(far.source, Vec::new(), join.policy);
    spec.break_means = far.break_means;
    spec.log.clone_from(&b_port.log);
    spec.hold_bytes = b_port.hold_bytes;
    spec.joined = Some(JoinedVm {
        name: format!("port {} of {}", a_port.port, a.name),
        source: near.source,
    });
    Ok(Cable {
        name: join.to_string(),
        keys: far.keys.into_iter().chain(near.keys).collect(),
        spec,
    })
}

/// Returns where we listen for the VMs themselves, which do not start while nobody does.
pub fn listened_for(cable: &Cable) -> Vec<String> {
    let joined = cable.spec.joined.iter().map(|vm| &vm.source);
    std::iter::once(&cable.spec.target)
        .chain(joined)
        .filter_map(|source| match source {
            TargetSource::Fixed(endpoint) => Some(endpoint.to_string()),
            TargetSource::Asked(_) => None,
        })
        .collect()
}

fn end<'t>(targets: &'t [TargetSpec], end: &JoinEnd) -> Result<(&'t TargetSpec, &'t PortSpec), Problem> {
    let target = targets.iter().find(|target| target.name == end.target);
    let found = target.and_then(|target| Some((target, target.port(end.port)?)));
    found.ok_or_else(|| Problem::new(FailureKind::NotFound, format!("there is no port `{end}`")))
}
