//! The port that takes the `g` of a break-in, when kgdb has a port of its own: somebody else's, or dialled for a moment.

use crate::bridge::control::client::ask_once;
use crate::bridge::control::{BreakParameters, Call};
use crate::bridge::{BreakOwner, BreakPort, BreakPortSource};
use crate::model::{Deadline, EndpointSpec};
use crate::session::owner::{OwnerRecord, find_owner};
use crate::session::port_key::PortKey;
use std::path::PathBuf;
use std::sync::Arc;

/// Asks, for each break-in, whether another vmserial owns the port; if so it does the break-in, else the port is dialled.
#[derive(Debug, Clone)]
pub struct OwnedOrDialled {
    /// State folder with the owners' locks.
    pub state: PathBuf,
    /// The console's endpoint, with our role.
    pub endpoint: EndpointSpec,
}

impl BreakPortSource for OwnedOrDialled {
    fn now(&self) -> Result<BreakPort, String> {
        match find_owner(&self.state, &PortKey::of_endpoint(&self.endpoint)) {
            Ok(Some(owner)) => Ok(BreakPort::Owner(Arc::new(AskedOwner(owner)))),
            Ok(None) => Ok(BreakPort::Endpoint(self.endpoint.clone())),
            Err(problem) => Err(problem.message),
        }
    }
}

/// Breaks in through the control socket of whoever owns the console's port.
#[derive(Debug, Clone)]
pub struct AskedOwner(pub OwnerRecord);

impl BreakOwner for AskedOwner {
    fn way(&self) -> String {
        format!("console of pid {}", self.0.pid)
    }

    fn break_in(&self, deadline: Deadline) -> Result<(), String> {
        let call = Call::Break(BreakParameters {
            break_in: true,
            observe: false,
        });
        ask_once(&self.0.socket, call, deadline)
            .map(drop)
            .map_err(|problem| problem.message)
    }
}
