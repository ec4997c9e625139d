//! What a session leaves of a host's firewall: what is temporary is closed, what stays open is told.

use crate::model::{HostRef, Problem, TargetSpec};
use crate::plan::{Action, FirewallChange};
use crate::session::Front;
use crate::session::apply::ApplyOptions;
use crate::session::journal::{Entry, StepRecord};
use crate::session::planning::Hosts;
use crate::session::session_journal::SessionJournal;
use std::collections::BTreeSet;

/// The ports that are open, as the journal has them.
#[derive(Debug)]
pub struct OpenPorts(SessionJournal);

impl OpenPorts {
    /// Remembers what the journal holds before the session's own apply.
    ///
    /// # Errors
    ///
    /// The journal cannot be read.
    pub fn begin(hosts: &dyn Hosts, options: &ApplyOptions) -> Result<Self, Problem> {
        Ok(Self(SessionJournal::begin(hosts, options)?))
    }

    /// Closes what was opened since. All else that was done stays.
    ///
    /// # Errors
    ///
    /// The host's; the hint says how it is closed.
    pub fn close_new(&self, hosts: &dyn Hosts, front: &mut dyn Front) -> Result<(), Problem> {
        self.close(&|entry| self.0.is_new(entry), &is_open, hosts, front)
            .map(drop)
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
        self.close(&|entry| self.0.is_new(entry), &is_temporary, hosts, front)?;
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
        self.0.take_back(of, wanted, "Close it", hosts, front)
    }

    /// Tells what stays open on a host, and how each is closed.
    ///
    /// # Errors
    ///
    /// The journal cannot be read.
    pub fn told(&self, host: &HostRef) -> Result<Vec<String>, Problem> {
        let mut lines = Vec::new();
        for entry in self.0.entries_with(&is_open)? {
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
