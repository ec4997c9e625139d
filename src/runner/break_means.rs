//! From a way of sending BREAK, as written, to something that a bridge can use.

use crate::bridge::{BreakMeans, Breaker};
use crate::model::{BreakWith, Cancel, Deadline, HostPath, Invocation, NativeBreak, Wait};
use crate::plan::QmpCommand;
use crate::runner::qmp::qmp;
use crate::runner::{Output, RunError, Runner};
use std::path::PathBuf;
use std::sync::Arc;

/// Sends BREAK through QEMU's monitor protocol. QMP serves one client, so each BREAK is a connection of its own that is
/// closed at once.
struct QmpBreaker {
    runner: Arc<dyn Runner>,
    socket: PathBuf,
    id: String,
}

impl Breaker for QmpBreaker {
    fn way(&self) -> String {
        format!("qmp:{}", self.socket.display())
    }

    fn send_break(&self, deadline: Deadline) -> Result<(), String> {
        let command = QmpCommand {
            socket: HostPath::new(self.socket.to_string_lossy()),
            // QEMU docs/interop/qemu-qmp-ref: chardev-send-break, since 2.10.
            execute: "chardev-send-break".into(),
            arguments: serde_json::json!({ "id": self.id }),
        };
        let wait = Wait::new(deadline, Cancel::new(), "QEMU to send BREAK");
        qmp(&*self.runner, &command, &wait)
            .map(drop)
            .map_err(|failure| failure.to_string())
    }
}

/// Sends BREAK by a command of the user, one for each BREAK. It is killed with its children when its time is over.
struct CommandBreaker {
    runner: Arc<dyn Runner>,
    words: Vec<String>,
}

impl Breaker for CommandBreaker {
    fn way(&self) -> String {
        format!("exec:{}", self.words.first().map_or("", String::as_str))
    }

    fn send_break(&self, deadline: Deadline) -> Result<(), String> {
        let Some((program, arguments)) = self.words.split_first() else {
            return Err("there is no command".into());
        };
        let invocation = Invocation::changes(program, arguments.iter().map(String::as_str));
        let wait = Wait::new(deadline, Cancel::new(), "the command to send BREAK");
        match self.runner.run(&invocation, &wait) {
            Ok(output) => failure(&output).map_or(Ok(()), Err),
            Err(RunError::DeadlinePassed { .. }) => Err("it did not end within 500 ms and was killed".into()),
            Err(RunError::Io { what, source }) => Err(format!("cannot {what}: {source}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Puts a failed command into words, with the last line that it said.
fn failure(output: &Output) -> Option<String> {
    if output.success() {
        return None;
    }
    let how = format!("it {}", output.status);
    let said = String::from_utf8_lossy(&output.stderr);
    Some(match said.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("{how}: {line}"),
        None => how,
    })
}

/// Makes the means of a way. `runner` reaches the host that QEMU or the command runs on.
pub fn break_means(way: &BreakWith, runner: Arc<dyn Runner>) -> BreakMeans {
    match way {
        BreakWith::None => BreakMeans::None,
        BreakWith::Telnet => BreakMeans::By(NativeBreak::Telnet),
        BreakWith::Rfc2217 => BreakMeans::By(NativeBreak::Rfc2217),
        BreakWith::Tty => BreakMeans::By(NativeBreak::Tty),
        BreakWith::Qmp { path, id } => BreakMeans::Beside(Arc::new(QmpBreaker {
            runner,
            socket: path.clone(),
            id: id.clone(),
        })),
        BreakWith::Exec(words) => BreakMeans::Beside(Arc::new(CommandBreaker {
            runner,
            words: words.clone(),
        })),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::runner::local::Local;
    use std::time::{Duration, Instant};

    fn send(command: &str, timeout: Duration) -> (String, Result<(), String>) {
        let way: BreakWith = command.parse().unwrap();
        let means = break_means(&way, Arc::new(Local::new()));
        let BreakMeans::Beside(breaker) = means else {
            panic!("{means:?}");
        };
        (
            breaker.way(),
            breaker.send_break(Deadline::after(Instant::now(), timeout)),
        )
    }

    #[test]
    fn a_command_sends_break_or_says_why_not() {
        let long = Duration::from_secs(20);
        assert_eq!(send("exec:sh -c 'exit 0'", long), ("exec:sh".into(), Ok(())));
        assert_eq!(
            send("exec:sh -c 'echo no such port >&2; exit 3'", long)
                .1
                .unwrap_err(),
            "it ended with 3: no such port"
        );
        assert!(
            send("exec:no-such-command x", long)
                .1
                .unwrap_err()
                .contains("was not found")
        );
        assert_eq!(
            send("exec:sleep 1000", Duration::from_millis(20)).1.unwrap_err(),
            "it did not end within 500 ms and was killed"
        );
    }
}
