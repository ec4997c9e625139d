//! Scripts through any runner's [`Runner::run`]: SSH, WSL, a PowerShell of this machine.

use super::reply::{self, Asked};
use crate::model::{Invocation, ScriptCall, Wait};
use crate::render::powershell::{encoded_command, one_line, script};
use crate::runner::{Output, RunError, Runner, Status};
use serde_json::Value;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Which PowerShell is asked for, and how much its command line takes.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// Programs, the first that is there is taken.
    pub programs: &'static [&'static str],
    /// The longest command line in characters; longer scripts go by standard input.
    pub longest: usize,
}

/// Through Windows' SSH server: cmd.exe stands before PowerShell and takes 8,191 characters. Windows PowerShell first,
/// which every Windows has and of which every Hyper-V module is.
pub const SSH: Way = Way {
    programs: &["powershell.exe", "pwsh"],
    longest: 8191,
};

/// Options of every call. Plain words that no shell on the way quotes.
const OPTIONS: [&str; 7] = [
    "-NoLogo",
    "-NoProfile",
    "-NonInteractive",
    "-ExecutionPolicy",
    "Bypass",
    "-OutputFormat",
    "Text",
];

/// Runs a script of ours on a runner's host, over SSH: see [`by`].
///
/// # Errors
///
/// As [`by`].
pub fn over(runner: &dyn Runner, call: &ScriptCall, wait: &Wait) -> Result<Value, RunError> {
    by(&SSH, runner, call, wait)
}

/// Runs a script of ours by the first PowerShell of a way that is there.
///
/// # Errors
///
/// The runner's; [`RunError::NoPowerShell`]; [`RunError::Script`] with what the script threw; [`RunError::Failed`] with
/// PowerShell's last words if it gave no answer.
pub fn by(way: &Way, runner: &dyn Runner, call: &ScriptCall, wait: &Wait) -> Result<Value, RunError> {
    let nonce = nonce();
    let text = text_of(call, &nonce, runner)?;
    let asked = Asked {
        script: &call.script,
        nonce: &nonce,
        host: runner.host(),
    };
    for program in way.programs {
        match runner.run(&invocation(program, &text, way.longest), wait) {
            Ok(output) if is_not_there(&output) => {}
            Ok(output) => return reply::read(&asked, &output),
            Err(RunError::ProgramNotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Err(RunError::NoPowerShell {
        looked_for: way.programs.join(", "),
        host: runner.host().clone(),
    })
}

/// Writes a call's script.
pub(super) fn text_of(call: &ScriptCall, nonce: &str, runner: &dyn Runner) -> Result<String, RunError> {
    script(call, nonce).map_err(|error| RunError::Unsupported {
        what: format!("run the PowerShell script `{}`: {error}", call.script),
        host: runner.host().clone(),
    })
}

/// Returns digits that no other call has.
pub(super) fn nonce() -> String {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!(
        "{}{:09}{}{call}",
        time.as_secs(),
        time.subsec_nanos(),
        std::process::id()
    )
}

/// Makes the command: the script as an argument where the command line takes it, else by standard input.
fn invocation(program: &str, script: &str, longest: usize) -> Invocation {
    let words = |last: [&str; 2]| {
        let words = OPTIONS.iter().copied().chain(last);
        words.map(ToOwned::to_owned).collect::<Vec<String>>()
    };
    let by_argument = Invocation::changes(program, words(["-EncodedCommand", &encoded_command(script)]));
    let length: usize = by_argument.arguments.iter().map(|word| word.len() + 1).sum();
    if program.len() + length < longest {
        return by_argument;
    }
    let mut by_input = Invocation::changes(program, words(["-Command", "-"]));
    by_input.stdin = Some(one_line(script));
    by_input
}

/// Tells whether a shell on the way says that there is no such program: 127 (POSIX), 9009 or 1 with its words (cmd.exe).
fn is_not_there(output: &Output) -> bool {
    match output.status {
        Status::Exited(127 | 9009) => true,
        Status::Exited(1) => {
            let said = String::from_utf8_lossy(&output.stderr);
            output.stdout.is_empty() && said.contains("is not recognized as an internal or external command")
        }
        _ => false,
    }
}
