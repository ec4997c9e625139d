//! A guest behind its serial console, as a host: logs in, runs commands in a shell of our own, logs out at the end.

use crate::guest::dialogue::{Agent, AgentFailure, CmdAgent, LoginFailure};
use crate::model::{Digest, FailureKind, HostPath, HostRef, Invocation, Problem, Wait};
use crate::runner::posix_files::{self, ScriptHost};
use crate::runner::{FileSnapshot, Output, ProcessRef, RunError, Runner, Status};
use crate::session::guest_console::{Slot, Slots};
use crate::session::sac::{self, SacRunner};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// The consoles that are logged in to: one login for all that is done to a guest.
#[derive(Debug)]
pub struct Consoles {
    posix: Slots<Agent>,
    sac: Slots<CmdAgent>,
}

impl Consoles {
    /// Makes the consoles of a state folder, which knows the ports' owners.
    pub fn new(state: &Path) -> Self {
        Self {
            posix: Slots::new(state, login_problem, kind_of),
            sac: sac::slots(state),
        }
    }

    /// Returns the runner of the Windows guest behind a port with its administration console (SAC). Nobody logs in yet.
    pub fn sac_runner(&self, endpoint: &str) -> SacRunner {
        SacRunner::new(endpoint, self.sac.of(endpoint))
    }

    /// Returns the runner of the guest behind a port. Nobody logs in yet.
    pub fn runner(&self, endpoint: &str) -> SerialRunner {
        SerialRunner {
            host: HostRef::Serial(endpoint.to_owned()),
            console: self.posix.of(endpoint),
        }
    }
}

/// Effects of a guest behind its serial console.
pub struct SerialRunner {
    host: HostRef,
    console: Arc<Slot<Agent>>,
}

impl SerialRunner {
    fn exec(&self, invocation: &Invocation, input: &[u8], wait: &Wait) -> Result<Output, RunError> {
        let begun = Instant::now();
        let words = std::iter::once(&invocation.program).chain(&invocation.arguments);
        let Ok(line) = shlex::try_join(words.map(String::as_str)) else {
            return Err(self.cannot(format!("pass a NUL in a word: `{invocation}`")));
        };
        let script = format!("PATH=\"$PATH:/usr/local/sbin:/usr/sbin:/sbin\"; export PATH; exec {line}\n");
        let said = self
            .console
            .run(wait, |shell, now| shell.begin(now, script.as_bytes(), input))?;
        // 127 is also the status of a program that runs one that is not there; the words tell which it is.
        let missing = said.status == 127 && {
            let words = String::from_utf8_lossy(&said.stderr);
            words.contains("not found") && words.contains(&invocation.program)
        };
        if missing {
            return Err(RunError::ProgramNotFound {
                program: invocation.program.clone(),
                host: self.host.clone(),
            });
        }
        let output = Output {
            status: match said.status {
                // The shell's way of telling a signal.
                status @ 129..=192 => Status::Signalled(status - 128),
                status => Status::Exited(status),
            },
            stdout: said.stdout,
            stderr: said.stderr,
            elapsed: begun.elapsed(),
        };
        tracing::debug!(host = %self.host, %invocation, status = ?output.status, "ran");
        Ok(output)
    }
}

impl ScriptHost for SerialRunner {
    fn script_host(&self) -> &HostRef {
        &self.host
    }

    fn run_script(
        &self,
        _what: &str,
        text: &str,
        arguments: &[String],
        input: &[u8],
        wait: &Wait,
    ) -> Result<Output, RunError> {
        let front = ["-c", text, "sh"].into_iter().map(str::to_owned);
        let invocation = Invocation::changes("sh", front.chain(arguments.iter().cloned()));
        self.exec(&invocation, input, wait)
    }
}

impl Runner for SerialRunner {
    fn host(&self) -> &HostRef {
        &self.host
    }

    fn run(&self, invocation: &Invocation, wait: &Wait) -> Result<Output, RunError> {
        let input = invocation.stdin.clone().unwrap_or_default();
        self.exec(invocation, input.as_bytes(), wait)
    }

    fn start(&self, _: &Invocation, _: &HostPath, _: &Wait) -> Result<ProcessRef, RunError> {
        Err(self.cannot("start a process that goes on when its console is logged out".to_owned()))
    }

    fn read(&self, path: &HostPath, wait: &Wait) -> Result<Option<FileSnapshot>, RunError> {
        posix_files::read(self, path, wait)
    }

    fn replace(
        &self,
        path: &HostPath,
        new: Option<&FileSnapshot>,
        expected: Option<&Digest>,
        wait: &Wait,
    ) -> Result<(), RunError> {
        posix_files::replace(self, path, new, expected, wait)
    }

    fn make_folder(&self, path: &HostPath, wait: &Wait) -> Result<(), RunError> {
        posix_files::make_folder(self, path, wait)
    }

    fn list(&self, path: &HostPath, wait: &Wait) -> Result<Vec<String>, RunError> {
        posix_files::list(self, path, wait)
    }

    fn exists(&self, path: &HostPath, wait: &Wait) -> Result<bool, RunError> {
        posix_files::exists(self, path, wait)
    }
}

fn login_problem(endpoint: &str, failure: &LoginFailure) -> Problem {
    let kind = match failure {
        LoginFailure::Silent => FailureKind::Deadline,
        LoginFailure::NoShell(_) => FailureKind::Host,
        _ => FailureKind::Precondition,
    };
    let hint = match failure {
        LoginFailure::Silent => {
            "Does the VM run, and has the guest a getty or a shell on this port? `vmserial console` shows it; `--by-hand` prints what to type elsewhere."
        }
        LoginFailure::NoUser => "Name the user: `--user root`.",
        LoginFailure::NoPassword => {
            "Give it by `--password-env NAME`, or by `guest: {password: {env: NAME}}` in the profile."
        }
        LoginFailure::Refused(_) => {
            "Check user and password. Root may be kept from serial consoles by /etc/securetty."
        }
        LoginFailure::NewPassword => "Log in once by hand (`vmserial console`) and choose it.",
        LoginFailure::Sudo(_) => "Let the user use `sudo` in the guest, or log in as root.",
        LoginFailure::InDebugger => "`vmserial resume` lets it run.",
        LoginFailure::InBootLoader => "Let it boot, then run this again.",
        LoginFailure::NoShell(_) => "`vmserial console` shows what is there.",
        LoginFailure::NoPlace => "Mount a tmpfs at /run in the guest.",
        LoginFailure::Missing(_) => "Install coreutils or BusyBox in the guest.",
    };
    Problem::new(kind, format!("{failure} (on {endpoint})")).hint(hint)
}

fn kind_of(failure: &AgentFailure) -> FailureKind {
    match failure {
        AgentFailure::Silent => FailureKind::Deadline,
        AgentFailure::Gone => FailureKind::ConnectionLost,
        AgentFailure::InDebugger => FailureKind::Precondition,
        AgentFailure::Broken | AgentFailure::TooMuch(_) => FailureKind::Host,
    }
}
