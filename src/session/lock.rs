//! Locks per host and per VM while they are changed: two applies cannot interleave.

use crate::model::{Digest, FailureKind, HostRef, Problem, TargetSpec};
use crate::session::sys::private_folder;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// Holds locks until it is dropped. The operating system frees them when the process dies.
#[derive(Debug)]
pub struct Locks(Vec<File>);

impl Drop for Locks {
    fn drop(&mut self) {
        for file in &mut self.0 {
            // Emptied before the lock goes, so that nobody reads of a holder that is no more.
            let _ = file.set_len(0);
            let _ = file.unlock();
        }
    }
}

/// Takes the locks of all these targets' VMs, in one order for everybody.
///
/// # Errors
///
/// Somebody else holds one: exit 5 with its pid and command.
pub fn lock(state: &Path, targets: &[TargetSpec]) -> Result<Locks, Problem> {
    let folder = state.join("locks");
    let failed = |error: std::io::Error| {
        Problem::new(
            FailureKind::Host,
            format!("cannot lock in `{}`: {error}", folder.display()),
        )
    };
    private_folder(&folder).map_err(failed)?;
    let mut names = BTreeMap::new();
    for target in targets {
        let host = match &target.host {
            HostRef::Local => String::new(),
            HostRef::Ssh(destination) => destination.clone(),
        };
        let key = format!("{host}\0{}\0{}", target.hypervisor, target.vm);
        let digest = Digest::of(key.as_bytes());
        names.insert(
            format!("vm-{}.lock", &digest.as_str()[..16]),
            format!("`{}` on {}", target.vm, target.host),
        );
    }
    let mut held = Locks(Vec::new());
    for (name, what) in names {
        let path = folder.join(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who it is, is told if it can be read.
                let _ = file.read_to_string(&mut holder);
                return Err(Problem::new(
                    FailureKind::Precondition,
                    format!(
                        "{what} is being changed by another vmserial{}",
                        if holder.is_empty() {
                            String::new()
                        } else {
                            format!(": {holder}")
                        }
                    ),
                )
                .hint("Wait until it has ended, then run this again."));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let command: Vec<String> = std::env::args().collect();
        let holder = format!("pid {}, `{}`", std::process::id(), command.join(" "));
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(holder.as_bytes()))
            .map_err(failed)?;
        held.0.push(file);
    }
    Ok(held)
}
