//! What Hyper-V's refusals mean: kinds with exit codes, and what to do next. Ids are matched, because texts are translated;
//! where Hyper-V gives no id of its own, the English text too.

use super::scripts::CHANGED;
use crate::model::{FailureKind, Problem, ScriptCall};
use crate::runner::RunError;

/// Says that who asked may not manage VMs, and what to do.
pub(super) fn not_permitted(host: &str, user: &str, said: &str) -> Problem {
    let message = format!("{user} may not manage Hyper-V on {host}{said}");
    Problem::new(FailureKind::Precondition, message)
        .hint("Run it from an elevated terminal (WSL inherits the elevation of the terminal that it was started from).")
        .hint(
            "Or join the group once, in an elevated PowerShell, then sign out and in: `Add-LocalGroupMember -SID S-1-5-32-578 -Member $env:USERNAME`. Members need no elevation, not for the pipes either.",
        )
}

/// Says what the failure of one of our scripts means.
pub(in crate::driver) fn problem(call: &ScriptCall, error: RunError) -> Problem {
    let RunError::Script {
        message,
        id,
        category,
        host,
    } = error
    else {
        return Problem::from(error);
    };
    let host = host.to_string();
    let said = message.trim();
    let (code, command) = id.split_once(',').unwrap_or((id.as_str(), ""));
    let stops = call.script.ends_with("/stop-vm");
    if code == CHANGED {
        return Problem::new(FailureKind::Precondition, said).hint(
            "Somebody else changed it, or applied a checkpoint, which brings its own settings: look with `vmserial plan`, then go on.",
        );
    }
    if &*category == "PermissionDenied" || code == "AccessDenied" || said.contains("required permission") {
        return not_permitted(&host, "this user", &format!(": {said}"));
    }
    let no_command = [
        "CommandNotFoundException",
        "CouldNotAutoLoadModule",
        "CouldNotAutoloadMatchingModule",
    ];
    if no_command.contains(&code) {
        return Problem::new(
            FailureKind::NotFound,
            format!("the Hyper-V module of PowerShell is not on {host}: {said}"),
        )
        .hint("Windows 10 and 11, elevated: `Enable-WindowsOptionalFeature -Online -FeatureName Microsoft-Hyper-V-Management-PowerShell`.")
        .hint("Windows Server, elevated: `Install-WindowsFeature -Name Hyper-V-PowerShell`.");
    }
    if code == "InvalidParameter" && command.ends_with(".GetVM") {
        return Problem::new(FailureKind::NotFound, format!("{said} (on {host})"))
            .hint("It was removed, or is on another host: `Get-VM` lists those of this one.");
    }
    if stops && (said.contains("NonInteractive") || code == "PSInvalidOperation") {
        return Problem::new(
            FailureKind::Precondition,
            format!("the guest does not shut down without a question (locked, or with unsaved data): {said}"),
        )
        .hint("Shut it down in the guest, or pull its plug with `--restart hard`.");
    }
    if code == "InvalidState" || said.contains("in its current state") {
        return Problem::new(FailureKind::Precondition, format!("{said} (on {host})"))
            .hint("COM ports and Secure Boot change only while the VM is off: power it off, or allow it with `--restart graceful`.");
    }
    let problem = Problem::new(
        FailureKind::Host,
        format!("Hyper-V on {host} refused: {said} ({id})"),
    );
    match stops {
        true => {
            problem.hint("The VM runs on. Shut it down in the guest, or pull its plug with `--restart hard`.")
        }
        false => problem,
    }
}
