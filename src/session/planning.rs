//! Looks at hosts and plans their targets: one observation per host, hosts side by side.

use crate::driver::Driver;
use crate::driver::registry;
use crate::model::{
    FailureKind, HostPath, HostRef, HypervisorKind, Observed, Problem, TargetName, TargetSpec, Wait,
};
use crate::plan::{Plan, PlanContext, Stage, StageContent, TargetPlan};
use crate::runner::Runner;
use crate::runner::local::Local;
use std::collections::BTreeMap;
use std::path::Path;

/// Gives a target's runner and driver: the real ones, or a test's.
pub trait Hosts: Sync {
    /// Returns how commands reach a host.
    ///
    /// # Errors
    ///
    /// This version has no way to it.
    fn runner(&self, host: &HostRef) -> Result<Box<dyn Runner>, Problem>;

    /// Returns the driver of a hypervisor.
    ///
    /// # Errors
    ///
    /// It is not served yet.
    fn driver(&self, kind: HypervisorKind) -> Result<Box<dyn Driver>, Problem>;
}

/// The hosts that this version reaches: this machine.
#[derive(Debug, Clone)]
pub struct RealHosts {
    run: HostPath,
}

impl RealHosts {
    /// Makes the hosts of a state folder, in which running VMs have their sockets.
    pub fn new(state: &Path) -> Self {
        Self {
            run: HostPath::new(state.join("run").to_string_lossy()),
        }
    }
}

impl Hosts for RealHosts {
    fn runner(&self, host: &HostRef) -> Result<Box<dyn Runner>, Problem> {
        match host {
            HostRef::Local => Ok(Box::new(Local::new())),
            HostRef::Ssh(destination) => Err(Problem::new(
                FailureKind::Precondition,
                format!("hosts behind SSH are not served yet: `{destination}`"),
            )
            .hint("Run vmserial on that host itself.")),
        }
    }

    fn driver(&self, kind: HypervisorKind) -> Result<Box<dyn Driver>, Problem> {
        registry::driver(kind, &self.run)
    }
}

/// Observes every target, each host in one go, hosts in parallel. The answers are in the order of the targets.
///
/// # Errors
///
/// The first host's that failed.
pub fn observe(hosts: &dyn Hosts, targets: &[TargetSpec], wait: &Wait) -> Result<Vec<Observed>, Problem> {
    let mut groups: BTreeMap<(HostRef, HypervisorKind), Vec<TargetSpec>> = BTreeMap::new();
    for target in targets {
        groups
            .entry((target.host.clone(), target.hypervisor))
            .or_default()
            .push(target.clone());
    }
    let results: Vec<Result<Vec<(TargetName, Observed)>, Problem>> = std::thread::scope(|scope| {
        let threads: Vec<_> = groups
            .iter()
            .map(|((host, kind), group)| {
                scope.spawn(move || {
                    let driver = hosts.driver(*kind)?;
                    let runner = hosts.runner(host)?;
                    let seen =
                        driver.observe(runner.as_ref(), group, &wait.renamed(format!("{kind} on {host}")))?;
                    Ok(group
                        .iter()
                        .map(|target| target.name.clone())
                        .zip(seen.vms)
                        .collect())
                })
            })
            .collect();
        let panicked = || Problem::new(FailureKind::Internal, "a thread that observed a host panicked");
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(panicked())))
            .collect()
    });
    let mut seen = BTreeMap::new();
    for result in results {
        seen.extend(result?);
    }
    targets
        .iter()
        .map(|target| {
            seen.remove(&target.name).ok_or_else(|| {
                Problem::new(
                    FailureKind::Internal,
                    format!("the driver said nothing of `{}`", target.name),
                )
            })
        })
        .collect()
}

/// Plans all targets from what was observed.
///
/// # Errors
///
/// A driver's refusal, or a key of the profile that nothing serves yet.
pub fn plan(
    hosts: &dyn Hosts,
    targets: &[TargetSpec],
    observed: &[Observed],
    contexts: &[PlanContext],
) -> Result<Plan, Problem> {
    let mut plan = Plan::default();
    for ((target, observed), context) in targets.iter().zip(observed).zip(contexts) {
        let stages: Vec<Stage> = hosts
            .driver(target.hypervisor)?
            .stages(target, observed, context)?;
        let stages = stages
            .into_iter()
            .filter(|stage| !matches!(&stage.content, StageContent::Planned(steps) if steps.is_empty()))
            .collect();
        plan.targets.push(TargetPlan {
            target: target.name.clone(),
            stages,
        });
    }
    Ok(plan)
}

/// Returns the context of a first plan: the power state that was found is the one that is left.
pub fn first_context(observed: &Observed, remove: bool, start_vm: bool) -> PlanContext {
    PlanContext {
        power_at_start: observed.power,
        remove,
        start_vm,
    }
}

/// Refuses keys of the profile that this version cannot act on.
///
/// # Errors
///
/// Names each key.
pub fn check_served(targets: &[TargetSpec]) -> Result<(), Problem> {
    let unserved: Vec<String> = targets
        .iter()
        .flat_map(|target| {
            target
                .unserved
                .iter()
                .map(move |key| format!("`{}`", target.field_path(key)))
        })
        .collect();
    if unserved.is_empty() {
        return Ok(());
    }
    Err(Problem::new(
        FailureKind::Precondition,
        format!("this version cannot act on {}", unserved.join(", ")),
    )
    .hint("Take the keys out of the profile, or do their part by hand."))
}
