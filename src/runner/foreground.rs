//! A child in the foreground: it has the user's terminal until it ends (gdb).
#![expect(clippy::disallowed_methods, reason = "the runner starts processes")]

use crate::model::{HostRef, Invocation};
use crate::runner::{RunError, Status, sys};
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use tokio::sync::mpsc;

/// Who reads the user's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The child.
    Child,
    /// Nobody; the child's standard input is empty.
    Nobody,
}

/// A running child. Dropping it leaves the child alone; [`Foreground::kill`] ends it for sure.
#[derive(Debug)]
pub struct Foreground {
    pid: u32,
    kill: mpsc::UnboundedSender<()>,
}

/// Finds a program that is to be started in the foreground.
///
/// # Errors
///
/// [`RunError::ProgramNotFound`].
pub fn find(program: &str) -> Result<PathBuf, RunError> {
    which::which(program).map_err(|_| RunError::ProgramNotFound {
        program: program.to_owned(),
        host: HostRef::Local,
    })
}

impl Foreground {
    /// Starts the child in our process group, with our standard output and error, and calls `ended` once on another
    /// thread when it has ended.
    ///
    /// # Errors
    ///
    /// [`RunError::ProgramNotFound`], or the system's refusal to start it.
    pub fn start(
        invocation: &Invocation,
        input: Input,
        ended: impl FnOnce(io::Result<Status>) + Send + 'static,
    ) -> Result<Self, RunError> {
        let program = find(&invocation.program)?;
        tracing::debug!(%invocation, "starting in the foreground");
        let io_error = |source| RunError::Io {
            what: format!("start `{}`", invocation.program),
            source,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(io_error)?;
        let mut child = {
            let _guard = runtime.enter();
            tokio::process::Command::new(program)
                .args(&invocation.arguments)
                .stdin(if input == Input::Child {
                    Stdio::inherit()
                } else {
                    Stdio::null()
                })
                .spawn()
                .map_err(io_error)?
        };
        let pid = child.id().unwrap_or_default();
        let (kill, mut kill_asked) = mpsc::unbounded_channel();
        std::thread::Builder::new()
            .name("foreground".into())
            .spawn(move || {
                let status = runtime.block_on(async move {
                    loop {
                        tokio::select! {
                            // A child that ended must be reported even while kills are asked for.
                            biased;
                            status = child.wait() => return status.map(status_of),
                            Some(()) = kill_asked.recv() => child.start_kill()?,
                        }
                    }
                });
                ended(status);
            })
            .map_err(io_error)?;
        Ok(Self { pid, kill })
    }

    /// Returns the child's process identifier.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Asks the child to end. Must not be called after `ended` was: the identifier may be another's then.
    ///
    /// # Errors
    ///
    /// The system's refusal, or that it has no such request.
    pub fn terminate(&self) -> io::Result<()> {
        sys::terminate(self.pid)
    }

    /// Ends the child for sure. One that ended already is left alone.
    pub fn kill(&self) {
        // The thread is gone when the child is.
        let _ = self.kill.send(());
    }
}

fn status_of(status: ExitStatus) -> Status {
    match status.code() {
        Some(code) => Status::Exited(code),
        None => Status::Signalled(sys::signal_of(status)),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::sync::mpsc as std_mpsc;
    use std::time::Duration;

    fn run(words: &[&str]) -> (Foreground, std_mpsc::Receiver<io::Result<Status>>) {
        let (sender, receiver) = std_mpsc::channel();
        let invocation = Invocation::reads(words[0], words[1..].iter().copied());
        let child = Foreground::start(&invocation, Input::Nobody, move |status| {
            sender.send(status).unwrap()
        })
        .unwrap();
        (child, receiver)
    }

    #[test]
    fn the_status_is_reported() {
        let (_child, ended) = run(&["sh", "-c", "exit 3"]);
        assert_eq!(
            ended.recv_timeout(Duration::from_secs(20)).unwrap().unwrap(),
            Status::Exited(3)
        );
    }

    #[test]
    fn a_child_is_asked_to_end_or_killed() {
        let (child, ended) = run(&["sleep", "1000"]);
        child.kill();
        assert_eq!(
            ended.recv_timeout(Duration::from_secs(20)).unwrap().unwrap(),
            Status::Signalled(9)
        );
        let (child, ended) = run(&["sleep", "1000"]);
        child.terminate().unwrap();
        assert_eq!(
            ended.recv_timeout(Duration::from_secs(20)).unwrap().unwrap(),
            Status::Signalled(15)
        );
    }

    #[test]
    fn a_missing_program_is_not_found() {
        let invocation = Invocation::reads("no-such-debugger", [""; 0]);
        let error = Foreground::start(&invocation, Input::Nobody, |_| {}).unwrap_err();
        assert!(matches!(error, RunError::ProgramNotFound { .. }));
    }
}
