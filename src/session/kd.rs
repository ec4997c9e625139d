//! A debug session on a Windows kernel: the bridge of its KD port, and WinDbg or kd on it where there is one. KD's own
//! protocol breaks the kernel in, so that nothing is done for it here.

use crate::bridge::{Event, RunningBridge, Signals};
use crate::debugger::windbg::{self, KdAddress};
use crate::model::{
    Address, ClientSpec, DebuggerSpec, EndpointSpec, FailureKind, Policy, Problem, Role, TargetSpec,
};
use crate::runner::foreground::{self, Foreground, Input};
use crate::runner::{Status, sys};
use crate::session::Front;
use crate::session::bridges::specification;
use crate::session::events::{SessionEvent, SessionEvents};
use crate::session::planning::Hosts;
use crate::session::serve::start_owned;
use crate::session::target_port::target_port;
use std::path::Path;

/// A KD port that is served.
#[derive(Debug)]
pub struct KdBridge {
    /// The bridge.
    pub bridge: RunningBridge,
    /// Where a debugger finds the kernel.
    pub address: KdAddress,
}

/// Starts the bridge of a target's KD port.
///
/// # Errors
///
/// The target has no such port, it is owned by another vmserial, a listener's address is in use.
pub fn start(hosts: &dyn Hosts, target: &TargetSpec, state: &Path) -> Result<KdBridge, Problem> {
    let port = target
        .ports
        .iter()
        .find(|port| port.policy == Policy::Kd)
        .ok_or_else(|| {
            Problem::new(
                FailureKind::Configuration,
                format!("`{}` has no port for WinDbg or kd", target.name),
            )
            .hint("Give one of its ports `as: kd`.")
        })?;
    let mut clients = port.serve.clone();
    if clients.is_empty() {
        clients.push(default_client(target));
    }
    let place = target_port(hosts, target, port)?;
    let bridge = start_owned(
        state,
        &place.keys,
        specification(port, &place, clients)?,
        Signals::LeftAlone,
    )?;
    match bridge.listening.iter().find_map(|served| address(served)) {
        Some(address) => Ok(KdBridge { bridge, address }),
        None => {
            let _ = bridge.handle.stop("the session did not start").wait();
            bridge.join();
            Err(Problem::new(
                FailureKind::Configuration,
                "WinDbg and kd can reach none of the endpoints that the debug port serves",
            )
            .hint("Serve `listen:tcp:127.0.0.1:0`, or on Windows `listen:pipe:NAME`."))
        }
    }
}

/// A pipe where there are any, else a free TCP port of this machine.
fn default_client(target: &TargetSpec) -> ClientSpec {
    let address = if sys::HAS_NAMED_PIPES {
        Address::Pipe {
            host: None,
            name: format!("{}-user", target.name),
        }
    } else {
        Address::Tcp {
            host: "127.0.0.1".to_owned(),
            port: 0,
        }
    };
    ClientSpec {
        prefix: None,
        endpoint: EndpointSpec::new(Some(Role::Listen), address),
    }
}

/// Returns a served endpoint as a debugger is told it.
fn address(served: &str) -> Option<KdAddress> {
    let served: EndpointSpec = served.parse().ok()?;
    match (served.role, served.address) {
        (Some(Role::Listen), Address::Tcp { host, port }) => {
            let host = match host.as_str() {
                "0.0.0.0" | "::" => "127.0.0.1".to_owned(),
                _ => host,
            };
            Some(KdAddress::Tcp { host, port })
        }
        (Some(Role::Listen), Address::Pipe { host: None, name }) => Some(KdAddress::Pipe(name)),
        _ => None,
    }
}

/// Returns the debugger's program, if it is here.
pub fn find(debugger: &DebuggerSpec) -> Option<&str> {
    windbg::programs(debugger)
        .into_iter()
        .find(|program| foreground::find(program).is_ok())
}

/// Runs the debugger to its end; without one, serves until it is told to end.
///
/// # Errors
///
/// The debugger failed or the bridge ended: host. Ctrl-C without a debugger in front: interrupted.
pub fn run(
    program: Option<&str>,
    port: &KdBridge,
    arguments: &[String],
    events: &SessionEvents,
    front: &mut dyn Front,
) -> Result<(), Problem> {
    watch(port, events);
    let mut child = None;
    if let Some(program) = program {
        let command = windbg::invocation(program, &port.address, arguments);
        front.status(&format!("Starting `{command}`"));
        let sender = events.sender();
        child = Some(Foreground::start(&command, Input::Child, move |status| {
            sender.send(SessionEvent::DebuggerEnded(status));
        })?);
    }
    loop {
        match (events.next(), &child) {
            (SessionEvent::DebuggerEnded(Ok(Status::Exited(0))), _) => return Ok(()),
            (SessionEvent::DebuggerEnded(status), _) => {
                let how = status.map_or_else(
                    |error| format!("cannot be waited for: {error}"),
                    |status| status.to_string(),
                );
                return Err(Problem::new(FailureKind::Host, format!("the debugger {how}")));
            }
            (SessionEvent::BridgeEnded(reason), child) => {
                if let Some(child) = child {
                    child.kill();
                }
                return Err(Problem::new(
                    FailureKind::Host,
                    format!("the bridge ended: {reason}"),
                ));
            }
            (SessionEvent::Terminate, Some(child)) => child.terminate().unwrap_or_else(|_| child.kill()),
            (SessionEvent::Terminate, None) => return Ok(()),
            // With kd in front it is kd's: it breaks the kernel in.
            (SessionEvent::Interrupt, None) => {
                return Err(Problem::new(FailureKind::Interrupted, "interrupted"));
            }
            _ => {}
        }
    }
}

fn watch(port: &KdBridge, events: &SessionEvents) {
    let mut told = port.bridge.handle.events();
    let sender = events.sender();
    events.spawn("kd-watch", move || {
        loop {
            match told.blocking_recv() {
                Ok(record) => {
                    if let Event::Stopped { reason, .. } = &record.event {
                        sender.send(SessionEvent::BridgeEnded(reason.clone()));
                        return;
                    }
                }
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_served_is_told_as_the_debuggers_want_it() {
        let tcp = |host: &str| {
            Some(KdAddress::Tcp {
                host: host.to_owned(),
                port: 7001,
            })
        };
        for (served, expected) in [
            ("listen:tcp:0.0.0.0:7001", tcp("127.0.0.1")),
            ("listen:tcp:10.0.0.5:7001", tcp("10.0.0.5")),
            (
                "listen:pipe:win-user",
                Some(KdAddress::Pipe("win-user".to_owned())),
            ),
            ("pty", None),
            ("listen:unix:/x", None),
        ] {
            assert_eq!(address(served), expected, "{served}");
        }
    }
}
