//! What a session leaves of a host's firewall: what is temporary is closed, what stays open is told.

use crate::model::{HostRef, Problem};
use crate::plan::{Action, FirewallChange};
use crate::session::Front;
use crate::session::apply::ApplyOptions;
use crate::session::interrupt::Interrupt;
use crate::session::journal::{Entry, Found, Journal, StepRecord};
use crate::session::marks;
use crate::session::planning::Hosts;
use crate::session::undo::take;
use crate::session::undo_plan::plan_undo_of;
use std::collections::BTreeSet;

/// The ports that are open, as the journal has them.
#[derive(Debug)]
pub struct OpenPorts {
    journal: Journal,
    before: BTreeSet<String>,
}

impl OpenPorts {
    /// Remembers what the journal holds before the session's own apply.
    ///
    /// # Errors
    ///
    /// The journal cannot be read.
    pub fn begin(hosts: &dyn Hosts, options: &ApplyOptions) -> Result<Self, Problem> {
        let journal = marks::journal(hosts, &options.state, options.host_folder.as_deref())?;
        let before = journal
            .entries()?
            .iter()
            .map(|found| found.id().to_owned())
            .collect();
        Ok(Self { journal, before })
    }

    fn entries(&self) -> Result<Vec<Entry>, Problem> {
        let found = self.journal.entries()?.into_iter();
        let ours = found.filter_map(|found| match found {
            Found::Entry(entry) if entry.data.steps.iter().any(is_open) => Some(*entry),
            _ => None,
        });
        Ok(ours.collect())
    }

    /// Closes what was opened since. All else that was done stays.
    ///
    /// # Errors
    ///
    /// The host's; the hint says how it is closed.
    pub fn close_new(&self, hosts: &dyn Hosts, front: &mut dyn Front) -> Result<(), Problem> {
        // Flags of its own: the Ctrl-C that ended the session does not leave the port open.
        let interrupt = Interrupt::default();
        for mut entry in self.entries()? {
            if self.before.contains(&entry.id) {
                continue;
            }
            let close = |entry: &mut Entry, front: &mut dyn Front| -> Result<(), Problem> {
                for step in plan_undo_of(entry, hosts, None, &interrupt, &is_open)?.steps {
                    take(entry, step.index, &step.taking, hosts, &interrupt, front)?;
                }
                Ok(())
            };
            let hint = format!("Close it by `vmserial undo {}`.", entry.id);
            close(&mut entry, front).map_err(|problem| problem.hint(hint))?;
        }
        Ok(())
    }

    /// Tells what stays open on a host, and how each is closed.
    ///
    /// # Errors
    ///
    /// The journal cannot be read.
    pub fn told(&self, host: &HostRef) -> Result<Vec<String>, Problem> {
        let mut lines = Vec::new();
        for entry in self.entries()? {
            for record in entry
                .data
                .steps
                .iter()
                .filter(|record| is_open(record) && record.step.host == *host)
            {
                lines.push(format!(
                    "Stays on {host}: {}; whoever may connect needs no password. `vmserial undo {}` closes it.",
                    record.step.summary, entry.id
                ));
            }
        }
        Ok(lines)
    }
}

/// Tells whether a step opened something that may still be open.
fn is_open(record: &StepRecord) -> bool {
    record.state.is_in_force() && matches!(&record.step.action, Action::Firewall(change) if opens(change))
}

fn opens(change: &FirewallChange) -> bool {
    let in_file = change
        .file
        .iter()
        .flat_map(|file| &file.operations)
        .any(|operation| operation.value().is_some());
    in_file || change.live.iter().any(|one| one.adds)
}
