//! What a host does for us: commands, processes, files, streams, and how that fails.

use crate::model::{
    Digest, EndpointSpec, FailureKind, HostPath, HostRef, Invocation, Problem, ScriptCall, Wait,
};
use std::io::{Read, Write};
use std::time::Duration;

/// Effects of one host. Synchronous; every wait takes a [`Wait`]. Local and remote are the same code path. What a runner does
/// not write it cannot do, and says so ([`RunError::Unsupported`]).
pub trait Runner: Send + Sync {
    /// Returns the host whose effects these are.
    fn host(&self) -> &HostRef;

    /// Says that this runner cannot do something.
    fn cannot(&self, what: String) -> RunError {
        RunError::Unsupported {
            what,
            host: self.host().clone(),
        }
    }

    /// Makes the next effect reach the host by a connection that is opened for it: it shows that the host still lets us in.
    /// Nothing to do where there is no connection.
    fn renew(&self) {}

    /// Runs a command to its end. A status other than 0 is an [`Output`], not an error.
    fn run(&self, invocation: &Invocation, wait: &Wait) -> Result<Output, RunError> {
        let _ = wait;
        Err(self.cannot(format!("run `{invocation}`")))
    }

    /// Starts a process that outlives us, its output going to `log` (appended).
    fn start(&self, invocation: &Invocation, log: &HostPath, wait: &Wait) -> Result<ProcessRef, RunError> {
        let _ = (log, wait);
        Err(self.cannot(format!("start `{invocation}`")))
    }

    /// Tells whether a process that [`Runner::start`] started still runs (same pid and start time).
    fn is_running(&self, process: &ProcessRef, wait: &Wait) -> Result<bool, RunError> {
        let _ = (process, wait);
        Err(self.cannot("look for a process".to_owned()))
    }

    /// Ends a process that [`Runner::start`] started: SIGTERM, then SIGKILL at the deadline. Gone already is success.
    fn stop(&self, process: &ProcessRef, wait: &Wait) -> Result<(), RunError> {
        let _ = (process, wait);
        Err(self.cannot("end a process".to_owned()))
    }

    /// Reads a file; `None` if there is none.
    fn read(&self, path: &HostPath, wait: &Wait) -> Result<Option<FileSnapshot>, RunError> {
        let _ = wait;
        Err(self.cannot(format!("read `{path}`")))
    }

    /// Returns the digest of a file; `None` if there is none.
    fn digest(&self, path: &HostPath, wait: &Wait) -> Result<Option<Digest>, RunError> {
        Ok(self.read(path, wait)?.map(|file| file.digest()))
    }

    /// Tells whether something is left of a replacement that was killed on its way.
    fn has_rest(&self, path: &HostPath, wait: &Wait) -> Result<bool, RunError> {
        let (_, _) = (path, wait);
        Ok(false)
    }

    /// Removes what [`Runner::has_rest`] tells of.
    fn remove_rest(&self, path: &HostPath, wait: &Wait) -> Result<(), RunError> {
        let (_, _) = (path, wait);
        Ok(())
    }

    /// Replaces a file atomically (sibling, fsync, rename; mode and owner kept), or removes it (`new` is `None`).
    /// Refuses with [`RunError::Changed`] when the present digest is not `expected`.
    fn replace(
        &self,
        path: &HostPath,
        new: Option<&FileSnapshot>,
        expected: Option<&Digest>,
        wait: &Wait,
    ) -> Result<(), RunError> {
        let _ = (new, expected, wait);
        Err(self.cannot(format!("replace `{path}`")))
    }

    /// Finds a process that [`Runner::start`] started with this log and of which nobody noted the pid, because we were
    /// killed before: the one whose standard output is this log. `None` if none runs.
    fn find_started(&self, log: &HostPath, wait: &Wait) -> Result<Option<ProcessRef>, RunError> {
        let (_, _) = (log, wait);
        Err(self.cannot("find a process by its log".to_owned()))
    }

    /// Makes a folder for its owner only (0700), with those above it. One that is there is left as it is.
    fn make_folder(&self, path: &HostPath, wait: &Wait) -> Result<(), RunError> {
        let _ = wait;
        Err(self.cannot(format!("make the folder `{path}`")))
    }

    /// Returns the names in a folder, sorted; none if there is no such folder.
    fn list(&self, path: &HostPath, wait: &Wait) -> Result<Vec<String>, RunError> {
        let _ = wait;
        Err(self.cannot(format!("list the folder `{path}`")))
    }

    /// Runs one of our PowerShell scripts and returns its result, a JSON value. Picks the way itself; the host's tree of
    /// processes is gone at the deadline. A runner that reaches a Windows host answers with
    /// [`powershell::over`](crate::runner::powershell::over), which needs [`Runner::run`] only.
    fn powershell(&self, call: &ScriptCall, wait: &Wait) -> Result<serde_json::Value, RunError> {
        let _ = wait;
        Err(self.cannot(format!("run the PowerShell script `{}`", call.script)))
    }

    /// Tells whether a path exists, without opening it.
    fn exists(&self, path: &HostPath, wait: &Wait) -> Result<bool, RunError> {
        let _ = wait;
        Err(self.cannot(format!("look for `{path}`")))
    }

    /// Opens a stream, for QMP and the like. Reads give up with `TimedOut` at the deadline.
    fn open(&self, endpoint: &EndpointSpec, wait: &Wait) -> Result<Box<dyn ReadWrite>, RunError> {
        let _ = wait;
        Err(self.cannot(format!("open `{endpoint}`")))
    }
}

/// A blocking stream.
pub trait ReadWrite: Read + Write + Send {}
impl<T: Read + Write + Send> ReadWrite for T {}

/// A file with what must survive its replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSnapshot {
    /// Content.
    pub bytes: Vec<u8>,
    /// Unix mode bits; `None` where there are none, or for a new file with the default.
    pub mode: Option<u32>,
    /// Unix user and group; `None` where there are none, or for a new file.
    pub owner: Option<(u32, u32)>,
}

impl FileSnapshot {
    /// Returns the digest of the content.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }
}

/// A process that outlives us, told apart from a later one with the same pid by its start time.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ProcessRef {
    /// Process identifier.
    pub pid: u32,
    /// Start time in the host's own unit (Linux: clock ticks since boot).
    pub start_time: u64,
}

/// What a command said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub status: Status,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// How long it took.
    pub elapsed: Duration,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// By itself, with this code.
    Exited(i32),
    /// By a signal.
    Signalled(i32),
}

impl std::fmt::Display for Status {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(formatter, "ended with {code}"),
            Self::Signalled(signal) => write!(formatter, "ended by signal {signal}"),
        }
    }
}

impl Output {
    /// Tells whether the command exited with 0.
    pub fn success(&self) -> bool {
        self.status == Status::Exited(0)
    }
}

/// Why an effect on a host failed. Each names the host's own words where it has some.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The program is not on the host.
    #[error("`{program}` was not found on {host}")]
    ProgramNotFound {
        /// Which.
        program: String,
        /// Where.
        host: HostRef,
    },
    /// A command ended with another status than 0 and was needed.
    #[error("`{invocation}` on {host} {status}{tail}")]
    Failed {
        /// The command, secrets masked.
        invocation: String,
        /// Where.
        host: HostRef,
        /// How it ended.
        status: Status,
        /// The last ten lines of standard error, each on a line of its own, or nothing.
        tail: String,
    },
    /// The deadline passed.
    #[error("gave up waiting for {what}")]
    DeadlinePassed {
        /// What was waited for.
        what: String,
    },
    /// Cancelled by the user.
    #[error("interrupted while waiting for {what}")]
    Cancelled {
        /// What was waited for.
        what: String,
    },
    /// The file is not the one that the plan was made on.
    #[error("`{path}` changed since the plan was made")]
    Changed {
        /// Which.
        path: HostPath,
    },
    /// The operating system refused.
    #[error("cannot {what}")]
    Io {
        /// What was tried: "read `/x.vmx`".
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A PowerShell script of ours threw. A driver maps what its host says to kinds and hints
    /// ([`crate::driver::registry::problem_of_script`]).
    #[error("PowerShell on {host}: {message}")]
    Script {
        /// `$_.Exception.Message`, in the host's language.
        message: String,
        /// `$_.FullyQualifiedErrorId`, which no language changes: `InvalidParameter,Microsoft.HyperV.PowerShell.Commands.GetVM`.
        id: String,
        /// `$_.CategoryInfo.Category`: `InvalidArgument`.
        category: Box<str>,
        /// Where.
        host: HostRef,
    },
    /// There is no PowerShell on the host.
    #[error("there is no PowerShell on {host} (looked for {looked_for})")]
    NoPowerShell {
        /// The programs that were looked for.
        looked_for: String,
        /// Where.
        host: HostRef,
    },
    /// The way to the host is closed: its key, the login, the link. Boxed, since it carries what to do.
    #[error("{0}")]
    Connection(Box<Problem>),
    /// This runner cannot do it.
    #[error("{host} cannot {what}")]
    Unsupported {
        /// What.
        what: String,
        /// Where.
        host: HostRef,
    },
}

impl RunError {
    /// Returns the kind of failure that it is for a user.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Connection(problem) => problem.kind,
            Self::ProgramNotFound { .. } | Self::NoPowerShell { .. } => FailureKind::NotFound,
            Self::DeadlinePassed { .. } => FailureKind::Deadline,
            Self::Cancelled { .. } => FailureKind::Interrupted,
            Self::Changed { .. } | Self::Unsupported { .. } => FailureKind::Precondition,
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                FailureKind::Precondition
            }
            Self::Failed { .. } | Self::Script { .. } | Self::Io { .. } => FailureKind::Host,
        }
    }
}

impl From<RunError> for Problem {
    /// Keeps the whole text: a problem has no causes of its own, so the system's reason is written behind.
    fn from(error: RunError) -> Self {
        let text = match &error {
            RunError::Connection(problem) => return Self::clone(problem),
            RunError::Io { source, .. } => format!("{error}: {source}"),
            _ => error.to_string(),
        };
        let problem = Self::new(error.kind(), text);
        match &error {
            RunError::ProgramNotFound { program, .. } => {
                problem.hint(format!("Install `{program}`, or put it on the PATH."))
            }
            RunError::NoPowerShell {
                host: HostRef::Local, ..
            } => problem
                .hint("Name the Windows host with `--host [user@]HOST`, or run vmserial on it or in its WSL.")
                .hint(
                    "On a Windows without PowerShell on its PATH: install it from https://aka.ms/powershell.",
                ),
            RunError::NoPowerShell { .. } => problem
                .hint("Is it the Windows host? If so, put PowerShell on the PATH that its SSH server gives."),
            RunError::Changed { .. } => {
                problem.hint("Plan again: `vmserial plan` shows the file as it is now.")
            }
            _ => problem,
        }
    }
}
