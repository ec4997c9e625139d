//! Runs the steps of a round: hosts side by side, the steps of one host one after the other.

use crate::model::{FailureKind, HostRef, Problem, TargetName};
use crate::plan::Step;
use crate::runner::Runner;
use crate::session::Front;
use crate::session::execute::run_step;
use crate::session::interrupt::Interrupt;
use crate::session::journal::SharedEntry;
use crate::session::planning::Hosts;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};

/// What came of a round's steps.
#[derive(Debug, Default)]
pub(super) struct Ran {
    /// Targets of which a step failed, in the order of the steps. The others went on.
    pub failures: Vec<(TargetName, Problem)>,
    /// What ended the round: nothing was started after it, on no host.
    pub ended: Option<Problem>,
}

/// What a host's thread tells.
enum Said {
    /// A step begins.
    Begins(usize),
    /// A step's target failed.
    Failed(usize, Problem),
    /// The round is over.
    Ends(usize, Problem),
    /// A host keeps no copy of the journal.
    NoCopy(Problem),
}

/// Runs the steps, which are the entry's from index `first` on. Tells each as it begins; `names_targets` says whose it is.
pub(super) fn run(
    steps: &[Step],
    first: usize,
    entry: &SharedEntry<'_>,
    hosts: &dyn Hosts,
    interrupt: &Interrupt,
    names_targets: bool,
    front: &mut dyn Front,
) -> Ran {
    let groups = groups(steps);
    let over = AtomicBool::new(false);
    let round = Round {
        steps,
        first,
        entry,
        hosts,
        interrupt,
        over: &over,
    };
    let mut progress = Progress::new(steps, &groups, names_targets);
    let (sender, heard) = channel::<Said>();
    let (mut failed, mut ended) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        for group in &groups {
            let sender = sender.clone();
            let round = &round;
            scope.spawn(move || round.group(group, &sender));
        }
        drop(sender);
        for said in heard {
            match said {
                Said::Begins(index) => front.status(&progress.line(&steps[index])),
                Said::Failed(index, problem) => {
                    if let Some(target) = &steps[index].target {
                        failed.push((index, (target.clone(), problem)));
                    }
                }
                Said::Ends(index, problem) => ended.push((index, problem)),
                Said::NoCopy(problem) => {
                    front.warning(&format!("a host keeps no copy of its journal: {problem}"));
                }
            }
        }
    });
    failed.sort_by_key(|(index, _)| *index);
    // That all others stopped for it is no news.
    ended.sort_by_key(|(index, problem)| (problem.kind == FailureKind::Interrupted, *index));
    Ran {
        failures: failed.into_iter().map(|(_, failure)| failure).collect(),
        ended: ended.into_iter().map(|(_, problem)| problem).next(),
    }
}

/// Sorts steps into groups that have nothing to do with one another: neither a host nor a target in common. Within a group
/// the order stays.
fn groups(steps: &[Step]) -> Vec<Vec<usize>> {
    #[derive(Default)]
    struct Group<'s> {
        hosts: BTreeSet<&'s HostRef>,
        targets: BTreeSet<&'s TargetName>,
        steps: Vec<usize>,
    }
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let mut group = Group::default();
        group.hosts.insert(&step.host);
        group.targets.extend(&step.target);
        group.steps.push(index);
        let touches = |other: &Group<'_>| {
            other.hosts.contains(&step.host)
                || step
                    .target
                    .as_ref()
                    .is_some_and(|target| other.targets.contains(target))
        };
        let (touched, rest): (Vec<_>, Vec<_>) = groups.into_iter().partition(touches);
        for other in touched {
            group.hosts.extend(other.hosts);
            group.targets.extend(other.targets);
            group.steps.extend(other.steps);
        }
        groups = rest;
        groups.push(group);
    }
    let mut sorted: Vec<Vec<usize>> = groups.into_iter().map(|group| group.steps).collect();
    sorted.iter_mut().for_each(|steps| steps.sort_unstable());
    sorted.sort();
    sorted
}

struct Round<'r, 'e> {
    steps: &'r [Step],
    first: usize,
    entry: &'r SharedEntry<'e>,
    hosts: &'r dyn Hosts,
    interrupt: &'r Interrupt,
    over: &'r AtomicBool,
}

impl Round<'_, '_> {
    fn group(&self, group: &[usize], sender: &Sender<Said>) {
        let mut runners: BTreeMap<&HostRef, Box<dyn Runner>> = BTreeMap::new();
        let mut failed: BTreeSet<&TargetName> = BTreeSet::new();
        // Whoever listens lives as long as we do.
        let say = |said| drop(sender.send(said));
        for &index in group {
            let step = &self.steps[index];
            if self.interrupt.soft.is_cancelled() {
                let message = "interrupted: no further step was started";
                say(Said::Ends(index, Problem::new(FailureKind::Interrupted, message)));
                return;
            }
            if self.over.load(Ordering::SeqCst) {
                return;
            }
            if step.target.as_ref().is_some_and(|target| failed.contains(target)) {
                continue;
            }
            say(Said::Begins(index));
            let ran = self.step(index, &mut runners);
            if let Some(problem) = self.entry.take_copy_trouble() {
                say(Said::NoCopy(problem));
            }
            match (ran, &step.target) {
                (Ok(()), _) => {}
                (Err(problem), Some(target)) if problem.kind != FailureKind::Interrupted => {
                    failed.insert(target);
                    say(Said::Failed(index, problem));
                }
                (Err(problem), _) => {
                    self.over.store(true, Ordering::SeqCst);
                    say(Said::Ends(index, problem));
                    return;
                }
            }
        }
    }

    fn step<'s>(
        &'s self,
        index: usize,
        runners: &mut BTreeMap<&'s HostRef, Box<dyn Runner>>,
    ) -> Result<(), Problem> {
        let host = &self.steps[index].host;
        let runner = match runners.remove(host) {
            Some(runner) => runner,
            None => self.hosts.runner(host)?,
        };
        let ran = run_step(self.entry, self.first + index, runner.as_ref(), self.interrupt);
        runners.insert(host, runner);
        ran
    }
}

/// How far all steps are, and each host's.
struct Progress {
    begun: usize,
    all: usize,
    names_targets: bool,
    /// By host: begun, all. Empty where there is one group.
    hosts: BTreeMap<HostRef, (usize, usize)>,
}

impl Progress {
    fn new(steps: &[Step], groups: &[Vec<usize>], names_targets: bool) -> Self {
        let mut hosts = BTreeMap::new();
        if groups.len() > 1 {
            for step in steps {
                hosts.entry(step.host.clone()).or_insert((0, 0)).1 += 1;
            }
        }
        Self {
            begun: 0,
            all: steps.len(),
            names_targets,
            hosts,
        }
    }

    fn line(&mut self, step: &Step) -> String {
        self.begun += 1;
        let of_host = self.hosts.get_mut(&step.host).map(|(begun, all)| {
            *begun += 1;
            format!("{} {begun}/{all}", step.host)
        });
        let target = step.target.as_ref().filter(|_| self.names_targets);
        let whose = match (target, of_host) {
            (Some(target), Some(of_host)) => format!("{target} ({of_host}): "),
            (Some(target), None) => format!("{target}: "),
            (None, Some(of_host)) => format!("{of_host}: "),
            (None, None) => String::new(),
        };
        format!("[{}/{}] {whose}{}", self.begun, self.all, step.summary)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::model::Invocation;
    use crate::plan::{Action, Effect, Undo};

    fn step(host: &str, target: Option<&str>) -> Step {
        Step {
            summary: "x".to_owned(),
            host: HostRef::Ssh(host.to_owned()),
            target: target.map(|name| name.parse().unwrap()),
            action: Action::Run(Invocation::changes("x", [""; 0])),
            undo: Undo::Nothing {
                reason: String::new(),
            },
            effect: Effect::Live,
            power: None,
            confirm: None,
            notes: Vec::new(),
        }
    }

    #[test]
    fn hosts_are_side_by_side_unless_a_target_joins_them() {
        let steps = [
            step("a", None),
            step("b", None),
            step("a", Some("one")),
            step("b", Some("two")),
            step("c", Some("three")),
        ];
        assert_eq!(groups(&steps), [vec![0, 2], vec![1, 3], vec![4]]);
        // A guest has a way of its own, and is its VM's all the same.
        let joined = [
            step("a", None),
            step("guest", Some("two")),
            step("b", Some("two")),
            step("b", None),
            step("c", None),
        ];
        assert_eq!(groups(&joined), [vec![0], vec![1, 2, 3], vec![4]]);
    }

    #[test]
    fn progress_is_told_of_all_and_of_each_host() {
        let steps = [
            step("a", Some("one")),
            step("b", Some("two")),
            step("a", Some("one")),
            step("a", None),
        ];
        let mut progress = Progress::new(&steps, &groups(&steps), true);
        let lines: Vec<String> = [0, 1, 2, 3]
            .map(|index: usize| progress.line(&steps[index]))
            .into();
        assert_eq!(
            lines,
            [
                "[1/4] one (a 1/3): x",
                "[2/4] two (b 1/1): x",
                "[3/4] one (a 2/3): x",
                "[4/4] a 3/3: x"
            ]
        );
        let mut alone = Progress::new(&steps[..1], &groups(&steps[..1]), false);
        assert_eq!(alone.line(&steps[0]), "[1/1] x");
    }
}
