//! Files of this machine: read whole, replaced in one go, folders for our own.

use super::failed;
use crate::model::{Digest, HostPath};
use crate::runner::{FileSnapshot, RunError, sys};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Reads a regular file, through symbolic links; `None` if there is none.
pub fn read(path: &Path) -> Result<Option<FileSnapshot>, RunError> {
    let what = || format!("read `{}`", path.display());
    // Looked at before it is opened: opening a FIFO would wait for its writer.
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RunError::Io { what: what(), source }),
    };
    if !metadata.is_file() {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file");
        return Err(RunError::Io { what: what(), source });
    }
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RunError::Io { what: what(), source }),
    };
    let metadata = file.metadata().map_err(failed(what()))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed(what()))?;
    let (mode, owner) = sys::mode_and_owner(&metadata);
    Ok(Some(FileSnapshot { bytes, mode, owner }))
}

/// Replaces or removes a file that has the expected digest.
pub fn replace(
    path: &HostPath,
    new: Option<&FileSnapshot>,
    expected: Option<&Digest>,
) -> Result<(), RunError> {
    let real = real_path(path)?;
    let folder = match real.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let unchanged = || -> Result<Option<FileSnapshot>, RunError> {
        let present = read(&real)?;
        if present.as_ref().map(FileSnapshot::digest).as_ref() == expected {
            Ok(present)
        } else {
            Err(RunError::Changed { path: path.clone() })
        }
    };
    let present = unchanged()?;
    match new {
        None if present.is_none() => return Ok(()),
        None => fs::remove_file(&real).map_err(failed(format!("remove `{path}`")))?,
        Some(new) => {
            let writing = || failed(format!("write beside `{path}`"));
            let mut file =
                sys::new_file(tempfile::Builder::new().prefix(".vmserial-"), &folder).map_err(writing())?;
            file.write_all(&new.bytes).map_err(writing())?;
            let mode = new.mode.or(present.as_ref().and_then(|file| file.mode));
            let owner = new.owner.or(present.as_ref().and_then(|file| file.owner));
            sys::set_mode_and_owner(file.as_file(), mode, owner).map_err(writing())?;
            file.as_file().sync_all().map_err(writing())?;
            // Looked at again right before the rename: somebody may have written meanwhile.
            let persisted = if unchanged()?.is_some() {
                file.persist(&real)
            } else {
                file.persist_noclobber(&real)
            };
            match persisted.map_err(|error| error.error) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(RunError::Changed { path: path.clone() });
                }
                result => result.map_err(failed(format!("replace `{path}`")))?,
            };
        }
    }
    sys::sync_folder(&folder).map_err(failed(format!("write the folder of `{path}` to disk")))
}

/// Follows symbolic links: the file is replaced, not the link. A link to nothing is refused.
fn real_path(path: &HostPath) -> Result<PathBuf, RunError> {
    let what = || format!("find `{path}`");
    match fs::canonicalize(path.as_local()) {
        Ok(real) => Ok(real),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if fs::symlink_metadata(path.as_local()).is_ok() {
                let source = io::Error::new(io::ErrorKind::NotFound, "it is a symbolic link to nothing");
                return Err(RunError::Io { what: what(), source });
            }
            Ok(path.as_local().to_owned())
        }
        Err(source) => Err(RunError::Io { what: what(), source }),
    }
}

/// Makes a folder for its owner only, with those above it.
pub fn make_folder(path: &HostPath) -> Result<(), RunError> {
    let what = || failed(format!("make the folder `{path}`"));
    let local = path.as_local();
    if local.is_dir() {
        return Ok(());
    }
    sys::make_private_folder(local).map_err(what())?;
    match local.parent() {
        // Without this a crash may lose the new folder with all that is in it.
        Some(parent) if !parent.as_os_str().is_empty() => sys::sync_folder(parent).map_err(what()),
        _ => Ok(()),
    }
}

/// Returns the names in a folder, sorted; none if there is no such folder.
pub fn list(path: &HostPath) -> Result<Vec<String>, RunError> {
    let what = || failed(format!("list the folder `{path}`"));
    let entries = match fs::read_dir(path.as_local()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(what()(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(what())?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn host_path(folder: &tempfile::TempDir, name: &str) -> HostPath {
        HostPath::new(folder.path().join(name).to_str().unwrap())
    }

    fn new(text: &str) -> FileSnapshot {
        FileSnapshot {
            bytes: text.into(),
            mode: None,
            owner: None,
        }
    }

    #[test]
    fn a_file_is_replaced_only_as_it_was_planned_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = host_path(&folder, "a");
        replace(&path, Some(&new("one")), None).unwrap();
        let refused = replace(&path, Some(&new("two")), None).unwrap_err();
        assert!(matches!(refused, RunError::Changed { .. }));
        replace(&path, Some(&new("two")), Some(&Digest::of(b"one"))).unwrap();
        assert_eq!(read(path.as_local()).unwrap().unwrap().bytes, b"two");
        replace(&path, None, Some(&Digest::of(b"two"))).unwrap();
        assert_eq!(read(path.as_local()).unwrap(), None);
        assert_eq!(list(&host_path(&folder, "")).unwrap(), Vec::<String>::new());
    }

    #[cfg(unix)]
    #[test]
    fn mode_and_link_survive_a_replacement() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (host_path(&folder, "file"), host_path(&folder, "link"));
        fs::write(file.as_local(), "one").unwrap();
        fs::set_permissions(file.as_local(), fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("file", link.as_local()).unwrap();
        replace(&link, Some(&new("two")), Some(&Digest::of(b"one"))).unwrap();
        assert!(fs::symlink_metadata(link.as_local()).unwrap().is_symlink());
        let snapshot = read(file.as_local()).unwrap().unwrap();
        assert_eq!(
            (snapshot.bytes.as_slice(), snapshot.mode),
            (&b"two"[..], Some(0o640))
        );
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let dangling = host_path(&folder, "dangling");
        std::os::unix::fs::symlink("nowhere", dangling.as_local()).unwrap();
        let error = replace(&dangling, Some(&new("x")), None).unwrap_err();
        assert!(matches!(error, RunError::Io { .. }), "{error}");
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        assert!(matches!(read(&fifo), Err(RunError::Io { .. })));
        assert!(matches!(read(folder.path()), Err(RunError::Io { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn our_folders_are_for_their_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = host_path(&folder, "a/b");
        make_folder(&path).unwrap();
        make_folder(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(path.as_local()), 0o700);
        assert_eq!(list(&host_path(&folder, "a")).unwrap(), ["b"]);
    }
}
