//! Consoles of guests that are logged in to: one login for all that is done to a guest, a dialogue at a time, a goodbye.

use crate::bridge::control::{ControlClient, Mode, Since};
use crate::bridge::{BreakMeans, BridgeSpec};
use crate::guest::dialogue::{Credentials, Dialogue, Hidden, LoginFailure, Mark, Shell};
use crate::model::{Cancel, Deadline, Digest, EndpointSpec, FailureKind, Policy, Problem, Wait};
use crate::runner::RunError;
use crate::runner::secret::fetch;
use crate::runner::ssh::options::login;
use crate::session::join::{JoinedPort, join_or_open};
use crate::session::port_key::PortKey;
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long the port's owner may take to answer.
const OWNER: Duration = Duration::from_secs(5);

/// How long the goodbye may take: the terminal is set back, the login ended.
const GOODBYE: Duration = Duration::from_secs(3);

/// Nothing more comes after this.
const QUIET: Duration = Duration::from_millis(400);

/// How often a wait looks at Ctrl-C.
const LOOK: Duration = Duration::from_millis(100);

/// Puts into words why there is no login on an endpoint.
type LoginProblem = fn(&str, &LoginFailure) -> Problem;

/// The consoles of one kind, by endpoint.
pub(super) struct Slots<S: Shell> {
    state: PathBuf,
    login_problem: LoginProblem,
    kind_of: fn(&S::Failure) -> FailureKind,
    open: Mutex<HashMap<String, Arc<Slot<S>>>>,
}

impl<S: Shell> fmt::Debug for Slots<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Slots")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl<S: Shell> Slots<S> {
    /// Makes the consoles of a state folder, which knows the ports' owners, and how their failures are told.
    pub(super) fn new(
        state: &Path,
        login_problem: LoginProblem,
        kind_of: fn(&S::Failure) -> FailureKind,
    ) -> Self {
        Self {
            state: state.to_owned(),
            login_problem,
            kind_of,
            open: Mutex::default(),
        }
    }

    /// Returns the place of the console of an endpoint. Nobody logs in yet.
    pub(super) fn of(&self, endpoint: &str) -> Arc<Slot<S>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Slot {
            endpoint: endpoint.to_owned(),
            state: self.state.clone(),
            login_problem: self.login_problem,
            kind_of: self.kind_of,
            console: Mutex::default(),
        };
        Arc::clone(open.entry(endpoint.to_owned()).or_insert_with(|| Arc::new(new())))
    }
}

/// The place of one console: empty before the first command, and after one that failed.
pub(super) struct Slot<S: Shell> {
    endpoint: String,
    state: PathBuf,
    login_problem: LoginProblem,
    kind_of: fn(&S::Failure) -> FailureKind,
    console: Mutex<Option<Console<S>>>,
}

impl<S: Shell> Slot<S>
where
    S::Failure: fmt::Display,
{
    /// Runs what `begin` begins, behind a login.
    pub(super) fn run(&self, wait: &Wait, begin: impl FnOnce(&mut S, Duration)) -> Result<S::Said, RunError> {
        let run = || {
            let mut slot = self.console.lock().unwrap_or_else(PoisonError::into_inner);
            let mut console = match slot.take() {
                Some(open) => open,
                None => self.open(wait)?,
            };
            begin(&mut console.shell, console.wire.now());
            let said = console.wire.hold(&mut console.shell, wait)?.map_err(|failure| {
                Problem::new((self.kind_of)(&failure), failure.to_string()).hint(
                    "Run it again: what was changed is seen then, and what was begun is in the journal.",
                )
            })?;
            // What failed is not used again: nobody knows what the guest's shell still does.
            *slot = Some(console);
            Ok(said)
        };
        run().map_err(|problem| RunError::Connection(Box::new(problem)))
    }

    /// Joins the port or opens it, and logs in.
    fn open(&self, wait: &Wait) -> Result<Console<S>, Problem> {
        let credentials = credentials(&self.endpoint)?;
        let (mut wire, port) = Wire::open(&self.endpoint, &self.state)?;
        let mark = new_mark(&self.endpoint);
        let mut login = S::login(credentials, mark.clone(), wire.now());
        let outcome = wire.hold(&mut login, wait)?;
        let login = outcome.map_err(|failure| (self.login_problem)(&self.endpoint, &failure))?;
        Ok(Console {
            shell: S::behind(login, mark),
            wire,
            port: Some(port),
        })
    }
}

/// A console on which our shell runs.
struct Console<S: Shell> {
    wire: Wire,
    shell: S,
    port: Option<JoinedPort>,
}

impl<S: Shell> Drop for Console<S> {
    /// Leaves it as it was.
    fn drop(&mut self) {
        let deadline = Deadline::after(Instant::now(), GOODBYE);
        let wait = Wait::new(deadline, Cancel::new(), "the goodbye");
        let said = self.shell.goodbye().iter().try_for_each(|line| {
            self.wire.send(line)?;
            self.wire.wait_until_taken(&wait)
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
fn new_mark(endpoint: &str) -> Mark {
    let seed = Digest::of(format!("{endpoint}{}{:?}", std::process::id(), Instant::now()).as_bytes());
    Mark::new(u64::from_str_radix(&seed.as_str()[..16], 16).unwrap_or_default())
}

/// Fetches who logs in, as the profile or the command line says.
fn credentials(endpoint: &str) -> Result<Credentials, Problem> {
    let known = login(endpoint);
    let password = known.password.as_ref().map(fetch).transpose()?;
    Ok(Credentials {
        user: known.user,
        password: password.map(|password| Hidden::new(password.reveal())),
        sudo: known.sudo,
    })
}

/// The port's bytes, with a clock that begins with it.
struct Wire {
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
    fn open(endpoint: &str, state: &Path) -> Result<(Self, JoinedPort), Problem> {
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

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Problem> {
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

    /// Holds a dialogue to its end.
    fn hold<D: Dialogue>(
        &mut self,
        dialogue: &mut D,
        wait: &Wait,
    ) -> Result<Result<D::Said, D::Failure>, Problem> {
        loop {
            self.send(&dialogue.take_output())?;
            if let Some(outcome) = dialogue.take_outcome() {
                return Ok(outcome);
            }
            let bytes = self.receive(dialogue.deadline(), wait)?;
            dialogue.input(self.now(), &bytes);
            dialogue.tick(self.now());
        }
    }

    /// Waits until a line is taken: words and the end of their line behind them, or quiet. Its echo alone would be too early: a
    /// hypervisor drops what its guest has not read when the port is closed.
    fn wait_until_taken(&mut self, wait: &Wait) -> Result<(), Problem> {
        let mut said = Vec::new();
        let mut last = self.now();
        loop {
            let bytes = self.receive(self.now() + LOOK, wait)?;
            if !bytes.is_empty() {
                last = self.now();
                said.extend(bytes);
            }
            let words = said.trim_ascii_start();
            let is_quiet = self.now() - last >= QUIET;
            if words.contains(&b'\n') || (is_quiet && !words.is_empty()) {
                return Ok(());
            }
        }
    }

    /// Returns what came until then, or nothing.
    fn receive(&mut self, until: Duration, wait: &Wait) -> Result<Vec<u8>, Problem> {
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
