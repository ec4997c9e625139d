//! Refuses targets that would fight over the same thing, before anything is observed.

use crate::model::{
    EndpointSpec, FailureKind, HostRef, HypervisorKind, Problem, Role, TargetName, TargetSpec, VmRef,
};
use std::collections::BTreeMap;

/// What only one port or target can have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Vm(HostRef, HypervisorKind, VmRef),
    Port(TargetName, u32),
    /// The address in its canonical spelling, on the host where it lies.
    Endpoint(HostRef, String),
    GdbStub(HostRef, u16),
    Log(std::path::PathBuf),
}

/// Refuses one VM in two targets, one port twice, one endpoint or log for two ports, one TCP port for two gdb stubs.
///
/// # Errors
///
/// Configuration; names all conflicts with both users of each thing.
pub fn check_conflicts(targets: &[TargetSpec]) -> Result<(), Problem> {
    let mut users: BTreeMap<Thing, String> = BTreeMap::new();
    let mut conflicts = Vec::new();
    let mut claim = |thing: Thing, user: String| {
        let what = described(&thing);
        if let Some(first) = users.insert(thing, user.clone()) {
            conflicts.push(if first == user {
                format!("{what} is used twice by {first}")
            } else {
                format!("{what} is used by both {first} and {user}")
            });
        }
    };
    for target in targets {
        claim(
            Thing::Vm(target.host.clone(), target.hypervisor, target.vm.clone()),
            format!("`{}`", target.name),
        );
        if let Some(stub) = &target.gdb_stub {
            claim(
                Thing::GdbStub(target.host.clone(), stub.port),
                format!("the gdb stub of `{}`", target.name),
            );
        }
        for port in &target.ports {
            let user = format!("port {} of `{}`", port.port, target.name);
            claim(
                Thing::Port(target.name.clone(), port.port.number()),
                format!("`{}`", target.name),
            );
            if let Some(address) = port.attach.as_ref().and_then(EndpointSpec::stream_of_one) {
                claim(Thing::Endpoint(target.host.clone(), address), user.clone());
            }
            for client in &port.serve {
                // Served on this machine, whatever the VM's host is.
                let listens = client.endpoint.role != Some(Role::Connect);
                if let Some(address) = client.endpoint.stream_of_one().filter(|_| listens) {
                    claim(Thing::Endpoint(HostRef::Local, address), user.clone());
                }
            }
            for log in [&port.log.raw, &port.log.json].into_iter().flatten() {
                claim(Thing::Log(log.clone()), user.clone());
            }
        }
    }
    if conflicts.is_empty() {
        return Ok(());
    }
    Err(Problem::new(FailureKind::Configuration, conflicts.join("\n    "))
        .hint("Give each its own in the profile."))
}

fn described(thing: &Thing) -> String {
    match thing {
        Thing::Vm(host, _, vm) => format!("the VM `{vm}` on {host}"),
        Thing::Port(_, port) => format!("port {port}"),
        Thing::Endpoint(host, address) => format!("the endpoint `{address}` on {host}"),
        Thing::GdbStub(host, port) => format!("TCP port {port} on {host}"),
        Thing::Log(path) => format!("the log `{}`", path.display()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::model::{GdbStubSpec, Policy, PortIndex, PortSpec, RestartPolicy};

    fn target(name: &str, vm: &str, attach: &[&str]) -> TargetSpec {
        let ports = attach.iter().enumerate().map(|(index, endpoint)| PortSpec {
            port: PortIndex::new(u32::try_from(index).unwrap() + 1).unwrap(),
            policy: Policy::Raw,
            attach: Some(endpoint.parse().unwrap()),
            serve: Vec::new(),
            log: crate::model::LogSpec::default(),
            hold_bytes: 0,
            replay_bytes: 0,
            one_writer: false,
            tunnel: None,
            break_with: None,
            firewall: None,
        });
        TargetSpec {
            name: name.parse().unwrap(),
            host: HostRef::Local,
            hypervisor: HypervisorKind::Vmware,
            vm: VmRef::new(vm),
            restart: RestartPolicy::Ask,
            ports: ports.collect(),
            gdb_stub: None,
            nested: false,
            secure_boot: Default::default(),
            guest: None,
            host_sysrq_off: false,
            start: None,
            debugger: None,
            unserved: Vec::new(),
        }
    }

    fn refused(targets: &[TargetSpec]) -> String {
        check_conflicts(targets).unwrap_err().message
    }

    #[test]
    fn targets_that_share_nothing_pass() {
        let one = target("one", "/1.vmx", &["listen:unix:/1", "listen:tcp:127.0.0.1:0"]);
        let two = target("two", "/2.vmx", &["listen:unix:/2", "listen:tcp:127.0.0.1:0"]);
        assert_eq!(check_conflicts(&[one, two]), Ok(()));
    }

    #[test]
    fn one_vm_has_one_target() {
        let message = refused(&[target("one", "/1.vmx", &[]), target("two", "/1.vmx", &[])]);
        assert_eq!(
            message,
            "the VM `/1.vmx` on this machine is used by both `one` and `two`"
        );
    }

    #[test]
    fn an_endpoint_has_one_port_whatever_the_roles_are() {
        let one = target("one", "/1.vmx", &["listen:unix:/s"]);
        let two = target("two", "/2.vmx", &["connect:unix:/s"]);
        assert_eq!(
            refused(&[one, two]),
            "the endpoint `unix:/s` on this machine is used by both port 1 of `one` and port 1 of `two`"
        );
        let pipes = [
            target("one", "a", &["listen:pipe:Dev"]),
            target("two", "b", &["listen:pipe:dev"]),
        ];
        assert!(refused(&pipes).contains("the endpoint `pipe:dev`"));
        let twice = target("one", "/1.vmx", &["listen:unix:/s", "listen:unix:/s"]);
        assert!(refused(&[twice]).contains("port 1 of `one` and port 2 of `one`"));
    }

    #[test]
    fn what_a_bridge_serves_is_not_another_ports() {
        let mut one = target("one", "/1.vmx", &["listen:unix:/s"]);
        let two = target("two", "/2.vmx", &["listen:tcp:127.0.0.1:7000"]);
        one.ports[0].serve = vec!["listen:tcp:127.0.0.1:7000".parse().unwrap()];
        assert!(refused(&[one, two]).starts_with("the endpoint `tcp:127.0.0.1:7000`"));
    }

    #[test]
    fn two_gdb_stubs_have_two_tcp_ports_and_all_conflicts_are_named() {
        let mut targets = [target("one", "/1.vmx", &[]), target("two", "/1.vmx", &[])];
        for target in &mut targets {
            target.gdb_stub = Some(GdbStubSpec {
                port: 1234,
                stop_at_start: false,
                hide_breakpoints: false,
                allow_remote: false,
            });
        }
        assert_eq!(refused(&targets).lines().count(), 2);
    }
}
