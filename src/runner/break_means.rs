//! From a way of sending BREAK, as written, to something that a bridge can use.

use crate::bridge::{BreakMeans, Breaker};
use crate::model::{BreakWith, Cancel, Deadline, FailureKind, HostPath, NativeBreak, Problem, Wait};
use crate::plan::QmpCommand;
use crate::runner::Runner;
use crate::runner::qmp::qmp;
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

/// Makes the means of a way. `runner` reaches the host that QEMU runs on.
///
/// # Errors
///
/// Precondition: the way is not served yet.
pub fn break_means(way: &BreakWith, runner: Arc<dyn Runner>) -> Result<BreakMeans, Problem> {
    let refuse = |name: &str, instead: &str| {
        Err(Problem::new(
            FailureKind::Precondition,
            format!("BREAK by `{name}` is not served yet"),
        )
        .hint(instead))
    };
    match way {
        BreakWith::None => Ok(BreakMeans::None),
        BreakWith::Telnet => Ok(BreakMeans::By(NativeBreak::Telnet)),
        BreakWith::Rfc2217 => Ok(BreakMeans::By(NativeBreak::Rfc2217)),
        BreakWith::Tty => Ok(BreakMeans::By(NativeBreak::Tty)),
        BreakWith::Qmp { path, id } => Ok(BreakMeans::Beside(Arc::new(QmpBreaker {
            runner,
            socket: path.clone(),
            id: id.clone(),
        }))),
        BreakWith::Exec(_) => refuse(
            "exec",
            "For QEMU write `--break-with qmp:PATH`; else break in from the guest: `echo g > /proc/sysrq-trigger`.",
        ),
    }
}
