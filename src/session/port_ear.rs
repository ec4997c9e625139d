//! Listens on a port of a VM, through whoever has it, or by opening it.

use crate::bridge::control::{Attached, ControlClient, Mode, Since};
use crate::bridge::{BridgeSpec, TargetSource};
use crate::model::{Deadline, FailureKind, Policy, Problem, Wait};
use crate::runner::RunError;
use crate::session::join::{JoinedPort, join_or_open};
use crate::session::port_key::PortKey;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;

/// How long the port's owner may take to answer.
const OWNER: Duration = Duration::from_secs(5);

/// How often Ctrl-C is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A port by its names among vmserial's processes, and where it is.
#[derive(Debug)]
pub struct PortToHear {
    /// Its names.
    pub keys: Vec<PortKey>,
    /// Where it is.
    pub source: TargetSource,
    /// How it is bridged if nobody has it.
    pub policy: Policy,
}

/// A port that is listened to.
#[derive(Debug)]
pub struct PortEar {
    runtime: tokio::runtime::Runtime,
    attached: Attached,
    port: Option<JoinedPort>,
}

impl PortEar {
    /// Joins the port's owner, or opens the port.
    ///
    /// # Errors
    ///
    /// The port's refusal; that of an owner whose policy has room for a debugger alone.
    pub fn open(port: &PortToHear, state: &Path) -> Result<Self, Problem> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Problem::new(FailureKind::Host, format!("cannot start a runtime: {error}")))?;
        let joined = join_or_open(state, &port.keys, || {
            Ok(BridgeSpec::new(port.source.clone(), Vec::new(), port.policy))
        })?;
        let deadline = Deadline::after(Instant::now(), OWNER);
        let attached = runtime.block_on(async {
            let client = ControlClient::connect_until(&joined.owner.socket, deadline).await?;
            let attached = client.attach(Mode::Ro, Since::Now, false, deadline).await;
            attached.map_err(|problem| match joined.is_ours() {
                true => problem,
                false => joined.owner.refusal(),
            })
        })?;
        Ok(Self {
            runtime,
            attached,
            port: Some(joined),
        })
    }

    /// Returns what came, nothing after a tenth of a second without.
    ///
    /// # Errors
    ///
    /// Ctrl-C, the deadline, or the owner's end.
    pub fn hear(&mut self, wait: &Wait) -> Result<Vec<u8>, Problem> {
        if !self.attached.received.is_empty() {
            return Ok(std::mem::take(&mut self.attached.received));
        }
        let what = wait.what.clone();
        if wait.cancel.is_cancelled() {
            return Err(RunError::Cancelled { what }.into());
        }
        if wait.deadline.passed(Instant::now()) {
            return Err(RunError::DeadlinePassed { what }.into());
        }
        let mut buffer = vec![0; 4096];
        let stream = &mut self.attached.stream;
        let read = self
            .runtime
            .block_on(async { tokio::time::timeout(LOOK, stream.read(&mut buffer)).await });
        match read {
            Err(_) => Ok(Vec::new()),
            Ok(Ok(count @ 1..)) => {
                buffer.truncate(count);
                Ok(buffer)
            }
            Ok(_) => Err(Problem::new(
                FailureKind::ConnectionLost,
                "lost the port: its owner ended",
            )),
        }
    }
}

impl Drop for PortEar {
    fn drop(&mut self) {
        if let Some(port) = self.port.take() {
            port.close("the port was listened to");
        }
    }
}
