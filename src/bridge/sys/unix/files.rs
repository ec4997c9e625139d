//! Standard streams and private files.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::BorrowedFd;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Once;
use tokio::signal::unix::{SignalKind, signal};

/// Opens a file to append to; a new one has mode 0600.
pub fn create_private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

/// Makes a write beyond the limit of a file's size (`ulimit -f`) an error; by default its signal ends the process. Does
/// nothing outside a runtime.
pub fn survive_file_size_limit() {
    static CAUGHT: Once = Once::new();
    if tokio::runtime::Handle::try_current().is_ok() {
        CAUGHT.call_once(|| {
            let kind = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
            // Once caught it stays so, whoever listens.
            if let Err(error) = signal(kind) {
                tracing::debug!(%error, "the signal of a file's size limit stays as it is");
            }
        });
    }
}

/// Waits, without a time limit, until a standard stream that somebody else made non-blocking is ready.
fn wait_ready(descriptor: BorrowedFd<'_>, flags: PollFlags) -> io::Result<()> {
    let mut descriptors = [PollFd::from_borrowed_fd(descriptor, flags)];
    match poll(&mut descriptors, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Reads from standard input; blocks. 0 is its end.
pub fn read_stdin(buffer: &mut [u8]) -> io::Result<usize> {
    let stdin = rustix::stdio::stdin();
    loop {
        match rustix::io::read(stdin, &mut *buffer) {
            Ok(count) => return Ok(count),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => wait_ready(stdin, PollFlags::IN)?,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes all of `bytes` to standard output; blocks.
pub fn write_stdout(mut bytes: &[u8]) -> io::Result<()> {
    let stdout = rustix::stdio::stdout();
    while !bytes.is_empty() {
        match rustix::io::write(stdout, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => wait_ready(stdout, PollFlags::OUT)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
