//! The plan of an apply: host-wide steps, stages of every target, and what of them can be done from one observation.

use crate::model::{EndpointSpec, HostRef, HypervisorKind, Policy, PortIndex, PowerState, TargetName, VmRef};
use crate::plan::{PowerChange, Stage, StageContent, Step};
use std::collections::BTreeMap;

/// What a host has once for all its targets (firewall).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPlan {
    /// Which.
    pub host: HostRef,
    /// Its steps, before those of its targets.
    pub steps: Vec<Step>,
    /// What was found and needs no step, a sentence each.
    pub notes: Vec<String>,
}

/// A port of a target, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedPort {
    /// Which.
    pub port: PortIndex,
    /// Its flow policy.
    pub policy: Policy,
    /// Where the VM's end is, with the VM's role; `None` if only the driver knows.
    pub endpoint: Option<EndpointSpec>,
    /// Our side of it, with our role and the way there.
    pub ours: Option<EndpointSpec>,
}

/// The stages of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetPlan {
    /// Which.
    pub target: TargetName,
    /// Where its hypervisor runs.
    pub host: HostRef,
    /// Which hypervisor.
    pub hypervisor: HypervisorKind,
    /// Which VM.
    pub vm: VmRef,
    /// Its power state when the plan was made.
    pub power: PowerState,
    /// Its ports.
    pub ports: Vec<PlannedPort>,
    /// Keys of the profile that this version does not act on.
    pub unserved: Vec<String>,
    /// What was found and needs no step, or can have none now, a sentence each.
    pub notes: Vec<String>,
    /// In the order in which they are applied.
    pub stages: Vec<Stage>,
}

impl TargetPlan {
    /// Tells whether there is nothing to change, now or later.
    pub fn is_empty(&self) -> bool {
        self.stages.iter().all(|stage| match &stage.content {
            StageContent::Planned(steps) => steps.is_empty(),
            StageContent::Later { .. } => false,
        })
    }

    /// Returns the steps that can be applied from this observation: those up to the first later stage.
    pub fn ready_steps(&self) -> impl Iterator<Item = &Step> {
        self.stages
            .iter()
            .map_while(|stage| match &stage.content {
                StageContent::Planned(steps) => Some(steps),
                StageContent::Later { .. } => None,
            })
            .flatten()
    }

    /// Tells whether a stage cannot be planned yet.
    pub fn has_later_stages(&self) -> bool {
        self.stages
            .iter()
            .any(|stage| matches!(stage.content, StageContent::Later { .. }))
    }
}

/// The stages of all targets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Host-wide steps, each host once.
    pub hosts: Vec<HostPlan>,
    /// In the order in which they were asked for.
    pub targets: Vec<TargetPlan>,
}

impl Plan {
    /// Tells whether there is nothing to change, now or later.
    pub fn is_empty(&self) -> bool {
        self.hosts.iter().all(|host| host.steps.is_empty()) && self.targets.iter().all(TargetPlan::is_empty)
    }

    /// Returns what was found and needs no step, or can have none now.
    pub fn notes(&self) -> impl Iterator<Item = &String> {
        let of_hosts = self.hosts.iter().flat_map(|host| &host.notes);
        of_hosts.chain(self.targets.iter().flat_map(|target| &target.notes))
    }

    /// Returns the steps that can be applied from this observation: hosts first, then each target up to its first
    /// later stage.
    pub fn ready_steps(&self) -> impl Iterator<Item = &Step> {
        let of_hosts = self.hosts.iter().flat_map(|host| &host.steps);
        of_hosts.chain(self.targets.iter().flat_map(TargetPlan::ready_steps))
    }

    /// Tells whether a stage cannot be planned yet.
    pub fn has_later_stages(&self) -> bool {
        self.targets.iter().any(TargetPlan::has_later_stages)
    }

    /// Returns the ready steps that must be confirmed by their own names.
    pub fn confirmations(&self) -> impl Iterator<Item = (&Step, &str)> {
        self.ready_steps()
            .filter_map(|step| Some((step, step.confirm.as_deref()?)))
    }

    /// Returns the targets whose power is taken away by ready steps, with how.
    pub fn power_offs(&self) -> BTreeMap<TargetName, PowerChange> {
        let offs = self
            .ready_steps()
            .filter_map(|step| match (&step.target, step.power) {
                (Some(target), Some(power @ (PowerChange::OffGraceful | PowerChange::OffHard))) => {
                    Some((target.clone(), power))
                }
                _ => None,
            });
        offs.collect()
    }
}
