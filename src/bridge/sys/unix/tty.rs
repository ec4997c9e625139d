//! What a terminal device needs beside reading and writing: to be ours alone, and to be looked at.

use super::tty_holder::{busy, check_lock_files};
use crate::model::{FailureKind, Problem};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Access, AtFlags, CWD, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Getter, ioctl};
use rustix::termios::{ControlModes, OptionalActions};
use std::io;
use std::path::Path;

/// `TIOCOUTQ`: how many bytes have not gone out (tty_ioctl(4)).
const OUTPUT_QUEUE: rustix::ioctl::Opcode = 0x5411;

/// A device that is ours alone: locked (flock, as tio and picocom do; root heeds it too) and closed to other opens
/// (TIOCEXCL). A terminal whose other side stays open would stay closed to others after us; dropping this opens it again.
#[derive(Debug)]
pub struct TtyHold {
    device: OwnedFd,
}

impl TtyHold {
    /// Opens the device and locks it, before anybody changes its settings.
    ///
    /// # Errors
    ///
    /// The system's; `WouldBlock` or `ResourceBusy`, with the name of whoever has it, if it is locked.
    pub fn take(path: &str) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let path = Path::new(path);
        check_lock_files(path)?;
        let device = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| busy(path, error))?;
        rustix::fs::flock(&device, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| busy(path, error))?;
        Ok(Self { device })
    }

    /// Closes it to other opens. Modem lines of the other end do not end the stream.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn settle(&self) -> io::Result<()> {
        let mut settings = rustix::termios::tcgetattr(&self.device)?;
        settings.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
        rustix::termios::tcsetattr(&self.device, OptionalActions::Now, &settings)?;
        Ok(rustix::termios::ioctl_tiocexcl(&self.device)?)
    }

    /// Returns how many written bytes have not gone out.
    ///
    /// # Errors
    ///
    /// The system's; not every device can tell.
    pub fn queued_output(&self) -> io::Result<usize> {
        // SAFETY: TIOCOUTQ stores one `int`, and does nothing else.
        let count = unsafe { ioctl(self.device.as_fd(), Getter::<OUTPUT_QUEUE, i32>::new()) }?;
        Ok(usize::try_from(count).unwrap_or_default())
    }
}

impl Drop for TtyHold {
    fn drop(&mut self) {
        // A device that is gone needs no opening.
        let _ = rustix::termios::ioctl_tiocnxcl(&self.device);
    }
}

/// Tells whether an error says that the device is not there any more.
pub fn tty_is_gone(error: &io::Error) -> bool {
    let gone = [Errno::IO, Errno::NXIO, Errno::NODEV].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| gone.contains(&code))
}

/// Tells whether the kernel knows a character device as something else than a terminal: `/dev/null`, `/dev/kvm`. It is not
/// opened for that, because opening does something to some of them. Pseudo terminals have no entry there.
fn is_another_kind(device: rustix::fs::Dev) -> bool {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let entry = format!("/sys/dev/char/{major}:{minor}/subsystem");
    rustix::fs::readlink(entry, Vec::new()).is_ok_and(|class| !class.as_bytes().ends_with(b"/tty"))
}

/// Looks at a device before the start. One that is not there may be plugged in later.
///
/// # Errors
///
/// Precondition: no terminal device, no permission.
pub fn check_tty(device: &str) -> Result<(), Problem> {
    let path = Path::new(device);
    let Ok(found) = rustix::fs::stat(path) else {
        return Ok(());
    };
    let is_device = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice;
    if !is_device || is_another_kind(found.st_rdev) {
        return Err(Problem::new(
            FailureKind::Precondition,
            format!("`{device}` is no terminal device"),
        )
        .hint("Name a device, for example `tty:/dev/ttyUSB0`; a socket is `connect:unix:PATH`."));
    }
    match rustix::fs::accessat(CWD, path, Access::READ_OK | Access::WRITE_OK, AtFlags::EACCESS) {
        Err(Errno::ACCESS) => Err(Problem::new(
            FailureKind::Precondition,
            format!("`{device}`: permission denied"),
        )
        .hint("Serial devices belong to a group, on Debian `dialout`: `sudo usermod -aG dialout $USER`, then log in again.")),
        _ => Ok(()),
    }
}
