//! Files of a host that runs commands, by small scripts: read whole, replaced in one go. (SFTP's rename does not replace.)

use crate::model::{Digest, HostPath, HostRef, Wait};
use crate::runner::local::tail;
use crate::runner::{FileSnapshot, Output, RunError, Status};
use std::io;

const READ: &str = include_str!("../../templates/sh/read.sh");
const REPLACE: &str = include_str!("../../templates/sh/replace.sh");
const MAKE_FOLDER: &str = include_str!("../../templates/sh/make-folder.sh");
const LIST: &str = include_str!("../../templates/sh/list.sh");

/// The status by which `replace.sh` says that the file is another than was expected.
const CHANGED: Status = Status::Exited(10);

/// A host that runs our scripts of POSIX sh.
pub trait ScriptHost {
    /// Returns the host.
    fn script_host(&self) -> &HostRef;

    /// Runs a script with these arguments, and these bytes on its standard input. `what` is told when that is not possible.
    ///
    /// # Errors
    ///
    /// It cannot be run. A status other than 0 is none.
    fn run_script(
        &self,
        what: &str,
        text: &str,
        arguments: &[String],
        input: &[u8],
        wait: &Wait,
    ) -> Result<Output, RunError>;
}

/// Turns another status than 0 of a script into the host's refusal.
///
/// # Errors
///
/// The script's own words.
pub fn succeeded(what: &str, host: &HostRef, output: Output) -> Result<Output, RunError> {
    if output.success() {
        return Ok(output);
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let kind = if words.contains("Permission denied") || words.contains("Operation not permitted") {
        io::ErrorKind::PermissionDenied
    } else {
        io::ErrorKind::Other
    };
    let words = match words.trim().lines().last() {
        Some(_) => tail(&output.stderr).trim().to_owned(),
        None => format!("it {}", output.status),
    };
    Err(RunError::Io {
        what: format!("{what} on {host}"),
        source: io::Error::new(kind, words),
    })
}

/// Reads a regular file; `None` if there is none.
///
/// # Errors
///
/// The host's refusal.
pub fn read(runner: &dyn ScriptHost, path: &HostPath, wait: &Wait) -> Result<Option<FileSnapshot>, RunError> {
    let what = format!("read `{path}`");
    let output = runner.run_script(&what, READ, &[path.as_str().to_owned()], b"", wait)?;
    let output = succeeded(&what, runner.script_host(), output)?;
    if output.stdout.is_empty() {
        return Ok(None);
    }
    let parsed = parse(output.stdout);
    parsed.map(Some).ok_or_else(|| RunError::Io {
        what: format!("{what} on {}", runner.script_host()),
        source: io::Error::other("its mode and owner could not be read"),
    })
}

fn parse(mut said: Vec<u8>) -> Option<FileSnapshot> {
    let end = said.iter().position(|&byte| byte == b'\n')?;
    let bytes = said.split_off(end + 1);
    let text = String::from_utf8(said).ok()?;
    let mut words = text.split_whitespace();
    let mode = u32::from_str_radix(words.next()?, 8).ok()?;
    let owner = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(FileSnapshot {
        bytes,
        mode: Some(mode),
        owner: Some(owner),
    })
}

/// Replaces or removes a file that has the expected digest.
///
/// # Errors
///
/// It changed meanwhile; the host's refusal.
pub fn replace(
    runner: &dyn ScriptHost,
    path: &HostPath,
    new: Option<&FileSnapshot>,
    expected: Option<&Digest>,
    wait: &Wait,
) -> Result<(), RunError> {
    let what = match new {
        Some(_) => format!("replace `{path}`"),
        None => format!("remove `{path}`"),
    };
    let dash = || "-".to_owned();
    let arguments = [
        path.as_str().to_owned(),
        expected.map_or_else(|| "none".to_owned(), Digest::to_string),
        new.map_or_else(|| "remove".to_owned(), |new| new.digest().to_string()),
        new.and_then(|new| new.mode)
            .map_or_else(dash, |mode| format!("{:o}", mode & 0o7777)),
        new.and_then(|new| new.owner)
            .map_or_else(dash, |(user, group)| format!("{user}:{group}")),
    ];
    let content = new.map(|new| new.bytes.as_slice()).unwrap_or_default();
    let output = runner.run_script(&what, REPLACE, &arguments, content, wait)?;
    if output.status == CHANGED {
        return Err(RunError::Changed { path: path.clone() });
    }
    succeeded(&what, runner.script_host(), output).map(|_| ())
}

/// Makes a folder for its owner only, with those above it.
///
/// # Errors
///
/// The host's refusal.
pub fn make_folder(runner: &dyn ScriptHost, path: &HostPath, wait: &Wait) -> Result<(), RunError> {
    let what = format!("make the folder `{path}`");
    let output = runner.run_script(&what, MAKE_FOLDER, &[path.as_str().to_owned()], b"", wait)?;
    succeeded(&what, runner.script_host(), output).map(|_| ())
}

/// Tells whether a path exists, without opening it.
///
/// # Errors
///
/// The host's refusal.
pub fn exists(runner: &dyn ScriptHost, path: &HostPath, wait: &Wait) -> Result<bool, RunError> {
    let what = format!("look for `{path}`");
    let output = runner.run_script(&what, "[ -e \"$1\" ]", &[path.as_str().to_owned()], b"", wait)?;
    match output.status {
        Status::Exited(0) => Ok(true),
        Status::Exited(1) => Ok(false),
        _ => succeeded(&what, runner.script_host(), output).map(|_| false),
    }
}

/// Returns the names in a folder, sorted.
///
/// # Errors
///
/// The host's refusal.
pub fn list(runner: &dyn ScriptHost, path: &HostPath, wait: &Wait) -> Result<Vec<String>, RunError> {
    let what = format!("list the folder `{path}`");
    let output = runner.run_script(&what, LIST, &[path.as_str().to_owned()], b"", wait)?;
    let output = succeeded(&what, runner.script_host(), output)?;
    let mut names: Vec<String> = output
        .stdout
        .split(|&byte| byte == 0)
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .filter_map(|name| name.strip_prefix("./").map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn mode_and_owner_stand_before_the_content() {
        let snapshot = parse(b"640 0 12\none\n\xff".to_vec()).unwrap();
        assert_eq!((snapshot.mode, snapshot.owner), (Some(0o640), Some((0, 12))));
        assert_eq!(snapshot.bytes, b"one\n\xff");
        assert_eq!(parse(b"nonsense\nx".to_vec()), None);
    }
}
