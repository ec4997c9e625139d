//! What a session leaves of a host's firewall: what is temporary is closed, what stays open is told.

use crate::model::{HostRef, Problem, TargetSpec};
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
        let is_new = |entry: &Entry| !self.before.contains(&entry.id);
        self.close(&is_new, &is_open, hosts, front).map(drop)
    }

    /// Ends a session over targets: closes what it opened for its own time, and tells what stays open on their hosts.
    ///
    /// # Errors
    ///
    /// The host's; the hint says how it is closed.
    pub fn end(
        &self,
        targets: &[TargetSpec],
        hosts: &dyn Hosts,
        front: &mut dyn Front,
    ) -> Result<(), Problem> {
        if hosts_with_open_ports(targets).is_empty() {
            return Ok(());
        }
        let is_new = |entry: &Entry| !self.before.contains(&entry.id);
        self.close(&is_new, &is_temporary, hosts, front)?;
        self.stays(targets)?.iter().for_each(|line| front.status(line));
        Ok(())
    }

    /// Tells what stays open on the hosts of targets.
    ///
    /// # Errors
    ///
    /// The journal cannot be read.
    pub fn stays(&self, targets: &[TargetSpec]) -> Result<Vec<String>, Problem> {
        let each = hosts_with_open_ports(targets)
            .into_iter()
            .map(|host| self.told(host));
        Ok(each.collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// Closes what is open for a time on the hosts of targets, whichever session opened it. Returns how many changes.
    ///
    /// # Errors
    ///
    /// The host's; the hint says how it is closed.
    pub fn close_temporary(
        &self,
        targets: &[TargetSpec],
        hosts: &dyn Hosts,
        front: &mut dyn Front,
    ) -> Result<usize, Problem> {
        let on = hosts_with_open_ports(targets);
        let wanted = |record: &StepRecord| is_temporary(record) && on.contains(&record.step.host);
        self.close(&|_| true, &wanted, hosts, front)
    }

    fn close(
        &self,
        of: &dyn Fn(&Entry) -> bool,
        wanted: &dyn Fn(&StepRecord) -> bool,
        hosts: &dyn Hosts,
        front: &mut dyn Front,
    ) -> Result<usize, Problem> {
        // Flags of its own: the Ctrl-C that ended the session does not leave the port open.
        let interrupt = Interrupt::default();
        let mut count = 0;
        for mut entry in self.entries()? {
            if !of(&entry) || !entry.data.steps.iter().any(wanted) {
                continue;
            }
            let close = |entry: &mut Entry, front: &mut dyn Front| -> Result<usize, Problem> {
                let steps = plan_undo_of(entry, hosts, None, &interrupt, wanted)?.steps;
                for step in &steps {
                    take(entry, step.index, &step.taking, hosts, &interrupt, front)?;
                }
                Ok(steps.len())
            };
            let hint = format!("Close it by `vmserial undo {}`.", entry.id);
            count += close(&mut entry, front).map_err(|problem| problem.hint(hint))?;
        }
        Ok(count)
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

/// Tells whether a step opened something for the time of a session.
fn is_temporary(record: &StepRecord) -> bool {
    is_open(record) && matches!(&record.step.action, Action::Firewall(change) if change.temporary)
}

fn hosts_with_open_ports(targets: &[TargetSpec]) -> BTreeSet<&HostRef> {
    let has = |target: &&TargetSpec| target.ports.iter().any(|port| port.firewall.is_some());
    targets.iter().filter(has).map(|target| &target.host).collect()
}

fn opens(change: &FirewallChange) -> bool {
    let in_file = change
        .file
        .iter()
        .flat_map(|file| &file.operations)
        .any(|operation| operation.value().is_some());
    in_file || change.live.iter().any(|one| one.adds)
}
