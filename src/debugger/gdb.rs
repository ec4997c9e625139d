//! gdb: the script of a session and the command line that runs it.

use crate::model::{DebuggerSpec, Invocation};
use crate::render::environment::{RenderError, render};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Longer than gdb's default of 2 s: a kernel under emulation on a busy host answers late, and a gdb that gave up on
/// an answer takes the late one for that of its next request.
const REMOTE_TIMEOUT_SECONDS: u32 = 10;

/// Where gdb finds the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GdbAddress {
    /// `HOST:PORT`.
    Tcp(String),
    /// A Unix socket (gdb 8.3 and later).
    Unix(PathBuf),
    /// A terminal device, with its baud rate in bits per second.
    Tty(PathBuf, u32),
}

#[derive(Serialize)]
struct Mapping<'a> {
    from: &'a str,
    to: String,
}

#[derive(Serialize)]
struct ScriptContext<'a> {
    batch: bool,
    vmlinux: Option<String>,
    source: Vec<Mapping<'a>>,
    remote_timeout_seconds: u32,
    baud_rate: Option<u32>,
    address: String,
}

/// Whether a person sits before gdb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GdbMode {
    /// At a terminal.
    Interactive,
    /// Scripts only (`--batch`).
    Batch,
}

/// Writes the script that connects gdb to the kernel: symbols, source map, time-out, target.
///
/// # Errors
///
/// Fails when a path cannot be written in a gdb command.
pub fn session_script(
    debugger: &DebuggerSpec,
    address: &GdbAddress,
    mode: GdbMode,
) -> Result<String, RenderError> {
    let (address, baud_rate) = match address {
        GdbAddress::Tcp(address) => (address.clone(), None),
        GdbAddress::Unix(path) => (path.display().to_string(), None),
        GdbAddress::Tty(path, baud_rate) => (path.display().to_string(), Some(*baud_rate)),
    };
    let context = ScriptContext {
        batch: mode == GdbMode::Batch,
        vmlinux: debugger.vmlinux.as_ref().map(|path| path.display().to_string()),
        source: debugger
            .source
            .iter()
            .map(|(from, to)| Mapping {
                from,
                to: to.display().to_string(),
            })
            .collect(),
        remote_timeout_seconds: REMOTE_TIMEOUT_SECONDS,
        baud_rate,
        address,
    };
    render("gdb/session.gdb", &context)
}

/// Returns the command that runs gdb with the session's script, then the user's scripts in their order.
///
/// A session's script runs with `-ex "source …"` in interactive mode too, so that gdb stays at its prompt afterwards.
pub fn invocation(
    debugger: &DebuggerSpec,
    session_script: &Path,
    user_scripts: &[PathBuf],
    extra_arguments: &[String],
    mode: GdbMode,
) -> Invocation {
    let mut arguments = vec!["-q".to_owned()];
    if mode == GdbMode::Batch {
        arguments.push("-batch".to_owned());
    }
    for script in std::iter::once(session_script).chain(user_scripts.iter().map(PathBuf::as_path)) {
        arguments.push("-x".to_owned());
        arguments.push(script.display().to_string());
    }
    arguments.extend(extra_arguments.iter().cloned());
    Invocation::changes(program(debugger), arguments)
}

/// Returns gdb's name or path.
pub fn program(debugger: &DebuggerSpec) -> &str {
    debugger.program.as_deref().unwrap_or("gdb")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::model::DebuggerKind;

    fn debugger() -> DebuggerSpec {
        DebuggerSpec {
            kind: DebuggerKind::Gdb,
            program: None,
            vmlinux: Some("/k/my build/vmlinux".into()),
            source: [("/build/linux".to_owned(), PathBuf::from("/home/me/k"))].into(),
            modules: Vec::new(),
            break_in: Vec::new(),
        }
    }

    #[test]
    fn a_batch_script_asks_nothing() {
        let script = session_script(
            &debugger(),
            &GdbAddress::Tcp("127.0.0.1:7002".into()),
            GdbMode::Batch,
        )
        .unwrap();
        insta::assert_snapshot!(script, @r#"
        # Written by vmserial for one session; it is made anew each time.
        set pagination off
        set confirm off
        file "/k/my build/vmlinux"
        set substitute-path /build/linux /home/me/k
        set remotetimeout 10
        target remote 127.0.0.1:7002
        "#);
    }

    #[test]
    fn a_terminal_device_has_its_baud_rate_set() {
        let mut debugger = debugger();
        debugger.vmlinux = None;
        debugger.source.clear();
        let address = GdbAddress::Tty("/dev/pts/7".into(), 115_200);
        let script = session_script(&debugger, &address, GdbMode::Interactive).unwrap();
        insta::assert_snapshot!(script, @r"
        # Written by vmserial for one session; it is made anew each time.
        set remotetimeout 10
        set serial baud 115200
        target remote /dev/pts/7
        ");
    }

    #[test]
    fn the_users_scripts_run_after_ours() {
        let command = invocation(
            &debugger(),
            Path::new("/s/a.gdb"),
            &["b.gdb".into()],
            &[],
            GdbMode::Batch,
        );
        assert_eq!(command.to_string(), "gdb -q -batch -x /s/a.gdb -x b.gdb");
    }

    #[test]
    fn a_path_with_a_line_break_is_refused() {
        let mut debugger = debugger();
        debugger.vmlinux = Some("/a\nshell rm".into());
        assert!(session_script(&debugger, &GdbAddress::Tcp("h:1".into()), GdbMode::Batch).is_err());
    }
}
