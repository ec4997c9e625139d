//! The plan of an apply: stages of every target, and what of them can be done from one observation.

use crate::model::{FailureKind, Problem, RestartPolicy, TargetName, TargetSpec};
use crate::plan::{PowerChange, Stage, StageContent, Step};
use serde::Serialize;
use std::collections::BTreeMap;

/// The stages of one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TargetPlan {
    /// Which.
    pub target: TargetName,
    /// In the order in which they are applied.
    pub stages: Vec<Stage>,
}

/// The stages of all targets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Plan {
    /// In the order in which they were asked for.
    pub targets: Vec<TargetPlan>,
}

impl Plan {
    /// Tells whether there is nothing to change, now or later.
    pub fn is_empty(&self) -> bool {
        self.targets
            .iter()
            .flat_map(|target| &target.stages)
            .all(|stage| match &stage.content {
                StageContent::Planned(steps) => steps.is_empty(),
                StageContent::Later { .. } => false,
            })
    }

    /// Returns the steps that can be applied from this observation, of each target up to its first later stage.
    pub fn ready_steps(&self) -> impl Iterator<Item = &Step> {
        self.targets.iter().flat_map(|target| {
            target
                .stages
                .iter()
                .map_while(|stage| match &stage.content {
                    StageContent::Planned(steps) => Some(steps),
                    StageContent::Later { .. } => None,
                })
                .flatten()
        })
    }

    /// Tells whether a stage cannot be planned yet.
    pub fn has_later_stages(&self) -> bool {
        self.targets
            .iter()
            .flat_map(|target| &target.stages)
            .any(|stage| matches!(stage.content, StageContent::Later { .. }))
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

/// Returns the targets that must be asked about before their power is taken away.
///
/// # Errors
///
/// A target's policy forbids what the plan needs: `--yes` never raises the level.
pub fn check_power(plan: &Plan, targets: &[TargetSpec]) -> Result<Vec<TargetName>, Problem> {
    let mut ask = Vec::new();
    for (name, power) in plan.power_offs() {
        let policy = targets
            .iter()
            .find(|target| target.name == name)
            .map(|target| target.restart);
        let refused = |level: &str| {
            Problem::new(
                FailureKind::Precondition,
                format!("`{name}` must be powered off for this change, and its restart policy is `{level}`"),
            )
            .hint("Power it off yourself, or allow it with `--restart graceful` (`hard` pulls the plug).")
        };
        match (policy.unwrap_or_default(), power) {
            (RestartPolicy::Never, _) => return Err(refused("never")),
            (RestartPolicy::Graceful, PowerChange::OffHard) => return Err(refused("graceful")),
            (RestartPolicy::Ask, _) => ask.push(name),
            _ => {}
        }
    }
    Ok(ask)
}

/// Refuses targets that would fight over the same thing: one VM twice, one endpoint for two ports.
///
/// # Errors
///
/// Names both targets and the thing.
pub fn check_conflicts(targets: &[TargetSpec]) -> Result<(), Problem> {
    let mut vms = BTreeMap::new();
    let mut endpoints = BTreeMap::new();
    for target in targets {
        let vm = (target.host.clone(), target.hypervisor, target.vm.clone());
        if let Some(other) = vms.insert(vm, &target.name) {
            return Err(conflict(&format!("the VM `{}`", target.vm), other, &target.name));
        }
        for endpoint in target.ports.iter().filter_map(|port| port.attach.as_ref()) {
            let key = (target.host.clone(), endpoint.address.kind(), endpoint.to_string());
            let free = matches!(endpoint.address, crate::model::Address::Tcp { port: 0, .. });
            if let Some(other) = endpoints.insert(key, &target.name)
                && !free
            {
                return Err(conflict(
                    &format!("the endpoint `{endpoint}`"),
                    other,
                    &target.name,
                ));
            }
        }
    }
    Ok(())
}

fn conflict(what: &str, one: &TargetName, other: &TargetName) -> Problem {
    let message = if one == other {
        format!("{what} is used by two ports of `{one}`")
    } else {
        format!("{what} is used by both `{one}` and `{other}`")
    };
    Problem::new(FailureKind::Configuration, message).hint("Give each its own in the profile.")
}
