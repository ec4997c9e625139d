//! A virtual cable between the ports of two VMs.

use crate::model::profile::JoinProfile;
use crate::model::{Policy, PortIndex, TargetName};
use std::fmt;

/// One end of a cable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinEnd {
    /// Whose port.
    pub target: TargetName,
    /// Which.
    pub port: PortIndex,
}

impl fmt::Display for JoinEnd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.target, self.port)
    }
}

/// A cable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinSpec {
    /// The debugger's end, where the policy knows a debugger.
    pub a: JoinEnd,
    /// The end of the VM that is debugged.
    pub b: JoinEnd,
    /// Flow policy.
    pub policy: Policy,
}

impl JoinSpec {
    /// Takes what a profile says; `None` if it names no ports, which validation refuses.
    pub fn of(written: &JoinProfile) -> Option<Self> {
        let end = |text: &str| {
            let (target, port) = text.rsplit_once('/')?;
            Some(JoinEnd {
                target: target.parse().ok()?,
                port: port.parse().ok()?,
            })
        };
        Some(Self {
            a: end(&written.a)?,
            b: end(&written.b)?,
            policy: written.policy,
        })
    }
}

impl fmt::Display for JoinSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} and {}", self.a, self.b)
    }
}
