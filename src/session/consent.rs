//! Who says yes: `--yes`, the terminal, and the restart policy for everything that takes a VM's power away.

use crate::model::{FailureKind, Problem, RestartPolicy, TargetName, TargetSpec};
use crate::plan::{Plan, PowerChange};
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
    plan: &Plan,
    targets: &[TargetSpec],
    front: &mut dyn Front,
) -> Result<(), Problem> {
    let policies = targets
        .iter()
        .map(|target| (target.name.clone(), target.restart))
        .collect();
    power(&plan.power_offs(), &policies, front)?;
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
    fn yes_is_given_asked_for_or_missed() {
        let kind =
            |given, answer| yes(given, "?", &mut Answers(answer, Vec::new())).map_err(|problem| problem.kind);
        assert_eq!(kind(Consent::Given, None), Ok(()));
        assert_eq!(kind(Consent::Ask, Some(true)), Ok(()));
        assert_eq!(kind(Consent::Ask, Some(false)), Err(FailureKind::AnsweredNo));
        assert_eq!(kind(Consent::Ask, None), Err(FailureKind::Precondition));
    }
}
