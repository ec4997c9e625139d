//! Windows: console events; processes are ended by their handle only, and terminal settings are the console's own.

use super::StopSignal;
use crate::runner::ReadWrite;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tokio::signal::windows::{CtrlBreak, CtrlC, CtrlClose, ctrl_break, ctrl_c, ctrl_close};

/// Windows has no request to end that a console program must obey; the caller ends the process by its handle.
///
/// # Errors
///
/// Always says so.
pub fn terminate(_pid: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Nothing to remember: the console restores its own settings when a program ends.
#[derive(Debug)]
pub struct TerminalState;

impl TerminalState {
    /// Remembers nothing.
    pub fn save() -> Self {
        Self
    }

    /// Makes the terminal raw.
    ///
    /// # Errors
    ///
    /// Always: console modes are not served yet.
    pub fn raw() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The console events that end vmserial.
#[derive(Debug)]
pub struct StopSignals {
    interrupt: CtrlC,
    terminate: CtrlBreak,
    close: CtrlClose,
}

impl StopSignals {
    /// Begins to catch the events. Needs a running tokio runtime.
    ///
    /// # Errors
    ///
    /// The system's refusal.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: ctrl_c()?,
            terminate: ctrl_break()?,
            close: ctrl_close()?,
        })
    }

    /// Waits for the next event.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an event that came is reported by the next call.
    pub async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.interrupt.recv() => StopSignal::Interrupt,
            _ = self.terminate.recv() => StopSignal::Terminate,
            _ = self.close.recv() => StopSignal::Hangup,
        }
    }
}

/// Windows ends no process by a signal.
pub fn signal_of(_status: std::process::ExitStatus) -> i32 {
    0
}

/// Processes are ended by their handle only; a stored identifier may be another's by now.
///
/// # Errors
///
/// Always says so.
pub fn kill(_pid: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Nothing to do: children are ended by their handle.
pub fn own_group(_command: &mut Command) {}

/// Nothing to do: children are ended by their handle.
pub fn terminate_group(_leader: u32) {}

/// Makes the command of words, or of the command line as it was written: here each program splits its own.
#[expect(clippy::disallowed_methods, reason = "the runner starts processes")]
pub fn command(words: &[String], written: Option<&str>) -> Command {
    use std::os::windows::process::CommandExt as _;
    if let Some(line) = written {
        let (program, rest) = match line.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => line.split_once(char::is_whitespace).unwrap_or((line, "")),
        };
        let mut command = Command::new(program);
        command.raw_arg(rest.trim_start());
        return command;
    }
    let (program, arguments) = words
        .split_first()
        .map_or(("", words), |(first, rest)| (first, rest));
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// Nothing to do: children are ended by their handle.
pub fn kill_group(_leader: u32) {}

/// Nothing to do: a child without a console outlives us.
pub fn own_session(_command: &mut Command) {}

/// Nothing to do: the profile folder's access list holds.
pub fn private(_options: &mut OpenOptions) {}

/// There are no mode bits and no numeric owners.
pub fn mode_and_owner(_metadata: &Metadata) -> (Option<u32>, Option<(u32, u32)>) {
    (None, None)
}

/// Nothing to do.
///
/// # Errors
///
/// None.
pub fn set_mode_and_owner(_file: &File, _mode: Option<u32>, _owner: Option<(u32, u32)>) -> io::Result<()> {
    Ok(())
}

/// A folder cannot be opened for writing to disk; NTFS journals its entries.
///
/// # Errors
///
/// None.
pub fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// The standard library has no Unix sockets here.
///
/// # Errors
///
/// Always says so.
pub fn connect_unix(_path: &Path, _timeout: Duration) -> io::Result<Box<dyn ReadWrite>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Not known without opening the process.
///
/// # Errors
///
/// Always says so.
pub fn start_time(_pid: u32) -> io::Result<Option<u64>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Makes a file for writing beside another.
///
/// # Errors
///
/// The system's refusal.
pub fn new_file(
    builder: &mut tempfile::Builder<'_, '_>,
    folder: &Path,
) -> io::Result<tempfile::NamedTempFile> {
    builder.tempfile_in(folder)
}

/// Makes a folder and those above it; the profile folder's access list holds.
///
/// # Errors
///
/// The system's refusal.
pub fn make_private_folder(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)
}

/// Not known without opening every process.
///
/// # Errors
///
/// Always says so.
pub fn process_with_output(_log: &Path) -> io::Result<Option<(u32, u64)>> {
    Err(io::ErrorKind::Unsupported.into())
}
