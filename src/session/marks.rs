//! Traces on the host itself: the folder with copies of journal entries, so that a host can be undone from a machine
//! that has no journal (CI runners are thrown away). The words that mark a change as ours are [`crate::plan::mark`]'s.

use crate::model::{FailureKind, HostPath, HostRef, Problem};
use crate::session::journal::Journal;
use crate::session::planning::Hosts;
use crate::session::store::Store;
use crate::session::sys::private_folder;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Returns the folder in which this machine keeps copies of what was done to it: for everybody if we may write there,
/// else for this user (`home_data` is `$XDG_DATA_HOME` or its default).
pub fn host_folder(home_data: Option<&Path>) -> Option<PathBuf> {
    let system = Path::new("/var/lib/vmserial");
    if private_folder(system).is_ok() {
        return Some(system.to_owned());
    }
    home_data.map(|folder| folder.join("vmserial"))
}

/// Returns the journal of a state folder, with copies in the host's folder.
///
/// # Errors
///
/// A path that is no text.
pub fn journal(hosts: &dyn Hosts, state: &Path, host_folder: Option<&Path>) -> Result<Journal, Problem> {
    let state = store(hosts, state)?;
    let copies = host_folder.map(|folder| store(hosts, folder)).transpose()?;
    Ok(Journal::new(&state, copies.as_ref()))
}

/// Returns the journal that a host keeps itself.
///
/// # Errors
///
/// The host is behind SSH, or has no folder.
pub fn host_journal(
    hosts: &dyn Hosts,
    host: &HostRef,
    local_folder: Option<&Path>,
) -> Result<Journal, Problem> {
    if let HostRef::Ssh(destination) = host {
        return Err(Problem::new(
            FailureKind::Precondition,
            format!("copies of the journal are not kept on hosts behind SSH yet: `{destination}`"),
        )
        .hint("Undo on the machine that applied: its own journal has the entry."));
    }
    let Some(folder) = local_folder else {
        return Err(Problem::new(
            FailureKind::NotFound,
            format!("{host} has no folder for copies of journal entries"),
        ));
    };
    Ok(Journal::new(&store(hosts, folder)?, None))
}

fn store(hosts: &dyn Hosts, folder: &Path) -> Result<Store, Problem> {
    let path = folder.to_str().ok_or_else(|| {
        Problem::new(
            FailureKind::Configuration,
            format!("the folder `{}` has a name that is no UTF-8", folder.display()),
        )
    })?;
    let runner = Arc::from(hosts.runner(&HostRef::Local)?);
    Ok(Store::new(runner, HostPath::new(path)))
}
