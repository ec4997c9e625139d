//! Windows: a folder of the user's profile is the user's already; locks of files; control sockets are named pipes.

use crate::model::Problem;
use std::fs::{File, TryLockError};
use std::io;
use std::os::windows::io::AsRawHandle;
use std::path::{Path, PathBuf};
use windows_sys::Win32::Foundation::{ERROR_IO_PENDING, ERROR_LOCK_VIOLATION};
use windows_sys::Win32::Storage::FileSystem::{
    LOCK_FILE_FLAGS, LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY, LockFileEx, UnlockFileEx,
};
use windows_sys::Win32::System::IO::OVERLAPPED;

/// The byte that is locked. Windows keeps others from *reading* what is locked, and they must be able to read who the
/// owner is, so it lies far behind everything that is written.
const LOCKED_BYTE: u64 = 1 << 62;

/// Makes a folder; its access list is inherited.
///
/// # Errors
///
/// It cannot be made.
pub fn private_folder(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)
}

/// Returns the path of the control pipe with this ID.
///
/// # Errors
///
/// None here.
pub fn control_path(_state: &Path, id: &str) -> Result<PathBuf, Problem> {
    Ok(PathBuf::from(format!(r"\\.\pipe\vmserial-{id}")))
}

/// Nothing to do: pipes have no folder, and an access list of their own.
///
/// # Errors
///
/// None here.
pub fn prepare_control_path(_path: &Path) -> Result<(), Problem> {
    Ok(())
}

/// Where the locked byte is, as the system takes it.
fn place() -> OVERLAPPED {
    let mut place = OVERLAPPED::default();
    place.Anonymous.Anonymous.Offset = LOCKED_BYTE as u32;
    place.Anonymous.Anonymous.OffsetHigh = (LOCKED_BYTE >> 32) as u32;
    place
}

fn lock(file: &File, flags: LOCK_FILE_FLAGS) -> Result<(), TryLockError> {
    let mut place = place();
    // SAFETY: the handle is open and not overlapped, so the call has ended with `place` when it returns.
    let locked = unsafe {
        LockFileEx(
            file.as_raw_handle(),
            flags | LOCKFILE_FAIL_IMMEDIATELY,
            0,
            1,
            0,
            &raw mut place,
        )
    };
    if locked != 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error().map(|code| code as u32) {
        Some(ERROR_LOCK_VIOLATION | ERROR_IO_PENDING) => Err(TryLockError::WouldBlock),
        _ => Err(TryLockError::Error(error)),
    }
}

/// Takes a file for ourselves; others may still read it.
///
/// # Errors
///
/// Somebody has it, or the system's refusal.
pub fn try_lock(file: &File) -> Result<(), TryLockError> {
    lock(file, LOCKFILE_EXCLUSIVE_LOCK)
}

/// Takes a file together with others who only look.
///
/// # Errors
///
/// Somebody has it for himself, or the system's refusal.
pub fn try_lock_shared(file: &File) -> Result<(), TryLockError> {
    lock(file, 0)
}

/// Gives a file back.
///
/// # Errors
///
/// The system's refusal.
pub fn unlock(file: &File) -> io::Result<()> {
    let mut place = place();
    // SAFETY: as in `lock`.
    if unsafe { UnlockFileEx(file.as_raw_handle(), 0, 1, 0, &raw mut place) } == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::io::{Read as _, Write as _};

    #[test]
    fn what_is_locked_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let mut owner = File::create(&path).unwrap();
        try_lock(&owner).unwrap();
        owner.write_all(b"pid 1").unwrap();
        let mut other = File::open(&path).unwrap();
        assert!(matches!(try_lock_shared(&other), Err(TryLockError::WouldBlock)));
        let mut text = String::new();
        other.read_to_string(&mut text).unwrap();
        assert_eq!(text, "pid 1");
        unlock(&owner).unwrap();
        try_lock_shared(&other).unwrap();
    }
}
