//! A Windows guest behind its administration console (SAC), as a host: logs in to a channel of its own, runs programs there, leaves.

use crate::guest::dialogue::{CmdAgent, CmdFailure, LoginFailure};
use crate::guest::windows::program::{self, SCRIPT, Said, is_plain};
use crate::model::{FailureKind, HostRef, Problem, ScriptCall, Wait};
use crate::runner::{RunError, Runner};
use crate::session::guest_console::{Slot, Slots};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// Makes the administration consoles of a state folder.
pub(super) fn slots(state: &Path) -> Slots<CmdAgent> {
    Slots::new(state, login_problem, kind_of)
}

/// Effects of a Windows guest behind its administration console: programs, one at a time.
pub struct SacRunner {
    host: HostRef,
    console: Arc<Slot<CmdAgent>>,
}

impl SacRunner {
    pub(super) fn new(endpoint: &str, console: Arc<Slot<CmdAgent>>) -> Self {
        Self {
            host: HostRef::Sac(endpoint.to_owned()),
            console,
        }
    }
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
        let run = |words: &Vec<String>| {
            let said = self.console.run(wait, |shell, now| shell.begin(now, words))?;
            Ok(Said {
                status: said.status,
                text: String::from_utf8_lossy(&said.output).into_owned(),
            })
        };
        let said = runs.iter().map(run).collect::<Result<Vec<_>, RunError>>()?;
        Ok(program::answer(&said))
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

fn kind_of(failure: &CmdFailure) -> FailureKind {
    match failure {
        CmdFailure::Silent => FailureKind::Deadline,
        CmdFailure::Gone => FailureKind::ConnectionLost,
        CmdFailure::Broken => FailureKind::Host,
    }
}
