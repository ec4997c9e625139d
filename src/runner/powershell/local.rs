//! The PowerShell of this machine: Windows' own, that of the Windows around a WSL, or `pwsh`.

use super::over::{Way, by};
use crate::model::{ScriptCall, Wait};
use crate::runner::{RunError, Runner};
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

/// Runs a script of ours by this machine's PowerShell.
///
/// # Errors
///
/// As [`by`].
pub fn local(runner: &dyn Runner, call: &ScriptCall, wait: &Wait) -> Result<Value, RunError> {
    by(&HERE, runner, call, wait)
}
