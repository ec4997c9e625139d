//! Files of a Windows host, through its PowerShell. A file goes in pieces beside its place and is put there in one go.

use crate::model::{Digest, HostPath, ScriptCall, Wait, base64};
use crate::runner::{FileSnapshot, RunError, Runner};
use serde::Deserialize;
use std::io;

/// So much goes with one call: Windows PowerShell reads at most 2 Mi characters of JSON.
const PIECE: usize = 512 * 1024;

/// What the scripts throw when a file is no longer the one that was looked at.
const CHANGED: &str = "VmserialChanged";

/// Behind the name of a file whose new content is on its way.
const PART: &str = ".vmserial-part";

/// The answer of `host/read-file`.
#[derive(Debug, Deserialize)]
struct Read {
    exists: bool,
    length: u64,
    sha256: String,
    piece: String,
}

fn part(path: &HostPath) -> String {
    format!("{path}{PART}")
}

fn bad_answer(what: &str) -> impl FnOnce(&'static str) -> RunError {
    let what = what.to_owned();
    move |reason| RunError::Io {
        what,
        source: io::Error::new(io::ErrorKind::InvalidData, reason),
    }
}

fn look(runner: &dyn Runner, path: &str, offset: usize, count: usize, wait: &Wait) -> Result<Read, RunError> {
    let call = ScriptCall::new("host/read-file")
        .with("path", path)
        .with("offset", offset)
        .with("count", count);
    let answer = runner.powershell(&call, wait)?;
    serde_json::from_value(answer)
        .map_err(|_| bad_answer(&format!("read `{path}`"))("PowerShell gave another answer than it should"))
}

/// Returns the digest of a file; `None` if there is none.
///
/// # Errors
///
/// The host's refusal.
pub fn digest(runner: &dyn Runner, path: &HostPath, wait: &Wait) -> Result<Option<Digest>, RunError> {
    let seen = look(runner, path.as_str(), 0, 0, wait)?;
    if !seen.exists {
        return Ok(None);
    }
    match Digest::read(&seen.sha256) {
        Some(digest) => Ok(Some(digest)),
        None => Err(bad_answer(&format!("read `{path}`"))("PowerShell gave no digest")),
    }
}

/// Reads a file whole; `None` if there is none. It has no mode and no owner.
///
/// # Errors
///
/// The host's refusal; the file changed while it was read.
pub fn read(runner: &dyn Runner, path: &HostPath, wait: &Wait) -> Result<Option<FileSnapshot>, RunError> {
    let mut bytes = Vec::new();
    let mut expected = None;
    loop {
        let seen = look(runner, path.as_str(), bytes.len(), PIECE, wait)?;
        if !seen.exists {
            return Ok(None);
        }
        let piece = base64::decode(&seen.piece)
            .ok_or_else(|| bad_answer(&format!("read `{path}`"))("PowerShell gave no base64"))?;
        let first = expected.get_or_insert(seen.sha256);
        bytes.extend_from_slice(&piece);
        if piece.is_empty() || bytes.len() as u64 >= seen.length {
            let snapshot = FileSnapshot {
                bytes,
                mode: None,
                owner: None,
            };
            return if snapshot.digest().to_string() == *first {
                Ok(Some(snapshot))
            } else {
                Err(RunError::Changed { path: path.clone() })
            };
        }
    }
}

/// Replaces or removes a file that has the expected digest.
///
/// # Errors
///
/// [`RunError::Changed`]; the host's refusal.
pub fn replace(
    runner: &dyn Runner,
    path: &HostPath,
    new: Option<&FileSnapshot>,
    expected: Option<&Digest>,
    wait: &Wait,
) -> Result<(), RunError> {
    if let Some(new) = new {
        let mut pieces: Vec<&[u8]> = new.bytes.chunks(PIECE).collect();
        if pieces.is_empty() {
            pieces.push(&[]);
        }
        for (index, piece) in pieces.into_iter().enumerate() {
            let call = ScriptCall::new("host/write-part")
                .with("part", part(path))
                .with("offset", index * PIECE)
                .with("piece", base64::encode(piece));
            runner.powershell(&call, wait)?;
        }
    }
    let text = |digest: Option<String>| digest.unwrap_or_default();
    let call = ScriptCall::new("host/put-file")
        .with("path", path.as_str())
        .with("part", part(path))
        .with("expected", text(expected.map(Digest::to_string)))
        .with("sha256", text(new.map(|new| new.digest().to_string())));
    match runner.powershell(&call, wait) {
        Err(RunError::Script { id, .. }) if id.contains(CHANGED) => {
            Err(RunError::Changed { path: path.clone() })
        }
        result => result.map(|_| ()),
    }
}

/// Tells whether something is left of a replacement that was killed on its way.
///
/// # Errors
///
/// The host's refusal.
pub fn has_rest(runner: &dyn Runner, path: &HostPath, wait: &Wait) -> Result<bool, RunError> {
    Ok(look(runner, &part(path), 0, 0, wait)?.exists)
}

/// Removes what is left of such a replacement.
///
/// # Errors
///
/// The host's refusal.
pub fn remove_rest(runner: &dyn Runner, path: &HostPath, wait: &Wait) -> Result<(), RunError> {
    let rest = HostPath::new(part(path));
    let expected = digest(runner, &rest, wait)?;
    replace(runner, &rest, None, expected.as_ref(), wait)
}

/// Makes a folder with those above it; its rights are those of the folder that it is made in.
///
/// # Errors
///
/// The host's refusal.
pub fn make_folder(runner: &dyn Runner, path: &HostPath, wait: &Wait) -> Result<(), RunError> {
    let call = ScriptCall::new("host/make-folder").with("path", path.as_str());
    runner.powershell(&call, wait).map(|_| ())
}
