//! Windows: console events and modes; processes are ended by their handle only.

use super::{JobSignal, StopSignal};
use crate::runner::ReadWrite;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tokio::signal::windows::{CtrlBreak, CtrlC, CtrlClose, ctrl_break, ctrl_c, ctrl_close};
use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::Console::{
    CONSOLE_MODE, DISABLE_NEWLINE_AUTO_RETURN, ENABLE_ECHO_INPUT, ENABLE_LINE_INPUT, ENABLE_PROCESSED_INPUT,
    ENABLE_PROCESSED_OUTPUT, ENABLE_VIRTUAL_TERMINAL_INPUT, ENABLE_VIRTUAL_TERMINAL_PROCESSING, GetConsoleCP,
    GetConsoleMode, GetConsoleOutputCP, GetStdHandle, STD_HANDLE, STD_INPUT_HANDLE, STD_OUTPUT_HANDLE,
    SetConsoleCP, SetConsoleMode, SetConsoleOutputCP,
};

/// `CP_UTF8`.
const UTF_8: u32 = 65001;

/// Windows has no job control.
#[derive(Debug)]
pub struct JobSignals;

impl JobSignals {
    /// Nothing to catch.
    ///
    /// # Errors
    ///
    /// None.
    pub fn catch() -> io::Result<Self> {
        Ok(Self)
    }

    /// Waits for ever.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> JobSignal {
        std::future::pending().await
    }
}

/// Nobody would let us go on.
pub fn can_suspend() -> bool {
    false
}

/// Stops nothing.
///
/// # Errors
///
/// Always says so.
pub fn suspend() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Windows has no request to end that a console program must obey; the caller ends the process by its handle.
///
/// # Errors
///
/// Always says so.
pub fn terminate(_pid: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// One end of the console with what it was set to.
#[derive(Debug)]
struct SavedMode {
    handle: usize,
    mode: CONSOLE_MODE,
}

impl SavedMode {
    fn of(which: STD_HANDLE) -> Option<Self> {
        let mut mode = 0;
        // SAFETY: `mode` is a valid place for the result; a handle that is no console's is refused.
        unsafe {
            let handle = GetStdHandle(which);
            (GetConsoleMode(handle, &raw mut mode) != 0).then_some(Self {
                handle: handle as usize,
                mode,
            })
        }
    }

    fn set(&self, mode: CONSOLE_MODE) -> io::Result<()> {
        // SAFETY: no pointers; a standard handle stays open as long as the process.
        if unsafe { SetConsoleMode(self.handle as HANDLE, mode) } == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// The modes of the console and its code pages, put back when this is dropped. They are the console's, not ours: without
/// that the user's shell would go on with them.
#[derive(Debug)]
pub struct TerminalState {
    input: Option<SavedMode>,
    output: Option<SavedMode>,
    /// Code pages of input and output.
    pages: Option<(u32, u32)>,
}

impl TerminalState {
    /// Remembers the present settings; nothing if standard input is no console.
    pub fn save() -> Self {
        let input = SavedMode::of(STD_INPUT_HANDLE);
        let output = SavedMode::of(STD_OUTPUT_HANDLE);
        // SAFETY: no pointers; 0 means that there is no console.
        let pages = unsafe { (GetConsoleCP(), GetConsoleOutputCP()) };
        Self {
            input,
            output,
            pages: (pages.0 != 0 && pages.1 != 0).then_some(pages),
        }
    }

    /// Remembers the present settings and makes the console raw: each key goes out as it is typed and as a terminal of
    /// Unix would send it, none is a signal; what comes is UTF-8 with the escape sequences of a terminal.
    ///
    /// # Errors
    ///
    /// Standard input is no console, or it knows no escape sequences (before Windows 10 1511).
    pub fn raw() -> io::Result<Self> {
        // Dropped on every way out of here, and puts back what was changed by then.
        let state = Self::save();
        let Some(input) = &state.input else {
            return Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "standard input is no console",
            ));
        };
        input.set(raw_input(input.mode))?;
        if let Some(output) = &state.output {
            output.set(raw_output(output.mode))?;
        }
        if state.pages.is_some() {
            // SAFETY: no pointers. Where UTF-8 is refused, everything but ASCII is shown wrong and nothing else happens.
            unsafe {
                SetConsoleCP(UTF_8);
                SetConsoleOutputCP(UTF_8);
            }
        }
        Ok(state)
    }
}

/// The mode of input without lines, echo and signals, with escape sequences for the keys that are no characters. Bits
/// that are not about this (insert, quick edit, mouse) stay.
fn raw_input(mode: CONSOLE_MODE) -> CONSOLE_MODE {
    mode & !(ENABLE_LINE_INPUT | ENABLE_ECHO_INPUT | ENABLE_PROCESSED_INPUT) | ENABLE_VIRTUAL_TERMINAL_INPUT
}

/// The mode of output that a terminal has: escape sequences, and a line feed that stays in its column.
fn raw_output(mode: CONSOLE_MODE) -> CONSOLE_MODE {
    mode | ENABLE_PROCESSED_OUTPUT | ENABLE_VIRTUAL_TERMINAL_PROCESSING | DISABLE_NEWLINE_AUTO_RETURN
}

impl Drop for TerminalState {
    fn drop(&mut self) {
        // A console that is gone cannot be restored and need not be.
        for saved in [&self.input, &self.output].into_iter().flatten() {
            let _ = saved.set(saved.mode);
        }
        if let Some((input, output)) = self.pages {
            // SAFETY: no pointers.
            unsafe {
                SetConsoleCP(input);
                SetConsoleOutputCP(output);
            }
        }
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

/// Whether this system has named pipes as Windows has them.
pub const HAS_NAMED_PIPES: bool = true;

/// Whether [`connect_local`] works.
pub const HAS_LOCAL_STREAMS: bool = false;

/// A stream to another process of this machine.
pub type LocalStream = tokio::io::DuplexStream;

/// There are no Unix sockets here that `ssh` forwards.
///
/// # Errors
///
/// Always says so.
pub async fn connect_local(_path: &Path) -> io::Result<LocalStream> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Makes a folder for temporary files, removed when it is dropped; the user's folder's access list holds.
///
/// # Errors
///
/// The system's refusal.
pub fn private_folder() -> io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("vmserial").tempdir()
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
