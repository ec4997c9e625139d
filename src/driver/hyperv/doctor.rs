//! What a host needs before its VMs can be set up, and the command that mends what is missing.

use super::{refusal, scripts};
use crate::model::{Check, CheckState, HostPath, HostRef, Problem, Wait};
use crate::runner::{RunError, Runner};
use serde::Deserialize;

/// The answer of the script.
#[derive(Debug, Clone, Deserialize)]
struct Answer {
    computer: String,
    user: String,
    windows: String,
    powershell: String,
    elevated: bool,
    hyperv_administrator: bool,
    modules: Vec<String>,
    service: Option<String>,
}

/// What is looked at, in this order.
const NAMES: [&str; 5] = ["PowerShell", "module", "service", "rights", "VMs"];

/// What is left to do where nobody knows more.
const SEE: &str = "Look at what PowerShell answers: `vmserial powershell host/versions` (`--host HOST` for another machine).";

/// Looks at a host.
pub(super) fn checks(runner: &dyn Runner, wait: &Wait) -> Vec<Check> {
    let call = scripts::doctor();
    let answer = match runner.powershell(&call, wait) {
        Ok(value) => serde_json::from_value::<Answer>(value).map_err(|error| {
            let found = format!(
                "the script `{}` gave another answer than it should: {error}",
                call.script
            );
            Check::new(NAMES[0], CheckState::Missing, found).mend(SEE)
        }),
        Err(error) => Err(no_answer(&error, runner, wait)
            .unwrap_or_else(|| missing(NAMES[0], &refusal::problem(&call, error)))),
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(first) => {
            let rest = NAMES[1..]
                .iter()
                .map(|name| Check::new(*name, CheckState::NotLookedAt, "needs an answer of PowerShell"));
            return std::iter::once(first).chain(rest).collect();
        }
    };
    let found = format!(
        "{} on {} (Windows {}), as {}",
        answer.powershell, answer.computer, answer.windows, answer.user
    );
    vec![
        Check::new(NAMES[0], CheckState::Good, found),
        module(&answer),
        service(&answer),
        rights(&answer),
        vms(&answer, runner, wait),
    ]
}

/// A failure as a check.
fn missing(name: &str, problem: &Problem) -> Check {
    let check = Check::new(name, CheckState::Missing, problem.message.clone());
    if problem.hints.is_empty() {
        return check.mend(SEE);
    }
    problem.hints.iter().fold(check, |check, hint| check.mend(hint))
}

/// Tells a WSL that starts no Windows programs from a machine that is no WSL.
fn no_answer(error: &RunError, runner: &dyn Runner, wait: &Wait) -> Option<Check> {
    if !matches!(error, RunError::NoPowerShell { .. }) || *runner.host() != HostRef::Local {
        return None;
    }
    let release = runner
        .read(&HostPath::new("/proc/sys/kernel/osrelease"), wait)
        .ok()??;
    let is_wsl = String::from_utf8_lossy(&release.bytes)
        .to_lowercase()
        .contains("microsoft");
    let interop = HostPath::new("/proc/sys/fs/binfmt_misc/WSLInterop");
    if !is_wsl || runner.exists(&interop, wait).unwrap_or(true) {
        return None;
    }
    Some(
        Check::new(NAMES[0], CheckState::Missing, "this WSL starts no Windows programs: its interoperability is off")
            .mend("Write `[interop]` and `enabled=true` into /etc/wsl.conf, run `wsl.exe --shutdown` in Windows, and start it again."),
    )
}

fn module(answer: &Answer) -> Check {
    if answer.modules.is_empty() {
        return Check::new(NAMES[1], CheckState::Missing, "the Hyper-V module of PowerShell is not installed")
            .mend("Windows 10 and 11, elevated: `Enable-WindowsOptionalFeature -Online -FeatureName Microsoft-Hyper-V-Management-PowerShell`.")
            .mend("Windows Server, elevated: `Install-WindowsFeature -Name Hyper-V-PowerShell`.");
    }
    let versions = answer.modules.join(", ");
    Check::new(NAMES[1], CheckState::Good, format!("Hyper-V {versions}"))
}

fn service(answer: &Answer) -> Check {
    match answer.service.as_deref() {
        Some("Running") => Check::new(NAMES[2], CheckState::Good, "vmms runs"),
        Some(state) => Check::new(NAMES[2], CheckState::Missing, format!("vmms is `{state}`"))
            .mend("Start it, elevated: `Start-Service -Name vmms`."),
        None => Check::new(NAMES[2], CheckState::Missing, "this host has no Hyper-V (no service vmms)")
            .mend("Windows 10 and 11 (not Home), elevated: `Enable-WindowsOptionalFeature -Online -FeatureName Microsoft-Hyper-V -All`, then restart it.")
            .mend("Windows Server, elevated: `Install-WindowsFeature -Name Hyper-V -IncludeManagementTools -Restart`."),
    }
}

fn rights(answer: &Answer) -> Check {
    let join = "In an elevated PowerShell, once: `Add-LocalGroupMember -SID S-1-5-32-578 -Member $env:USERNAME`, then sign out and in.";
    match (answer.hyperv_administrator, answer.elevated) {
        (true, _) => Check::new(
            NAMES[3],
            CheckState::Good,
            "in Hyper-V Administrators: no elevation is needed, not for the pipes either",
        ),
        (false, true) => Check::new(
            NAMES[3],
            CheckState::Advice,
            "elevated; members of Hyper-V Administrators need no elevation",
        )
        .mend(join),
        (false, false) => Check::new(
            NAMES[3],
            CheckState::Missing,
            format!(
                "{} is neither elevated nor in Hyper-V Administrators",
                answer.user
            ),
        )
        .mend(join)
        .mend("Or run it from an elevated terminal, for this once."),
    }
}

/// Some hosts refuse who may not look, others show nothing: that is why they are looked at.
fn vms(answer: &Answer, runner: &dyn Runner, wait: &Wait) -> Check {
    if answer.modules.is_empty() {
        return Check::new(NAMES[4], CheckState::NotLookedAt, "needs the module");
    }
    let call = scripts::observe(&[]);
    match runner.powershell(&call, wait) {
        Ok(value) => {
            let ports = value.get("ports").and_then(serde_json::Value::as_array);
            let mut ids: Vec<String> = ports
                .into_iter()
                .flatten()
                .map(|port| port["vm"].to_string())
                .collect();
            ids.sort_unstable();
            ids.dedup();
            let hidden = !answer.elevated && !answer.hyperv_administrator;
            if ids.is_empty() && hidden {
                return Check::new(
                    NAMES[4],
                    CheckState::NotLookedAt,
                    "needs the rights: none is shown without them",
                );
            }
            Check::new(
                NAMES[4],
                CheckState::Good,
                format!("{} with COM ports", ids.len()),
            )
        }
        Err(error) => missing(NAMES[4], &refusal::problem(&call, error)),
    }
}
