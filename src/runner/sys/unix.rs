//! POSIX: signals and terminal settings.

use super::{JobSignal, StopSignal};
use crate::runner::ReadWrite;
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// Asks a process to end (SIGTERM). One that is gone already is no error.
///
/// # Errors
///
/// The system's refusal.
pub fn terminate(pid: u32) -> io::Result<()> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(io::ErrorKind::InvalidInput)?;
    match kill_process(pid, Signal::TERM) {
        Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The settings of the terminal on standard input, put back when this is dropped: a debugger that was killed leaves
/// its own behind.
#[derive(Debug)]
pub struct TerminalState(Option<Termios>);

/// What a raw terminal was set to, for a panic: its message is to be readable, and the shell after it usable.
static BEFORE_RAW: Mutex<Option<Termios>> = Mutex::new(None);

fn set_before_raw(termios: Option<Termios>) {
    *BEFORE_RAW.lock().unwrap_or_else(PoisonError::into_inner) = termios;
}

/// Puts the terminal back before a panic is told.
fn restore_on_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // Whoever holds the lock is putting the terminal back or has not changed it yet.
            if let Ok(Some(termios)) = BEFORE_RAW.try_lock().as_deref() {
                let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, termios);
            }
            before(panic);
        }));
    });
}

impl TerminalState {
    /// Remembers the present settings; nothing if standard input is no terminal.
    pub fn save() -> Self {
        Self(tcgetattr(rustix::stdio::stdin()).ok())
    }

    /// Remembers the present settings and makes the terminal raw: each key goes out as it is typed, none is a signal.
    ///
    /// # Errors
    ///
    /// Standard input is no terminal, or the system refuses.
    pub fn raw() -> io::Result<Self> {
        let saved = tcgetattr(rustix::stdio::stdin())?;
        let mut raw = saved.clone();
        restore_on_panic();
        set_before_raw(Some(saved.clone()));
        raw.make_raw();
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(Some(saved)))
    }
}

impl Drop for TerminalState {
    fn drop(&mut self) {
        set_before_raw(None);
        if let Some(termios) = &self.0 {
            // A terminal that is gone cannot be restored and need not be.
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, termios);
        }
    }
}

/// The signals that end vmserial. From the moment this exists they no longer kill the process.
#[derive(Debug)]
pub struct StopSignals {
    interrupt: Stream,
    terminate: Stream,
    hangup: Stream,
}

impl StopSignals {
    /// Begins to catch the signals. Needs a running tokio runtime with I/O.
    ///
    /// # Errors
    ///
    /// The system's refusal.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a signal that came is reported by the next call.
    pub async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.interrupt.recv() => StopSignal::Interrupt,
            _ = self.terminate.recv() => StopSignal::Terminate,
            _ = self.hangup.recv() => StopSignal::Hangup,
        }
    }
}

/// The signals of a shell's job control. From the moment this exists they no longer stop the process by themselves.
#[derive(Debug)]
pub struct JobSignals {
    suspend: Stream,
    go_on: Stream,
}

impl JobSignals {
    /// Begins to catch the signals. Needs a running tokio runtime with I/O.
    ///
    /// # Errors
    ///
    /// The system's refusal.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            suspend: signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?,
            go_on: signal(SignalKind::from_raw(Signal::CONT.as_raw()))?,
        })
    }

    /// Waits for the next signal.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a signal that came is reported by the next call.
    pub async fn next(&mut self) -> JobSignal {
        tokio::select! {
            _ = self.suspend.recv() => JobSignal::Suspend,
            _ = self.go_on.recv() => JobSignal::GoOn,
        }
    }
}

/// Tells whether a shell would let us go on after a stop: our parent is in our session, and we are a job of its own.
pub fn can_suspend() -> bool {
    let Some(parent) = rustix::process::getppid() else {
        return false;
    };
    let parent = parent.as_raw_nonzero().get();
    // Not by rustix, which panics at 0: that is a session or a group whose leader a PID namespace does not show, as
    // under `docker exec` and `nsenter`.
    //
    // SAFETY: both calls take a number and return one.
    let (sessions, groups) = unsafe {
        (
            [libc::getsid(0), libc::getsid(parent)],
            [libc::getpgid(0), libc::getpgid(parent)],
        )
    };
    sessions[0] == sessions[1] && groups[0] != groups[1]
}

/// Stops this process until somebody lets it go on.
///
/// # Errors
///
/// The system's refusal.
pub fn suspend() -> io::Result<()> {
    kill_process(rustix::process::getpid(), Signal::STOP).map_err(io::Error::from)
}

/// Returns the signal that ended a process, 0 if none did.
pub fn signal_of(status: std::process::ExitStatus) -> i32 {
    std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or_default()
}

/// Kills a process. One that is gone already is no error.
///
/// # Errors
///
/// The system's refusal.
pub fn kill(pid: u32) -> io::Result<()> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(io::ErrorKind::InvalidInput)?;
    match kill_process(pid, Signal::KILL) {
        Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Puts a command into a process group of its own, so that it can be ended with its children.
pub fn own_group(command: &mut Command) {
    command.process_group(0);
}

/// Kills a process group that [`own_group`] made.
pub fn kill_group(leader: u32) {
    if let Some(pid) = i32::try_from(leader).ok().and_then(Pid::from_raw) {
        // A group that is gone needs no killing.
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    }
}

/// Asks a process group to end that [`own_group`] or [`own_session`] made.
pub fn terminate_group(leader: u32) {
    if let Some(pid) = i32::try_from(leader).ok().and_then(Pid::from_raw) {
        // A group that is gone needs no asking.
        let _ = rustix::process::kill_process_group(pid, Signal::TERM);
    }
}

/// Makes the command of words; how they were written does not matter here.
#[expect(clippy::disallowed_methods, reason = "the runner starts processes")]
pub fn command(words: &[String], _written: Option<&str>) -> Command {
    let (program, arguments) = words
        .split_first()
        .map_or(("", words), |(first, rest)| (first, rest));
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// Puts a command into a session of its own: our terminal's signals and end do not reach it.
pub fn own_session(command: &mut Command) {
    // SAFETY: between fork and exec only setsid is called, which is async-signal-safe and allocates nothing.
    unsafe {
        command.pre_exec(|| rustix::process::setsid().map(|_| ()).map_err(io::Error::from));
    }
}

/// Opens a new file for its owner only.
pub fn private(options: &mut OpenOptions) {
    options.mode(0o600);
}

/// Returns a file's mode bits and its user and group.
pub fn mode_and_owner(metadata: &Metadata) -> (Option<u32>, Option<(u32, u32)>) {
    (
        Some(metadata.permissions().mode() & 0o7777),
        Some((metadata.uid(), metadata.gid())),
    )
}

/// Gives a file its mode bits and owner. A user who may not give files away keeps the file, which is enough where it
/// was the user's before.
///
/// # Errors
///
/// The system's refusal.
pub fn set_mode_and_owner(file: &File, mode: Option<u32>, owner: Option<(u32, u32)>) -> io::Result<()> {
    if let Some((user, group)) = owner {
        let metadata = file.metadata()?;
        if (metadata.uid(), metadata.gid()) != (user, group) {
            std::os::unix::fs::fchown(file, Some(user), Some(group))?;
        }
    }
    match mode {
        Some(mode) => file.set_permissions(Permissions::from_mode(mode)),
        None => Ok(()),
    }
}

/// Writes a folder's entries to disk.
///
/// # Errors
///
/// The system's refusal.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Whether this system has named pipes as Windows has them.
pub const HAS_NAMED_PIPES: bool = false;

/// Whether [`connect_local`] works.
pub const HAS_LOCAL_STREAMS: bool = true;

/// A stream to another process of this machine.
pub type LocalStream = tokio::net::UnixStream;

/// Connects to a socket of this machine.
///
/// # Errors
///
/// The system's refusal.
pub async fn connect_local(path: &Path) -> io::Result<LocalStream> {
    tokio::net::UnixStream::connect(path).await
}

/// Makes a folder that nobody else can look into, removed when it is dropped. Its path is short enough for a socket:
/// the runtime folder, or else the one for temporary files.
///
/// # Errors
///
/// The system's refusal.
pub fn private_folder() -> io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder
        .prefix("vmserial")
        .permissions(Permissions::from_mode(0o700));
    std::env::var_os("XDG_RUNTIME_DIR")
        .and_then(|folder| builder.tempdir_in(folder).ok())
        .map_or_else(|| builder.tempdir(), Ok)
}

/// Connects to a Unix socket. Reads and writes give up with an error after `timeout`.
///
/// # Errors
///
/// The system's refusal.
pub fn connect_unix(path: &Path, timeout: Duration) -> io::Result<Box<dyn ReadWrite>> {
    let stream = std::os::unix::net::UnixStream::connect(path)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    Ok(Box::new(stream))
}

/// Returns a process's start time in clock ticks since boot (proc(5), field 22 of `stat`); `None` if there is no such
/// process or only its zombie.
///
/// # Errors
///
/// The system's refusal.
pub fn start_time(pid: u32) -> io::Result<Option<u64>> {
    let text = match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // ESRCH: it ended between open and read.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    // The name in parentheses may hold anything, blanks and parentheses too.
    let fields: Vec<&str> = text
        .rsplit_once(") ")
        .map(|(_, rest)| rest.split(' ').collect())
        .unwrap_or_default();
    if matches!(fields.first(), Some(&("Z" | "X"))) {
        return Ok(None);
    }
    let start = fields.get(19).and_then(|field| field.parse().ok());
    start
        .map(Some)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no start time in /proc/PID/stat"))
}

/// Makes a file for writing beside another, with the mode that new files have (0666 without the umask).
///
/// # Errors
///
/// The system's refusal.
pub fn new_file(
    builder: &mut tempfile::Builder<'_, '_>,
    folder: &Path,
) -> io::Result<tempfile::NamedTempFile> {
    builder
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
}

/// Makes a folder and those above it, for its owner only.
///
/// # Errors
///
/// The system's refusal.
pub fn make_private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Finds the process whose standard output is this file: its pid and start time. The oldest one, should it have
/// children that write there too. Needs `/proc`.
///
/// # Errors
///
/// The system's refusal to list processes; those that are not ours to look into are passed over.
pub fn process_with_output(log: &Path) -> io::Result<Option<(u32, u64)>> {
    let Ok(wanted) = std::fs::metadata(log) else {
        return Ok(None);
    };
    let mut found: Option<(u32, u64)> = None;
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(output) = std::fs::metadata(format!("/proc/{pid}/fd/1")) else {
            continue;
        };
        if (output.dev(), output.ino()) != (wanted.dev(), wanted.ino()) {
            continue;
        }
        if let Ok(Some(start)) = start_time(pid)
            && found.is_none_or(|(_, earliest)| start < earliest)
        {
            found = Some((pid, start));
        }
    }
    Ok(found)
}
