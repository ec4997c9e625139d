//! The runner of this machine.

mod files;
pub(in crate::runner) mod process;

use crate::model::{Address, Digest, EndpointSpec, HostPath, HostRef, Invocation, Role, ScriptCall, Wait};
use crate::runner::powershell;
use crate::runner::sys;
use crate::runner::{FileSnapshot, Output, ProcessRef, ReadWrite, RunError, Runner};
use std::io;
use std::time::{Duration, Instant};

/// How often a wait looks at its cancel flag: a tenth of a second is not felt after Ctrl-C.
const LOOK: Duration = Duration::from_millis(100);

/// How many last lines of standard error a failure shows.
const TAIL_LINES: usize = 10;

/// Effects of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Local;

impl Local {
    /// Makes the runner.
    pub fn new() -> Self {
        Self
    }
}

fn now() -> Instant {
    Instant::now()
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> RunError {
    let what = what.into();
    move |source| RunError::Io { what, source }
}

fn check(wait: &Wait) -> Result<(), RunError> {
    if wait.cancel.is_cancelled() {
        return Err(RunError::Cancelled {
            what: wait.what.clone(),
        });
    }
    if wait.deadline.passed(now()) {
        return Err(RunError::DeadlinePassed {
            what: wait.what.clone(),
        });
    }
    Ok(())
}

/// Waits a moment for a condition that only looking can tell, or fails as the wait says.
fn pause(wait: &Wait, moment: Duration) -> Result<(), RunError> {
    check(wait)?;
    std::thread::park_timeout(moment.min(wait.deadline.remaining(now())));
    Ok(())
}

impl Runner for Local {
    fn host(&self) -> &HostRef {
        &HostRef::Local
    }

    fn run(&self, invocation: &Invocation, wait: &Wait) -> Result<Output, RunError> {
        process::run(invocation, wait)
    }

    fn start(&self, invocation: &Invocation, log: &HostPath, wait: &Wait) -> Result<ProcessRef, RunError> {
        process::start(invocation, log, wait)
    }

    fn is_running(&self, process: &ProcessRef, _wait: &Wait) -> Result<bool, RunError> {
        process::is_running(process)
    }

    fn stop(&self, process: &ProcessRef, wait: &Wait) -> Result<(), RunError> {
        process::stop(process, wait)
    }

    fn find_started(&self, log: &HostPath, _wait: &Wait) -> Result<Option<ProcessRef>, RunError> {
        let found = sys::process_with_output(log.as_local()).map_err(failed("look through the processes"))?;
        Ok(found.map(|(pid, start_time)| ProcessRef { pid, start_time }))
    }

    fn make_folder(&self, path: &HostPath, wait: &Wait) -> Result<(), RunError> {
        check(wait)?;
        files::make_folder(path)
    }

    fn list(&self, path: &HostPath, wait: &Wait) -> Result<Vec<String>, RunError> {
        check(wait)?;
        files::list(path)
    }

    fn read(&self, path: &HostPath, _wait: &Wait) -> Result<Option<FileSnapshot>, RunError> {
        files::read(path.as_local())
    }

    fn replace(
        &self,
        path: &HostPath,
        new: Option<&FileSnapshot>,
        expected: Option<&Digest>,
        wait: &Wait,
    ) -> Result<(), RunError> {
        check(wait)?;
        files::replace(path, new, expected)
    }

    fn powershell(&self, call: &ScriptCall, wait: &Wait) -> Result<serde_json::Value, RunError> {
        powershell::local(self, call, wait)
    }

    fn exists(&self, path: &HostPath, _wait: &Wait) -> Result<bool, RunError> {
        path.as_local()
            .try_exists()
            .map_err(failed(format!("look for `{path}`")))
    }

    fn open(&self, endpoint: &EndpointSpec, wait: &Wait) -> Result<Box<dyn ReadWrite>, RunError> {
        check(wait)?;
        let unsupported = || RunError::Unsupported {
            what: format!("open `{endpoint}` as a stream"),
            host: HostRef::Local,
        };
        if endpoint.role != Some(Role::Connect) || !endpoint.via.is_empty() {
            return Err(unsupported());
        }
        let left = wait.deadline.remaining(now()).max(Duration::from_millis(1));
        match &endpoint.address {
            Address::Unix(path) => {
                sys::connect_unix(path, left).map_err(failed(format!("connect to `{}`", path.display())))
            }
            Address::Tcp { host, port } => {
                connect_tcp(host, *port, left).map_err(failed(format!("connect to {host}:{port}")))
            }
            _ => Err(unsupported()),
        }
    }
}

fn connect_tcp(host: &str, port: u16, timeout: Duration) -> io::Result<Box<dyn ReadWrite>> {
    use std::net::{TcpStream, ToSocketAddrs};
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => {
                stream.set_read_timeout(Some(timeout))?;
                stream.set_write_timeout(Some(timeout))?;
                return Ok(Box::new(stream));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Returns the last lines of a command's standard error, each on a line of its own with a line break before it.
pub fn tail(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(TAIL_LINES);
    lines[skipped..]
        .iter()
        .map(|line| format!("\n    {line}"))
        .collect()
}

/// Turns another status than 0 into the failure that names the command, the host, the status and the last words.
///
/// # Errors
///
/// [`RunError::Failed`].
pub fn must_succeed(host: &HostRef, invocation: &Invocation, output: Output) -> Result<Output, RunError> {
    if output.success() {
        return Ok(output);
    }
    // Some tools (vmrun) complain on standard output.
    let words = if output.stderr.trim_ascii().is_empty() {
        &output.stdout
    } else {
        &output.stderr
    };
    Err(RunError::Failed {
        invocation: invocation.to_string(),
        host: host.clone(),
        status: output.status,
        tail: tail(words),
    })
}
