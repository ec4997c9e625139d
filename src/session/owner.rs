//! One owner per port: whoever opens a VM's port holds a lock in the state folder and serves a control socket.
//!
//! A lock file `ports/ID.lock` holds who its owner is. The lock of the operating system (not the file's existence)
//! says whether there is one, so a killed owner leaves nothing that must be cleaned up. One owner may hold several keys
//! of one port: its target's, and its endpoint's.

use crate::bridge::BridgeHandle;
use crate::bridge::control::{ControlServer, Identity};
use crate::model::endpoint::starts_with_kind;
use crate::model::{Digest, FailureKind, Problem};
use crate::session::port_key::PortKey;
use crate::session::sys;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Version of the lock file's content.
const FORMAT: u32 = 1;

/// A look at a lock takes it for an instant, so a claim that fails is tried again this long.
const CONTENTION: Duration = Duration::from_millis(60);

/// Who owns a port, as its lock file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerRecord {
    /// Version of this record.
    pub format: u32,
    /// Process identifier.
    pub pid: u32,
    /// Command line.
    pub command: String,
    /// The port, as its key says.
    pub port: String,
    /// Where the owner can be asked.
    pub socket: PathBuf,
}

impl OwnerRecord {
    /// Returns the refusal of a second owner: exit 5 with pid and command.
    pub fn refusal(&self) -> Problem {
        Problem::new(
            FailureKind::Precondition,
            format!(
                "the port `{}` is owned by pid {}: `{}`",
                self.port, self.pid, self.command
            ),
        )
        .hint(self.join_hint())
    }

    /// Says how to be served by the owner.
    pub fn join_hint(&self) -> String {
        if starts_with_kind(&self.port) {
            let words = ["vmserial", "console", &self.port];
            let command = shlex::try_join(words).unwrap_or_else(|_| words.join(" "));
            format!("Join it with `{command}`, or end it first.")
        } else {
            "Join it with `vmserial console`, or end it first.".to_owned()
        }
    }
}

/// What came of a claim.
#[derive(Debug)]
pub enum Claim {
    /// The port is ours.
    Ours(Ownership),
    /// Somebody has it.
    Theirs(OwnerRecord),
}

/// The right to a port. Dropping it gives the port back.
#[derive(Debug)]
pub struct Ownership {
    locks: Vec<File>,
    record: OwnerRecord,
}

impl Ownership {
    /// Returns what the lock files say.
    pub fn record(&self) -> &OwnerRecord {
        &self.record
    }

    /// Opens the control socket. Needs a runtime: the one on which [`ControlServer::serve`] then runs.
    ///
    /// # Errors
    ///
    /// The folder or the socket cannot be made.
    pub fn listen(&self) -> Result<ControlServer, Problem> {
        sys::prepare_control_path(&self.record.socket)?;
        let identity = Identity {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: self.record.pid,
            command: self.record.command.clone(),
            port: self.record.port.clone(),
        };
        ControlServer::bind(&self.record.socket, identity)
    }

    /// Serves the control socket beside a bridge until the bridge has ended. Runs on the bridge's runtime.
    ///
    /// # Errors
    ///
    /// See [`Ownership::listen`].
    pub async fn serve(&self, bridge: BridgeHandle) -> Result<(), Problem> {
        self.listen()?.serve(bridge).await;
        Ok(())
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        for lock in &mut self.locks {
            // Emptied before the lock goes, so that nobody reads of an owner that is no more.
            let _ = lock.set_len(0);
            let _ = sys::unlock(lock);
        }
    }
}

/// Claims a port under all its keys, or tells who has it.
///
/// # Errors
///
/// The state folder cannot be written.
pub fn claim(state: &Path, keys: &[PortKey]) -> Result<Claim, Problem> {
    // In one order, so that two claims of the same keys cannot each hold half of them.
    let mut keys = keys.to_vec();
    let shown = keys.first().map(PortKey::to_string).unwrap_or_default();
    let socket = socket_path(state, &keys)?;
    keys.sort_by_key(PortKey::id);
    keys.dedup();
    let record = OwnerRecord {
        format: FORMAT,
        pid: std::process::id(),
        command: command_line(),
        port: shown,
        socket,
    };
    let content = serde_json::to_vec(&record)
        .map_err(|error| Problem::new(FailureKind::Internal, format!("cannot write a lock: {error}")))?;
    let folder = state.join("ports");
    fs::create_dir_all(&folder).map_err(|error| cannot("make the folder", &folder, &error))?;
    let mut locks: Vec<File> = Vec::new();
    for key in &keys {
        let path = lock_path(state, key);
        let mut file = open_lock(&path).map_err(|error| cannot("open the lock", &path, &error))?;
        if let Some(owner) = try_own(&mut file).map_err(|error| cannot("lock", &path, &error))? {
            for lock in &locks {
                let _ = lock.set_len(0);
            }
            return Ok(Claim::Theirs(owner));
        }
        let write = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(&content));
        write.map_err(|error| cannot("write the lock", &path, &error))?;
        locks.push(file);
    }
    Ok(Claim::Ours(Ownership { locks, record }))
}

/// Looks who owns a port, without claiming it.
///
/// # Errors
///
/// The lock file cannot be read.
pub fn find_owner(state: &Path, key: &PortKey) -> Result<Option<OwnerRecord>, Problem> {
    let path = lock_path(state, key);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot("open the lock", &path, &error)),
    };
    let until = Instant::now() + CONTENTION;
    loop {
        match sys::try_lock_shared(&file) {
            Ok(()) => {
                let _ = sys::unlock(&file);
                return Ok(None);
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(cannot("look at the lock", &path, &error)),
        }
        match read_record(&mut file) {
            Ok(Some(record)) => return Ok(Some(record)),
            // The owner is just writing it, or just leaving.
            Ok(None) if Instant::now() < until => pause(),
            Ok(None) => return Ok(None),
            Err(error) => return Err(cannot("read the lock", &path, &error)),
        }
    }
}

/// Looks which port a process owns, of those that this state folder knows.
pub fn owner_with_pid(state: &Path, pid: u32) -> Option<OwnerRecord> {
    let files = fs::read_dir(state.join("ports")).ok()?;
    files.flatten().find_map(|entry| {
        let mut file = File::open(entry.path()).ok()?;
        let record = read_record(&mut file).ok().flatten();
        let record = record.filter(|record| record.pid == pid)?;
        // What a killed owner left behind is locked by nobody.
        match sys::try_lock_shared(&file) {
            Err(TryLockError::WouldBlock) => Some(record),
            _ => None,
        }
    })
}

/// Takes the lock, or returns who has it.
fn try_own(file: &mut File) -> io::Result<Option<OwnerRecord>> {
    let until = Instant::now() + CONTENTION;
    loop {
        match sys::try_lock(file) {
            Ok(()) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() < until => pause(),
            Err(TryLockError::WouldBlock) => {
                let unknown = OwnerRecord {
                    format: FORMAT,
                    pid: 0,
                    command: "unknown".into(),
                    port: String::new(),
                    socket: PathBuf::new(),
                };
                return Ok(Some(read_record(file)?.unwrap_or(unknown)));
            }
        }
    }
}

fn read_record(file: &mut File) -> io::Result<Option<OwnerRecord>> {
    let mut content = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut content)?;
    Ok(serde_json::from_slice(&content).ok())
}

/// Waits a moment for whoever holds a lock for an instant; there is nothing that could wake us.
fn pause() {
    let never = Mutex::new(());
    let guard = never.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = Condvar::new().wait_timeout(guard, Duration::from_millis(5));
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

fn lock_path(state: &Path, key: &PortKey) -> PathBuf {
    state.join("ports").join(format!("{}.lock", key.id()))
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Problem {
    Problem::new(
        FailureKind::Host,
        format!("cannot {what} `{}`: {error}", path.display()),
    )
    .hint("Name a state folder that you may write to with `--state DIR`.")
}

/// The command line as it could be typed again.
fn command_line() -> String {
    let words: Vec<String> = std::env::args_os()
        .enumerate()
        .map(|(index, word)| {
            if index == 0 {
                // The program's path says nothing that its name does not.
                let name = Path::new(&word).file_stem().unwrap_or(&word);
                return name.to_string_lossy().into_owned();
            }
            word.to_string_lossy().into_owned()
        })
        .collect();
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
}

/// Chooses the control socket's path. Other state folders have other owners, so its ID is theirs too.
fn socket_path(state: &Path, keys: &[PortKey]) -> Result<PathBuf, Problem> {
    let state = std::path::absolute(state).unwrap_or_else(|_| state.to_owned());
    let mut text = state.to_string_lossy().into_owned();
    for key in keys {
        text.push('\n');
        text.push_str(&key.to_string());
    }
    sys::control_path(&state, &Digest::of(text.as_bytes()).as_str()[..16])
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn key(text: &str) -> PortKey {
        PortKey::of_endpoint(&text.parse().unwrap())
    }

    fn ours(claim: Claim) -> Ownership {
        match claim {
            Claim::Ours(ownership) => ownership,
            Claim::Theirs(owner) => panic!("{owner:?}"),
        }
    }

    #[test]
    fn a_port_has_one_owner_under_every_key() {
        let state = tempfile::tempdir().unwrap();
        let (a, b) = (key("connect:tcp:127.0.0.1:1"), key("connect:tcp:127.0.0.1:2"));
        assert_eq!(find_owner(state.path(), &a).unwrap(), None);
        let first = ours(claim(state.path(), &[a.clone(), b.clone()]).unwrap());
        for key in [&a, &b] {
            assert_eq!(
                find_owner(state.path(), key).unwrap().as_ref(),
                Some(first.record())
            );
            let Claim::Theirs(owner) = claim(state.path(), std::slice::from_ref(key)).unwrap() else {
                panic!("two owners");
            };
            assert_eq!(&owner, first.record());
            let problem = owner.refusal();
            assert_eq!(problem.kind.exit_code(), 5);
            assert!(problem.message.contains(&format!("pid {}", std::process::id())));
        }
        drop(first);
        assert_eq!(find_owner(state.path(), &b).unwrap(), None);
        ours(claim(state.path(), &[b]).unwrap());
    }

    #[test]
    fn a_claim_that_fails_halfway_keeps_nothing() {
        let state = tempfile::tempdir().unwrap();
        let keys = ["1", "2", "3"].map(|port| key(&format!("connect:tcp:127.0.0.1:{port}")));
        let held = ours(claim(state.path(), &keys[1..2]).unwrap());
        assert!(matches!(claim(state.path(), &keys).unwrap(), Claim::Theirs(_)));
        assert_eq!(find_owner(state.path(), &keys[0]).unwrap(), None);
        assert_eq!(find_owner(state.path(), &keys[2]).unwrap(), None);
        drop(held);
        ours(claim(state.path(), &keys).unwrap());
    }

    #[test]
    fn what_a_killed_owner_left_is_no_owner() {
        let state = tempfile::tempdir().unwrap();
        let key = key("connect:tcp:127.0.0.1:1");
        fs::create_dir_all(state.path().join("ports")).unwrap();
        let record =
            r#"{"format":1,"pid":1,"command":"vmserial bridge x","port":"x","socket":"/nowhere.sock"}"#;
        fs::write(lock_path(state.path(), &key), record).unwrap();
        assert_eq!(find_owner(state.path(), &key).unwrap(), None);
        let owner = ours(claim(state.path(), std::slice::from_ref(&key)).unwrap());
        assert_eq!(owner.record().pid, std::process::id());
    }
}
