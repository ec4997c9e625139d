//! The machine that runs the hypervisor, and paths on it.

use crate::model::profile::Secret;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// A host: this machine, one that is reached through SSH, or a guest through its console or its hypervisor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostRef {
    /// This machine.
    Local,
    /// `[user@]host[:port]`, as written.
    Ssh(String),
    /// A guest behind its serial console: the endpoint of its port, with our role, as it is written.
    Serial(String),
    /// A Windows guest behind the Special Administration Console (EMS) of its serial port: the port's endpoint, with our role.
    Sac(String),
    /// A Windows guest through its Hyper-V host (PowerShell Direct): no network of the guest is needed.
    Direct {
        /// The VM, by name or GUID.
        vm: String,
        /// Where Hyper-V runs.
        host: Box<HostRef>,
    },
}

impl HostRef {
    /// Returns the name under which it is noted how one logs in there; `None` for this machine.
    pub fn login_key(&self) -> Option<String> {
        match self {
            Self::Local => None,
            Self::Ssh(destination) | Self::Serial(destination) | Self::Sac(destination) => {
                Some(destination.clone())
            }
            Self::Direct { .. } => Some(self.to_string()),
        }
    }

    /// Tells whether it is a guest behind something of its VM's: such a one keeps no copies of the journal, and a script goes
    /// there only piece by piece.
    pub fn is_guest(&self) -> bool {
        matches!(self, Self::Serial(_) | Self::Sac(_) | Self::Direct { .. })
    }
}

impl fmt::Display for HostRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => formatter.write_str("this machine"),
            Self::Ssh(destination) => formatter.write_str(destination),
            Self::Serial(endpoint) => write!(formatter, "the serial console {endpoint}"),
            Self::Sac(endpoint) => write!(formatter, "the administration console (SAC) {endpoint}"),
            Self::Direct { vm, host } => {
                write!(formatter, "the guest of `{vm}` by PowerShell Direct from {host}")
            }
        }
    }
}

/// How one logs in to a host and acts there, as its entry in the profile says. Holds no secret, only where it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostLogin {
    /// Who logs in on a serial console. (SSH's user stands in its destination.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Password for SSH and `sudo`, where they ask for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Commands run with `sudo`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sudo: bool,
}

impl HostLogin {
    /// Tells whether nothing in particular is said.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// A path on a host, in that host's spelling. Never assumed to exist here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostPath(String);

impl HostPath {
    /// Makes a path from its spelling on the host.
    pub fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    /// Returns the spelling.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the folder that the path is in, by its spelling; `None` if it names none.
    pub fn parent(&self) -> Option<Self> {
        let end = self.0.rfind(['/', '\\']).filter(|&end| end > 0)?;
        Some(Self(self.0[..end].to_owned()))
    }

    /// Returns the path for use on this machine. Only a local runner may call it.
    pub fn as_local(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl fmt::Display for HostPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
