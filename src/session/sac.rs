//! A Windows guest behind its administration console (SAC), as a host: logs in to a channel of its own, runs programs there, leaves.

use crate::guest::dialogue::{CmdAgent, CmdFailure, LoginFailure, SacLogin};
use crate::guest::windows::program::{self, SCRIPT, Said, is_plain};
use crate::model::{Cancel, Deadline, FailureKind, HostRef, Problem, ScriptCall, Wait};
use crate::runner::{RunError, Runner};
use crate::session::join::JoinedPort;
use crate::session::serial::{Wire, credentials, new_mark};
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(3);

/// The consoles that are logged in to, by endpoint: one login for all that is done to a guest.
#[derive(Default)]
pub struct SacConsoles(Mutex<HashMap<String, Arc<Mutex<Option<SacConsole>>>>>);

impl SacConsoles {
    /// Returns the runner of the guest behind a port. Nobody logs in yet.
    pub fn runner(&self, endpoint: &str, state: &Path) -> SacRunner {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        SacRunner {
            host: HostRef::Sac(endpoint.to_owned()),
            endpoint: endpoint.to_owned(),
            state: state.to_owned(),
            console: Arc::clone(open.entry(endpoint.to_owned()).or_default()),
        }
    }
}

/// Effects of a Windows guest behind its administration console: programs, one at a time.
pub struct SacRunner {
    host: HostRef,
    endpoint: String,
    state: PathBuf,
    console: Arc<Mutex<Option<SacConsole>>>,
}

impl Runner for SacRunner {
    fn host(&self) -> &HostRef {
        &self.host
    }

    /// Runs the programs of `windows/run` in the console's `cmd.exe`: no PowerShell is needed for them.
    fn powershell(&self, call: &ScriptCall, wait: &Wait) -> Result<Value, RunError> {
        let runs = program::runs(call).filter(|_| call.script == SCRIPT);
        let Some(runs) = runs else {
            return Err(self.cannot(format!("run the PowerShell script `{}`", call.script)));
        };
        if runs.iter().flatten().any(|word| !is_plain(word)) {
            return Err(self.cannot("be given a word that cmd.exe would read in its own way".to_owned()));
        }
        let connection = |problem| RunError::Connection(Box::new(problem));
        let mut console = self.console.lock().unwrap_or_else(PoisonError::into_inner);
        let mut said = Vec::new();
        for run in &runs {
            let open = match console.take() {
                Some(open) => open,
                None => SacConsole::open(&self.endpoint, &self.state, wait).map_err(connection)?,
            };
            // What failed is not used again: nobody knows what is there now.
            let (open, one) = open.run(run, wait).map_err(connection)?;
            *console = Some(open);
            said.push(one);
        }
        Ok(program::answer(&said))
    }
}

/// A channel in which we are logged in.
struct SacConsole {
    wire: Wire,
    agent: CmdAgent,
    port: Option<JoinedPort>,
}

impl SacConsole {
    fn open(endpoint: &str, state: &Path, wait: &Wait) -> Result<Self, Problem> {
        let credentials = credentials(endpoint)?;
        let (mut wire, port) = Wire::open(endpoint, state)?;
        let mark = new_mark(endpoint);
        let mut login = SacLogin::new(credentials, mark.clone(), wire.now());
        loop {
            wire.send(&login.take_output())?;
            match login.outcome() {
                Some(Ok(())) => {
                    return Ok(Self {
                        agent: CmdAgent::new(mark),
                        wire,
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

    /// Runs a program. Gives the console back only if all went well.
    fn run(mut self, words: &[String], wait: &Wait) -> Result<(Self, Said), Problem> {
        self.agent.begin(self.wire.now(), words);
        loop {
            let output = self.agent.take_output();
            self.wire.send(&output)?;
            match self.agent.take_outcome() {
                Some(Ok(said)) => {
                    let said = Said {
                        status: said.status,
                        text: String::from_utf8_lossy(&said.output).into_owned(),
                    };
                    return Ok((self, said));
                }
                Some(Err(failure)) => return Err(agent_problem(&failure)),
                None => {}
            }
            let bytes = self.wire.receive(self.agent.deadline(), wait)?;
            self.agent.input(self.wire.now(), &bytes);
            self.agent.tick(self.wire.now());
        }
    }
}

impl Drop for SacConsole {
    /// Takes our files away and closes the channel.
    fn drop(&mut self) {
        let deadline = Deadline::after(Instant::now(), GOODBYE);
        let wait = Wait::new(deadline, Cancel::new(), "the goodbye");
        let goodbye = self.agent.goodbye();
        let said = self
            .wire
            .send(&goodbye)
            .and_then(|()| self.wire.wait_for_words(&wait));
        if let Err(problem) = said {
            tracing::debug!(%problem, "the channel was not closed");
        }
        if let Some(port) = self.port.take() {
            port.close("the guest's dialogue ended");
        }
    }
}

fn login_problem(endpoint: &str, failure: &LoginFailure) -> Problem {
    let (kind, hint) = match failure {
        LoginFailure::Silent => (
            FailureKind::Deadline,
            "Does the VM run, and has Windows EMS on this port (`vmserial guest windows --ems COM2` by another way in)? `vmserial console` shows it.",
        ),
        LoginFailure::NoUser => (
            FailureKind::Precondition,
            "Name the user: `--user Administrator`, or `guest: {user: …}` in the profile.",
        ),
        LoginFailure::NoPassword => (
            FailureKind::Precondition,
            "Give it by `--password-env NAME`, or by `guest: {password: {env: NAME}}` in the profile.",
        ),
        LoginFailure::Refused(_) => (
            FailureKind::Precondition,
            "Check user and password; a user of a domain is `DOMAIN\\name`.",
        ),
        _ => (
            FailureKind::Host,
            "SAC starts a command prompt only when Windows has come up: `vmserial console` shows what is there.",
        ),
    };
    let text = match failure {
        LoginFailure::NoShell(words) => {
            format!("the administration console gives no command prompt; it says: {words}")
        }
        failure => failure.to_string(),
    };
    Problem::new(kind, format!("{text} (on {endpoint})")).hint(hint)
}

fn agent_problem(failure: &CmdFailure) -> Problem {
    let kind = match failure {
        CmdFailure::Silent => FailureKind::Deadline,
        CmdFailure::Gone => FailureKind::ConnectionLost,
        CmdFailure::Broken => FailureKind::Host,
    };
    Problem::new(kind, failure.to_string())
        .hint("Run it again: what was changed is seen then, and what was begun is in the journal.")
}
