//! Who says yes: `--yes`, the terminal, and the restart policy for everything that takes a VM's power away.

use crate::model::{FailureKind, Problem, RestartPolicy, TargetName, TargetSpec};
use crate::plan::{Plan, PowerChange, Step};
use crate::session::Front;
use std::collections::BTreeMap;

/// What is done with a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// Only show it (`--plan`).
    ShowOnly,
    /// Ask on the terminal.
    Ask,
    /// Given beforehand (`--yes`). It never raises the restart level.
    Given,
}

/// Obtains what a plan's ready steps need: the restart policy's consent for each VM that loses its power, then the
/// yes to the plan.
///
/// # Errors
///
/// See [`power`] and [`yes`].
pub fn consent(
    given: Consent,
    confirmed: &[String],
    plan: &Plan,
    targets: &[TargetSpec],
    front: &mut dyn Front,
) -> Result<(), Problem> {
    let policies = targets
        .iter()
        .map(|target| (target.name.clone(), target.restart))
        .collect();
    power(&plan.power_offs(), &policies, front)?;
    by_name(confirmed, plan.confirmations(), front)?;
    yes(given, "Apply these steps?", front)
}

/// Obtains the consent of the restart policies to take power away.
///
/// # Errors
///
/// [`FailureKind::Precondition`] where a policy forbids it, or must ask and nobody is there; [`FailureKind::AnsweredNo`].
pub fn power(
    offs: &BTreeMap<TargetName, PowerChange>,
    policies: &BTreeMap<TargetName, RestartPolicy>,
    front: &mut dyn Front,
) -> Result<(), Problem> {
    let hint = "Power it off yourself, or allow it with `--restart graceful` (`hard` pulls the plug).";
    let refused = |name: &TargetName, why: &str| {
        let message = format!("`{name}` must be powered off for this change, and {why}");
        Err(Problem::new(FailureKind::Precondition, message).hint(hint))
    };
    // All that can be refused without asking is refused before anybody is asked.
    for (name, change) in offs {
        match (policies.get(name).copied().unwrap_or_default(), change) {
            (RestartPolicy::Never, _) => return refused(name, "its restart policy is `never`"),
            (RestartPolicy::Graceful, PowerChange::OffHard) => {
                return refused(name, "its restart policy `graceful` does not pull the plug");
            }
            _ => {}
        }
    }
    for (name, change) in offs {
        if policies.get(name).copied().unwrap_or_default() != RestartPolicy::Ask {
            continue;
        }
        let how = match change {
            PowerChange::OffHard => "its plug is pulled, unsaved data in the guest is lost",
            PowerChange::OffGraceful | PowerChange::On => "its guest is asked to shut down",
        };
        match asked(front, &format!("`{name}` must be powered off: {how}. Do that?"))? {
            Some(true) => {}
            Some(false) => return Err(no()),
            None => return refused(name, "there is no terminal to ask on"),
        }
    }
    Ok(())
}

/// Obtains the confirmation of every step that wants one by its own name: named on the command line, else on the
/// terminal. `--yes` is none.
///
/// # Errors
///
/// [`FailureKind::Precondition`] if nobody is there to ask, [`FailureKind::AnsweredNo`], [`FailureKind::Interrupted`].
pub fn by_name<'a>(
    confirmed: &[String],
    steps: impl Iterator<Item = (&'a Step, &'a str)>,
    front: &mut dyn Front,
) -> Result<(), Problem> {
    let mut missing: Vec<(&Step, &str)> = steps
        .filter(|(_, name)| !confirmed.iter().any(|given| given == name))
        .collect();
    missing.dedup_by_key(|(step, name)| (step.target.clone(), *name));
    for (step, name) in missing {
        let target = step
            .target
            .as_ref()
            .map(|target| format!("`{target}`: "))
            .unwrap_or_default();
        let question = format!(
            "{target}{} ({}) Confirm `{name}`?",
            step.summary,
            step.notes.join("; ")
        );
        match asked(front, &question)? {
            Some(true) => {}
            Some(false) => return Err(no()),
            None => {
                let message = format!(
                    "{target}the step `{}` wants to be confirmed by its name",
                    step.summary
                );
                let problem = Problem::new(FailureKind::Precondition, message);
                let problem = step
                    .notes
                    .iter()
                    .fold(problem, |problem, note| problem.hint(sentence(note)));
                return Err(problem.hint(format!(
                    "Confirm it with `--confirm {name}`; `--yes` does not cover it."
                )));
            }
        }
    }
    Ok(())
}

fn sentence(fragment: &str) -> String {
    let mut characters = fragment.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), characters.as_str())
}

/// Obtains a yes.
///
/// # Errors
///
/// [`FailureKind::Precondition`] if nobody is there to ask, [`FailureKind::AnsweredNo`], [`FailureKind::Interrupted`].
pub fn yes(given: Consent, question: &str, front: &mut dyn Front) -> Result<(), Problem> {
    if given == Consent::Given {
        return Ok(());
    }
    match asked(front, question)? {
        Some(true) => Ok(()),
        Some(false) => Err(no()),
        None => Err(Problem::new(
            FailureKind::Precondition,
            "this needs a yes, and there is no terminal to ask on",
        )
        .hint("Look at it with `--plan`, then run it with `--yes`.")),
    }
}

fn no() -> Problem {
    Problem::new(FailureKind::AnsweredNo, "the answer was no")
}

fn asked(front: &mut dyn Front, question: &str) -> Result<Option<bool>, Problem> {
    front.ask(question).map_err(|error| match error.kind() {
        std::io::ErrorKind::Interrupted => {
            Problem::new(FailureKind::Interrupted, "interrupted before the answer")
        }
        _ => Problem::new(FailureKind::Host, format!("cannot ask: {error}")),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::plan::{Action, Condition, Effect, Undo};

    /// Answers all questions with one answer and keeps them.
    struct Answers(Option<bool>, Vec<String>);

    impl Front for Answers {
        fn show(&mut self, _text: &str) {}
        fn status(&mut self, _line: &str) {}
        fn warning(&mut self, _line: &str) {}
        fn ask(&mut self, question: &str) -> std::io::Result<Option<bool>> {
            self.1.push(question.to_owned());
            Ok(self.0)
        }
    }

    fn power_with(
        policy: RestartPolicy,
        change: PowerChange,
        answer: Option<bool>,
    ) -> Result<usize, FailureKind> {
        let name: TargetName = "dev".parse().unwrap();
        let mut front = Answers(answer, Vec::new());
        power(
            &[(name.clone(), change)].into(),
            &[(name, policy)].into(),
            &mut front,
        )
        .map(|()| front.1.len())
        .map_err(|problem| problem.kind)
    }

    #[test]
    fn power_is_taken_only_as_far_as_the_policy_goes() {
        use FailureKind::{AnsweredNo, Precondition};
        use PowerChange::{OffGraceful, OffHard};
        use RestartPolicy::{Ask, Graceful, Hard, Never};
        let table = [
            (Never, OffGraceful, Some(true), Err(Precondition)),
            (Ask, OffGraceful, None, Err(Precondition)),
            (Ask, OffGraceful, Some(false), Err(AnsweredNo)),
            (Ask, OffGraceful, Some(true), Ok(1)),
            (Graceful, OffGraceful, None, Ok(0)),
            (Graceful, OffHard, Some(true), Err(Precondition)),
            (Hard, OffHard, None, Ok(0)),
        ];
        for (policy, change, answer, expected) in table {
            assert_eq!(
                power_with(policy, change, answer),
                expected,
                "{policy:?} {change:?} {answer:?}"
            );
        }
    }

    #[test]
    fn a_step_with_a_name_is_confirmed_by_it_only() {
        let step = Step {
            summary: "switch Secure Boot off".to_owned(),
            confirm: Some("secure-boot".to_owned()),
            notes: vec!["have the recovery key ready".to_owned()],
            host: crate::model::HostRef::Local,
            target: Some("dev".parse().unwrap()),
            action: Action::WaitFor(Condition::TcpListens { port: 1 }),
            undo: Undo::Keys,
            effect: Effect::Live,
            power: None,
        };
        let run = |confirmed: &[String], answer| {
            let mut front = Answers(answer, Vec::new());
            by_name(
                confirmed,
                [(&step, "secure-boot"), (&step, "secure-boot")].into_iter(),
                &mut front,
            )
            .map(|()| front.1.clone())
        };
        assert_eq!(run(&["secure-boot".to_owned()], None), Ok(Vec::new()));
        let asked = run(&["other".to_owned()], Some(true)).unwrap();
        assert_eq!(
            asked,
            ["`dev`: switch Secure Boot off (have the recovery key ready) Confirm `secure-boot`?"]
        );
        assert_eq!(run(&[], Some(false)).unwrap_err().kind, FailureKind::AnsweredNo);
        let refused = run(&[], None).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Precondition);
        assert_eq!(
            refused.hints,
            [
                "Have the recovery key ready.",
                "Confirm it with `--confirm secure-boot`; `--yes` does not cover it."
            ]
        );
    }

    #[test]
    fn yes_is_given_asked_for_or_missed() {
        let kind =
            |given, answer| yes(given, "?", &mut Answers(answer, Vec::new())).map_err(|problem| problem.kind);
        assert_eq!(kind(Consent::Given, None), Ok(()));
        assert_eq!(kind(Consent::Ask, Some(true)), Ok(()));
        assert_eq!(kind(Consent::Ask, Some(false)), Err(FailureKind::AnsweredNo));
        assert_eq!(kind(Consent::Ask, None), Err(FailureKind::Precondition));
    }
}
