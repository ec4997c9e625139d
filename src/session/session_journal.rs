//! What a session did by itself, told apart from what the journal held before: parts of it are taken back at its end.

use crate::model::Problem;
use crate::session::Front;
use crate::session::apply::ApplyOptions;
use crate::session::interrupt::Interrupt;
use crate::session::journal::{Entry, Found, Journal, StepRecord};
use crate::session::marks;
use crate::session::planning::Hosts;
use crate::session::undo::take;
use crate::session::undo_plan::plan_undo_of;
use std::collections::BTreeSet;

/// The journal, with what it held when the session began.
#[derive(Debug)]
pub struct SessionJournal {
    journal: Journal,
    before: BTreeSet<String>,
}

impl SessionJournal {
    /// Remembers what the journal holds before the session's own apply.
    ///
    /// # Errors
    ///
    /// The journal cannot be read.
    pub fn begin(hosts: &dyn Hosts, options: &ApplyOptions) -> Result<Self, Problem> {
        let journal = marks::journal(hosts, &options.state, options.host_folder.as_deref())?;
        let found = journal.entries()?;
        let before = found.iter().map(|found| found.id().to_owned()).collect();
        Ok(Self { journal, before })
    }

    /// Tells whether an entry was made since.
    pub fn is_new(&self, entry: &Entry) -> bool {
        !self.before.contains(&entry.id)
    }

    /// Returns the entries that have such a step, older ones too.
    ///
    /// # Errors
    ///
    /// The journal cannot be read.
    pub fn entries_with(&self, wanted: &dyn Fn(&StepRecord) -> bool) -> Result<Vec<Entry>, Problem> {
        let found = self.journal.entries()?.into_iter();
        let ours = found.filter_map(|found| match found {
            Found::Entry(entry) if entry.data.steps.iter().any(wanted) => Some(*entry),
            _ => None,
        });
        Ok(ours.collect())
    }

    /// Takes such steps back in those entries; all else that was done stays. Returns how many.
    ///
    /// # Errors
    ///
    /// The host's; the hint says how the rest is taken back, in the words of `remedy`: "Close it".
    pub fn take_back(
        &self,
        of: &dyn Fn(&Entry) -> bool,
        wanted: &dyn Fn(&StepRecord) -> bool,
        remedy: &str,
        hosts: &dyn Hosts,
        front: &mut dyn Front,
    ) -> Result<usize, Problem> {
        // Flags of its own: the Ctrl-C that ended the session does not keep this from being done.
        let interrupt = Interrupt::default();
        let mut count = 0;
        for mut entry in self.entries_with(wanted)? {
            if !of(&entry) {
                continue;
            }
            let hint = format!("{remedy} by `vmserial undo {}`.", entry.id);
            let taken = plan_undo_of(&entry, hosts, None, &interrupt, wanted).and_then(|plan| {
                for step in &plan.steps {
                    take(&mut entry, step.index, &step.taking, hosts, &interrupt, front)?;
                }
                Ok(plan.steps.len())
            });
            count += taken.map_err(|problem| problem.hint(hint))?;
        }
        Ok(count)
    }
}
