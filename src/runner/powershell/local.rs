//! The PowerShell of this machine: Windows' own, that of the Windows around a WSL, or `pwsh`.

use super::helper::{COMMAND, Request, Said};
use super::over::{Asking, Way, by};
use super::sys::HAS_HELPER;
use crate::model::{Invocation, ScriptCall, Wait};
use crate::render::powershell::one_line;
use crate::runner::local::{must_succeed, tail};
use crate::runner::{Output, RunError, Runner};
use serde_json::Value;

/// Without a shell between: CreateProcess takes 32,767 characters, on WSL's far side, too. `powershell.exe` first: on WSL
/// it is the Windows around it, which has the Hyper-V that a `pwsh` of the Linux inside does not see.
const HERE: Way = Way {
    programs: &[
        "powershell.exe",
        "/mnt/c/Windows/System32/WindowsPowerShell/v1.0/powershell.exe",
        "pwsh.exe",
        "pwsh",
    ],
    longest: 32_000,
};

/// What the crate may be given: it writes all of it before it reads, into a pipe of 64 KiB.
const LONGEST_FOR_CRATE: usize = 32 * 1024;

/// Runs a script of ours by this machine's PowerShell.
///
/// # Errors
///
/// As [`by`].
pub fn local(runner: &dyn Runner, call: &ScriptCall, wait: &Wait) -> Result<Value, RunError> {
    if !HAS_HELPER {
        return by(&HERE, runner, call, wait);
    }
    let asking = Asking::new(call, runner.host())?;
    // Neither way has it on a command line: the helper reads its request, too.
    let line = one_line(&asking.script);
    if line.len() <= LONGEST_FOR_CRATE
        && let Some(output) = helped(runner, &Request::Crate(line), wait)?
    {
        return asking.answer(&output);
    }
    asking.by(&HERE, &mut |invocation| {
        helped(runner, &Request::Command(invocation.clone()), wait)
    })
}

/// Has the helper run something; `None` if there is no such PowerShell.
fn helped(runner: &dyn Runner, request: &Request, wait: &Wait) -> Result<Option<Output>, RunError> {
    let failed = |what: &str, source| RunError::Io {
        what: what.to_owned(),
        source,
    };
    let program = std::env::current_exe().map_err(|error| failed("find vmserial's own program", error))?;
    let mut invocation = Invocation::changes(program.to_string_lossy(), [COMMAND]);
    let json = serde_json::to_string(request).map_err(|error| failed("write a request", error.into()))?;
    invocation.stdin = Some(json);
    let output = must_succeed(runner.host(), &invocation, runner.run(&invocation, wait)?)?;
    let said: Said = serde_json::from_slice(&output.stdout).map_err(|_| RunError::Failed {
        invocation: invocation.to_string(),
        host: runner.host().clone(),
        status: output.status,
        tail: tail(&output.stdout),
    })?;
    Ok(said.output(output.elapsed))
}
