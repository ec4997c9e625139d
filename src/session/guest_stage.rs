//! The insides of guests as the last stage of their targets: planned when they run and answer, told otherwise.

use crate::driver::CONFIRM_SECURE_BOOT as CONFIRM;
use crate::guest::windows::steps::Guard;
use crate::model::{
    Deadline, FailureKind, HostRef, Observed, PowerState, Problem, TargetName, TargetSpec, Wait,
};
use crate::plan::plan_of_targets::TargetPlan;
use crate::plan::{Plan, PlanContext, Stage, StageContent, Step};
use crate::session::apply::ApplyOptions;
use crate::session::guest_wish::{GuestPlan, GuestWish};
use crate::session::planning::Hosts;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long a guest that was just started may take until it can be looked at: an emulated one boots for a minute.
const BOOT: Duration = Duration::from_secs(240);

/// How often a guest that boots is asked.
const AGAIN: Duration = Duration::from_secs(2);

/// What one look may take at a guest that answers: through a serial console it is slow.
const ONE_LOOK: Duration = Duration::from_secs(60);

/// The stage's name.
const NAME: &str = "guest";

/// The name of what is done in the guest before its VM goes off.
const BEFORE: &str = "guest, before power-off";

/// Whether the insides of guests belong to a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GuestLook {
    /// They do not.
    #[default]
    Leave,
    /// They do, by each way in that the profile names.
    All,
    /// They do, through SSH only, and a guest may take this long to answer: its kernel may be stopped, and its console is
    /// about to be opened.
    Ssh(Duration),
}

/// What a look at a guest came to.
#[derive(Debug, Clone)]
pub enum SeenGuest {
    /// What is to be changed; may be nothing.
    Steps(Vec<Step>),
    /// It cannot be looked at now, for this reason.
    Away(String),
    /// It cannot have what is wanted.
    Refused(Problem),
}

/// A guest as it was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What is to be done in it.
    pub guest: SeenGuest,
    /// What BitLocker does about a change of the firmware's settings, where the guest was asked.
    pub guard: Option<Guard>,
}

impl From<SeenGuest> for Seen {
    fn from(guest: SeenGuest) -> Self {
        Self { guest, guard: None }
    }
}

/// Looks at the guests of which something is wanted, side by side. `patient`: one that does not answer yet is asked again
/// until it has had time to boot.
///
/// # Errors
///
/// Ctrl-C.
pub fn look(
    hosts: &dyn Hosts,
    targets: &[TargetSpec],
    vms: &[Observed],
    options: &ApplyOptions,
    patient: bool,
) -> Result<BTreeMap<TargetName, Seen>, Problem> {
    if options.guests == GuestLook::Leave || options.remove {
        return Ok(BTreeMap::new());
    }
    let wanted: Vec<(&TargetSpec, &Observed, GuestWish)> = targets
        .iter()
        .zip(vms)
        .filter_map(|(target, vm)| Some((target, vm, GuestWish::of(target)?)))
        .collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = wanted
            .iter()
            .map(|(target, vm, wish)| {
                scope.spawn(move || look_at_one(hosts, target, vm, wish, options, patient))
            })
            .collect();
        let panicked = || Problem::new(FailureKind::Internal, "a thread that looked at a guest panicked");
        threads
            .into_iter()
            .zip(&wanted)
            .map(|(thread, (target, ..))| {
                let seen = thread.join().unwrap_or_else(|_| Err(panicked()))?;
                Ok((target.name.clone(), seen))
            })
            .collect()
    })
}

fn look_at_one(
    hosts: &dyn Hosts,
    target: &TargetSpec,
    vm: &Observed,
    wish: &GuestWish,
    options: &ApplyOptions,
    patient: bool,
) -> Result<Seen, Problem> {
    let away = |reason: String| Ok(SeenGuest::Away(reason).into());
    if vm.power != PowerState::Running {
        return away("the VM does not run".to_owned());
    }
    let place = match wish.way_in(target, hosts) {
        Ok(Some(place)) => place,
        Ok(None) => return away(no_way_in(target, wish)),
        Err(problem) => return away(problem.message),
    };
    let one = match options.guests {
        GuestLook::Leave | GuestLook::All => ONE_LOOK,
        GuestLook::Ssh(time) => time,
    };
    if matches!(options.guests, GuestLook::Ssh(_))
        && matches!(place.host, HostRef::Serial(_) | HostRef::Sac(_))
    {
        return away("its console is about to be opened".to_owned());
    }
    let until = Deadline::after(Instant::now(), if patient { BOOT } else { Duration::ZERO });
    loop {
        let deadline = Deadline::after(Instant::now(), one);
        let wait = Wait::new(
            deadline,
            options.interrupt.soft.clone(),
            format!("the guest of {}", target.name),
        );
        match wish.plan(hosts, &place, &wait) {
            Ok(GuestPlan { steps, guard }) => {
                let guest = steps.map_or_else(SeenGuest::Refused, SeenGuest::Steps);
                return Ok(Seen { guest, guard });
            }
            Err(problem) if problem.kind == FailureKind::Interrupted => return Err(problem),
            Err(problem) if !is_away(&problem) => return Ok(SeenGuest::Refused(problem).into()),
            Err(problem) => {
                let left = until.remaining(Instant::now());
                if left.is_zero() {
                    return away(problem.message);
                }
                std::thread::park_timeout(AGAIN.min(left));
            }
        }
    }
}

/// Tells whether somebody may answer later: the way there failed, not what is wanted.
fn is_away(problem: &Problem) -> bool {
    matches!(
        problem.kind,
        FailureKind::Host | FailureKind::Deadline | FailureKind::ConnectionLost
    )
}

fn no_way_in(target: &TargetSpec, wish: &GuestWish) -> String {
    format!(
        "the profile names no way in (`{}`, or `user:` for its console); `vmserial guest {} {} --by-hand` prints what to type",
        target.field_path("guest.ssh"),
        wish.command(),
        target.name
    )
}

/// Puts what was seen of a guest behind the other stages of its target.
///
/// # Errors
///
/// The guest's refusal.
pub fn put_into(
    plan: &mut TargetPlan,
    seen: &Seen,
    target: &TargetSpec,
    context: &PlanContext,
) -> Result<(), Problem> {
    keep_bitlocker_quiet(plan, seen.guard.as_ref());
    let restarts = plan.has_later_stages() || plan.ready_steps().any(|step| step.power.is_some());
    if restarts && context.power_at_start == PowerState::Running && !context.start_vm {
        plan.stages.push(Stage {
            name: NAME.to_owned(),
            content: StageContent::Later {
                after: "after start".to_owned(),
                may_change: GuestWish::of(target)
                    .map(|wish| wish.may_change())
                    .unwrap_or_default(),
            },
        });
        return Ok(());
    }
    match &seen.guest {
        // What stands against it may be what goes away with the restart: Secure Boot.
        SeenGuest::Refused(problem) if restarts => {
            let reason = format!("{}, and the VM starts first", problem.message);
            plan.notes.push(later(target, &reason));
        }
        SeenGuest::Refused(problem) => return Err(problem.clone()),
        SeenGuest::Steps(steps) if steps.is_empty() => {}
        SeenGuest::Steps(steps) if !restarts => plan.stages.push(Stage {
            name: NAME.to_owned(),
            content: StageContent::Planned(steps.clone()),
        }),
        SeenGuest::Steps(_) => plan.notes.push(later(target, "the VM starts first")),
        SeenGuest::Away(reason) => plan.notes.push(later(target, reason)),
    }
    Ok(())
}

/// BitLocker measures the firmware's Secure Boot. A running guest that was asked is quiet by itself, or is made so by the first
/// step of all; only where it could not be asked does a person answer for the recovery key.
fn keep_bitlocker_quiet(plan: &mut TargetPlan, guard: Option<&Guard>) {
    let stages = plan
        .stages
        .iter_mut()
        .filter_map(|stage| match &mut stage.content {
            StageContent::Planned(steps) => Some(steps),
            StageContent::Later { .. } => None,
        });
    let mut measured: Vec<&mut Step> = stages
        .flatten()
        .filter(|step| step.confirm.as_deref() == Some(CONFIRM))
        .collect();
    let note = match guard {
        Some(Guard::Off) => "BitLocker is off or suspended in the guest",
        Some(Guard::Suspend(_)) => {
            "BitLocker is suspended by the first step; an undo measures Secure Boot once more, so have the recovery key ready then"
        }
        Some(Guard::Asks(_)) | None => return,
    };
    if measured.is_empty() {
        return;
    }
    for step in &mut measured {
        step.notes.retain(|note| !note.contains("recovery key"));
        step.notes.push(note.to_owned());
        if guard == Some(&Guard::Off) {
            step.confirm = None;
        }
    }
    if let Some(Guard::Suspend(step)) = guard {
        plan.stages.insert(
            0,
            Stage {
                name: BEFORE.to_owned(),
                content: StageContent::Planned(vec![step.as_ref().clone()]),
            },
        );
    }
}

fn later(target: &TargetSpec, reason: &str) -> String {
    let may_change = GuestWish::of(target)
        .map(|wish| wish.may_change())
        .unwrap_or_default();
    format!(
        "the inside of the guest ({}) is left as it is: {reason}. `vmserial apply {}` goes on when it answers.",
        may_change.join(", "),
        target.name
    )
}

/// Tells whose guests were promised by a plan and are still not looked at in the next one.
pub fn broken_promises(promised: &[TargetPlan], next: &[TargetPlan]) -> Vec<(TargetName, Problem)> {
    let is_promised = |plan: &&TargetPlan| {
        let stages = promised.iter().filter(|other| other.target == plan.target);
        stages.flat_map(|other| &other.stages).any(is_promise)
    };
    next.iter()
        .filter(is_promised)
        .filter_map(|plan| {
            let note = plan.notes.first()?;
            let message = format!("the VM is set up, and {note}");
            Some((plan.target.clone(), Problem::new(FailureKind::Deadline, message)))
        })
        .collect()
}

/// Tells whether a plan promises to look inside a guest once it runs.
pub fn are_promised(plan: &Plan) -> bool {
    let stages = plan.targets.iter().flat_map(|target| &target.stages);
    stages.into_iter().any(is_promise)
}

fn is_promise(stage: &Stage) -> bool {
    stage.name == NAME && matches!(stage.content, StageContent::Later { .. })
}

/// Returns the guests in which a plan has steps, each once.
pub fn guests_of(plan: &Plan) -> BTreeSet<&HostRef> {
    let stages = plan.targets.iter().flat_map(|target| &target.stages);
    let steps = stages
        .filter(|stage| [NAME, BEFORE].contains(&stage.name.as_str()))
        .flat_map(|stage| match &stage.content {
            StageContent::Planned(steps) => steps.as_slice(),
            StageContent::Later { .. } => &[],
        });
    steps.map(|step| &step.host).collect()
}

#[cfg(test)]
mod tests;
