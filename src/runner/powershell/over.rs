//! Scripts through any runner's [`Runner::run`]: SSH, WSL, a PowerShell of this machine.

use super::reply::{self, Asked};
use crate::model::{HostRef, Invocation, ScriptCall, Wait};
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
/// which every Windows has and with which every Hyper-V module works.
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
    let asking = Asking::new(call, runner.host())?;
    asking.by(way, &mut |invocation| match runner.run(invocation, wait) {
        Ok(output) if is_not_there(&output) => Ok(None),
        Ok(output) => Ok(Some(output)),
        Err(RunError::ProgramNotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    })
}

/// One call with its script and the number in its markers.
#[derive(Debug)]
pub struct Asking<'a> {
    name: &'a str,
    nonce: String,
    host: &'a HostRef,
    /// The whole script.
    pub script: String,
    /// It has values that stand on no command line: everybody on a host may read those.
    by_input: bool,
}

impl<'a> Asking<'a> {
    /// Writes a call's script.
    ///
    /// # Errors
    ///
    /// There is no such script.
    pub fn new(call: &'a ScriptCall, host: &'a HostRef) -> Result<Self, RunError> {
        let nonce = nonce();
        let script = script(call, &nonce).map_err(|error| RunError::Unsupported {
            what: format!("run the PowerShell script `{}`: {error}", call.script),
            host: host.clone(),
        })?;
        Ok(Self {
            name: &call.script,
            nonce,
            host,
            script,
            by_input: call.has_secrets(),
        })
    }

    /// Reads what PowerShell said.
    ///
    /// # Errors
    ///
    /// What the script threw, or that there is no answer.
    pub fn answer(&self, output: &Output) -> Result<Value, RunError> {
        let asked = Asked {
            script: self.name,
            nonce: &self.nonce,
            host: self.host,
        };
        reply::read(&asked, output)
    }

    /// Runs the script by the first PowerShell of a way that is there; `run` says `None` for one that is not.
    ///
    /// # Errors
    ///
    /// As [`by`].
    pub fn by(
        &self,
        way: &Way,
        run: &mut dyn FnMut(&Invocation) -> Result<Option<Output>, RunError>,
    ) -> Result<Value, RunError> {
        for program in way.programs {
            let longest = if self.by_input { 0 } else { way.longest };
            if let Some(output) = run(&invocation(program, &self.script, longest))? {
                return self.answer(&output);
            }
        }
        Err(RunError::NoPowerShell {
            looked_for: way.programs.join(", "),
            host: self.host.clone(),
        })
    }
}

/// Returns digits that no other call has.
fn nonce() -> String {
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
    // The SSH server's own words before ours: `c:\windows\system32\cmd.exe /c "…"`.
    const SHELL: usize = 64;
    // A piece of a file is not even written for a command line that it is too long for.
    if script.len() <= longest {
        let by_argument = Invocation::changes(program, words(["-EncodedCommand", &encoded_command(script)]));
        let length: usize = by_argument.arguments.iter().map(|word| word.len() + 1).sum();
        if program.len() + length + SHELL <= longest {
            return by_argument;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_stays_below_what_its_shell_takes() {
        for length in [1, 100, 2_990, 3_000, 3_010, 3_050, 5_000, 100_000] {
            let script = "x".repeat(length);
            for longest in [8191, 32_000] {
                let invocation = invocation("powershell.exe", &script, longest);
                let line = format!("c:\\windows\\system32\\cmd.exe /c \"{invocation}\"");
                assert!(line.len() <= longest, "{length}: {}", line.len());
                assert_eq!(
                    invocation.stdin.is_some(),
                    invocation.arguments.ends_with(&["-".to_owned()])
                );
            }
        }
        assert!(invocation("pwsh", "short", 8191).stdin.is_none());
    }

    #[test]
    fn no_word_of_a_command_line_needs_quotes_in_any_shell() {
        let plain = |word: &str| {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-+/.".contains(&byte);
            word.bytes().all(known)
        };
        for script in ["a", "ab", "abc", "ü"] {
            let invocation = invocation("powershell.exe", script, 8191);
            assert!(
                invocation.arguments.iter().all(|word| plain(word)),
                "{invocation}"
            );
        }
    }

    #[test]
    fn two_calls_never_have_one_number() {
        let numbers: std::collections::BTreeSet<String> = (0..1000).map(|_| nonce()).collect();
        assert_eq!(numbers.len(), 1000);
        assert!(
            numbers
                .iter()
                .all(|number| number.bytes().all(|digit| digit.is_ascii_digit()))
        );
    }
}
