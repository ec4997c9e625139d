//! Unix: a command's group is ended with it, and the crate `powershell_script` looks for `pwsh.exe` here.

use crate::runner::powershell::helper::Said;
use std::io;

/// Whether scripts go through the helper.
pub const HAS_HELPER: bool = false;

/// Scripts are commands here.
///
/// # Errors
///
/// Always says so.
pub fn by_crate(_script: &str) -> io::Result<Said> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Nothing to do: the runner ends a command with its group.
///
/// # Errors
///
/// None.
pub fn end_children_with_us() -> io::Result<()> {
    Ok(())
}
