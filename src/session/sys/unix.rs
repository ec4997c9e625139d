//! POSIX: folders that nobody else may enter, locks of files, where control sockets are.

use crate::model::{FailureKind, Problem};
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The longest path of a Unix socket.
const SOCKET_PATH_BYTES: usize = 107;

/// Makes a folder with mode 0700, or makes sure that it is ours and has that mode.
///
/// # Errors
///
/// It cannot be made, is no folder, or is another user's.
pub fn private_folder(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().recursive(true).mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // Not through a link: in a folder that everybody may write to, somebody may have put one there before us.
    let metadata = fs::symlink_metadata(folder)?;
    if !metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, "it is no folder"));
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it is another user's",
        ));
    }
    if metadata.mode() & 0o777 != 0o700 {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Returns the path of the control socket with this ID: `$XDG_RUNTIME_DIR/vmserial/ID.sock`, else in the state folder,
/// else (a socket's path has at most 107 bytes) in a private folder of the temporary one.
///
/// # Errors
///
/// Precondition: none of the paths is short enough.
pub fn control_path(state: &Path, id: &str) -> Result<PathBuf, Problem> {
    let name = format!("{id}.sock");
    let runtime = std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join("vmserial"));
    let user = std::env::var("USER").unwrap_or_else(|_| "user".into());
    let temporary = std::env::temp_dir().join(format!("vmserial-{user}"));
    [runtime, Some(state.join("run")), Some(temporary)]
        .into_iter()
        .flatten()
        .map(|folder| folder.join(&name))
        .find(|path| path.as_os_str().len() <= SOCKET_PATH_BYTES)
        .ok_or_else(|| {
            Problem::new(
                FailureKind::Precondition,
                format!("no folder for a control socket has a path short enough ({SOCKET_PATH_BYTES} bytes)"),
            )
            .hint("Set $XDG_RUNTIME_DIR to a folder with a short path.")
        })
}

/// Makes the folder of a control socket, which only we may enter, or makes sure that it is one.
///
/// # Errors
///
/// Precondition: see [`private_folder`].
pub fn prepare_control_path(path: &Path) -> Result<(), Problem> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    private_folder(folder).map_err(|error| {
        Problem::new(
            FailureKind::Precondition,
            format!(
                "cannot use `{}` for the control socket: {error}",
                folder.display()
            ),
        )
        .hint("Set $XDG_RUNTIME_DIR to a folder of your own.")
    })
}

/// Takes a file for ourselves; others may still read it.
///
/// # Errors
///
/// Somebody has it, or the system's refusal.
pub fn try_lock(file: &File) -> Result<(), TryLockError> {
    file.try_lock()
}

/// Takes a file together with others who only look.
///
/// # Errors
///
/// Somebody has it for himself, or the system's refusal.
pub fn try_lock_shared(file: &File) -> Result<(), TryLockError> {
    file.try_lock_shared()
}

/// Gives a file back.
///
/// # Errors
///
/// The system's refusal.
pub fn unlock(file: &File) -> io::Result<()> {
    file.unlock()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_socket_fits_into_a_socket_address() {
        let deep = PathBuf::from(format!("/{}", "d".repeat(150)));
        let path = control_path(&deep, "0123456789abcdef").unwrap();
        assert!(path.as_os_str().len() <= SOCKET_PATH_BYTES, "{path:?}");
    }
}
