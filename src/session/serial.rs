//! A guest behind its serial console, as a host: logs in, runs commands in a shell of our own, logs out at the end.

use crate::bridge::control::{ControlClient, Mode, Since};
use crate::bridge::{BreakMeans, BridgeSpec};
use crate::guest::dialogue::{Agent, AgentFailure, Credentials, Hidden, Login, LoginFailure, Mark, Said};
use crate::model::{
    Cancel, Deadline, Digest, EndpointSpec, FailureKind, HostPath, HostRef, Invocation, Policy, Problem, Wait,
};
use crate::runner::posix_files::{self, ScriptHost};
use crate::runner::secret::fetch;
use crate::runner::ssh::options::login;
use crate::runner::{FileSnapshot, Output, ProcessRef, ReadWrite, RunError, Runner, Status};
use crate::session::join::{JoinedPort, join_or_open};
use crate::session::port_key::PortKey;
use crate::session::sac::{SacConsoles, SacRunner};
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long the port's owner may take to answer.
const OWNER: Duration = Duration::from_secs(5);

/// How long the goodbye may take: the terminal is set back, the login ended.
const GOODBYE: Duration = Duration::from_secs(3);

/// How often a wait looks at Ctrl-C.
const LOOK: Duration = Duration::from_millis(100);

/// The consoles that are logged in to, by endpoint: one login for all that is done to a guest.
#[derive(Default)]
pub struct Consoles {
    state: PathBuf,
    open: Mutex<HashMap<String, Arc<Mutex<Option<Console>>>>>,
    sac: SacConsoles,
}

impl fmt::Debug for Consoles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Consoles")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Consoles {
    /// Makes the consoles of a state folder, which knows the ports' owners.
    pub fn new(state: PathBuf) -> Self {
        Self {
            state,
            open: Mutex::default(),
            sac: SacConsoles::default(),
        }
    }

    /// Returns the runner of the Windows guest behind a port with its administration console (SAC). Nobody logs in yet.
    pub fn sac_runner(&self, endpoint: &str) -> SacRunner {
        self.sac.runner(endpoint, &self.state)
    }

    /// Returns the runner of the guest behind a port. Nobody logs in yet.
    pub fn runner(&self, endpoint: &str) -> SerialRunner {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        SerialRunner {
            host: HostRef::Serial(endpoint.to_owned()),
            endpoint: endpoint.to_owned(),
            state: self.state.clone(),
            console: Arc::clone(open.entry(endpoint.to_owned()).or_default()),
        }
    }
}

/// Effects of a guest behind its serial console.
pub struct SerialRunner {
    host: HostRef,
    endpoint: String,
    state: PathBuf,
    console: Arc<Mutex<Option<Console>>>,
}

impl SerialRunner {
    fn exec(&self, invocation: &Invocation, input: &[u8], wait: &Wait) -> Result<Output, RunError> {
        let mut console = self.console.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        let open = match console.take() {
            Some(open) => open,
            None => Console::open(&self.endpoint, &self.state, wait)
                .map_err(|problem| RunError::Connection(Box::new(problem)))?,
        };
        // What failed is not used again: nobody knows what the guest's shell still does.
        let (open, said) = open.run(invocation, input, wait)?;
        *console = Some(open);
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

    fn unsupported<T>(&self, what: &str) -> Result<T, RunError> {
        Err(RunError::Unsupported {
            what: what.to_owned(),
            host: self.host.clone(),
        })
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
        self.unsupported("start a process that goes on when its console is logged out")
    }

    fn is_running(&self, _: &ProcessRef, _: &Wait) -> Result<bool, RunError> {
        self.unsupported("look for a process")
    }

    fn stop(&self, _: &ProcessRef, _: &Wait) -> Result<(), RunError> {
        self.unsupported("end a process")
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

    fn open(&self, _: &EndpointSpec, _: &Wait) -> Result<Box<dyn ReadWrite>, RunError> {
        self.unsupported("open a stream")
    }
}

/// A console on which our shell runs.
struct Console {
    wire: Wire,
    agent: Agent,
    /// The login was ours, and is ours to end.
    logged_in: bool,
    port: Option<JoinedPort>,
}

/// The port's bytes, with a clock that begins with it.
pub(super) struct Wire {
    runtime: tokio::runtime::Runtime,
    stream: crate::bridge::sys::NativeStream,
    received: Vec<u8>,
    begun: Instant,
}

fn host(what: &str, error: &std::io::Error) -> Problem {
    Problem::new(FailureKind::Host, format!("cannot {what}: {error}"))
}

impl Wire {
    /// Joins the port or opens it.
    ///
    /// # Errors
    ///
    /// The port's refusal.
    pub(super) fn open(endpoint: &str, state: &std::path::Path) -> Result<(Self, JoinedPort), Problem> {
        let spec: EndpointSpec = endpoint
            .parse()
            .map_err(|error| Problem::new(FailureKind::Usage, format!("{error}")))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| host("start a runtime", &error))?;
        let port = join_or_open(state, &[PortKey::of_endpoint(&spec)], || {
            let mut bridge = BridgeSpec::to(spec.clone(), Vec::new(), Policy::Console);
            bridge.break_means = BreakMeans::native_of(&spec);
            Ok(bridge)
        })?;
        let deadline = Deadline::after(Instant::now(), OWNER);
        let attached = runtime.block_on(async {
            let client = ControlClient::connect_until(&port.owner.socket, deadline).await?;
            client.attach(Mode::Rw, Since::Now, false, deadline).await
        })?;
        let wire = Self {
            runtime,
            stream: attached.stream,
            received: attached.received,
            begun: Instant::now(),
        };
        Ok((wire, port))
    }

    pub(super) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        if bytes.is_empty() {
            return Ok(());
        }
        let stream = &mut self.stream;
        let sent = self
            .runtime
            .block_on(async { tokio::time::timeout(OWNER, stream.write_all(bytes)).await });
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(lost(&error.to_string())),
            Err(_) => Err(lost("it takes no more bytes")),
        }
    }

    /// Waits until something but white space has come.
    pub(super) fn wait_for_words(&mut self, wait: &Wait) -> Result<(), Problem> {
        loop {
            let until = self.now() + LOOK;
            if !self.receive(until, wait)?.trim_ascii().is_empty() {
                return Ok(());
            }
        }
    }

    /// Returns what came until then, or nothing.
    pub(super) fn receive(&mut self, until: Duration, wait: &Wait) -> Result<Vec<u8>, Problem> {
        if !self.received.is_empty() {
            return Ok(std::mem::take(&mut self.received));
        }
        if wait.cancel.is_cancelled() {
            return Err(RunError::Cancelled {
                what: wait.what.clone(),
            }
            .into());
        }
        let left = wait.deadline.remaining(Instant::now());
        if left.is_zero() {
            return Err(RunError::DeadlinePassed {
                what: wait.what.clone(),
            }
            .into());
        }
        let pause = until.saturating_sub(self.now()).min(left).min(LOOK);
        let mut buffer = vec![0; 16 << 10];
        let stream = &mut self.stream;
        let read = self
            .runtime
            .block_on(async { tokio::time::timeout(pause, stream.read(&mut buffer)).await });
        match read {
            Err(_) => Ok(Vec::new()),
            Ok(Ok(0)) => Err(lost("its owner ended")),
            Ok(Ok(count)) => {
                buffer.truncate(count);
                Ok(buffer)
            }
            Ok(Err(error)) => Err(lost(&error.to_string())),
        }
    }
}

fn lost(why: &str) -> Problem {
    Problem::new(
        FailureKind::ConnectionLost,
        format!("lost the guest's console: {why}"),
    )
}

impl Console {
    /// Joins the port or opens it, and logs in.
    fn open(endpoint: &str, state: &std::path::Path, wait: &Wait) -> Result<Self, Problem> {
        let credentials = credentials(endpoint)?;
        let (mut wire, port) = Wire::open(endpoint, state)?;
        let mark = new_mark(endpoint);
        let mut login = Login::new(credentials, mark.clone(), wire.now());
        loop {
            wire.send(&login.take_output())?;
            match login.outcome() {
                Some(Ok(up)) => {
                    let logged_in = up.by_us;
                    return Ok(Self {
                        agent: Agent::new(mark),
                        wire,
                        logged_in,
                        port: Some(port),
                    });
                }
                Some(Err(failure)) => return Err(login_problem(endpoint, failure)),
                None => {}
            }
            let bytes = wire.receive(login.deadline(), wait)?;
            login.input(wire.now(), &bytes);
            login.tick(wire.now());
        }
    }

    /// Runs a command. Gives the console back only if all went well.
    fn run(mut self, invocation: &Invocation, input: &[u8], wait: &Wait) -> Result<(Self, Said), RunError> {
        let words: Vec<&str> = std::iter::once(invocation.program.as_str())
            .chain(invocation.arguments.iter().map(String::as_str))
            .collect();
        let line = shlex::try_join(words).map_err(|_| RunError::Unsupported {
            what: format!("pass a NUL in a word: `{invocation}`"),
            host: HostRef::Serial(String::new()),
        })?;
        let script = format!("PATH=\"$PATH:/usr/local/sbin:/usr/sbin:/sbin\"; export PATH; exec {line}\n");
        self.agent.begin(self.wire.now(), script.as_bytes(), input);
        loop {
            let output = self.agent.take_output();
            self.wire
                .send(&output)
                .map_err(|problem| RunError::Connection(Box::new(problem)))?;
            match self.agent.take_outcome() {
                Some(Ok(said)) => return Ok((self, said)),
                Some(Err(failure)) => return Err(RunError::Connection(Box::new(agent_problem(&failure)))),
                None => {}
            }
            let bytes = self
                .wire
                .receive(self.agent.deadline(), wait)
                .map_err(|problem| RunError::Connection(Box::new(problem)))?;
            self.agent.input(self.wire.now(), &bytes);
            self.agent.tick(self.wire.now());
        }
    }
}

impl Drop for Console {
    /// Ends our shell, which sets the terminal back, and then the login if it was ours.
    fn drop(&mut self) {
        let wait = Wait::new(
            Deadline::after(Instant::now(), GOODBYE),
            Cancel::new(),
            "the goodbye",
        );
        let goodbye = self.agent.goodbye();
        // Our shell sets the terminal back before the one behind it reads again, and that one has heard us when it answers.
        let logged_in = self.logged_in;
        let said = self.wire.send(&goodbye).and_then(|()| {
            self.wire.wait_for_words(&wait)?;
            if logged_in {
                self.wire.send(b" exit\r")?;
                self.wire.wait_for_words(&wait)?;
            }
            Ok(())
        });
        if let Err(problem) = said {
            tracing::debug!(%problem, "the console was not logged out");
        }
        if let Some(port) = self.port.take() {
            port.close("the guest's dialogue ended");
        }
    }
}

/// Makes a mark that nobody else has.
pub(super) fn new_mark(endpoint: &str) -> Mark {
    let seed = Digest::of(format!("{endpoint}{}{:?}", std::process::id(), Instant::now()).as_bytes());
    Mark::new(u64::from_str_radix(&seed.as_str()[..16], 16).unwrap_or_default())
}

/// Fetches who logs in, as the profile or the command line says.
pub(super) fn credentials(endpoint: &str) -> Result<Credentials, Problem> {
    let known = login(endpoint);
    let password = known.password.as_ref().map(fetch).transpose()?;
    Ok(Credentials {
        user: known.user,
        password: password.map(|password| Hidden::new(password.reveal())),
        sudo: known.sudo,
    })
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

fn agent_problem(failure: &AgentFailure) -> Problem {
    let kind = match failure {
        AgentFailure::Silent => FailureKind::Deadline,
        AgentFailure::Gone => FailureKind::ConnectionLost,
        AgentFailure::InDebugger => FailureKind::Precondition,
        AgentFailure::Broken | AgentFailure::TooMuch(_) => FailureKind::Host,
    };
    Problem::new(kind, failure.to_string())
        .hint("Run it again: what was changed is seen then, and what was begun is in the journal.")
}
