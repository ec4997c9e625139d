//! Ports of a guest that its commands speak through or listen to.

use crate::bridge::TargetSource;
use crate::cli::error::Failure;
use crate::cli::port::{here, usage};
use crate::cli::target::GuestTarget;
use crate::model::{EndpointSpec, FailureKind, Policy, Problem};
use crate::session::PortKey;
use crate::session::planning::RealHosts;
use crate::session::port_ear::PortToHear;
use crate::session::target_port::target_port;

/// Returns the endpoint as the journal keeps it: an undo may run in another folder.
///
/// # Errors
///
/// It is no endpoint of a VM.
pub fn serial_endpoint(endpoint: &EndpointSpec) -> Result<EndpointSpec, Failure> {
    let current = std::env::current_dir()?;
    let home = etcetera::home_dir().ok();
    let endpoint = endpoint.resolved(&current, home.as_deref()).map_err(usage)?;
    endpoint.check_as_target().map_err(usage)?;
    Ok(endpoint)
}

/// Returns a port to listen to: the endpoint that is named, else the target's port for the debugger.
///
/// # Errors
///
/// Usage: neither is there, or it is no endpoint of a VM.
pub fn port_to_hear(
    word: &str,
    target: Option<&GuestTarget>,
    hosts: &RealHosts,
) -> Result<PortToHear, Failure> {
    if word.is_empty() {
        let spec = target.map(|target| &target.spec);
        let port = spec.and_then(|spec| spec.debug_port().map(|port| (spec, port)));
        let (spec, port) = port.ok_or_else(|| {
            Problem::new(
                FailureKind::Usage,
                "`--find` needs the port's endpoint, or a target with a port for a debugger",
            )
        })?;
        let place = target_port(hosts, spec, port)?;
        return Ok(PortToHear {
            keys: place.keys,
            source: place.source,
            policy: Policy::Console,
        });
    }
    let endpoint: EndpointSpec = word.parse().map_err(usage)?;
    let endpoint = here(&endpoint).map_err(usage)?;
    endpoint.check_as_target().map_err(usage)?;
    Ok(PortToHear {
        keys: vec![PortKey::of_endpoint(&endpoint)],
        source: TargetSource::Fixed(endpoint),
        policy: Policy::Console,
    })
}
