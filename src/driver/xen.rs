//! Xen: VMs of XenServer and XCP-ng through xapi's `xe`, and plain ones through `xl`. Which of both a host has is asked.
//!
//! Facts (xapi `xapi_xenops.ml`, xenopsd `device.ml` and `qemu-wrapper`, xapi CLI sources, XCP-ng's documentation; Xen
//! `xl.cfg(5)`, `libxl_dm.c`, `libxl_console.c`):
//!
//! - xapi has one port, COM1: `platform:hvm_serial`, else `other-config:hvm_serial`, else `pty`. The value goes to QEMU's
//!   `-serial` as it is. QEMU runs in an empty network namespace unless the value begins with `tcp`, and chrooted;
//! - xl has `serial=` in the VM's file, a string or a list with one device for each port;
//! - a `pty` is published in xenstore at `/local/domain/DOMID/serial/N/tty`, for both, and moves at every start;
//! - `platform:secureboot` counts for VMs with `HVM-boot-params:firmware=uefi`: xapi makes of `auto` what the pool's certificates
//!   say, and the firmware's helper (varstored, uefistored) reads `/local/domain/DOMID/platform/secureboot`, where nothing but
//!   `true` switches it on;
//! - a port is QEMU's, so it changes when the VM is shut down and started; only HVM guests have one.

mod device;
mod doctor;
mod memory;
mod port;
mod records;
mod secure_boot;
mod xapi;
mod xapi_stages;
mod xe;
mod xl;
mod xl_stages;

use crate::driver::{Capabilities, Driver};
use crate::model::{
    Address, Check, EndpointSpec, FailureKind, HostRef, HypervisorKind, Observed, ObservedHost, PortIndex,
    Problem, Role, TargetSpec, Wait,
};
use crate::plan::{PlanContext, Stage};
use crate::runner::Runner;

/// Names of the facts that observing leaves for planning.
mod fact {
    /// `xapi` or `xl`.
    pub const TOOLSTACK: &str = "toolstack";
    /// xapi's identifier of the VM.
    pub const UUID: &str = "uuid";
    /// The domain while the VM runs.
    pub const DOMAIN: &str = "domain";
    /// Why the VM can have no port.
    pub const NO_PORT: &str = "no-port";
    /// Value of `platform:hvm_serial`.
    pub const SERIAL: &str = "platform:hvm_serial";
    /// Value of `other-config:hvm_serial`.
    pub const OTHER_SERIAL: &str = "other-config:hvm_serial";
    /// Value of `platform:secureboot`; `absent` where a VM with UEFI has none. Only of VMs with UEFI.
    pub const SECURE_BOOT: &str = "platform:secureboot";
    /// `true` or `false`: what the firmware of a VM that runs was told at its start.
    pub const SECURE_BOOT_LIVE: &str = "secure-boot-live";
    /// Value of our mark.
    pub const MARK: &str = "other-config:vmserial";
    /// The host on which a VM of a pool starts.
    pub const AFFINITY: &str = "affinity";
    /// The host on which it runs, if it is another one, for people.
    pub const ELSEWHERE: &str = "elsewhere";
    /// This host's identifier, in a pool of several.
    pub const POOL_HOST: &str = "pool-host";
    /// Who has which TCP port on this host: `PORT NAME` lines.
    pub const TAKEN: &str = "taken";
    /// The wanted ports that a running VM does not have yet, by number.
    pub const NOT_LIVE: &str = "not-live";
    /// The wanted ports that connect to a socket on which somebody listens, by number.
    pub const HEARD: &str = "heard";
    /// What a running VM's name is for xl.
    pub const NAME: &str = "name";
}

const XAPI: &str = "xapi";
const XL: &str = "xl";

/// Serial ports of an x86 PC.
const MAX_PORTS: u32 = 4;

/// The driver.
#[derive(Debug, Default)]
pub struct Xen {
    xapi: memory::Memory<xapi::Known>,
    xl: memory::Memory<xl::Known>,
}

impl Xen {
    /// Makes the driver.
    pub fn new() -> Self {
        Self::default()
    }
}

/// The endpoint that a port shall have: as it is wanted, else as it is, else a pseudo terminal of the host. A socket of
/// another host that the VM connects to is turned round: nobody here can listen there.
fn wanted_endpoint(target: &TargetSpec, port: PortIndex, present: Option<EndpointSpec>) -> EndpointSpec {
    let attach = target.port(port).and_then(|spec| spec.attach.clone());
    attach
        .or_else(|| {
            let mut present = present?;
            if target.host != HostRef::Local && matches!(present.address, Address::Unix(_)) {
                present.role = Some(Role::Listen);
            }
            Some(present)
        })
        .unwrap_or_else(|| EndpointSpec::new(None, Address::Pty { link: None }))
}

fn no_toolstack(runner: &dyn Runner) -> Problem {
    Problem::new(
        FailureKind::NotFound,
        format!("neither `xe` nor `xl` was found on {}", runner.host()),
    )
    .hint("Name the Xen host with `--host root@HOST`; its VMs are set up in its own system (dom0).")
}

impl Driver for Xen {
    fn kind(&self) -> HypervisorKind {
        HypervisorKind::Xen
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_ports: MAX_PORTS,
            needs_power_off: false,
            gdb_stub: false,
            starts_vms: false,
            secure_boot: true,
            named_pipes: false,
        }
    }

    fn observe(
        &self,
        runner: &dyn Runner,
        wanted: &[TargetSpec],
        wait: &Wait,
    ) -> Result<ObservedHost, Problem> {
        match xe::vms(runner, wait)? {
            Some(vms) => xapi::host(runner, wanted, &vms, wait),
            None => xl::host(runner, wanted, wait),
        }
    }

    fn stages(
        &self,
        wanted: &TargetSpec,
        observed: &Observed,
        context: &PlanContext,
    ) -> Result<Vec<Stage>, Problem> {
        if wanted.gdb_stub.is_some() || wanted.nested {
            return Err(Problem::new(
                FailureKind::Precondition,
                format!(
                    "`{}`: Xen has no gdb stub and no switch for nested virtualization here",
                    wanted.name
                ),
            ));
        }
        match observed.facts.get(fact::TOOLSTACK).map(String::as_str) {
            Some(XAPI) => xapi_stages::stages(wanted, observed, context),
            _ => xl_stages::stages(wanted, observed, context),
        }
    }

    fn doctor(&self, runner: &dyn Runner, wait: &Wait) -> Vec<Check> {
        doctor::checks(runner, wait)
    }

    fn locate(
        &self,
        runner: &dyn Runner,
        wanted: &TargetSpec,
        port: PortIndex,
        wait: &Wait,
    ) -> Result<EndpointSpec, Problem> {
        // A VM that xl has was found there before: `xe` is not looked for again.
        if self.xl.get(wanted).is_none()
            && let Some(endpoint) = xapi::locate(runner, wanted, port, &self.xapi, wait)?
        {
            return Ok(endpoint);
        }
        xl::locate(runner, wanted, port, &self.xl, wait)
    }
}

#[cfg(test)]
mod tests;
