//! A target's port as a bridge needs it: where it is now, what it is called, how BREAK reaches it.

use crate::bridge::{BreakMeans, Dialer, TargetSource, VmEventSource};
use crate::driver::Driver;
use crate::model::{
    Address, Cancel, Deadline, EndpointSpec, FailureKind, HostRef, PortIndex, PortSpec, Problem, Role,
    TargetSpec, Wait,
};
use crate::runner::Runner;
use crate::runner::break_means::break_means;
use crate::runner::qmp_events::QmpEvents;
use crate::session::planning::Hosts;
use crate::session::port_key::PortKey;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the first look for a port's endpoint may take. It only gives the port a second name, so it need not succeed.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// A target's port.
#[derive(Debug)]
pub struct TargetPort {
    /// Its names among vmserial's processes: the target's, and its endpoint's where that is known already.
    pub keys: Vec<PortKey>,
    /// Where it is.
    pub source: TargetSource,
    /// How BREAK reaches its guest: as the profile says, else as the driver knows.
    pub break_means: BreakMeans,
}

/// Asks a driver where a port is, before every dial.
struct DriverDialer {
    driver: Box<dyn Driver>,
    runner: Arc<dyn Runner>,
    target: TargetSpec,
    port: PortIndex,
}

impl DriverDialer {
    fn ask(&self, deadline: Deadline) -> Result<EndpointSpec, Problem> {
        let wait = Wait::new(deadline, Cancel::new(), format!("port {}'s endpoint", self.port));
        let endpoint = self
            .driver
            .locate(&*self.runner, &self.target, self.port, &wait)?;
        let tunnel = self.target.port(self.port).and_then(|port| port.tunnel);
        // What the driver says has the VM's role; we are the other side.
        Ok(endpoint.our_side(&self.target.host, tunnel))
    }
}

impl Dialer for DriverDialer {
    fn locate(&self, deadline: Deadline) -> Result<EndpointSpec, String> {
        self.ask(deadline).map_err(|problem| problem.message)
    }

    fn events(&self) -> Option<VmEventSource> {
        let endpoint = self.driver.events(&self.target, self.port)?;
        Some(VmEventSource {
            endpoint: endpoint.other_side(),
            reader: Box::new(QmpEvents::default()),
        })
    }
}

/// Returns a target's port. Looks at the host once, and does not mind when the VM is off.
///
/// # Errors
///
/// The host or the hypervisor is not served, or where the port is can never be known.
pub fn target_port(hosts: &dyn Hosts, target: &TargetSpec, port: &PortSpec) -> Result<TargetPort, Problem> {
    let runner: Arc<dyn Runner> = Arc::from(hosts.runner(&target.host)?);
    let driver = hosts.driver(target.hypervisor)?;
    let drivers_way = driver.break_with(target, port);
    let dialer = DriverDialer {
        driver,
        runner: Arc::clone(&runner),
        target: target.clone(),
        port: port.port,
    };
    let now = match dialer.ask(Deadline::after(Instant::now(), FIRST_LOOK)) {
        Ok(endpoint) => Some(endpoint),
        Err(problem) if problem.kind == FailureKind::Configuration => return Err(problem),
        Err(_) => None,
    };
    if let (HostRef::Ssh(_), Some(endpoint)) = (&target.host, &now)
        && endpoint.role == Some(Role::Listen)
        && matches!(endpoint.address, Address::Unix(_))
    {
        let message = format!(
            "port {} of `{}` connects to a socket of {}, where nobody of this machine can listen: `{endpoint}`",
            port.port, target.name, target.host
        );
        return Err(Problem::new(FailureKind::Precondition, message).hint(
            "Let the VM listen: `--endpoint listen:unix:/path`, in a profile `attach: \"listen:unix:/path\"`.",
        ));
    }
    let mut keys = vec![PortKey::of_target(target, port.port)];
    keys.extend(now.as_ref().map(PortKey::of_endpoint));
    let native = now.as_ref().map_or(BreakMeans::Own, BreakMeans::native_of);
    Ok(TargetPort {
        keys,
        break_means: match (&port.break_with, native, drivers_way) {
            (Some(way), ..) => break_means(way, runner),
            (None, native @ BreakMeans::By(_), _) => native,
            (None, _, Some(way)) => break_means(&way, runner),
            (None, native, None) => native,
        },
        source: match now {
            // A VM that comes to us needs our listener from the start, and it stays where the VM was told.
            Some(endpoint) if endpoint.role == Some(Role::Listen) => TargetSource::Fixed(endpoint),
            _ => TargetSource::Asked(Arc::new(dialer)),
        },
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::model::{HypervisorKind, Observed, ObservedHost, Policy, RestartPolicy, VmRef};
    use crate::plan::{PlanContext, Stage};
    use crate::runner::local::Local;

    struct Fake(Result<&'static str, FailureKind>);

    impl Driver for Fake {
        fn kind(&self) -> HypervisorKind {
            HypervisorKind::Qemu
        }
        fn capabilities(&self) -> crate::driver::Capabilities {
            unreachable!("not asked")
        }
        fn observe(&self, _: &dyn Runner, _: &[TargetSpec], _: &Wait) -> Result<ObservedHost, Problem> {
            unreachable!("not asked")
        }
        fn stages(&self, _: &TargetSpec, _: &Observed, _: &PlanContext) -> Result<Vec<Stage>, Problem> {
            unreachable!("not asked")
        }
        fn locate(
            &self,
            _: &dyn Runner,
            _: &TargetSpec,
            _: PortIndex,
            _: &Wait,
        ) -> Result<EndpointSpec, Problem> {
            match self.0 {
                Ok(endpoint) => Ok(endpoint.parse().unwrap()),
                Err(kind) => Err(Problem::new(kind, "it is off")),
            }
        }
        fn break_with(&self, _: &TargetSpec, _: &PortSpec) -> Option<crate::model::BreakWith> {
            Some("qmp:/drivers".parse().unwrap())
        }
    }

    struct Hosts(Result<&'static str, FailureKind>);

    impl super::Hosts for Hosts {
        fn runner(&self, _: &HostRef) -> Result<Box<dyn Runner>, Problem> {
            Ok(Box::new(Local::new()))
        }
        fn driver(&self, _: HypervisorKind) -> Result<Box<dyn Driver>, Problem> {
            Ok(Box::new(Fake(self.0)))
        }
    }

    fn target() -> TargetSpec {
        TargetSpec {
            name: "dev".parse().unwrap(),
            host: HostRef::Local,
            hypervisor: HypervisorKind::Qemu,
            vm: VmRef::new("dev"),
            restart: RestartPolicy::Ask,
            ports: vec![PortSpec {
                port: PortIndex::new(1).unwrap(),
                policy: Policy::Console,
                attach: None,
                serve: Vec::new(),
                log: crate::model::LogSpec::default(),
                hold_bytes: 0,
                replay_bytes: 0,
                one_writer: false,
                tunnel: None,
                break_with: None,
                firewall: None,
            }],
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

    #[test]
    fn the_driver_is_asked_and_we_are_the_other_side() {
        let target = target();
        let port = target_port(&Hosts(Ok("listen:unix:/vm")), &target, &target.ports[0]).unwrap();
        let TargetSource::Asked(dialer) = &port.source else {
            panic!("{port:?}");
        };
        let deadline = Deadline::after(Instant::now(), FIRST_LOOK);
        assert_eq!(dialer.locate(deadline).unwrap().to_string(), "connect:unix:/vm");
        assert_eq!(port.break_means.way(), "qmp:/drivers");
        let by_endpoint = PortKey::of_endpoint(&"connect:unix:/vm".parse().unwrap());
        assert_eq!(port.keys[1].id(), by_endpoint.id());
    }

    #[test]
    fn a_vm_that_is_off_still_has_a_port() {
        let target = target();
        let port = target_port(&Hosts(Err(FailureKind::Precondition)), &target, &target.ports[0]).unwrap();
        assert_eq!(port.keys.len(), 1);
        let never = target_port(&Hosts(Err(FailureKind::Configuration)), &target, &target.ports[0]);
        assert_eq!(never.unwrap_err().kind, FailureKind::Configuration);
    }

    #[test]
    fn a_vm_that_comes_to_us_is_listened_for() {
        let target = target();
        let port = target_port(&Hosts(Ok("connect:unix:/vm")), &target, &target.ports[0]).unwrap();
        let TargetSource::Fixed(endpoint) = &port.source else {
            panic!("{port:?}");
        };
        assert_eq!(endpoint.to_string(), "listen:unix:/vm");
    }

    #[test]
    fn the_break_of_the_stream_itself_comes_before_the_drivers_way() {
        let target = target();
        let port = target_port(&Hosts(Ok("listen:telnet:h:1")), &target, &target.ports[0]).unwrap();
        assert_eq!(port.break_means.way(), "telnet");
    }

    #[test]
    fn what_the_profile_says_of_break_comes_first() {
        let mut target = target();
        target.ports[0].break_with = Some("telnet".parse().unwrap());
        let port = target_port(&Hosts(Ok("listen:unix:/vm")), &target, &target.ports[0]).unwrap();
        assert_eq!(port.break_means.way(), "telnet");
    }
}
