//! What a COM port needs beside reading and writing: nothing, an open one is its opener's alone.

use crate::model::Problem;
use std::io;

/// A COM port that is ours alone: Windows opens it for one only.
#[derive(Debug)]
pub struct TtyHold;

impl TtyHold {
    /// Nothing to do.
    ///
    /// # Errors
    ///
    /// None.
    pub fn take(_path: &str) -> io::Result<Self> {
        Ok(Self)
    }

    /// Nothing to do.
    ///
    /// # Errors
    ///
    /// None.
    pub fn settle(&self) -> io::Result<()> {
        Ok(())
    }

    /// Not told.
    ///
    /// # Errors
    ///
    /// Always says so.
    pub fn queued_output(&self) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Tells whether an error says that the device is not there any more: `ERROR_BAD_COMMAND`, `ERROR_DEVICE_NOT_CONNECTED`,
/// `ERROR_OPERATION_ABORTED` (an unplugged USB adapter gives any of them).
pub fn tty_is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(22 | 1167 | 995))
}

/// Nothing to look at: a port that is not there may be plugged in later.
///
/// # Errors
///
/// None.
pub fn check_tty(_device: &str) -> Result<(), Problem> {
    Ok(())
}
