//! The bridges of a target's ports, started in this process.

use crate::bridge::{BreakPort, BridgeHandle, BridgeSpec, RunningBridge, Signals};
use crate::debugger::gdb::GdbAddress;
use crate::model::{
    Address, ClientPrefix, ClientSpec, EndpointSpec, FailureKind, Policy, PortSpec, Problem, Role, TargetSpec,
};
use crate::session::planning::Hosts;
use crate::session::serve::start_owned;
use crate::session::target_port::{TargetPort, target_port};
use std::path::Path;
use std::sync::Arc;

/// Describes the bridge of one port as the profile wants it.
pub(super) fn specification(
    port: &PortSpec,
    place: &TargetPort,
    clients: Vec<ClientSpec>,
) -> Result<BridgeSpec, Problem> {
    let mut spec = BridgeSpec::new(place.source.clone(), clients, port.policy);
    spec.break_means = place.break_means.clone();
    spec.hold_bytes = port.hold_bytes;
    spec.replay_bytes = port.replay_bytes;
    spec.one_writer = port.one_writer;
    for log in [&port.log.raw, &port.log.json].into_iter().flatten() {
        if let Some(folder) = log.parent() {
            std::fs::create_dir_all(folder).map_err(|error| {
                Problem::new(
                    FailureKind::Host,
                    format!("cannot make the log's folder `{}`: {error}", folder.display()),
                )
            })?;
        }
    }
    spec.log.clone_from(&port.log);
    Ok(spec)
}

/// The running bridges of a debug session.
#[derive(Debug)]
pub struct TargetBridges {
    /// The console's port, if the target has one of its own.
    pub console: Option<RunningBridge>,
    /// The debugger's port; `None` when gdb is attached to the hypervisor's stub straight.
    pub debug: Option<RunningBridge>,
    /// The debugger's port is the console's too.
    pub shared: bool,
    /// Where gdb finds the kernel.
    pub address: GdbAddress,
}

impl TargetBridges {
    /// Returns whoever shows the console and types on it.
    pub fn console_handle(&self) -> Option<BridgeHandle> {
        let of = |bridge: &RunningBridge| bridge.handle.clone();
        match &self.console {
            Some(console) => Some(of(console)),
            None => self.debug.as_ref().filter(|_| self.shared).map(of),
        }
    }

    /// Ends the bridges and waits for their end: the debugger's first, because it may free the kernel through the
    /// console's.
    pub fn stop(self) {
        for bridge in self.debug.into_iter().chain(self.console) {
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
    hosts: &dyn Hosts,
    target: &TargetSpec,
    state: &Path,
    leave_stopped: bool,
) -> Result<TargetBridges, Problem> {
    if let Some(stub) = &target.gdb_stub {
        return Ok(TargetBridges {
            console: console(hosts, target, state)?,
            debug: None,
            shared: false,
            address: GdbAddress::Tcp(format!("127.0.0.1:{}", stub.port)),
        });
    }
    let port = target.debug_port().ok_or_else(|| {
        Problem::new(
            FailureKind::Configuration,
            format!("`{}` has no port for a debugger", target.name),
        )
        .hint("Give one of its ports `as: gdb`, or `as: console+gdb` if kgdb shares it with the console.")
    })?;
    let shared = port.policy == Policy::ConsoleGdb;
    if port.policy != Policy::Gdb && !shared {
        return Err(Problem::new(
            FailureKind::Precondition,
            format!(
                "`{}`: a debug session on a port with `as: {}` is not served yet",
                target.name, port.policy
            ),
        )
        .hint("Serve the port with `vmserial bridge` and start the debugger yourself."));
    }
    let console = if shared {
        None
    } else {
        console(hosts, target, state)?
    };
    let mut clients = port.serve.clone();
    if clients.is_empty() || (shared && !clients.iter().any(|client| is_gdbs(client, shared))) {
        clients.push(default_client());
    }
    let place = target_port(hosts, target, port)?;
    let mut spec = specification(port, &place, clients)?;
    spec.leave_stopped = leave_stopped;
    spec.free_when_debugger_dies = !leave_stopped;
    if let Some(console) = &console {
        spec.break_port = BreakPort::Owner(Arc::new(console.handle.clone()));
    }
    let clients = spec.clients.clone();
    let started = start_owned(state, &place.keys, spec, Signals::LeftAlone).and_then(|debug| {
        let address = address(&clients, &debug.listening, shared).ok_or_else(|| {
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
            debug: Some(debug),
            shared,
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

/// Starts the console's bridge, if the target has a console.
fn console(hosts: &dyn Hosts, target: &TargetSpec, state: &Path) -> Result<Option<RunningBridge>, Problem> {
    let Some(console) = target.console_port() else {
        return Ok(None);
    };
    let place = target_port(hosts, target, console)?;
    let spec = specification(console, &place, console.serve.clone())?;
    start_owned(state, &place.keys, spec, Signals::LeftAlone).map(Some)
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

/// Returns where the bridge of another vmserial serves gdb, by what it says of itself.
pub fn served_address(listening: &[String]) -> Option<GdbAddress> {
    let clients = vec![default_client(); listening.len()];
    address(&clients, listening, false)
}

/// Tells whether an endpoint is gdb's: on a port that it shares with the console it is named so.
fn is_gdbs(client: &ClientSpec, shared: bool) -> bool {
    client.prefix == Some(ClientPrefix::Gdb) || (client.prefix.is_none() && !shared)
}

/// Returns the first served endpoint that gdb can open.
fn address(clients: &[ClientSpec], listening: &[String], shared: bool) -> Option<GdbAddress> {
    clients.iter().zip(listening).find_map(|(client, served)| {
        if !is_gdbs(client, shared) {
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
