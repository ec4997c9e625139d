//! Opens the streams that need a process, for a bridge: commands, SSH, and a helper on a machine that has named pipes.

use super::attended::Children;
use super::helper::{HelperPlaces, Helpers};
use super::tunnel::{DIAL_TIMEOUT, Tunnel};
use super::{child_stream, ssh, ssh_words, stdio_tunnel, sys};
use crate::bridge::{Opener, Opening, Remarks};
use crate::model::{Address, EndpointSpec, ExecCommand, FailureKind, Problem, Role};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Starts a process for each stream. One for each bridge; what it started ends with the bridge.
#[derive(Default)]
pub struct ProcessOpener {
    children: Children,
    tunnels: Arc<Mutex<HashMap<EndpointSpec, Tunnel>>>,
    helpers: Helpers,
    /// A helper was found on this machine.
    helper_is_here: OnceLock<()>,
}

impl ProcessOpener {
    /// Makes one that has started nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Refuses a pipe that we are to serve, and one of this machine if there is nobody who could open it.
    fn check_helped(&self, endpoint: &EndpointSpec) -> Result<(), Problem> {
        if endpoint.role == Some(Role::Listen) {
            return Err(Problem::new(
                FailureKind::Precondition,
                format!("`{endpoint}`: a named pipe is served by a vmserial that runs on Windows"),
            )
            .hint("Run `vmserial.exe bridge … listen:pipe:NAME` on the Windows side; it may connect to a `listen:tcp:127.0.0.1:PORT` of this one."));
        }
        if !endpoint.via.is_empty() || self.helper_is_here.get().is_some() {
            return Ok(());
        }
        let found = HelperPlaces::of_this_machine().find();
        found.map_err(|error| {
            Problem::new(FailureKind::Precondition, format!("`{endpoint}`: {error}"))
                .hint("In WSL, copy it to Windows with `vmserial setup helper --from vmserial.exe`, or name it: `VMSERIAL_EXE=/mnt/c/…/vmserial.exe`.")
                .hint("For a pipe of another host write `,via=[user@]HOST` behind it; vmserial.exe must be there.")
        })?;
        let _ = self.helper_is_here.set(());
        Ok(())
    }

    fn tunnel(&self, endpoint: &EndpointSpec) -> Tunnel {
        let mut tunnels = self.tunnels.lock().unwrap_or_else(PoisonError::into_inner);
        tunnels.entry(endpoint.clone()).or_default().clone()
    }
}

impl fmt::Debug for ProcessOpener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ProcessOpener").finish_non_exhaustive()
    }
}

/// Tells whether only a vmserial on the endpoint's own machine can open it.
fn is_helped(endpoint: &EndpointSpec) -> bool {
    match endpoint.address {
        Address::Pipe { .. } => true,
        Address::Tty { .. } => !endpoint.via.is_empty() && ssh::terminal::line(endpoint).is_none(),
        _ => false,
    }
}

fn check_via(endpoint: &EndpointSpec) -> Result<(), Problem> {
    let refuse = |what: String, instead: &str| {
        let problem = Problem::new(FailureKind::Precondition, format!("`{endpoint}`: {what}"));
        Err(problem.hint(instead))
    };
    let kind = endpoint.address.kind();
    match &endpoint.address {
        Address::Unix(_) if !sys::HAS_LOCAL_STREAMS && !ssh::is_builtin() => refuse(
            "a Unix socket behind `via=` is not served on Windows by the system's `ssh`".into(),
            "Leave `--ssh-engine system` out, or let the VM listen on TCP, `listen:tcp:127.0.0.1:7001`: only its host reaches that.",
        ),
        Address::Tcp { .. } | Address::Unix(_) if endpoint.role == Some(Role::Listen) => refuse(
            "to listen behind `via=` is not served yet".into(),
            "Let the VM listen and connect to it, or forward a port back: `ssh -R 7001:127.0.0.1:7001 HOST`, with `listen:tcp:127.0.0.1:7001` here.",
        ),
        Address::Unix(path) if !Path::new(path).to_string_lossy().starts_with('/') => refuse(
            "a path behind `via=` must begin with `/`".into(),
            "Write the whole path of the socket on that host.",
        ),
        Address::Tcp { .. } | Address::Unix(_) | Address::Tty { .. } => Ok(()),
        _ => refuse(
            format!("`{kind}` behind `via=` is not served yet: that host has to open it"),
            "Serve it there, `vmserial bridge ENDPOINT listen:unix:/path`, and connect to that path with `via=`.",
        ),
    }
}

impl Opener for ProcessOpener {
    fn check(&self, endpoint: &EndpointSpec) -> Result<(), Problem> {
        if is_helped(endpoint) {
            return self.check_helped(endpoint);
        }
        if endpoint.via.is_empty() {
            return Ok(());
        }
        check_via(endpoint)
    }

    fn open(&self, endpoint: &EndpointSpec, remarks: &Remarks) -> Opening {
        let (endpoint, remarks, children) = (endpoint.clone(), remarks.clone(), self.children.clone());
        if is_helped(&endpoint) {
            return self.helpers.open(&endpoint);
        }
        let line = ssh::terminal::line(&endpoint);
        if let (Some(line), false) = (&line, ssh::is_builtin()) {
            let command = ExecCommand::from_words(ssh_words::exec(&endpoint.via, line));
            return Box::pin(async move {
                let command = command.ok_or_else(|| io::Error::other("`ssh` has no words"))?;
                child_stream::start(&endpoint, &command, &remarks, &children)
            });
        }
        let far = match line {
            Some(line) => Some(ssh::Far::Command(line)),
            None => ssh::Far::of(&endpoint.address),
        };
        if !endpoint.via.is_empty()
            && ssh::is_builtin()
            && let Some(far) = far
        {
            return Box::pin(async move {
                let opened = ssh::stream::open(&endpoint.via, &far);
                match tokio::time::timeout(DIAL_TIMEOUT, opened).await {
                    Ok(result) => result,
                    Err(_) => Err(io::ErrorKind::TimedOut.into()),
                }
            });
        }
        if !endpoint.via.is_empty() && !sys::HAS_LOCAL_STREAMS {
            return Box::pin(async move { stdio_tunnel::open(&endpoint, &children).await });
        }
        if !endpoint.via.is_empty() {
            let tunnel = self.tunnel(&endpoint);
            return Box::pin(async move { tunnel.open(&endpoint, &remarks, &children).await });
        }
        Box::pin(async move {
            match &endpoint.address {
                Address::Exec(command) => child_stream::start(&endpoint, command, &remarks, &children),
                _ => Err(io::ErrorKind::Unsupported.into()),
            }
        })
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (children, tunnels) = (self.children.clone(), Arc::clone(&self.tunnels));
        let helpers = self.helpers.close();
        Box::pin(async move {
            helpers.await;
            let tunnels = std::mem::take(&mut *tunnels.lock().unwrap_or_else(PoisonError::into_inner));
            for tunnel in tunnels.into_values() {
                tunnel.close().await;
            }
            children.wait().await;
        })
    }
}
