//! A plan as text for people and as JSON for programs.

use crate::plan::diff::unified;
use crate::plan::{Action, Condition, Effect, Plan, StageContent, Step, Undo};
use crate::render::edit;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Writes the plan as people read it: stages, steps with what they run or change, undo, effect, warnings.
pub fn text(plan: &Plan) -> String {
    let mut text = String::new();
    let mut number = 0;
    for target in &plan.targets {
        for stage in &target.stages {
            match &stage.content {
                StageContent::Planned(steps) if steps.is_empty() => {}
                StageContent::Planned(steps) => {
                    line(&mut text, 0, &format!("{}: {}", target.target, stage.name));
                    for step in steps {
                        number += 1;
                        show_step(&mut text, number, step);
                    }
                }
                StageContent::Later { after, may_change } => {
                    line(
                        &mut text,
                        0,
                        &format!("{}: {} ({after})", target.target, stage.name),
                    );
                    line(
                        &mut text,
                        1,
                        &format!("is planned then; may change: {}", may_change.join(", ")),
                    );
                }
            }
        }
    }
    text
}

fn line(text: &mut String, depth: usize, content: &str) {
    // Writing into a String cannot fail.
    let _ = writeln!(text, "{:width$}{content}", "", width = depth * 2);
}

fn show_step(text: &mut String, number: usize, step: &Step) {
    line(text, 1, &format!("{number}. {} [{}]", step.summary, step.host));
    match &step.action {
        Action::Edit(edit) => {
            let after = edit::apply(edit.format, edit.before.as_deref(), &edit.operations);
            let diff = match after {
                Ok(after) => unified(edit.path.as_str(), edit.before.as_deref(), after.as_deref()),
                Err(error) => format!("(cannot be shown: {error})"),
            };
            for diff_line in diff.lines() {
                line(text, 3, diff_line);
            }
        }
        Action::Run(invocation) => line(text, 3, &format!("$ {invocation}")),
        Action::Start { invocation, .. } => line(text, 3, &format!("$ {invocation} &")),
        Action::Qmp(command) => line(
            text,
            3,
            &format!(
                "QMP {} {} at {}",
                command.execute, command.arguments, command.socket
            ),
        ),
        Action::WaitFor(condition) => line(text, 3, &format!("until {}", condition_text(condition))),
    }
    let effect = match step.effect {
        Effect::Live => "at once",
        Effect::NextBoot => "at the guest's next boot",
        Effect::NeedsPowerOff => "when the VM is powered off and started",
    };
    if !matches!(step.action, Action::WaitFor(_)) {
        line(
            text,
            3,
            &format!("effect: {effect}; undo: {}", undo_text(&step.undo)),
        );
    }
    for note in &step.notes {
        line(text, 3, &format!("note: {note}"));
    }
}

fn undo_text(undo: &Undo) -> String {
    match undo {
        Undo::Keys => "puts our keys back, nothing else".to_owned(),
        Undo::Run(invocation) => format!("`{invocation}`"),
        Undo::Qmp(command) => format!("QMP {} {}", command.execute, command.arguments),
        Undo::StopProcess => "ends the process".to_owned(),
        Undo::Nothing { reason } => format!("none ({reason})"),
    }
}

/// Writes a condition as a fragment that fits after "until" and "waiting until".
pub fn condition_text(condition: &Condition) -> String {
    match condition {
        Condition::PathExists { path } => format!("`{path}` is there"),
        Condition::PathAbsent { path } => format!("`{path}` is gone"),
        Condition::TcpListens { port } => format!("TCP port {port} listens"),
        Condition::QmpAnswers { socket } => format!("QMP answers at `{socket}`"),
        Condition::OutputHasLine {
            invocation,
            line,
            present: true,
        } => format!("`{invocation}` prints `{line}`"),
        Condition::OutputHasLine {
            invocation,
            line,
            present: false,
        } => {
            format!("`{invocation}` no longer prints `{line}`")
        }
    }
}

/// Writes the plan for programs: `{"v":1,"changes":…,"targets":[…]}`, every edit with its diff.
pub fn json(plan: &Plan) -> Value {
    let targets: Vec<Value> = plan
        .targets
        .iter()
        .map(|target| {
            let stages: Vec<Value> = target
                .stages
                .iter()
                .map(|stage| match &stage.content {
                    StageContent::Planned(steps) => {
                        let steps: Vec<Value> = steps.iter().map(step_json).collect();
                        json!({ "name": stage.name, "steps": steps })
                    }
                    StageContent::Later { after, may_change } => {
                        json!({ "name": stage.name, "after": after, "may_change": may_change })
                    }
                })
                .collect();
            json!({ "target": target.target, "stages": stages })
        })
        .collect();
    json!({ "v": 1, "changes": !plan.is_empty(), "targets": targets })
}

fn step_json(step: &Step) -> Value {
    let mut value = json!({
        "summary": step.summary, "host": step.host, "action": step.action, "undo": step.undo,
        "effect": step.effect, "power": step.power, "notes": step.notes,
    });
    if let (Action::Edit(edit), Some(object)) = (&step.action, value.as_object_mut())
        && let Ok(after) = edit::apply(edit.format, edit.before.as_deref(), &edit.operations)
    {
        let diff = unified(edit.path.as_str(), edit.before.as_deref(), after.as_deref());
        object.insert("diff".to_owned(), Value::String(diff));
    }
    value
}
