//! A host's own SysRq: looked at, and given back at the end of the session that switched it off.

use crate::host_service::sysrq::{self, DROP_IN, ObservedSysrq, is_ours};
use crate::model::{HostPath, Problem, Wait};
use crate::runner::{RunError, Runner};
use crate::session::Front;
use crate::session::journal::{Entry, StepRecord};
use crate::session::planning::Hosts;
use crate::session::session_journal::SessionJournal;

/// Looks at a host's SysRq; `None`: it has none, as Windows.
///
/// # Errors
///
/// The host's refusal to be looked at.
pub fn look(runner: &dyn Runner, wait: &Wait) -> Result<Option<ObservedSysrq>, Problem> {
    let output = match runner.run(&sysrq::look(), wait) {
        Err(RunError::ProgramNotFound { .. }) => return Ok(None),
        output => output?,
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if text.is_empty() {
        return Ok(None);
    }
    let file = runner.read(&HostPath::new(DROP_IN), wait)?;
    Ok(sysrq::seen(&text, file.map(|file| file.bytes)))
}

/// Gives SysRq back to the hosts where a session switched it off; what an `apply` did before stays.
///
/// # Errors
///
/// The host's; the hint says how it is given back.
pub fn give_back(session: &SessionJournal, hosts: &dyn Hosts, front: &mut dyn Front) -> Result<(), Problem> {
    let in_force = |record: &StepRecord| record.state.is_in_force() && is_ours(&record.step);
    let of_session = |entry: &Entry| session.is_new(entry);
    let taken = session.take_back(&of_session, &in_force, "Give it back", hosts, front);
    taken.map(drop)
}
