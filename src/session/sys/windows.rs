//! Windows: a folder of the user's profile is the user's already.

use std::io;
use std::path::Path;

/// Makes a folder; its access list is inherited.
///
/// # Errors
///
/// It cannot be made.
pub fn private_folder(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)
}
