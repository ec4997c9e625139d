//! The bridges of a target's ports, started in this process.

use crate::bridge::{
    BreakMeans, BreakPort, BridgeHandle, BridgeSpec, Dialer, RunningBridge, Signals, TargetSource,
};
use crate::debugger::gdb::GdbAddress;
use crate::model::{
    Address, BreakWith, Cancel, ClientPrefix, ClientSpec, Deadline, EndpointSpec, FailureKind, Policy,
    PortIndex, PortSpec, Problem, Role, TargetSpec, Wait,
};
use crate::runner::break_means::break_means;
use crate::session::planning::Hosts;
use crate::session::port_key::PortKey;
use crate::session::serve::start_owned;
use std::path::Path;
use std::sync::Arc;

/// Asks the driver where a port is, before every dial.
struct DriverDialer {
    hosts: Arc<dyn Hosts + Send + Sync>,
    target: TargetSpec,
    port: PortIndex,
}

impl Dialer for DriverDialer {
    fn locate(&self, deadline: Deadline) -> Result<EndpointSpec, String> {
        locate(self.hosts.as_ref(), &self.target, self.port, deadline).map_err(|problem| problem.message)
    }
}

/// Returns where a port's stream is now, with our role.
///
/// # Errors
///
/// The driver's words: the VM does not run, the port is not set up.
pub fn locate(
    hosts: &dyn Hosts,
    target: &TargetSpec,
    port: PortIndex,
    deadline: Deadline,
) -> Result<EndpointSpec, Problem> {
    let driver = hosts.driver(target.hypervisor)?;
    let runner = hosts.runner(&target.host)?;
    let wait = Wait::new(
        deadline,
        Cancel::new(),
        format!("the place of port {port} of `{}`", target.name),
    );
    Ok(driver.locate(runner.as_ref(), target, port, &wait)?.other_side())
}

/// Returns how BREAK reaches a port's guest: as the profile says, else the driver's own way.
///
/// # Errors
///
/// The way is not served yet.
pub fn means_of_break(
    hosts: &dyn Hosts,
    target: &TargetSpec,
    port: &PortSpec,
) -> Result<BreakMeans, Problem> {
    let wanted = match &port.break_with {
        Some(wanted) => Some(wanted.clone()),
        None => hosts.driver(target.hypervisor)?.break_with(target, port.port),
    };
    let runner: Arc<dyn crate::runner::Runner> = Arc::from(hosts.runner(&target.host)?);
    break_means(&wanted.unwrap_or(BreakWith::None), runner)
}

/// Describes the bridge of one port as the profile wants it.
///
/// # Errors
///
/// See [`means_of_break`].
pub fn specification(
    hosts: &Arc<dyn Hosts + Send + Sync>,
    target: &TargetSpec,
    port: &PortSpec,
    clients: Vec<ClientSpec>,
) -> Result<BridgeSpec, Problem> {
    let dialer = DriverDialer {
        hosts: Arc::clone(hosts),
        target: target.clone(),
        port: port.port,
    };
    let mut spec = BridgeSpec::new(TargetSource::Asked(Arc::new(dialer)), clients, port.policy);
    spec.break_means = means_of_break(hosts.as_ref(), target, port)?;
    spec.hold_bytes = port.hold_bytes;
    spec.replay_bytes = port.replay_bytes;
    if let Some(log) = &port.log {
        if let Some(folder) = log.parent() {
            std::fs::create_dir_all(folder).map_err(|error| {
                Problem::new(
                    FailureKind::Host,
                    format!("cannot make the log's folder `{}`: {error}", folder.display()),
                )
            })?;
        }
        spec.log = Some(log.clone());
    }
    Ok(spec)
}

/// The running bridges of a debug session.
#[derive(Debug)]
pub struct TargetBridges {
    /// The console's port, if the target has one of its own.
    pub console: Option<RunningBridge>,
    /// The debugger's port.
    pub debug: RunningBridge,
    /// Where gdb finds the kernel.
    pub address: GdbAddress,
}

impl TargetBridges {
    /// Ends the bridges and waits for their end: the debugger's first, because it may free the kernel through the
    /// console's.
    pub fn stop(self) {
        for bridge in std::iter::once(self.debug).chain(self.console) {
            // One that has ended already needs no word.
            let _ = bridge.handle.stop("the session ended").wait();
            bridge.join();
        }
    }
}

/// Starts the bridges that a debug session needs: the console's, and the debugger's with its break-in through it.
///
/// # Errors
///
/// The target has no port for gdb, its policy is not served yet, a port is owned by another vmserial, a listener's
/// address is in use.
pub fn start(
    hosts: &Arc<dyn Hosts + Send + Sync>,
    target: &TargetSpec,
    state: &Path,
    leave_stopped: bool,
) -> Result<TargetBridges, Problem> {
    let port = target.debug_port().ok_or_else(|| {
        Problem::new(
            FailureKind::Configuration,
            format!("`{}` has no port for a debugger", target.name),
        )
        .hint("Give one of its ports `as: gdb`.")
    })?;
    if port.policy != Policy::Gdb {
        return Err(Problem::new(
            FailureKind::Precondition,
            format!(
                "`{}`: a debug session on a port with `as: {}` is not served yet",
                target.name, port.policy
            ),
        )
        .hint("Give kgdb a port of its own: `as: gdb`, and in the guest `kgdboc=` with that port."));
    }
    let console = match target.console_port() {
        Some(console) => {
            let spec = specification(hosts, target, console, console.serve.clone())?;
            Some(owned(state, target, console, spec)?)
        }
        None => None,
    };
    let clients = if port.serve.is_empty() {
        vec![default_client()]
    } else {
        port.serve.clone()
    };
    let mut spec = specification(hosts, target, port, clients)?;
    spec.leave_stopped = leave_stopped;
    spec.free_when_debugger_dies = !leave_stopped;
    if let Some(console) = &console {
        spec.break_port = BreakPort::Owner(Arc::new(console.handle.clone()));
    }
    let clients = spec.clients.clone();
    let started = owned(state, target, port, spec).and_then(|debug| {
        let address = address(&clients, &debug.listening).ok_or_else(|| {
            Problem::new(
                FailureKind::Configuration,
                "gdb cannot reach any of the endpoints that the debug port serves",
            )
            .hint("Serve one of `gdb=listen:tcp:127.0.0.1:0`, `gdb=listen:unix:/path`, `gdb=pty`.")
        });
        Ok((debug, address?))
    });
    match started {
        Ok((debug, address)) => Ok(TargetBridges {
            console,
            debug,
            address,
        }),
        Err(problem) => {
            if let Some(console) = console {
                let _ = console.handle.stop("the session did not start").wait();
                console.join();
            }
            Err(problem)
        }
    }
}

fn owned(
    state: &Path,
    target: &TargetSpec,
    port: &PortSpec,
    spec: BridgeSpec,
) -> Result<RunningBridge, Problem> {
    let mut keys = vec![PortKey::of_target(target, port.port)];
    keys.extend(port.attach.as_ref().map(PortKey::of_endpoint));
    start_owned(state, &keys, spec, Signals::LeftAlone)
}

/// gdb on a free TCP port of this machine.
fn default_client() -> ClientSpec {
    let address = Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port: 0,
    };
    ClientSpec {
        prefix: Some(ClientPrefix::Gdb),
        endpoint: EndpointSpec::new(Some(Role::Listen), address),
    }
}

/// Returns the first served endpoint that gdb can open.
fn address(clients: &[ClientSpec], listening: &[String]) -> Option<GdbAddress> {
    clients.iter().zip(listening).find_map(|(client, served)| {
        if !matches!(client.prefix, None | Some(ClientPrefix::Gdb)) {
            return None;
        }
        let served: EndpointSpec = served.parse().ok()?;
        match (served.role, served.address) {
            (Some(Role::Listen), Address::Tcp { host, port }) => {
                let host = if host == "0.0.0.0" || host == "::" {
                    "127.0.0.1".to_owned()
                } else {
                    host
                };
                Some(GdbAddress::Tcp(if host.contains(':') {
                    format!("[{host}]:{port}")
                } else {
                    format!("{host}:{port}")
                }))
            }
            (Some(Role::Listen), Address::Unix(path)) => Some(GdbAddress::Unix(path)),
            (None, Address::Pty { link: Some(path) }) => Some(GdbAddress::Tty(path, 115_200)),
            _ => None,
        }
    })
}

/// Returns the handles of a session's bridges.
pub fn handles(bridges: &TargetBridges) -> (Option<BridgeHandle>, BridgeHandle) {
    (
        bridges.console.as_ref().map(|bridge| bridge.handle.clone()),
        bridges.debug.handle.clone(),
    )
}
