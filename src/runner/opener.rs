//! Opens the streams that need a process, for a bridge: `exec:` commands.

use super::attended::Children;
use super::child_stream;
use crate::bridge::{Opener, Opening, Remarks};
use crate::model::{Address, EndpointSpec, FailureKind, Problem};
use std::pin::Pin;

/// Starts a process for each stream. One for each bridge; what it started ends with the bridge.
#[derive(Debug, Default)]
pub struct ProcessOpener {
    children: Children,
}

impl ProcessOpener {
    /// Makes one that has started nothing yet.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Opener for ProcessOpener {
    fn check(&self, endpoint: &EndpointSpec) -> Result<(), Problem> {
        let refuse = |what: &str, instead: &str| {
            Err(Problem::new(
                FailureKind::Precondition,
                format!("`{endpoint}`: {what} not served yet"),
            )
            .hint(instead))
        };
        if !endpoint.via.is_empty() {
            return refuse(
                "`via=` is",
                "Forward the port yourself, `ssh -L 7001:127.0.0.1:7001 HOST`, and write `connect:tcp:127.0.0.1:7001`.",
            );
        }
        Ok(())
    }

    fn open(&self, endpoint: &EndpointSpec, remarks: &Remarks) -> Opening {
        let (endpoint, remarks, children) = (endpoint.clone(), remarks.clone(), self.children.clone());
        Box::pin(async move {
            match &endpoint.address {
                Address::Exec(command) => child_stream::start(&endpoint, command, &remarks, &children),
                _ => Err(std::io::ErrorKind::Unsupported.into()),
            }
        })
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let children = self.children.clone();
        Box::pin(async move { children.wait().await })
    }
}
