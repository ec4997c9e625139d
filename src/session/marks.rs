//! Traces on the host itself: the folder with copies of journal entries, so that a host can be undone from a machine
//! that has no journal (CI runners are thrown away). The words that mark a change as ours are [`crate::plan::mark`]'s.

use crate::model::{Cancel, Deadline, FailureKind, HostPath, HostRef, Invocation, Problem, Wait};
use crate::runner::{RunError, Runner, Status};
use crate::session::journal::Journal;
use crate::session::planning::Hosts;
use crate::session::store::Store;
use crate::session::sys::private_folder;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

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
/// The host has no folder, keeps no copies, or does not let us read them.
pub fn host_journal(
    hosts: &dyn Hosts,
    host: &HostRef,
    local_folder: Option<&Path>,
) -> Result<Journal, Problem> {
    let folder = match host {
        HostRef::Local => local_folder.map(|folder| store(hosts, folder)).transpose()?,
        HostRef::Ssh(_) => far_folder(hosts, host, Access::Look, "")?,
        // A guest behind its console keeps none: what is there is a debuggee, and may be thrown away.
        HostRef::Serial(_) | HostRef::Sac(_) | HostRef::Direct { .. } => None,
    };
    let folder = folder.ok_or_else(|| {
        let message = format!("{host} keeps no copies of journal entries");
        Problem::new(FailureKind::NotFound, message)
            .hint("Undo on the machine that applied: its own journal has the entry.")
    })?;
    Ok(Journal::of_host(&folder, host))
}

/// What a host's folder is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To begin copies in it.
    Make,
    /// To find those that are there.
    Look,
}

impl Access {
    fn word(self) -> &'static str {
        match self {
            Self::Make => "make",
            Self::Look => "look",
        }
    }
}

const FOLDER_SCRIPT: &str = include_str!("../../templates/sh/host-folder.sh");

/// The script's status where copies are that somebody else may read alone.
const CLOSED: Status = Status::Exited(3);

/// How long a host may take to tell its folder.
const ASK: Duration = Duration::from_secs(30);

/// Returns the folder of a host behind SSH; `None` if it is no POSIX system, where no copies are kept. What is to be made in it
/// is made by the same command, since each may cost a login.
///
/// # Errors
///
/// The host cannot be reached, or the copies are another user's.
pub(super) fn far_folder(
    hosts: &dyn Hosts,
    host: &HostRef,
    access: Access,
    inner: &str,
) -> Result<Option<Store>, Problem> {
    let runner: Arc<dyn Runner> = Arc::from(hosts.runner(host)?);
    let invocation = Invocation::reads("sh", ["-c", FOLDER_SCRIPT, "sh", access.word(), inner]);
    let deadline = Deadline::after(Instant::now(), ASK);
    let wait = Wait::new(
        deadline,
        Cancel::new(),
        format!("the folder for copies on {host}"),
    );
    let output = match runner.run(&invocation, &wait) {
        Err(RunError::Unsupported { .. } | RunError::ProgramNotFound { .. }) => return Ok(None),
        output => output?,
    };
    let path = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status == CLOSED {
        let message =
            format!("the copies of journal entries on {host} are in `{path}`, which this user may not read");
        return Err(Problem::new(FailureKind::Precondition, message)
            .hint("Log in as the user who applied, or with `sudo: true` of the host's entry in a profile (`-p FILE`)."));
    }
    if !output.success() || !path.starts_with('/') {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let message = format!("{host} told no folder for copies of journal entries: {words}");
        return Err(Problem::new(FailureKind::Host, message));
    }
    Ok(Some(Store::new(runner, HostPath::new(path))))
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
