//! What the scripts answer, and what observing leaves of it for planning.

use crate::model::{Address, EndpointSpec, FailureKind, Observed, PowerState, Problem, Role};
use serde::{Deserialize, Serialize};

/// The name of the fact that holds [`VmFacts`].
pub(super) const VM: &str = "hyperv";

/// The answer of the script that looks at a host.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct HostAnswer {
    /// The host's own name.
    pub computer: String,
    /// Who asked.
    pub user: String,
    /// Whether who asked is elevated.
    pub elevated: bool,
    /// Whether who asked is in "Hyper-V Administrators".
    pub hyperv_administrator: bool,
    /// What was asked for, in its order.
    pub vms: Vec<Wanted>,
    /// COM ports of all VMs of the host.
    pub ports: Vec<ComPort>,
}

impl HostAnswer {
    /// Tells whether who asked may manage VMs.
    pub(super) fn may_manage(&self) -> bool {
        self.elevated || self.hyperv_administrator
    }
}

/// A VM that was asked for.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Wanted {
    /// The VMs that it may mean: names are not unique.
    pub found: Vec<Vm>,
}

/// A VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Vm {
    /// Its GUID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `Running`, `Off`, `Saved` …
    pub state: String,
    /// 1 or 2.
    pub generation: u32,
    /// `On` or `Off`; none in generation 1.
    pub secure_boot: Option<String>,
    /// `MicrosoftWindows`, `MicrosoftUEFICertificateAuthority` …
    pub secure_boot_template: Option<String>,
    /// Whether it has a virtual TPM, by which BitLocker measures; none where the host would not say.
    #[serde(default)]
    pub tpm: Option<bool>,
}

impl Vm {
    /// Returns what its state is for us. All others are on their way from one of these to another.
    pub(super) fn power(&self) -> PowerState {
        match self.state.as_str() {
            "Running" => PowerState::Running,
            "Off" => PowerState::Off,
            "Paused" => PowerState::Paused,
            "Saved" | "FastSaved" => PowerState::Suspended,
            _ => PowerState::Unknown,
        }
    }
}

/// A COM port of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ComPort {
    /// GUID of its VM.
    pub vm: String,
    /// Name of its VM.
    pub name: String,
    /// From 1.
    pub number: u32,
    /// Empty when it has none.
    pub path: String,
    /// `On` or `Off`.
    pub debugger_mode: String,
}

impl ComPort {
    /// Returns where the VM listens; none if it does not, or not in a way that we can open.
    pub(super) fn endpoint(&self) -> Option<EndpointSpec> {
        let name = self
            .path
            .get(..PIPE.len())
            .filter(|start| start.eq_ignore_ascii_case(PIPE));
        name.and_then(|start| {
            format!("listen:pipe:{}", self.path[start.len()..].replace(',', ",,"))
                .parse()
                .ok()
        })
    }
}

/// Where the pipes of a host are for the host itself.
pub(super) const PIPE: &str = r"\\.\pipe\";

/// Returns the path of the pipe that an endpoint of a VM's port is.
///
/// # Errors
///
/// Hyper-V has no such stream.
pub(super) fn pipe_path(endpoint: &EndpointSpec) -> Result<String, Problem> {
    let refused = |why: &str, hint: &str| {
        Err(Problem::new(
            FailureKind::Precondition,
            format!("Hyper-V cannot put a port on `{endpoint}`: {why}"),
        )
        .hint(hint))
    };
    match (&endpoint.address, endpoint.role) {
        _ if !endpoint.via.is_empty() => refused("a VM listens on its own host", "Leave `via=` out."),
        (Address::Pipe { host: None, name }, Some(Role::Listen)) => Ok(format!("{PIPE}{name}")),
        (Address::Pipe { host: None, name }, _) => refused(
            "a VM that connects stops trying after the first disconnect, until it is powered off and on",
            &format!("Let the VM listen: `listen:pipe:{name}`."),
        ),
        (Address::Pipe { .. }, _) => refused(
            "a VM's pipe is on the VM's own host",
            "Name the pipe alone, and the host with `--host`: `listen:pipe:NAME`.",
        ),
        _ => refused("its ports are named pipes", "Write `listen:pipe:NAME`."),
    }
}

/// A COM port's setting; `None` is a value that is not ours to touch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(super) struct ComSetting {
    /// Empty is no pipe.
    pub path: Option<String>,
    /// `On` or `Off`.
    pub debugger_mode: Option<String>,
}

/// Secure Boot's setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct SecureBootSetting {
    /// `On` or `Off`.
    pub secure_boot: String,
    /// The template, where it is to be set.
    pub template: Option<String>,
}

/// What observing leaves for planning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VmFacts {
    /// The VM.
    pub vm: Vm,
    /// Its COM ports.
    pub ports: Vec<ComPort>,
    /// Other VMs' COM ports that have a pipe.
    pub others: Vec<ComPort>,
}

impl VmFacts {
    /// Reads them from an observation.
    ///
    /// # Errors
    ///
    /// They are not there: a defect.
    pub(super) fn of(observed: &Observed) -> Result<Self, Problem> {
        let text = observed.facts.get(VM).map(String::as_str).unwrap_or_default();
        serde_json::from_str(text).map_err(|error| {
            let message = format!("what was observed of `{}` cannot be read: {error}", observed.vm);
            Problem::new(FailureKind::Internal, message)
        })
    }
}
