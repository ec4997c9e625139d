//! What the plans of a QEMU VM are made of.

use crate::model::{GdbStubSpec, TargetSpec};
use crate::plan::{Action, Effect, Stage, StageContent, Step, Undo};

/// Makes one stage of steps, or none.
pub(super) fn planned(name: &str, steps: Vec<Step>) -> Vec<Stage> {
    if steps.is_empty() {
        return Vec::new();
    }
    vec![Stage {
        name: name.to_owned(),
        content: StageContent::Planned(steps),
    }]
}

/// Makes a step of a target.
pub(super) fn step(wanted: &TargetSpec, summary: String, action: Action, undo: Undo, effect: Effect) -> Step {
    Step {
        summary,
        host: wanted.host.clone(),
        target: Some(wanted.name.clone()),
        action,
        undo,
        effect,
        // A VM that the profile says to start is off: that needs nobody's consent but the plan's.
        power: None,
        notes: Vec::new(),
        confirm: None,
    }
}

/// Says what a gdb stub means for the VM.
pub(super) fn stub_notes(stub: &GdbStubSpec) -> Vec<String> {
    let mut notes = Vec::new();
    if stub.allow_remote {
        notes.push(format!(
            "The gdb stub listens on all addresses: whoever reaches TCP port {} controls the VM wholly.",
            stub.port
        ));
    }
    if stub.hide_breakpoints {
        notes.push(
            "QEMU's emulated CPU never writes breakpoints into the guest's memory: they are hidden anyway."
                .to_owned(),
        );
    }
    notes
}
