//! What becomes of a guest's stage in its target's plan.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;
use crate::model::profile::{ConsoleMode, GuestOs, GuestProfile};
use crate::model::{Invocation, VmRef};
use crate::plan::{Action, Effect, Undo};
use crate::session::fake::target;

fn dev() -> TargetSpec {
    TargetSpec {
        guest: Some(GuestProfile {
            console: Some(ConsoleMode::Persistent),
            ..GuestProfile::of(GuestOs::Linux)
        }),
        ..target("dev", "listen:unix:/s")
    }
}

fn step(power: Option<crate::plan::PowerChange>) -> Step {
    Step {
        summary: "do it".to_owned(),
        host: HostRef::Ssh("root@dev".to_owned()),
        target: Some("dev".parse().unwrap()),
        action: Action::Run(Invocation::changes("true", Vec::<String>::new())),
        undo: Undo::Nothing {
            reason: "nothing was done".to_owned(),
        },
        effect: Effect::Live,
        power,
        notes: Vec::new(),
        confirm: None,
    }
}

fn planned(steps: Vec<Step>) -> TargetPlan {
    TargetPlan {
        target: "dev".parse().unwrap(),
        host: HostRef::Local,
        hypervisor: dev().hypervisor,
        vm: VmRef::new("/dev.vmx"),
        power: PowerState::Running,
        ports: Vec::new(),
        unserved: Vec::new(),
        notes: Vec::new(),
        stages: vec![Stage {
            name: "settings".to_owned(),
            content: StageContent::Planned(steps),
        }],
    }
}

fn context(power_at_start: PowerState) -> PlanContext {
    PlanContext {
        power_at_start,
        remove: false,
        start_vm: false,
    }
}

fn put(steps: Vec<Step>, seen: &SeenGuest, power: PowerState) -> TargetPlan {
    let mut plan = planned(steps);
    put_into(&mut plan, &seen.clone().into(), &dev(), &context(power)).unwrap();
    plan
}

#[test]
fn what_is_seen_now_is_planned_now() {
    let plan = put(
        Vec::new(),
        &SeenGuest::Steps(vec![step(None)]),
        PowerState::Running,
    );
    assert_eq!(plan.ready_steps().count(), 1);
    assert_eq!(plan.stages[1].name, NAME);
    let whole = Plan {
        targets: vec![plan],
        ..Plan::default()
    };
    assert_eq!(
        guests_of(&whole).into_iter().collect::<Vec<_>>(),
        [&HostRef::Ssh("root@dev".to_owned())]
    );
    let nothing = put(Vec::new(), &SeenGuest::Steps(Vec::new()), PowerState::Running);
    assert!(nothing.is_empty() && nothing.notes.is_empty());
}

#[test]
fn a_guest_that_restarts_is_looked_at_afterwards() {
    let off = step(Some(crate::plan::PowerChange::OffGraceful));
    let plan = put(
        vec![off],
        &SeenGuest::Steps(vec![step(None)]),
        PowerState::Running,
    );
    assert_eq!(
        plan.stages[1].content,
        StageContent::Later {
            after: "after start".to_owned(),
            may_change: vec!["console".to_owned()],
        }
    );
    let promised = Plan {
        targets: vec![plan.clone()],
        ..Plan::default()
    };
    assert!(are_promised(&promised));
    // The VM is up, and its guest still says nothing: that is no success.
    let away = put(
        Vec::new(),
        &SeenGuest::Away("nobody answers".to_owned()),
        PowerState::Running,
    );
    let broken = broken_promises(std::slice::from_ref(&plan), std::slice::from_ref(&away));
    assert_eq!(broken.len(), 1);
    assert_eq!(broken[0].1.kind, FailureKind::Deadline);
    let kept = put(
        Vec::new(),
        &SeenGuest::Steps(vec![step(None)]),
        PowerState::Running,
    );
    assert!(broken_promises(&[plan], &[kept]).is_empty());
}

#[test]
fn a_guest_that_is_off_is_told_and_keeps_nothing_from_being_done() {
    let away = SeenGuest::Away("the VM does not run".to_owned());
    let plan = put(vec![step(None)], &away, PowerState::Off);
    assert_eq!(plan.ready_steps().count(), 1);
    assert_eq!(
        plan.notes,
        [
            "the inside of the guest (console) is left as it is: the VM does not run. `vmserial apply dev` goes on when it answers."
        ]
    );
}

#[test]
fn a_refusal_is_the_target_s() {
    let refused = SeenGuest::Refused(Problem::new(FailureKind::Precondition, "no kgdb"));
    let mut plan = planned(Vec::new());
    let problem = put_into(&mut plan, &refused.into(), &dev(), &context(PowerState::Running)).unwrap_err();
    assert_eq!(problem.kind, FailureKind::Precondition);
}

#[test]
fn a_refusal_that_a_restart_may_end_keeps_no_session_from_its_vm() {
    let seen = SeenGuest::Refused(Problem::new(FailureKind::Precondition, "Secure Boot is on"));
    let mut plan = planned(vec![step(Some(crate::plan::PowerChange::OffGraceful))]);
    let session = PlanContext {
        start_vm: true,
        ..context(PowerState::Running)
    };
    put_into(&mut plan, &seen.into(), &dev(), &session).unwrap();
    assert_eq!(plan.ready_steps().count(), 1);
    assert!(
        plan.notes[0].contains("Secure Boot is on, and the VM starts first"),
        "{:?}",
        plan.notes
    );
}

#[test]
fn bitlocker_is_suspended_before_secure_boot_goes_off() {
    let secure_boot = || Step {
        confirm: Some(CONFIRM.to_owned()),
        notes: vec!["have the recovery key ready".to_owned()],
        ..step(Some(crate::plan::PowerChange::OffGraceful))
    };
    let plan = |guard: Option<Guard>| {
        let mut plan = planned(vec![secure_boot()]);
        let guest = SeenGuest::Refused(Problem::new(FailureKind::Precondition, "Secure Boot is on"));
        let seen = Seen { guest, guard };
        put_into(&mut plan, &seen, &dev(), &context(PowerState::Running)).unwrap();
        plan
    };
    let suspend = step(None);
    let suspended = plan(Some(Guard::Suspend(Box::new(suspend.clone()))));
    assert_eq!(suspended.stages[0].name, BEFORE);
    let ready: Vec<&Step> = suspended.ready_steps().collect();
    assert_eq!(ready[0], &suspend);
    // Its undo would ask, so a person answers for it all the same.
    assert_eq!(ready[1].confirm.as_deref(), Some(CONFIRM));
    assert!(ready[1].notes[0].contains("first step"), "{:?}", ready[1].notes);
    let off = plan(Some(Guard::Off));
    assert_eq!(off.stages[0].name, "settings");
    assert_eq!(off.ready_steps().next().unwrap().confirm, None);
    for guard in [
        None,
        Some(Guard::Asks(crate::guest::windows::facts::BitLocker::Unknown)),
    ] {
        let asks = plan(guard);
        assert_eq!(asks.ready_steps().next().unwrap(), &secure_boot());
    }
}
