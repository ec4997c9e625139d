//! A host's own SysRq: looked at, and given back at the end of the session that switched it off.

use crate::host_service::sysrq::{self, DROP_IN, ObservedSysrq, is_ours};
use crate::model::{HostPath, Problem, Wait};
use crate::runner::{RunError, Runner};
use crate::session::Front;
use crate::session::apply::ApplyOptions;
use crate::session::interrupt::Interrupt;
use crate::session::journal::{Entry, Found, Journal, StepRecord};
use crate::session::marks;
use crate::session::planning::Hosts;
use crate::session::undo::take;
use crate::session::undo_plan::plan_undo_of;
use std::collections::BTreeSet;

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

/// What the journal held before a session's own apply.
#[derive(Debug)]
pub struct Before {
    journal: Journal,
    entries: BTreeSet<String>,
}

impl Before {
    /// Remembers it.
    ///
    /// # Errors
    ///
    /// The journal cannot be read.
    pub fn begin(hosts: &dyn Hosts, options: &ApplyOptions) -> Result<Self, Problem> {
        let journal = marks::journal(hosts, &options.state, options.host_folder.as_deref())?;
        let found = journal.entries()?;
        let entries = found.iter().map(|found| found.id().to_owned()).collect();
        Ok(Self { journal, entries })
    }

    /// Gives SysRq back to the hosts where it was switched off since; what an `apply` did before stays.
    ///
    /// # Errors
    ///
    /// The host's; the hint says how it is given back.
    pub fn give_back(&self, hosts: &dyn Hosts, front: &mut dyn Front) -> Result<(), Problem> {
        // Flags of its own: the Ctrl-C that ended the session does not keep the host's keys.
        let interrupt = Interrupt::default();
        let in_force = |record: &StepRecord| record.state.is_in_force() && is_ours(&record.step);
        for found in self.journal.entries()? {
            let Found::Entry(entry) = found else { continue };
            let mut entry: Entry = *entry;
            if self.entries.contains(&entry.id) || !entry.data.steps.iter().any(in_force) {
                continue;
            }
            let hint = format!("Give it back by `vmserial undo {}`.", entry.id);
            let planned = plan_undo_of(&entry, hosts, None, &interrupt, &in_force)
                .map_err(|problem| problem.hint(hint.clone()))?;
            for step in planned.steps {
                take(&mut entry, step.index, &step.taking, hosts, &interrupt, front)
                    .map_err(|problem| problem.hint(hint.clone()))?;
            }
        }
        Ok(())
    }
}
