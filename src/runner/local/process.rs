//! Processes of this machine: run to their end, or started to outlive us.
#![expect(clippy::disallowed_methods, reason = "the runner starts processes")]

use super::{LOOK, check, failed, now, pause, tail};
use crate::model::{Deadline, HostPath, HostRef, Invocation, Wait};
use crate::runner::{Output, ProcessRef, RunError, Status, sys};
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

/// How long output is read after its command has ended: a child that it left behind may hold the pipe for ever.
const AFTER_THE_END: Duration = Duration::from_millis(500);

fn find(invocation: &Invocation) -> Result<PathBuf, RunError> {
    which::which(&invocation.program).map_err(|_| RunError::ProgramNotFound {
        program: invocation.program.clone(),
        host: HostRef::Local,
    })
}

/// Kills the child with its group if the wait ends without it.
struct Guard(Option<Child>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            sys::kill_group(child.id());
            // A system without groups still ends the child; what it returned is of no use to anybody.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// One output stream, read by a thread of its own.
struct Reader {
    bytes: Arc<Mutex<Vec<u8>>>,
    ended: mpsc::Receiver<io::Result<()>>,
}

impl Reader {
    fn start(mut stream: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (sender, ended) = mpsc::channel();
        let shared = Arc::clone(&bytes);
        std::thread::spawn(move || {
            let mut chunk = [0; 16 * 1024];
            let result = loop {
                match stream.read(&mut chunk) {
                    Ok(0) => break Ok(()),
                    Ok(count) => shared
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .extend_from_slice(&chunk[..count]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => break Err(error),
                }
            };
            // The receiver is gone only when the wait has failed.
            let _ = sender.send(result);
        });
        Self { bytes, ended }
    }

    fn so_far(&self) -> Vec<u8> {
        std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn finish(self, left: Duration) -> io::Result<Vec<u8>> {
        match self.ended.recv_timeout(left) {
            Ok(result) => result?,
            // Somebody else still holds the pipe: what came so far is what the command said.
            Err(_) => tracing::debug!("a process left behind still holds the output"),
        }
        Ok(self.so_far())
    }
}

/// Runs a command to its end, both streams read at once.
pub fn run(invocation: &Invocation, wait: &Wait) -> Result<Output, RunError> {
    let mut command = Command::new(find(invocation)?);
    command.args(&invocation.arguments);
    let input = invocation.stdin.clone().map(String::into_bytes);
    let output = run_command(command, &invocation.program, input, wait).map_err(|(error, _)| error)?;
    let (status, elapsed) = (output.status, output.elapsed);
    tracing::debug!(%invocation, ?status, ?elapsed, stderr = %tail(&output.stderr), "ran");
    Ok(output)
}

/// The same for any command, `name` in messages. A failure comes with what it had said on standard error by then.
pub fn run_command(
    mut command: Command,
    name: &str,
    input: Option<Vec<u8>>,
    wait: &Wait,
) -> Result<Output, (RunError, Vec<u8>)> {
    let started = now();
    command
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    sys::own_group(&mut command);
    let early = |error| (error, Vec::new());
    let mut child = command
        .spawn()
        .map_err(failed(format!("start `{name}`")))
        .map_err(early)?;
    let stdout = Reader::start(child.stdout.take().expect("standard output is a pipe"));
    let stderr = Reader::start(child.stderr.take().expect("standard error is a pipe"));
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        // A child that does not read all of it closes the pipe; its status tells whether that was wrong.
        std::thread::spawn(move || stdin.write_all(&input));
    }
    let mut guard = Guard(Some(child));
    let status = match ended(&mut guard, name, wait) {
        Ok(status) => status,
        Err(error) => return Err((error, stderr.so_far())),
    };
    guard.0 = None;
    let status = match status.code() {
        Some(code) => Status::Exited(code),
        None => Status::Signalled(sys::signal_of(status)),
    };
    let reading = || failed(format!("read from `{name}`"));
    let stdout = stdout
        .finish(AFTER_THE_END)
        .map_err(|error| early(reading()(error)))?;
    let stderr = stderr
        .finish(AFTER_THE_END)
        .map_err(|error| early(reading()(error)))?;
    Ok(Output {
        status,
        stdout,
        stderr,
        elapsed: now().duration_since(started),
    })
}

fn ended(guard: &mut Guard, name: &str, wait: &Wait) -> Result<ExitStatus, RunError> {
    // Portable systems have no wait with a deadline: looked at soon at first, for most commands are short.
    let mut next_look = Duration::from_millis(1);
    loop {
        let child = guard.0.as_mut().expect("the caller takes it afterwards only");
        match child.try_wait().map_err(failed(format!("wait for `{name}`")))? {
            Some(status) => return Ok(status),
            None => pause(wait, next_look)?,
        }
        next_look = (next_look * 2).min(LOOK);
    }
}

/// Starts a process that outlives us, in a session of its own, its output appended to `log`.
pub fn start(invocation: &Invocation, log: &HostPath, wait: &Wait) -> Result<ProcessRef, RunError> {
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

/// Tells whether this very process still runs.
pub fn is_running(process: &ProcessRef) -> Result<bool, RunError> {
    let found =
        sys::start_time(process.pid).map_err(failed(format!("look at the process {}", process.pid)))?;
    Ok(found == Some(process.start_time))
}

/// Ends this very process: asks, and kills at the deadline.
pub fn stop(process: &ProcessRef, wait: &Wait) -> Result<(), RunError> {
    if !is_running(process)? {
        return Ok(());
    }
    sys::terminate(process.pid).map_err(failed(format!("end the process {}", process.pid)))?;
    while is_running(process)? {
        match pause(wait, LOOK) {
            Ok(()) => {}
            Err(RunError::DeadlinePassed { .. }) => {
                sys::kill(process.pid).map_err(failed(format!("kill the process {}", process.pid)))?;
                let grace = Wait::new(
                    Deadline::after(now(), Duration::from_secs(2)),
                    wait.cancel.clone(),
                    format!("the killed process {} to be gone", process.pid),
                );
                while is_running(process)? {
                    pause(&grace, LOOK)?;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
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
        let output = run(&invocation, &long()).unwrap();
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
        let output = run(&invocation, &long()).unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (3_000_000, 3_000_000));
    }

    #[test]
    fn a_deadline_ends_the_command_and_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", pid.display());
        let cancel = Cancel::new();
        let wait = Wait::new(
            Deadline::after(now(), Duration::from_secs(30)),
            cancel.clone(),
            "the test",
        );
        let running = std::thread::spawn(move || run(&Invocation::reads("sh", ["-c", &script]), &wait));
        let limit = long();
        let child: u32 = loop {
            match fs::read_to_string(&pid).unwrap_or_default().trim().parse() {
                Ok(child) => break child,
                Err(_) => pause(&limit, LOOK).unwrap(),
            }
        };
        cancel.cancel();
        let error = running.join().unwrap().unwrap_err();
        assert!(matches!(error, RunError::Cancelled { .. }));
        while sys::start_time(child).unwrap().is_some() {
            pause(&limit, LOOK).unwrap();
        }
        let error = run(
            &Invocation::reads("sleep", ["1000"]),
            &self::wait(Duration::from_millis(50)),
        )
        .unwrap_err();
        assert!(matches!(error, RunError::DeadlinePassed { .. }));
    }

    #[test]
    fn a_child_left_behind_does_not_hold_the_command() {
        let output = run(&Invocation::reads("sh", ["-c", "sleep 1000 & echo $!"]), &long()).unwrap();
        let left_behind: u32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        assert_eq!(output.status, Status::Exited(0));
        sys::kill(left_behind).unwrap();
    }

    #[test]
    fn a_started_process_is_known_again_and_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let log = HostPath::new(folder.path().join("log").to_str().unwrap());
        let process = start(&Invocation::changes("sleep", ["1000"]), &log, &long()).unwrap();
        assert!(is_running(&process).unwrap());
        assert_eq!(
            sys::process_with_output(log.as_local()).unwrap(),
            Some((process.pid, process.start_time))
        );
        let other = ProcessRef {
            start_time: process.start_time + 1,
            ..process.clone()
        };
        assert!(!is_running(&other).unwrap());
        stop(&process, &long()).unwrap();
        assert!(!is_running(&process).unwrap());
        assert_eq!(sys::process_with_output(log.as_local()).unwrap(), None);
    }
}
