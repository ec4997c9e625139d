//! Looks before a PowerShell script takes something back: is it still as we left it?

use crate::driver::registry::problem_of_script;
use crate::model::{FailureKind, Problem, ScriptCall, Wait};
use crate::runner::Runner;
use crate::session::undo_plan::Taking;
use serde_json::Value;

/// Decides how an undo by this call goes. A script without [`ScriptCall::LOOK`] is run as it is.
///
/// # Errors
///
/// [`FailureKind::Precondition`] with the three versions if somebody else changed what we changed; a host's refusal.
pub(super) fn decide(
    call: &ScriptCall,
    summary: &str,
    runner: &dyn Runner,
    wait: &Wait,
) -> Result<Taking, Problem> {
    if !call.parameters.contains_key(ScriptCall::LOOK) {
        return Ok(Taking::PowerShell(call.clone()));
    }
    let look = call.clone().with(ScriptCall::LOOK, true);
    let answer = match runner.powershell(&look, wait) {
        Ok(answer) => answer,
        Err(error) => {
            let problem = problem_of_script(&look, error);
            return match problem.kind {
                FailureKind::NotFound => Ok(Taking::Nothing(format!("it is gone: {problem}"))),
                _ => Err(problem),
            };
        }
    };
    match answer.get("verdict").and_then(Value::as_str) {
        Some("ours") => Ok(Taking::PowerShell(call.clone())),
        Some("already") => Ok(Taking::Nothing("it is as it was before".to_owned())),
        Some("foreign") => Err(foreign(call, summary, answer.get("now"))),
        other => Err(Problem::new(
            FailureKind::Internal,
            format!("the script `{}` gave the verdict {other:?}", call.script),
        )),
    }
}

/// Shows what was there, what we set and what is there now. An undo goes from ours to what was before.
fn foreign(call: &ScriptCall, summary: &str, now: Option<&Value>) -> Problem {
    let nothing = Value::Null;
    let of = |name: &str| call.parameters.get(name).unwrap_or(&nothing);
    let (before, ours, now) = (of("to"), of("from"), now.unwrap_or(&nothing));
    let mut message = format!("somebody else changed what this set, so nothing is taken back: {summary}");
    for key in ours.as_object().into_iter().flat_map(|ours| ours.keys()) {
        if ours[key].is_null() && before[key].is_null() {
            continue;
        }
        message.push_str(&format!(
            "\n    {key}: before {}, ours {}, now {}",
            shown(&before[key]),
            shown(&ours[key]),
            shown(&now[key])
        ));
    }
    Problem::new(FailureKind::Precondition, message)
        .hint("Put the values right by hand, or set them to ours and run `vmserial undo` again.")
        .hint("A checkpoint that was applied meanwhile brings the settings of its own time.")
}

fn shown(value: &Value) -> String {
    match value.as_str() {
        Some("") => "(none)".to_owned(),
        Some(text) => format!("`{text}`"),
        None => "(as it is)".to_owned(),
    }
}
