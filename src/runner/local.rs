//! The runner of this machine.

use crate::model::{Address, Deadline, Digest, EndpointSpec, HostPath, HostRef, Invocation, Role, Wait};
use crate::runner::sys;
use crate::runner::{FileSnapshot, Output, ProcessRef, ReadWrite, RunError, Runner, Status};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How often a wait looks at its cancel flag: a tenth of a second is not felt after Ctrl-C.
const LOOK: Duration = Duration::from_millis(100);

/// How many last lines of standard error a failure shows.
const TAIL_LINES: usize = 10;

/// Effects of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Local;

impl Local {
    /// Makes the runner.
    pub fn new() -> Self {
        Self
    }
}

fn now() -> Instant {
    Instant::now()
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> RunError {
    let what = what.into();
    move |source| RunError::Io { what, source }
}

fn check(wait: &Wait) -> Result<(), RunError> {
    if wait.cancel.is_cancelled() {
        return Err(RunError::Cancelled {
            what: wait.what.clone(),
        });
    }
    if wait.deadline.passed(now()) {
        return Err(RunError::DeadlinePassed {
            what: wait.what.clone(),
        });
    }
    Ok(())
}

/// Waits a moment for a condition that only looking can tell, or fails as the wait says.
fn pause(wait: &Wait) -> Result<(), RunError> {
    check(wait)?;
    std::thread::park_timeout(LOOK.min(wait.deadline.remaining(now())));
    Ok(())
}

fn find(invocation: &Invocation) -> Result<PathBuf, RunError> {
    which::which(&invocation.program).map_err(|_| RunError::ProgramNotFound {
        program: invocation.program.clone(),
        host: HostRef::Local,
    })
}

/// Kills the child if the wait ends without it.
struct Guard(Option<Child>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            sys::kill_group(child.id());
            // It was killed; what it returned is of no use to anybody.
            let _ = child.wait();
        }
    }
}

impl Runner for Local {
    fn host(&self) -> &HostRef {
        &HostRef::Local
    }

    fn run(&self, invocation: &Invocation, wait: &Wait) -> Result<Output, RunError> {
        let started = now();
        let program = find(invocation)?;
        let mut command = Command::new(program);
        command
            .args(&invocation.arguments)
            .stdin(if invocation.stdin.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        sys::own_group(&mut command);
        let mut child = command
            .spawn()
            .map_err(failed(format!("start `{}`", invocation.program)))?;
        let (sender, receiver) = mpsc::channel();
        let streams: [(usize, Box<dyn Read + Send>); 2] = [
            (
                0,
                Box::new(child.stdout.take().expect("standard output is a pipe")),
            ),
            (
                1,
                Box::new(child.stderr.take().expect("standard error is a pipe")),
            ),
        ];
        for (index, mut stream) in streams {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                let result = stream.read_to_end(&mut bytes).map(|_| bytes);
                // The reader is gone only when the wait has failed.
                let _ = sender.send((index, result));
            });
        }
        if let (Some(text), Some(mut stdin)) = (invocation.stdin.clone(), child.stdin.take()) {
            // A child that does not read all of it closes the pipe; its status tells whether that was wrong.
            std::thread::spawn(move || stdin.write_all(text.as_bytes()));
        }
        let mut guard = Guard(Some(child));
        let mut outputs = [Vec::new(), Vec::new()];
        for _ in 0..2 {
            let (index, result) = loop {
                check(wait)?;
                match receiver.recv_timeout(LOOK.min(wait.deadline.remaining(now()))) {
                    Ok(message) => break message,
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => {
                        return Err(failed("read a command's output")(
                            io::ErrorKind::UnexpectedEof.into(),
                        ));
                    }
                }
            };
            outputs[index] = result.map_err(failed(format!("read from `{}`", invocation.program)))?;
        }
        let status = loop {
            let child = guard.0.as_mut().expect("it is taken below only");
            match child
                .try_wait()
                .map_err(failed(format!("wait for `{}`", invocation.program)))?
            {
                Some(status) => break status,
                None => pause(wait)?,
            }
        };
        guard.0 = None;
        let [stdout, stderr] = outputs;
        let status = match status.code() {
            Some(code) => Status::Exited(code),
            None => Status::Signalled(sys::signal_of(status)),
        };
        let elapsed = now().duration_since(started);
        tracing::debug!(%invocation, ?status, ?elapsed, stderr = %tail(&stderr), "ran");
        Ok(Output {
            status,
            stdout,
            stderr,
            elapsed,
        })
    }

    fn start(&self, invocation: &Invocation, log: &HostPath, wait: &Wait) -> Result<ProcessRef, RunError> {
        check(wait)?;
        let program = find(invocation)?;
        let path = log.as_local();
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed(format!("make the folder `{}`", folder.display())))?;
        }
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        sys::private(&mut options);
        let log = options
            .open(path)
            .map_err(failed(format!("open the log `{}`", path.display())))?;
        let again = log.try_clone().map_err(failed("share the log"))?;
        let mut command = Command::new(program);
        command
            .args(&invocation.arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(again);
        sys::own_session(&mut command);
        let mut child = command
            .spawn()
            .map_err(failed(format!("start `{}`", invocation.program)))?;
        let pid = child.id();
        let start_time = sys::start_time(pid)
            .map_err(failed(format!("look at the process {pid}")))?
            .unwrap_or_default();
        tracing::debug!(%invocation, pid, "started");
        // Reaps the child when it ends while we still run: a zombie would count as running.
        std::thread::spawn(move || child.wait());
        Ok(ProcessRef { pid, start_time })
    }

    fn is_running(&self, process: &ProcessRef, _wait: &Wait) -> Result<bool, RunError> {
        let found =
            sys::start_time(process.pid).map_err(failed(format!("look at the process {}", process.pid)))?;
        Ok(found == Some(process.start_time))
    }

    fn stop(&self, process: &ProcessRef, wait: &Wait) -> Result<(), RunError> {
        if !self.is_running(process, wait)? {
            return Ok(());
        }
        sys::terminate(process.pid).map_err(failed(format!("end the process {}", process.pid)))?;
        while self.is_running(process, wait)? {
            match pause(wait) {
                Ok(()) => {}
                Err(RunError::DeadlinePassed { .. }) => {
                    sys::kill(process.pid).map_err(failed(format!("kill the process {}", process.pid)))?;
                    let grace = Wait::new(
                        Deadline::after(now(), Duration::from_secs(2)),
                        wait.cancel.clone(),
                        format!("the killed process {} to be gone", process.pid),
                    );
                    while self.is_running(process, &grace)? {
                        pause(&grace)?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read(&self, path: &HostPath, _wait: &Wait) -> Result<Option<FileSnapshot>, RunError> {
        read_snapshot(path.as_local())
    }

    fn replace(
        &self,
        path: &HostPath,
        new: Option<&FileSnapshot>,
        expected: Option<&Digest>,
        wait: &Wait,
    ) -> Result<(), RunError> {
        check(wait)?;
        // Through a symbolic link the file is replaced, not the link.
        let real = match fs::canonicalize(path.as_local()) {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.as_local().to_owned(),
            Err(source) => {
                return Err(RunError::Io {
                    what: format!("find `{path}`"),
                    source,
                });
            }
        };
        let folder = match real.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let unchanged = || -> Result<Option<FileSnapshot>, RunError> {
            let present = read_snapshot(&real)?;
            if present.as_ref().map(FileSnapshot::digest).as_ref() == expected {
                Ok(present)
            } else {
                Err(RunError::Changed { path: path.clone() })
            }
        };
        let present = unchanged()?;
        match new {
            None => fs::remove_file(&real).map_err(failed(format!("remove `{path}`")))?,
            Some(new) => {
                let writing = || failed(format!("write beside `{path}`"));
                let mut file = tempfile::Builder::new()
                    .prefix(".vmserial-")
                    .tempfile_in(&folder)
                    .map_err(writing())?;
                file.write_all(&new.bytes).map_err(writing())?;
                let mode = new.mode.or(present.as_ref().and_then(|file| file.mode));
                let owner = new.owner.or(present.as_ref().and_then(|file| file.owner));
                sys::set_mode_and_owner(file.as_file(), mode, owner).map_err(writing())?;
                file.as_file().sync_all().map_err(writing())?;
                // Looked at again right before the rename: somebody may have written meanwhile.
                unchanged()?;
                file.persist(&real)
                    .map_err(|error| error.error)
                    .map_err(failed(format!("replace `{path}`")))?;
            }
        }
        sys::sync_folder(&folder).map_err(failed(format!("write the folder of `{path}` to disk")))
    }

    fn exists(&self, path: &HostPath, _wait: &Wait) -> Result<bool, RunError> {
        path.as_local()
            .try_exists()
            .map_err(failed(format!("look for `{path}`")))
    }

    fn open(&self, endpoint: &EndpointSpec, wait: &Wait) -> Result<Box<dyn ReadWrite>, RunError> {
        check(wait)?;
        let unsupported = || RunError::Unsupported {
            what: format!("open `{endpoint}` as a stream"),
            host: HostRef::Local,
        };
        if endpoint.role != Some(Role::Connect) || !endpoint.via.is_empty() {
            return Err(unsupported());
        }
        let left = wait.deadline.remaining(now()).max(Duration::from_millis(1));
        match &endpoint.address {
            Address::Unix(path) => {
                sys::connect_unix(path, left).map_err(failed(format!("connect to `{}`", path.display())))
            }
            Address::Tcp { host, port } => {
                connect_tcp(host, *port, left).map_err(failed(format!("connect to {host}:{port}")))
            }
            _ => Err(unsupported()),
        }
    }
}

fn connect_tcp(host: &str, port: u16, timeout: Duration) -> io::Result<Box<dyn ReadWrite>> {
    use std::net::{TcpStream, ToSocketAddrs};
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => {
                stream.set_read_timeout(Some(timeout))?;
                stream.set_write_timeout(Some(timeout))?;
                return Ok(Box::new(stream));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn read_snapshot(path: &Path) -> Result<Option<FileSnapshot>, RunError> {
    let what = || format!("read `{}`", path.display());
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RunError::Io { what: what(), source }),
    };
    let metadata = file.metadata().map_err(failed(what()))?;
    if !metadata.is_file() {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file");
        return Err(RunError::Io { what: what(), source });
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed(what()))?;
    let (mode, owner) = sys::mode_and_owner(&metadata);
    Ok(Some(FileSnapshot { bytes, mode, owner }))
}

/// Returns the last lines of a command's standard error, each on a line of its own with a line break before it.
pub fn tail(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(TAIL_LINES);
    lines[skipped..]
        .iter()
        .map(|line| format!("\n    {line}"))
        .collect()
}

/// Turns another status than 0 into the failure that names the command, the host, the status and the last words.
///
/// # Errors
///
/// [`RunError::Failed`].
pub fn must_succeed(host: &HostRef, invocation: &Invocation, output: Output) -> Result<Output, RunError> {
    if output.success() {
        return Ok(output);
    }
    // Some tools (vmrun) complain on standard output.
    let words = if output.stderr.trim_ascii().is_empty() {
        &output.stdout
    } else {
        &output.stderr
    };
    Err(RunError::Failed {
        invocation: invocation.to_string(),
        host: host.clone(),
        status: output.status,
        tail: tail(words),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::model::Cancel;

    fn wait(timeout: Duration) -> Wait {
        Wait::new(Deadline::after(now(), timeout), Cancel::new(), "the test")
    }

    fn long() -> Wait {
        wait(Duration::from_secs(30))
    }

    #[test]
    fn both_streams_and_the_status_come_back() {
        let mut invocation = Invocation::reads("sh", ["-c", "cat; echo problem >&2; exit 3"]);
        invocation.stdin = Some("input".to_owned());
        let output = Local.run(&invocation, &long()).unwrap();
        assert_eq!(
            (output.stdout, output.stderr),
            (b"input".to_vec(), b"problem\n".to_vec())
        );
        assert_eq!(output.status, Status::Exited(3));
    }

    #[test]
    fn much_output_on_both_streams_does_not_block() {
        let invocation = Invocation::reads(
            "sh",
            ["-c", "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2"],
        );
        let output = Local.run(&invocation, &long()).unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (3_000_000, 3_000_000));
    }

    #[test]
    fn a_deadline_ends_the_command_and_its_children() {
        let invocation = Invocation::reads("sh", ["-c", "sleep 1000 & wait"]);
        let error = Local
            .run(&invocation, &wait(Duration::from_millis(200)))
            .unwrap_err();
        assert!(matches!(error, RunError::DeadlinePassed { .. }));
    }

    #[test]
    fn a_started_process_is_known_again_and_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let log = HostPath::new(folder.path().join("log").to_str().unwrap());
        let process = Local
            .start(&Invocation::changes("sleep", ["1000"]), &log, &long())
            .unwrap();
        assert!(Local.is_running(&process, &long()).unwrap());
        let other = ProcessRef {
            start_time: process.start_time + 1,
            ..process.clone()
        };
        assert!(!Local.is_running(&other, &long()).unwrap());
        Local.stop(&process, &long()).unwrap();
        assert!(!Local.is_running(&process, &long()).unwrap());
    }

    #[test]
    fn a_file_is_replaced_only_as_it_was_planned_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = HostPath::new(folder.path().join("a").to_str().unwrap());
        let new = |text: &str| FileSnapshot {
            bytes: text.into(),
            mode: None,
            owner: None,
        };
        Local.replace(&path, Some(&new("one")), None, &long()).unwrap();
        let refused = Local
            .replace(&path, Some(&new("two")), None, &long())
            .unwrap_err();
        assert!(matches!(refused, RunError::Changed { .. }));
        Local
            .replace(&path, Some(&new("two")), Some(&Digest::of(b"one")), &long())
            .unwrap();
        assert_eq!(Local.read(&path, &long()).unwrap().unwrap().bytes, b"two");
        Local
            .replace(&path, None, Some(&Digest::of(b"two")), &long())
            .unwrap();
        assert_eq!(Local.read(&path, &long()).unwrap(), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = HostPath::new(folder.path().to_str().unwrap());
        assert!(matches!(Local.read(&path, &long()), Err(RunError::Io { .. })));
    }
}
