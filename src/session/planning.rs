//! Looks at hosts and plans their targets: one observation per host, hosts side by side.

use crate::driver::Driver;
use crate::driver::registry;
use crate::host_service;
use crate::host_service::firewall::{ObservedFirewall, Want};
use crate::host_service::sysrq::ObservedSysrq;
use crate::model::{
    FailureKind, HostPath, HostRef, HypervisorKind, Observed, ObservedHost, Problem, TargetName, TargetSpec,
    Wait,
};
use crate::plan::{HostPlan, Plan, PlanContext, PlannedPort, Stage, StageContent, TargetPlan};
use crate::runner::Runner;
use crate::runner::direct::DirectRunner;
use crate::runner::local::Local;
use crate::runner::ssh::SshRunner;
use crate::session::firewall;
use crate::session::guest_stage;
use crate::session::host_sysrq;
use crate::session::serial::Consoles;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

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

/// This machine, and all that it reaches through SSH.
#[derive(Debug, Clone)]
pub struct RealHosts {
    run: HostPath,
    /// Logged out when the last of us goes.
    consoles: Arc<Consoles>,
}

impl RealHosts {
    /// Makes the hosts of a state folder, in which running VMs have their sockets.
    pub fn new(state: &Path) -> Self {
        Self {
            run: HostPath::new(state.join("run").to_string_lossy()),
            consoles: Arc::new(Consoles::new(state)),
        }
    }
}

impl Hosts for RealHosts {
    fn runner(&self, host: &HostRef) -> Result<Box<dyn Runner>, Problem> {
        match host {
            HostRef::Local => Ok(Box::new(Local::new())),
            HostRef::Ssh(destination) => Ok(Box::new(SshRunner::new(destination))),
            HostRef::Serial(endpoint) => Ok(Box::new(self.consoles.runner(endpoint))),
            HostRef::Sac(endpoint) => Ok(Box::new(self.consoles.sac_runner(endpoint))),
            HostRef::Direct { vm, host } => Ok(Box::new(DirectRunner::new(vm, self.runner(host)?))),
        }
    }

    fn driver(&self, kind: HypervisorKind) -> Result<Box<dyn Driver>, Problem> {
        registry::driver(kind, &self.run)
    }
}

/// What was seen of all hosts.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The targets that were seen, in their order.
    pub targets: Vec<TargetSpec>,
    /// Their VMs.
    pub vms: Vec<Observed>,
    /// The other targets, each with what stands against it.
    pub refused: Vec<(TargetName, Problem)>,
    /// What was seen inside their guests, where that was wanted.
    pub guests: BTreeMap<TargetName, guest_stage::Seen>,
    /// The hosts, each with those of its targets that one hypervisor runs.
    hosts: Vec<SeenHost>,
}

/// What is wanted of a host's firewall, and how it is.
type SeenFirewall = (Vec<Want>, ObservedFirewall);

/// What a look at a host came to.
type SeenOnHost = (ObservedHost, Option<SeenFirewall>, Option<Option<ObservedSysrq>>);

/// A host with those of its targets that one hypervisor runs.
#[derive(Debug, Clone)]
struct SeenHost {
    kind: HypervisorKind,
    targets: Vec<TargetSpec>,
    observed: ObservedHost,
    /// If anything is wanted of it.
    firewall: Option<SeenFirewall>,
    /// If it is to be switched off; the inner one is none where the host has none.
    sysrq: Option<Option<ObservedSysrq>>,
}

/// Observes every target, in the order of the targets.
///
/// # Errors
///
/// See [`look`].
pub fn observe(hosts: &dyn Hosts, targets: &[TargetSpec], wait: &Wait) -> Result<Vec<Observed>, Problem> {
    let seen = look(hosts, targets, wait)?;
    let problems = seen.refused.into_iter().map(|(_, problem)| problem);
    match all_of(problems.collect()) {
        Some(problem) => Err(problem),
        None => Ok(seen.vms),
    }
}

/// Looks at every target, each host in one go, hosts in parallel.
///
/// # Errors
///
/// The failures of all hosts; what stands against the targets, if it does against all.
pub fn look(hosts: &dyn Hosts, targets: &[TargetSpec], wait: &Wait) -> Result<Seen, Problem> {
    let mut groups: BTreeMap<(HostRef, HypervisorKind), Vec<TargetSpec>> = BTreeMap::new();
    for target in targets {
        groups
            .entry((target.host.clone(), target.hypervisor))
            .or_default()
            .push(target.clone());
    }
    let results: Vec<Result<SeenOnHost, Problem>> = std::thread::scope(|scope| {
        let threads: Vec<_> = groups
            .iter()
            .map(|((host, kind), group)| {
                scope.spawn(move || {
                    let driver = hosts.driver(*kind)?;
                    let runner = hosts.runner(host)?;
                    let what = wait.renamed(format!("{kind} on {host}"));
                    let seen = driver.observe(runner.as_ref(), group, &what)?;
                    if seen.vms.len() + seen.refused.len() == group.len() {
                        let is_seen =
                            |target: &&TargetSpec| !seen.refused.iter().any(|(name, _)| *name == target.name);
                        let wants = wants(group.iter().filter(is_seen));
                        let firewall = match wants.is_empty() {
                            true => None,
                            false => Some((wants, firewall::look(runner.as_ref(), &what)?)),
                        };
                        let off = group.iter().filter(is_seen).any(|target| target.host_sysrq_off);
                        let sysrq = match off {
                            true => Some(host_sysrq::look(runner.as_ref(), &what)?),
                            false => None,
                        };
                        return Ok((seen, firewall, sysrq));
                    }
                    let (expected, got) = (group.len(), seen.vms.len());
                    Err(Problem::new(
                        FailureKind::Internal,
                        format!("the driver of {kind} told of {got} VMs on {host}, expected {expected}"),
                    ))
                })
            })
            .collect();
        let panicked = || Problem::new(FailureKind::Internal, "a thread that observed a host panicked");
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(panicked())))
            .collect()
    });
    let (mut by_name, mut seen_hosts, mut problems) = (BTreeMap::new(), Vec::new(), Vec::new());
    let mut refused: Vec<(TargetName, Problem)> = Vec::new();
    for (((_, kind), mut group), result) in groups.into_iter().zip(results) {
        match result {
            Ok((seen, firewall, sysrq)) => {
                group.retain(|target| !seen.refused.iter().any(|(name, _)| *name == target.name));
                refused.extend(seen.refused.iter().cloned());
                let names = group.iter().map(|target| target.name.clone());
                by_name.extend(names.zip(seen.vms.iter().cloned()));
                seen_hosts.push(SeenHost {
                    kind,
                    targets: group,
                    observed: seen,
                    firewall,
                    sysrq,
                });
            }
            Err(problem) => problems.push(problem),
        }
    }
    if let Some(problem) = all_of(problems) {
        return Err(problem);
    }
    if refused.len() == targets.len()
        && let Some(problem) = all_of(refused.iter().map(|(_, problem)| problem.clone()).collect())
    {
        return Err(problem);
    }
    let is_seen = |target: &&TargetSpec| !refused.iter().any(|(name, _)| *name == target.name);
    let seen: Vec<TargetSpec> = targets.iter().filter(is_seen).cloned().collect();
    let vms = seen.iter().map(|target| {
        by_name.get(&target.name).cloned().ok_or_else(|| {
            Problem::new(
                FailureKind::Internal,
                format!("nobody looked at `{}`", target.name),
            )
        })
    });
    Ok(Seen {
        vms: vms.collect::<Result<_, _>>()?,
        targets: seen,
        refused,
        guests: BTreeMap::new(),
        hosts: seen_hosts,
    })
}

/// Makes one problem of several: all messages and hints, the first one's kind. `None` if there are none.
pub fn all_of(problems: Vec<Problem>) -> Option<Problem> {
    problems.into_iter().reduce(|mut all, problem| {
        if !all.message.contains(&problem.message) {
            all.message = format!("{}\n    {}", all.message, problem.message);
        }
        for hint in problem.hints {
            if !all.hints.contains(&hint) {
                all.hints.push(hint);
            }
        }
        all
    })
}

/// Plans all targets that were seen, and what their hosts have once. A target that its driver refuses is not planned, and
/// told behind the plan.
///
/// # Errors
///
/// What a host refuses, and the drivers' refusals if they refuse all targets.
pub fn plan(
    hosts: &dyn Hosts,
    seen: &Seen,
    contexts: &[PlanContext],
) -> Result<(Plan, Vec<(TargetName, Problem)>), Problem> {
    let mut plan = Plan::default();
    let (mut problems, mut refused) = (Vec::new(), Vec::new());
    let mut switched = BTreeSet::new();
    for seen in &seen.hosts {
        // A host with two hypervisors has one keyboard.
        let sysrq = seen
            .sysrq
            .as_ref()
            .filter(|_| switched.insert(seen.observed.host.clone()));
        match host_plan(hosts, seen, sysrq) {
            Ok(host) if host.steps.is_empty() && host.notes.is_empty() => {}
            Ok(host) => plan.hosts.push(host),
            Err(problem) => problems.push(problem),
        }
    }
    for ((target, observed), context) in seen.targets.iter().zip(&seen.vms).zip(contexts) {
        let planned = hosts
            .driver(target.hypervisor)?
            .stages(target, observed, context)
            .and_then(|stages| {
                let mut planned = target_plan(target, observed, stages);
                if let Some(guest) = seen.guests.get(&target.name) {
                    guest_stage::put_into(&mut planned, guest, target, context)?;
                }
                Ok(planned)
            });
        match planned {
            Ok(planned) => plan.targets.push(planned),
            Err(problem) => refused.push((target.name.clone(), problem)),
        }
    }
    if refused.len() == seen.targets.len() {
        problems.extend(refused.iter().map(|(_, problem)| problem.clone()));
    }
    match all_of(problems) {
        Some(problem) => Err(problem),
        None => Ok((plan, refused)),
    }
}

/// What a host has once: what its driver wants, and its firewall.
fn host_plan(
    hosts: &dyn Hosts,
    seen: &SeenHost,
    sysrq: Option<&Option<ObservedSysrq>>,
) -> Result<HostPlan, Problem> {
    let host = &seen.observed.host;
    let mut steps = hosts
        .driver(seen.kind)?
        .host_steps(&seen.targets, &seen.observed)?;
    let mut notes = Vec::new();
    if let Some((wants, observed)) = &seen.firewall {
        steps.extend(host_service::firewall::steps(host, wants, observed)?);
        notes.extend(host_service::firewall::wants_told(wants, observed));
    }
    if let Some(observed) = sysrq {
        steps.extend(host_service::sysrq::steps(host, observed.as_ref())?);
    }
    Ok(HostPlan {
        host: host.clone(),
        steps,
        notes,
    })
}

/// What targets want of their host's firewall.
fn wants<'a>(targets: impl Iterator<Item = &'a TargetSpec>) -> Vec<Want> {
    let each = targets.flat_map(|target| {
        target.ports.iter().filter_map(|port| {
            Some(Want {
                target: target.name.clone(),
                spec: port.firewall.clone()?,
            })
        })
    });
    each.collect()
}

fn target_plan(target: &TargetSpec, observed: &Observed, stages: Vec<Stage>) -> TargetPlan {
    let ports = target.ports.iter().map(|port| PlannedPort {
        port: port.port,
        policy: port.policy,
        endpoint: port.attach.clone(),
        ours: port
            .attach
            .as_ref()
            .map(|endpoint| endpoint.our_side(&target.host, port.tunnel)),
    });
    TargetPlan {
        target: target.name.clone(),
        host: target.host.clone(),
        hypervisor: target.hypervisor,
        vm: target.vm.clone(),
        power: observed.power,
        ports: ports.collect(),
        unserved: target.unserved.clone(),
        notes: Vec::new(),
        stages: stages
            .into_iter()
            .filter(|stage| !matches!(&stage.content, StageContent::Planned(steps) if steps.is_empty()))
            .collect(),
    }
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
