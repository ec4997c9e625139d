//! QEMU without a manager. Three kinds of VM:
//!
//! - one that vmserial starts (`vm: {name: …, start: true, …}`): its arguments are written from the profile, its
//!   sockets lie in `<state>/run/<target>/`, its state is read by QMP;
//! - one that somebody else started and that has a QMP socket (the VM is `qmp:PATH`, or a port has
//!   `break_with: qmp:PATH,id=ID`): a port's backend is changed while it runs (`chardev-change`), the gdb stub is switched by the monitor's `gdbserver`;
//! - one that somebody else starts from a file (the VM is a path): the file is for `-readconfig` and wholly ours.
//!
//! Facts come from runs of QEMU 7.2 and 11.1 (`docs/dev/design.md`) and from qemu(1).

mod live;
mod observe;
mod stages;
mod start;
mod step;

use crate::driver::{Capabilities, Driver};
use crate::model::{
    Address, BreakWith, EndpointSpec, FailureKind, HostPath, HypervisorKind, Observed, ObservedHost,
    PortIndex, PortSpec, Problem, TargetSpec, Wait,
};
use crate::plan::{PlanContext, Stage};
use crate::render::qemu::{MAX_PORTS, RunFiles, config};
use crate::runner::Runner;

/// Names of the facts that observing leaves for planning.
mod fact {
    /// Process identifier of the QEMU that vmserial started.
    pub const PID: &str = "pid";
    /// Its arguments without the program, a JSON list.
    pub const ARGUMENTS: &str = "arguments";
    /// First line of `-version`.
    pub const VERSION: &str = "version";
    /// The program is not installed: its name.
    pub const PROGRAM_MISSING: &str = "program-missing";
    /// A kernel, initrd or disk that is not there.
    pub const FILE_MISSING: &str = "file-missing";
    /// A path for a socket where a regular file is.
    pub const OCCUPIED: &str = "occupied";
    /// Why QMP did not answer although the VM may run.
    pub const QMP_FAILURE: &str = "qmp-failure";
    /// All chardevs of the VM, for messages.
    pub const CHARDEVS: &str = "chardevs";
    /// What `query-chardev` shows for the gdb stub.
    pub const GDB_STUB: &str = "gdb-stub";
}

/// Returns the name of the fact that holds a port's chardev.
fn chardev_fact(port: PortIndex) -> String {
    format!("chardev-{port}")
}

/// The driver.
#[derive(Debug, Clone)]
pub struct Qemu {
    run: HostPath,
}

impl Qemu {
    /// Makes the driver. `run` is the folder below which each target has its run-time files.
    pub fn new(run: HostPath) -> Self {
        Self { run }
    }

    /// Returns where a target that vmserial starts has its files.
    pub fn files(&self, target: &TargetSpec) -> RunFiles {
        RunFiles::new(&self.run, &target.name)
    }

    /// Returns the QMP socket of a target, if it has one.
    pub fn qmp_socket(&self, target: &TargetSpec) -> Option<HostPath> {
        match access(target) {
            Access::Starts => Some(self.files(target).qmp()),
            Access::Qmp(socket) => Some(socket),
            Access::Config(_) | Access::Nothing => None,
        }
    }
}

impl Qemu {
    /// Asks a running VM which chardev a port is; `None` if it has none.
    ///
    /// # Errors
    ///
    /// QMP's.
    pub fn chardev_now(
        runner: &dyn Runner,
        socket: &HostPath,
        port: &PortSpec,
        wait: &Wait,
    ) -> Result<Option<String>, Problem> {
        let seen = observe::chardev_of(runner, socket, port, wait)?;
        Ok(seen.map(|(label, _)| label))
    }
}

/// How a VM can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Access {
    /// We start it.
    Starts,
    /// It runs, with QMP here.
    Qmp(HostPath),
    /// It is started with this file.
    Config(HostPath),
    /// Only its ports' endpoints are known.
    Nothing,
}

/// What the name of a VM begins with that is known by its QMP socket.
pub const QMP_VM: &str = "qmp:";

fn access(target: &TargetSpec) -> Access {
    let named = target.vm.as_str().strip_prefix(QMP_VM).map(HostPath::new);
    let of_port = target.ports.iter().find_map(|port| match &port.break_with {
        Some(BreakWith::Qmp { path, .. }) => Some(HostPath::new(path.to_string_lossy())),
        _ => None,
    });
    match named.or(of_port) {
        _ if target.start.is_some() => Access::Starts,
        Some(socket) => Access::Qmp(socket),
        None if target.vm.as_str().contains('/') => Access::Config(HostPath::new(target.vm.as_str())),
        None => Access::Nothing,
    }
}

/// An endpoint whose address is only known once QEMU has made it.
fn must_be_asked(endpoint: &EndpointSpec) -> bool {
    matches!(
        endpoint.address,
        Address::Pty { .. } | Address::Tcp { port: 0, .. } | Address::Telnet { port: 0, .. }
    )
}

impl Driver for Qemu {
    fn kind(&self) -> HypervisorKind {
        HypervisorKind::Qemu
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_ports: MAX_PORTS,
            needs_power_off: false,
            gdb_stub: true,
            starts_vms: true,
            secure_boot: false,
            named_pipes: false,
        }
    }

    fn observe(
        &self,
        runner: &dyn Runner,
        wanted: &[TargetSpec],
        wait: &Wait,
    ) -> Result<ObservedHost, Problem> {
        let vms = wanted
            .iter()
            .map(|target| observe::vm(self, runner, target, wait))
            .collect::<Result<_, _>>()?;
        Ok(ObservedHost {
            host: runner.host().clone(),
            vms,
            refused: Vec::new(),
            facts: Default::default(),
        })
    }

    fn stages(
        &self,
        wanted: &TargetSpec,
        observed: &Observed,
        context: &PlanContext,
    ) -> Result<Vec<Stage>, Problem> {
        stages::stages(self, wanted, observed, context)
    }

    fn break_with(&self, wanted: &TargetSpec, port: &PortSpec) -> Option<BreakWith> {
        Some(BreakWith::Qmp {
            path: self.qmp_socket(wanted)?.as_local().to_owned(),
            id: chardev_candidates(port).into_iter().next()?,
        })
    }

    fn events(&self, wanted: &TargetSpec, port: PortIndex) -> Option<EndpointSpec> {
        // Only of a VM that we start: a QMP socket that we were given is somebody's, and is never held.
        (access(wanted) == Access::Starts).then(|| self.files(wanted).events(port))
    }

    fn go_on(
        &self,
        runner: &dyn Runner,
        wanted: &TargetSpec,
        wait: &Wait,
    ) -> Result<Option<String>, Problem> {
        match self.qmp_socket(wanted) {
            Some(socket) => observe::go_on(runner, &socket, wait),
            None => Ok(None),
        }
    }

    fn locate(
        &self,
        runner: &dyn Runner,
        wanted: &TargetSpec,
        port: PortIndex,
        wait: &Wait,
    ) -> Result<EndpointSpec, Problem> {
        let spec = wanted.port(port).ok_or_else(|| no_such_port(wanted, port))?;
        let unknown = || {
            Problem::new(
                FailureKind::Configuration,
                format!("where port {port} of the VM `{}` is, is not known", wanted.vm),
            )
            .hint("Write its endpoint as `attach:` in the profile, or the VM's QMP socket as `break_with: qmp:PATH`.")
        };
        let (known, socket) = match access(wanted) {
            Access::Starts => {
                let files = self.files(wanted);
                (Some(files.endpoint(spec)), Some(files.qmp()))
            }
            Access::Qmp(socket) => (spec.attach.clone(), Some(socket)),
            Access::Config(path) => {
                let in_file = || -> Result<Option<EndpointSpec>, Problem> {
                    let Some(file) = runner.read(&path, wait).map_err(observe::host_problem)? else {
                        return Ok(None);
                    };
                    let text = String::from_utf8_lossy(&file.bytes).into_owned();
                    Ok(config::parse(path.as_str(), &text)?.remove(&port))
                };
                let known = match spec.attach.clone() {
                    Some(endpoint) => Some(endpoint),
                    None => in_file()?,
                };
                (known, None)
            }
            Access::Nothing => (spec.attach.clone(), None),
        };
        match (known, socket) {
            (Some(endpoint), _) if !must_be_asked(&endpoint) => Ok(endpoint),
            (_, Some(socket)) => observe::port_now(runner, &socket, spec, wait)?.ok_or_else(unknown),
            _ => Err(unknown()),
        }
    }
}

fn no_such_port(target: &TargetSpec, port: PortIndex) -> Problem {
    Problem::new(
        FailureKind::NotFound,
        format!("the target `{}` has no port {port}", target.name),
    )
}

/// Returns the names under which QEMU may have a port's chardev, likeliest first: as `break_with` says, as vmserial
/// writes it, as `-serial` without a chardev makes it, as libvirt writes it.
fn chardev_candidates(port: &PortSpec) -> Vec<String> {
    let number = port.port.zero_based();
    let mut names = Vec::new();
    if let Some(BreakWith::Qmp { id, .. }) = &port.break_with
        && id != crate::model::break_with::DEFAULT_CHARDEV
    {
        names.push(id.clone());
    }
    names.extend([
        format!("ser{number}"),
        format!("serial{number}"),
        format!("charserial{number}"),
    ]);
    names
}

#[cfg(test)]
mod tests;
