//! A Windows guest through its Hyper-V host: PowerShell Direct, which needs neither the guest's network nor its SSH.
//!
//! Facts (Microsoft's page on PowerShell Direct): the guest runs Windows 10, Server 2016 or later and is running; who asks is a
//! Hyper-V administrator of the host; the login is one of the guest's own. Windows PowerShell 5.1 is asked, because `-VMId` fails
//! in some builds of PowerShell 7 (PowerShell/PowerShell#14738).

use crate::model::{FailureKind, HostRef, Problem, ScriptCall, Wait};
use crate::runner::secret::fetch;
use crate::runner::ssh::options::login;
use crate::runner::{RunError, Runner};
use serde_json::Value;

/// The script of ours that runs a program of Windows.
pub const RUN: &str = "windows/run";

/// Effects of a Windows guest, by its host's PowerShell.
pub struct DirectRunner {
    host: HostRef,
    vm: String,
    behind: Box<dyn Runner>,
}

impl DirectRunner {
    /// Makes the runner of the guest of a VM on the host of another runner.
    pub fn new(vm: &str, behind: Box<dyn Runner>) -> Self {
        Self {
            host: HostRef::Direct {
                vm: vm.to_owned(),
                host: Box::new(behind.host().clone()),
            },
            vm: vm.to_owned(),
            behind,
        }
    }

    fn credentials(&self) -> Result<(String, String), Problem> {
        let known = login(&self.host.to_string());
        let missing = |what: &str, hint: &str| {
            let message = format!("PowerShell Direct logs in to the guest, and no {what} is known");
            Problem::new(FailureKind::Precondition, message).hint(hint)
        };
        let user = known.user.ok_or_else(|| {
            missing(
                "user",
                "Name one: `--user Administrator`, or `guest: {user: …}` in the profile.",
            )
        })?;
        let password = known.password.ok_or_else(|| {
            missing(
                "password",
                "Give it by `--password-env NAME`, or by `guest: {password: {env: NAME}}` in the profile.",
            )
        })?;
        Ok((user, fetch(&password)?.reveal().to_owned()))
    }
}

impl Runner for DirectRunner {
    fn host(&self) -> &HostRef {
        &self.host
    }

    fn powershell(&self, call: &ScriptCall, wait: &Wait) -> Result<Value, RunError> {
        if call.script != RUN {
            return Err(self.cannot(format!("run the PowerShell script `{}`", call.script)));
        }
        let (user, password) = self
            .credentials()
            .map_err(|problem| RunError::Connection(Box::new(problem)))?;
        let mut inner = ScriptCall::new("hyperv/run-in-guest")
            .with("vm", self.vm.as_str())
            .with("user", user)
            .with_secret("password", password);
        inner.parameters.extend(call.parameters.clone());
        for (name, value) in call.all_parameters() {
            if !call.parameters.contains_key(&name) {
                inner = inner.with_secret(name, value);
            }
        }
        self.behind
            .powershell(&inner, wait)
            .map_err(|error| RunError::Connection(Box::new(self.problem(error))))
    }
}

impl DirectRunner {
    fn problem(&self, error: RunError) -> Problem {
        let RunError::Script {
            message,
            id,
            category,
            ..
        } = &error
        else {
            return error.into();
        };
        let text = format!("{}: {message}", self.host);
        if id.starts_with("VmserialNoGuest") {
            return Problem::new(FailureKind::Precondition, text)
                .hint("Start the VM, and name it as `Get-VM` does: by its name, or by its GUID where two have the name.");
        }
        let login =
            id.contains("Credential") || message.contains("credential") || &**category == "SecurityError";
        if login {
            return Problem::new(FailureKind::Precondition, text)
                .hint("Check user and password: it is a login of the guest (`.\\Administrator`, `DOMAIN\\user`), not of the host.");
        }
        Problem::new(FailureKind::Host, text)
            .hint("PowerShell Direct needs a Windows 10, Server 2016 or later that has booted, and a Hyper-V administrator on the host.")
            .hint("Other ways in: `--host [USER@]GUEST` (its SSH), `--serial ENDPOINT` (its EMS console), `--by-hand`.")
    }
}
