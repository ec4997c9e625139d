//! The runner of a host behind SSH.

use super::command::{Begun, Mark, Sudo, posix_line, stdin, windows_line};
use super::engine;
use super::link::{ExecFailure, Far};
use crate::model::{
    Address, Deadline, Digest, EndpointSpec, FailureKind, HostPath, HostRef, Invocation, Problem, Role,
    ScriptCall, Wait,
};
use crate::runner::local::tail;
use crate::runner::posix_files::{self as files, ScriptHost};
use crate::runner::powershell;
use crate::runner::secret;
use crate::runner::{FileSnapshot, Output, ProcessRef, ReadWrite, RunError, Runner};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long an end of a command that nobody waits for any more may take.
const END: Duration = Duration::from_secs(15);

/// How long a killed process may take to be gone, with the login that finds that out.
const KILLED: Duration = Duration::from_secs(20);

/// Between two looks at a process that is to end.
const LOOK: Duration = Duration::from_millis(200);

/// What a host's shell understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum System {
    Posix,
    Windows,
}

static SYSTEMS: Mutex<Option<HashMap<String, System>>> = Mutex::new(None);

/// Effects of a host behind SSH.
#[derive(Debug, Clone)]
pub struct SshRunner {
    host: HostRef,
    destination: String,
}

impl SshRunner {
    /// Makes the runner of `[user@]host[:port]`. Nothing is connected yet.
    pub fn new(destination: &str) -> Self {
        Self {
            host: HostRef::Ssh(destination.to_owned()),
            destination: destination.to_owned(),
        }
    }

    fn chain(&self) -> [String; 1] {
        [self.destination.clone()]
    }

    /// Tells what kind of system it is, asked once: `uname` is on every POSIX system and on no Windows but in Unix tools.
    fn system(&self, wait: &Wait) -> Result<System, RunError> {
        let known = |systems: &Option<HashMap<String, System>>| {
            systems
                .as_ref()
                .and_then(|systems| systems.get(&self.destination).copied())
        };
        if let Some(system) = known(&SYSTEMS.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(system);
        }
        let output = engine::exec(&self.chain(), "uname -s", b"", wait).map_err(|failure| failure.error)?;
        let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let emulated = ["MINGW", "MSYS", "CYGWIN"];
        let is_posix =
            output.success() && !name.is_empty() && !emulated.iter().any(|start| name.starts_with(start));
        let system = if is_posix { System::Posix } else { System::Windows };
        let mut systems = SYSTEMS.lock().unwrap_or_else(PoisonError::into_inner);
        systems
            .get_or_insert_default()
            .insert(self.destination.clone(), system);
        Ok(system)
    }

    /// Runs a command with these bytes on its standard input.
    ///
    /// # Errors
    ///
    /// See [`Runner::run`].
    pub(super) fn exec(
        &self,
        invocation: &Invocation,
        input: &[u8],
        wait: &Wait,
    ) -> Result<Output, RunError> {
        match self.system(wait)? {
            System::Posix => self.exec_posix(invocation, input, wait),
            System::Windows => {
                let line = windows_line(invocation).ok_or_else(|| RunError::Unsupported {
                    what: format!("pass these words through `cmd.exe`: `{invocation}`"),
                    host: self.host.clone(),
                })?;
                let output = engine::exec(&self.chain(), &line, input, wait);
                self.told(invocation, output.map_err(|failure| failure.error))
            }
        }
    }

    fn exec_posix(&self, invocation: &Invocation, input: &[u8], wait: &Wait) -> Result<Output, RunError> {
        let login = super::options::login(&self.destination);
        let password = match &login.password {
            Some(password) if login.sudo => {
                Some(secret::fetch(password).map_err(|problem| RunError::Connection(Box::new(problem)))?)
            }
            _ => None,
        };
        let sudo = match (login.sudo, &password) {
            (false, _) => Sudo::No,
            (true, None) => Sudo::Free,
            (true, Some(_)) => Sudo::Password,
        };
        let mark = new_mark();
        let line = posix_line(invocation, &mark, sudo).ok_or_else(|| RunError::Unsupported {
            what: format!("pass a NUL in a word: `{invocation}`"),
            host: self.host.clone(),
        })?;
        let input = stdin(input, &mark, password.as_ref().map(|password| password.reveal()));
        match engine::exec(&self.chain(), &line, &input, wait) {
            Ok(output) => {
                let begun = Begun::read(&output.stderr, &mark);
                if begun.missing {
                    return Err(RunError::ProgramNotFound {
                        program: invocation.program.clone(),
                        host: self.host.clone(),
                    });
                }
                if begun.pid.is_none() {
                    return Err(self.did_not_begin(&output, sudo));
                }
                let output = Output {
                    stderr: begun.stderr,
                    ..output
                };
                self.told(invocation, Ok(output))
            }
            Err(ExecFailure { error, stderr }) => {
                let gave_up = matches!(
                    error,
                    RunError::DeadlinePassed { .. } | RunError::Cancelled { .. }
                );
                if let Some(pid) = Begun::read(&stderr, &mark).pid
                    && gave_up
                {
                    self.end(pid, sudo);
                }
                self.told(invocation, Err(error))
            }
        }
    }

    fn told(&self, invocation: &Invocation, result: Result<Output, RunError>) -> Result<Output, RunError> {
        let host = &self.host;
        match &result {
            Ok(output) => {
                let (status, elapsed) = (output.status, output.elapsed);
                tracing::debug!(%host, %invocation, ?status, ?elapsed, stderr = %tail(&output.stderr), "ran");
            }
            Err(error) => tracing::debug!(%host, %invocation, %error, "could not be run"),
        }
        result
    }

    fn did_not_begin(&self, output: &Output, sudo: Sudo) -> RunError {
        let words = tail(&output.stderr);
        let host = &self.host;
        let problem = match sudo {
            Sudo::No => Problem::new(
                FailureKind::Host,
                format!("the login shell on {host} did not run a command ({:?}){words}", output.status),
            )
            .hint("A shell of POSIX is expected there: sh, bash, zsh, ash."),
            Sudo::Free | Sudo::Password => Problem::new(
                FailureKind::Precondition,
                format!("`sudo` on {host} refused{words}"),
            )
            .hint("Give the host's entry in the profile a `password: {env: NAME}`, or let `sudo` ask for none there."),
        };
        RunError::Connection(Box::new(problem))
    }

    /// Ends a command that is left alone. It is the leader of its group: sshd gives each one a session of its own.
    fn end(&self, pid: u32, sudo: Sudo) {
        let invocation = script(END_SCRIPT, [pid.to_string()]);
        // With a password it would be asked for once more: the group of `sudo` gets the signal from it.
        let sudo = if sudo == Sudo::Password { Sudo::No } else { sudo };
        let wait = Wait::new(
            Deadline::after(Instant::now(), END),
            crate::model::Cancel::new(),
            "the end of a command",
        );
        let ended = posix_line(&invocation, &new_mark(), sudo)
            .map(|line| engine::exec(&self.chain(), &line, b"", &wait));
        if let Some(Err(failure)) = ended {
            tracing::debug!(host = %self.host, pid, error = %failure.error, "a command may go on");
        }
    }

    /// Runs one of our scripts; a status other than 0 is the system's refusal, in its words.
    pub(super) fn script(
        &self,
        what: &str,
        text: &str,
        arguments: impl IntoIterator<Item = String>,
        input: &[u8],
        wait: &Wait,
    ) -> Result<Output, RunError> {
        if self.system(wait)? == System::Windows {
            return Err(RunError::Unsupported {
                what: format!("{what}: it is no POSIX system"),
                host: self.host.clone(),
            });
        }
        self.exec(&script(text, arguments), input, wait)
    }

    fn started(&self, pid: u32, wait: &Wait) -> Result<Option<u64>, RunError> {
        let what = format!("look at the process {pid}");
        let output = self.script(&what, STARTED, [pid.to_string()], b"", wait)?;
        let output = files::succeeded(&what, &self.host, output)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok())
    }

    fn ask_to_end(&self, process: &ProcessRef, wait: &Wait) -> Result<(), RunError> {
        if !self.is_running(process, wait)? {
            return Ok(());
        }
        let what = format!("end the process {}", process.pid);
        let text = "kill -TERM \"$1\" 2>/dev/null || ! kill -0 \"$1\" 2>/dev/null";
        let output = self.script(&what, text, [process.pid.to_string()], b"", wait)?;
        files::succeeded(&what, &self.host, output)?;
        while self.is_running(process, wait)? {
            std::thread::park_timeout(LOOK.min(wait.deadline.remaining(Instant::now())));
        }
        Ok(())
    }
}

const END_SCRIPT: &str = include_str!("../../../templates/sh/end.sh");
const START: &str = include_str!("../../../templates/sh/start.sh");
const KILL: &str = include_str!("../../../templates/sh/kill.sh");
const STARTED: &str = include_str!("../../../templates/sh/started.sh");
const FIND_STARTED: &str = include_str!("../../../templates/sh/find-started.sh");

fn script(text: &str, arguments: impl IntoIterator<Item = String>) -> Invocation {
    let front = ["-c", text, "sh"].into_iter().map(str::to_owned);
    Invocation::changes("sh", front.chain(arguments))
}

/// Differs from every other of this process and, most probably, of others.
fn new_mark() -> Mark {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    Mark(format!("vmserial-{}-{count}", std::process::id()))
}

fn process(text: &str) -> Option<ProcessRef> {
    let (pid, start_time) = text.trim().split_once(' ')?;
    Some(ProcessRef {
        pid: pid.parse().ok()?,
        start_time: start_time.parse().ok()?,
    })
}

impl ScriptHost for SshRunner {
    fn script_host(&self) -> &HostRef {
        &self.host
    }

    fn run_script(
        &self,
        what: &str,
        text: &str,
        arguments: &[String],
        input: &[u8],
        wait: &Wait,
    ) -> Result<Output, RunError> {
        self.script(what, text, arguments.iter().cloned(), input, wait)
    }
}

impl Runner for SshRunner {
    fn host(&self) -> &HostRef {
        &self.host
    }

    fn renew(&self) {
        engine::renew(&self.chain());
    }

    fn run(&self, invocation: &Invocation, wait: &Wait) -> Result<Output, RunError> {
        let input = invocation.stdin.clone().unwrap_or_default();
        self.exec(invocation, input.as_bytes(), wait)
    }

    fn start(&self, invocation: &Invocation, log: &HostPath, wait: &Wait) -> Result<ProcessRef, RunError> {
        let what = format!("start `{}`", invocation.program);
        let words = std::iter::once(&invocation.program).chain(&invocation.arguments);
        let arguments = std::iter::once(log.as_str().to_owned()).chain(words.cloned());
        let output = self.script(&what, START, arguments, b"", wait)?;
        let output = files::succeeded(&what, &self.host, output)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if said.trim() == "missing" {
            return Err(RunError::ProgramNotFound {
                program: invocation.program.clone(),
                host: self.host.clone(),
            });
        }
        process(&said).ok_or_else(|| RunError::Io {
            what,
            source: std::io::Error::other(format!("it ended at once; its words are in `{log}`")),
        })
    }

    fn powershell(&self, call: &ScriptCall, wait: &Wait) -> Result<serde_json::Value, RunError> {
        powershell::over(self, call, wait)
    }

    fn is_running(&self, process: &ProcessRef, wait: &Wait) -> Result<bool, RunError> {
        Ok(self.started(process.pid, wait)? == Some(process.start_time))
    }

    fn stop(&self, process: &ProcessRef, wait: &Wait) -> Result<(), RunError> {
        match self.ask_to_end(process, wait) {
            Err(RunError::DeadlinePassed { .. }) => {}
            result => return result,
        }
        let grace = Wait::new(
            Deadline::after(Instant::now(), KILLED),
            wait.cancel.clone(),
            format!("the killed process {} to be gone", process.pid),
        );
        // One command, since each may cost a login.
        let what = format!("kill the process {}", process.pid);
        let arguments = [process.pid.to_string(), process.start_time.to_string()];
        let output = self.script(&what, KILL, arguments, b"", &grace)?;
        files::succeeded(&what, &self.host, output).map(|_| ())
    }

    fn find_started(&self, log: &HostPath, wait: &Wait) -> Result<Option<ProcessRef>, RunError> {
        let what = "look through the processes";
        let output = self.script(what, FIND_STARTED, [log.as_str().to_owned()], b"", wait)?;
        let output = files::succeeded(what, &self.host, output)?;
        Ok(process(&String::from_utf8_lossy(&output.stdout)))
    }

    fn read(&self, path: &HostPath, wait: &Wait) -> Result<Option<FileSnapshot>, RunError> {
        match self.system(wait)? {
            System::Posix => files::read(self, path, wait),
            System::Windows => powershell::files::read(self, path, wait),
        }
    }

    fn digest(&self, path: &HostPath, wait: &Wait) -> Result<Option<Digest>, RunError> {
        match self.system(wait)? {
            System::Posix => Ok(files::read(self, path, wait)?.map(|file| file.digest())),
            System::Windows => powershell::files::digest(self, path, wait),
        }
    }

    fn has_rest(&self, path: &HostPath, wait: &Wait) -> Result<bool, RunError> {
        match self.system(wait)? {
            System::Posix => Ok(false),
            System::Windows => powershell::files::has_rest(self, path, wait),
        }
    }

    fn remove_rest(&self, path: &HostPath, wait: &Wait) -> Result<(), RunError> {
        match self.system(wait)? {
            System::Posix => Ok(()),
            System::Windows => powershell::files::remove_rest(self, path, wait),
        }
    }

    fn replace(
        &self,
        path: &HostPath,
        new: Option<&FileSnapshot>,
        expected: Option<&Digest>,
        wait: &Wait,
    ) -> Result<(), RunError> {
        match self.system(wait)? {
            System::Posix => files::replace(self, path, new, expected, wait),
            System::Windows => powershell::files::replace(self, path, new, expected, wait),
        }
    }

    fn make_folder(&self, path: &HostPath, wait: &Wait) -> Result<(), RunError> {
        match self.system(wait)? {
            System::Posix => files::make_folder(self, path, wait),
            System::Windows => powershell::files::make_folder(self, path, wait),
        }
    }

    fn list(&self, path: &HostPath, wait: &Wait) -> Result<Vec<String>, RunError> {
        files::list(self, path, wait)
    }

    fn exists(&self, path: &HostPath, wait: &Wait) -> Result<bool, RunError> {
        files::exists(self, path, wait)
    }

    fn open(&self, endpoint: &EndpointSpec, wait: &Wait) -> Result<Box<dyn ReadWrite>, RunError> {
        let unsupported = || RunError::Unsupported {
            what: format!("open `{endpoint}` as a stream"),
            host: self.host.clone(),
        };
        if endpoint.role != Some(Role::Connect) || !endpoint.via.is_empty() {
            return Err(unsupported());
        }
        let far = Far::of(&endpoint.address).ok_or_else(unsupported)?;
        let what = match &endpoint.address {
            Address::Unix(path) => format!("connect to `{}` on {}", path.display(), self.host),
            _ => format!("connect to {endpoint} on {}", self.host),
        };
        match engine::open_within(&self.chain(), &far, wait) {
            Err(RunError::Io { source, .. }) => Err(RunError::Io { what, source }),
            result => result,
        }
    }
}
