//! Locks per host and per VM while they are changed: two applies cannot interleave.

use crate::model::{Digest, FailureKind, HostRef, Problem};
use crate::session::journal::TargetRecord;
use crate::session::sys::{private_folder, try_lock, unlock};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// Holds locks until it is dropped. The operating system frees them when the process dies.
#[derive(Debug)]
pub struct Locks {
    folder: PathBuf,
    /// By their names.
    held: BTreeMap<String, File>,
}

impl Drop for Locks {
    fn drop(&mut self) {
        for file in self.held.values_mut() {
            // Emptied before the lock goes, so that nobody reads of a holder that is no more.
            let _ = file.set_len(0);
            let _ = unlock(file);
        }
    }
}

/// Takes the locks of all these targets' VMs, in one order for everybody.
///
/// # Errors
///
/// Somebody else holds one: exit 5 with its pid and command.
pub fn lock<'a>(state: &Path, targets: impl IntoIterator<Item = &'a TargetRecord>) -> Result<Locks, Problem> {
    let vms: BTreeSet<_> = targets
        .into_iter()
        .map(|target| (target.host.clone(), target.hypervisor, target.vm.clone()))
        .collect();
    let mut locks = Locks {
        folder: state.join("locks"),
        held: BTreeMap::new(),
    };
    private_folder(&locks.folder).map_err(|error| locks.failed(&error))?;
    for (host, hypervisor, vm) in &vms {
        let name = name("vm", &[&host_key(host), hypervisor.name(), vm.as_str()]);
        locks.take(&name, &format!("`{vm}` on {host}"))?;
    }
    Ok(locks)
}

impl Locks {
    /// Takes a host for ourselves, for host-wide steps, as long as these locks are held. One that is taken already stays so: a
    /// guest has steps before its VM goes off, and after it is up again.
    ///
    /// # Errors
    ///
    /// Somebody else changes them: exit 5.
    pub fn take_host(&mut self, host: &HostRef) -> Result<(), Problem> {
        let name = name("host", &[&host_key(host)]);
        self.take(&name, &format!("what {host} has once for all VMs"))
    }

    fn take(&mut self, name: &str, what: &str) -> Result<(), Problem> {
        if self.held.contains_key(name) {
            return Ok(());
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options
            .open(self.folder.join(name))
            .map_err(|error| self.failed(&error))?;
        match try_lock(&file) {
            Ok(()) => {
                let words: Vec<String> = std::env::args().collect();
                let holder = format!("pid {}, `{}`", std::process::id(), words.join(" "));
                file.set_len(0)
                    .and_then(|()| file.rewind())
                    .and_then(|()| file.write_all(holder.as_bytes()))
                    .map_err(|error| self.failed(&error))?;
                self.held.insert(name.to_owned(), file);
                Ok(())
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who it is, is told if it can be read.
                let _ = file.read_to_string(&mut holder);
                let by = if holder.is_empty() {
                    String::new()
                } else {
                    format!(": {holder}")
                };
                let message = format!("{what} is being changed by another vmserial{by}");
                Err(Problem::new(FailureKind::Precondition, message)
                    .hint("Wait until it has ended, then run this again."))
            }
            Err(TryLockError::Error(error)) => Err(self.failed(&error)),
        }
    }

    fn failed(&self, error: &std::io::Error) -> Problem {
        Problem::new(
            FailureKind::Host,
            format!("cannot lock in `{}`: {error}", self.folder.display()),
        )
        .hint("Mend the folder or name another one with `--state DIR`.")
    }
}

fn host_key(host: &HostRef) -> String {
    host.login_key().unwrap_or_default()
}

fn name(kind: &str, parts: &[&str]) -> String {
    let digest = Digest::of(parts.join("\0").as_bytes());
    format!("{kind}-{}.lock", &digest.as_str()[..16])
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::model::{HypervisorKind, RestartPolicy, VmRef};

    fn record(vm: &str) -> TargetRecord {
        TargetRecord {
            name: "dev".parse().unwrap(),
            host: HostRef::Local,
            hypervisor: HypervisorKind::Vmware,
            vm: VmRef::new(vm),
            restart: RestartPolicy::Ask,
        }
    }

    #[test]
    fn a_vm_is_changed_by_one_at_a_time_and_the_holder_is_named() {
        let state = tempfile::tempdir().unwrap();
        let held = lock(state.path(), [&record("/a.vmx")]).unwrap();
        let other = lock(state.path(), [&record("/b.vmx")]).unwrap();
        let refused = lock(state.path(), [&record("/a.vmx")]).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Precondition);
        let pid = format!("pid {}", std::process::id());
        assert!(refused.message.contains(&pid), "{refused}");
        drop(held);
        lock(state.path(), [&record("/a.vmx")]).unwrap();
        drop(other);
    }

    #[test]
    fn host_wide_things_are_changed_by_one_at_a_time() {
        let state = tempfile::tempdir().unwrap();
        let mut one = lock(state.path(), [&record("/a.vmx")]).unwrap();
        let mut other = lock(state.path(), [&record("/b.vmx")]).unwrap();
        one.take_host(&HostRef::Local).unwrap();
        one.take_host(&HostRef::Local).unwrap();
        assert_eq!(
            other.take_host(&HostRef::Local).unwrap_err().kind,
            FailureKind::Precondition
        );
    }
}
