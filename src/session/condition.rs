//! Waits until a condition is observed, never by connecting to a VM's port: a probe would take its only slot.

use crate::driver::registry::problem_of_script;
use crate::model::{FailureKind, HostPath, Problem, Wait};
use crate::plan::{Condition, QmpCommand};
use crate::runner::listening::tcp_listens;
use crate::runner::local::tail;
use crate::runner::qmp::qmp;
use crate::runner::{ProcessRef, RunError, Runner};
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A process without which a condition never comes true.
#[derive(Debug, Clone)]
pub struct Needed {
    /// The process.
    pub process: ProcessRef,
    /// Where its output goes.
    pub log: HostPath,
    /// Its command, for people.
    pub command: String,
}

/// Waits until a condition is observed. Fails at once when a process that it needs has ended.
///
/// # Errors
///
/// The deadline, the user's Ctrl-C, or the end of a needed process with its last words.
pub fn wait_for(
    condition: &Condition,
    needed: &[Needed],
    runner: &dyn Runner,
    wait: &Wait,
) -> Result<(), Problem> {
    loop {
        if holds(condition, runner, wait)? {
            return Ok(());
        }
        for needed in needed {
            if !runner.is_running(&needed.process, wait)? {
                return Err(ended(needed, runner, wait));
            }
        }
        if wait.cancel.is_cancelled() {
            return Err(Problem::from(RunError::Cancelled {
                what: wait.what.clone(),
            }));
        }
        let left = wait.deadline.remaining(Instant::now());
        if left.is_zero() {
            return Err(Problem::new(
                FailureKind::Deadline,
                format!("gave up waiting until {}", wait.what),
            ));
        }
        std::thread::park_timeout(LOOK.min(left));
    }
}

fn ended(needed: &Needed, runner: &dyn Runner, wait: &Wait) -> Problem {
    let words = match runner.read(&needed.log, wait) {
        Ok(Some(log)) => tail(&log.bytes),
        _ => String::new(),
    };
    Problem::new(
        FailureKind::Host,
        format!(
            "`{}` on {} ended at once; the last lines of `{}`:{words}",
            needed.command,
            runner.host(),
            needed.log
        ),
    )
}

/// Tells whether a condition holds now.
///
/// # Errors
///
/// It cannot be observed.
pub fn holds(condition: &Condition, runner: &dyn Runner, wait: &Wait) -> Result<bool, Problem> {
    match condition {
        Condition::PathExists { path } => Ok(runner.exists(path, wait)?),
        Condition::PathAbsent { path } => Ok(!runner.exists(path, wait)?),
        Condition::TcpListens { port } => Ok(tcp_listens(*port, runner, wait)?),
        Condition::QmpAnswers { socket } => {
            let command = QmpCommand {
                socket: socket.clone(),
                execute: "query-status".to_owned(),
                arguments: serde_json::Value::Null,
            };
            Ok(qmp(runner, &command, &wait.renamed(format!("QMP at `{socket}`"))).is_ok())
        }
        Condition::OutputHasLine {
            invocation,
            line,
            present,
        } => {
            let output = runner.run(invocation, wait)?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            Ok(text.lines().any(|printed| printed.trim() == line.trim()) == *present)
        }
        Condition::Script { call, field, value } => {
            let result = runner
                .powershell(call, wait)
                .map_err(|error| problem_of_script(call, error))?;
            let found = match field.starts_with('/') {
                true => result.pointer(field),
                false => result.get(field),
            };
            Ok(found == Some(value))
        }
    }
}
