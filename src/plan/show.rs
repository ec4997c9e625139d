//! A plan as text for people and as JSON for programs.

use crate::model::{EndpointSpec, FileEdit, Role};
use crate::plan::diff::unified;
use crate::plan::plan_of_targets::{PlannedPort, TargetPlan};
use crate::plan::{
    Action, Condition, Effect, FileInstall, FirewallChange, Plan, PowerChange, Stage, StageContent, Step,
    Undo,
};
use crate::render::edit;
use crate::render::powershell::cmdlet_lines;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Writes the plan as people read it: targets with both ends of their ports, stages, steps with what they run or
/// change, undo, effect, warnings. Targets without a change are left out.
pub fn text(plan: &Plan) -> String {
    let mut text = String::new();
    let mut number = 0;
    for host in &plan.hosts {
        if host.steps.is_empty() && host.notes.is_empty() {
            continue;
        }
        line(&mut text, 0, &format!("{}:", host.host));
        for note in &host.notes {
            line(&mut text, 2, &format!("note: {note}"));
        }
        for step in &host.steps {
            number += 1;
            show_step(&mut text, number, step);
        }
    }
    for target in plan.targets.iter().filter(|target| !target.is_empty()) {
        show_target(&mut text, target);
        for stage in &target.stages {
            show_stage(&mut text, stage, &mut number);
        }
    }
    text
}

fn line(text: &mut String, depth: usize, content: &str) {
    // Writing into a String cannot fail.
    let _ = writeln!(text, "{:width$}{content}", "", width = depth * 2);
}

fn show_target(text: &mut String, target: &TargetPlan) {
    let heading = format!(
        "{}: {} VM `{}` on {}, {}",
        target.target, target.hypervisor, target.vm, target.host, target.power
    );
    line(text, 0, &heading);
    for port in &target.ports {
        line(text, 1, &port_text(port));
    }
    if !target.unserved.is_empty() {
        let keys: Vec<String> = target.unserved.iter().map(|key| format!("`{key}`")).collect();
        line(
            text,
            1,
            &format!("not served yet, so `apply` refuses it: {}", keys.join(", ")),
        );
    }
    for note in &target.notes {
        line(text, 1, &format!("note: {note}"));
    }
}

/// Writes a port with its endpoint seen from both sides.
pub fn port_text(port: &PlannedPort) -> String {
    let name = format!(
        "port {} ({}, {}), {}",
        port.port,
        port.port.windows_name(),
        port.port.linux_name(),
        port.policy
    );
    match &port.endpoint {
        Some(endpoint) => {
            let hops = port.ours.iter().flat_map(|ours| &ours.via);
            let way: String = hops.map(|hop| format!(" through SSH ({})", hop.0)).collect();
            format!("{name}: {}{way}", both_sides(endpoint))
        }
        None => name,
    }
}

/// Writes the VM's endpoint with what each side does there.
pub fn both_sides(endpoint: &EndpointSpec) -> String {
    let place = EndpointSpec {
        role: None,
        ..endpoint.clone()
    };
    match endpoint.role {
        Some(Role::Listen) => format!("VM listens on {place}, vmserial connects"),
        Some(Role::Connect) => format!("VM connects to {place}, vmserial listens"),
        None => format!("VM is on {place}, vmserial opens it"),
    }
}

fn show_stage(text: &mut String, stage: &Stage, number: &mut usize) {
    match &stage.content {
        StageContent::Planned(steps) if steps.is_empty() => {}
        StageContent::Planned(steps) => {
            line(text, 1, &format!("{}:", stage.name));
            for step in steps {
                *number += 1;
                show_step(text, *number, step);
            }
        }
        StageContent::Later { after, may_change } => {
            line(
                text,
                1,
                &format!("{}: {after}; may change: {}", stage.name, may_change.join(", ")),
            );
            line(text, 2, "planned, shown and confirmed when its facts are there");
        }
    }
}

fn show_step(text: &mut String, number: usize, step: &Step) {
    line(text, 2, &format!("{number}. {}", step.summary));
    match &step.action {
        Action::Edit(edit) => show_edit(text, edit),
        Action::Firewall(change) => show_firewall(text, change),
        Action::Install(install) => line(text, 4, &install_text(install)),
        Action::Run(invocation) => line(text, 4, &format!("$ {invocation}")),
        Action::Start { invocation, log } => {
            line(text, 4, &format!("$ {invocation} &"));
            line(text, 4, &format!("output: `{log}`"));
        }
        Action::Qmp(command) => line(
            text,
            4,
            &format!(
                "QMP {} {} at {}",
                command.execute, command.arguments, command.socket
            ),
        ),
        Action::RunWithLog { invocation, .. } => line(text, 4, &format!("$ {invocation}")),
        Action::PowerShell(call) => {
            for cmdlet in cmdlet_lines(call) {
                line(text, 4, &format!("PS> {cmdlet}"));
            }
        }
        Action::WaitFor(condition) => line(text, 4, &format!("until {}", condition_text(condition))),
    }
    match step.power {
        Some(PowerChange::OffGraceful) => {
            line(
                text,
                4,
                "power: asks the guest to shut down; needs the restart policy's consent",
            );
        }
        Some(PowerChange::OffHard) => {
            line(
                text,
                4,
                "power: pulls the plug; needs the restart policy's consent",
            );
        }
        Some(PowerChange::On) => line(text, 4, "power: powers the VM on"),
        None => {}
    }
    if !matches!(step.action, Action::WaitFor(_)) {
        let (effect, undo) = (effect_text(step.effect), undo_text(&step.undo));
        line(text, 4, &format!("effect: {effect}; undo: {undo}"));
    }
    if let Some(name) = &step.confirm {
        let wanted =
            format!("confirm: on the terminal, or with `--confirm {name}`; `--yes` does not cover it");
        line(text, 4, &wanted);
    }
    for note in &step.notes {
        line(text, 4, &format!("note: {note}"));
    }
}

fn show_edit(text: &mut String, edit: &FileEdit) {
    let after = edit::apply(edit.format, edit.before.as_deref(), &edit.operations);
    let diff = match after {
        Ok(after) => unified(edit.path.as_str(), edit.before.as_deref(), after.as_deref()),
        Err(error) => format!("(cannot be shown: {error})"),
    };
    for diff_line in diff.lines() {
        line(text, 4, diff_line);
    }
}

fn show_firewall(text: &mut String, change: &FirewallChange) {
    for live in &change.live {
        line(text, 4, &format!("$ {}", live.run));
    }
    if let Some(edit) = &change.file {
        show_edit(text, edit);
    }
    if let Some(test) = &change.test {
        line(text, 4, &format!("before: `{test}` must take the new file"));
    }
    let seconds = change.guard.seconds;
    line(
        text,
        4,
        &format!(
            "guard: the host restores its old rules after {seconds} s unless a new connection of ours confirms"
        ),
    );
}

fn install_text(install: &FileInstall) -> String {
    match &install.new {
        Some(source) => format!(
            "copies `{}` ({} bytes, SHA-256 {}…)",
            source.path,
            source.bytes,
            &source.digest.as_str()[..16]
        ),
        None => format!("removes `{}`; the journal keeps it", install.path),
    }
}

fn effect_text(effect: Effect) -> &'static str {
    match effect {
        Effect::Live => "at once",
        Effect::NextBoot => "at the guest's next boot",
        Effect::NeedsPowerOff => "when the VM is powered off and started",
    }
}

/// Writes how a step is taken back.
pub fn undo_text(undo: &Undo) -> String {
    match undo {
        Undo::Keys => "puts our keys back, nothing else".to_owned(),
        Undo::Firewall => "takes our rules away; those of others stay".to_owned(),
        Undo::File => "puts the file back that was there, or takes ours away".to_owned(),
        Undo::Run(invocation) => format!("`{invocation}`"),
        Undo::Setting(setting) => format!("`{}`, if it is still ours", setting.restore),
        Undo::BootSettings(settings) => format!(
            "puts {} back as they were, if they are still ours",
            settings.ours.keys().cloned().collect::<Vec<_>>().join(", ")
        ),
        Undo::BitLocker { drive, .. } => {
            format!("`manage-bde -protectors -enable {drive}`, after the settings")
        }
        Undo::Qmp(command) => format!("QMP {} {}", command.execute, command.arguments),
        Undo::PowerShell(call) => format!("`{}`", cmdlet_lines(call).join("; ")),
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
        Condition::Script { call, field, value } => {
            format!("`{}` gives {field} = {value}", cmdlet_lines(call).join("; "))
        }
    }
}

/// Writes the plan for programs: `{"v":1,"changes":…,"hosts":[…],"targets":[…]}`, every edit with its diff.
pub fn json(plan: &Plan) -> Value {
    let hosts: Vec<Value> = plan
        .hosts
        .iter()
        .map(|host| {
            let steps: Vec<Value> = host.steps.iter().map(step_json).collect();
            json!({ "host": host.host.to_string(), "steps": steps, "notes": host.notes })
        })
        .collect();
    let targets: Vec<Value> = plan.targets.iter().map(target_json).collect();
    json!({ "v": 1, "changes": !plan.is_empty(), "hosts": hosts, "targets": targets })
}

fn target_json(target: &TargetPlan) -> Value {
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
    let ports: Vec<Value> = target
        .ports
        .iter()
        .map(|port| {
            json!({
                "port": port.port, "as": port.policy.name(),
                "vm": port.endpoint.as_ref().map(ToString::to_string),
                "vmserial": port.ours.as_ref().map(ToString::to_string),
            })
        })
        .collect();
    json!({
        "target": target.target, "host": target.host.to_string(), "hypervisor": target.hypervisor, "vm": target.vm,
        "power": target.power, "ports": ports, "unserved": target.unserved, "notes": target.notes, "stages": stages,
    })
}

fn step_json(step: &Step) -> Value {
    let edited = match &step.action {
        Action::Edit(edit) => Some(edit),
        Action::Firewall(change) => change.file.as_ref(),
        _ => None,
    };
    let mut value = json!({
        "summary": step.summary, "host": step.host.to_string(), "action": step.action, "undo": step.undo,
        "effect": step.effect, "power": step.power, "notes": step.notes, "confirm": step.confirm,
    });
    if let (Some(edit), Some(object)) = (edited, value.as_object_mut())
        && let Ok(after) = edit::apply(edit.format, edit.before.as_deref(), &edit.operations)
    {
        let diff = unified(edit.path.as_str(), edit.before.as_deref(), after.as_deref());
        object.insert("diff".to_owned(), Value::String(diff));
    }
    value
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::model::{
        Digest, EditOperation, FileEdit, FileFormat, HostPath, HostRef, HypervisorKind, Invocation, Policy,
        PortIndex, PowerState, VmRef,
    };
    use crate::plan::plan_of_targets::HostPlan;

    fn step(summary: &str, action: Action, undo: Undo, power: Option<PowerChange>) -> Step {
        Step {
            summary: summary.to_owned(),
            host: HostRef::Local,
            target: Some("dev".parse().unwrap()),
            action,
            undo,
            effect: if power.is_some() {
                Effect::Live
            } else {
                Effect::NeedsPowerOff
            },
            power,
            notes: vec!["A warning.".to_owned()],
            confirm: None,
        }
    }

    fn plan() -> Plan {
        let before = b"a = \"1\"\n".to_vec();
        let edit = Action::Edit(FileEdit {
            path: HostPath::new("/vm/dev.vmx"),
            format: FileFormat::Vmx,
            planned_on: Some(Digest::of(&before)),
            operations: vec![EditOperation::Set {
                key: "serial1.present".to_owned(),
                value: "TRUE".to_owned(),
            }],
            before: Some(before),
        });
        let stop = Action::Run(Invocation::changes("vmrun", ["stop", "/vm/my dev.vmx", "soft"]));
        let start = Undo::Run(Invocation::changes("vmrun", ["start", "/vm/my dev.vmx"]));
        Plan {
            hosts: vec![HostPlan {
                host: HostRef::Local,
                steps: Vec::new(),
                notes: Vec::new(),
            }],
            targets: vec![TargetPlan {
                target: "dev".parse().unwrap(),
                host: HostRef::Local,
                hypervisor: HypervisorKind::Vmware,
                vm: VmRef::new("/vm/dev.vmx"),
                power: PowerState::Running,
                ports: vec![PlannedPort {
                    port: PortIndex::new(2).unwrap(),
                    policy: Policy::Gdb,
                    endpoint: Some("listen:unix:/tmp/s".parse().unwrap()),
                    ours: Some("connect:unix:/tmp/s".parse().unwrap()),
                }],
                unserved: vec!["nested".to_owned()],
                notes: Vec::new(),
                stages: vec![
                    Stage {
                        name: "power off".to_owned(),
                        content: StageContent::Planned(vec![step(
                            "shut the VM down",
                            stop,
                            start,
                            Some(PowerChange::OffGraceful),
                        )]),
                    },
                    Stage {
                        name: "settings".to_owned(),
                        content: StageContent::Planned(vec![step("attach port 2", edit, Undo::Keys, None)]),
                    },
                    Stage {
                        name: "guest".to_owned(),
                        content: StageContent::Later {
                            after: "after start".to_owned(),
                            may_change: vec!["boot entry".to_owned(), "sysctl".to_owned()],
                        },
                    },
                ],
            }],
        }
    }

    #[test]
    fn a_plan_reads_from_both_sides_with_diff_undo_and_power() {
        insta::assert_snapshot!(text(&plan()), @r#"
        dev: vmware VM `/vm/dev.vmx` on this machine, running
          port 2 (COM2, ttyS1), gdb: VM listens on unix:/tmp/s, vmserial connects
          not served yet, so `apply` refuses it: `nested`
          power off:
            1. shut the VM down
                $ vmrun stop '/vm/my dev.vmx' soft
                power: asks the guest to shut down; needs the restart policy's consent
                effect: at once; undo: `vmrun start '/vm/my dev.vmx'`
                note: A warning.
          settings:
            2. attach port 2
                --- /vm/dev.vmx
                +++ /vm/dev.vmx
                @@ -1 +1,2 @@
                 a = "1"
                +serial1.present = "TRUE"
                effect: when the VM is powered off and started; undo: puts our keys back, nothing else
                note: A warning.
          guest: after start; may change: boot entry, sysctl
            planned, shown and confirmed when its facts are there
        "#);
    }

    #[test]
    fn programs_get_the_same_plan() {
        let value = json(&plan());
        assert_eq!(value["v"], 1);
        assert_eq!(value["changes"], true);
        assert_eq!(value["targets"][0]["ports"][0]["vm"], "listen:unix:/tmp/s");
        assert_eq!(value["targets"][0]["ports"][0]["vmserial"], "connect:unix:/tmp/s");
        let step = &value["targets"][0]["stages"][1]["steps"][0];
        assert!(
            step["diff"]
                .as_str()
                .unwrap()
                .contains("+serial1.present = \"TRUE\"")
        );
        assert_eq!(value["targets"][0]["stages"][2]["may_change"][1], "sysctl");
    }

    #[test]
    fn a_connecting_vm_is_listened_to() {
        let endpoint = "connect:tcp:127.0.0.1:7001".parse().unwrap();
        assert_eq!(
            both_sides(&endpoint),
            "VM connects to tcp:127.0.0.1:7001, vmserial listens"
        );
        assert_eq!(
            both_sides(&"pty".parse().unwrap()),
            "VM is on pty, vmserial opens it"
        );
    }
}
