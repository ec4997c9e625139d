//! A host's own SysRq: while it is on, the keys that are meant for a VM's kernel go to the host's (Documentation/admin-guide/sysrq.rst).

use crate::model::{
    Check, CheckState, Digest, EditOperation, FailureKind, FileEdit, FileFormat, HostPath, HostRef,
    Invocation, Problem,
};
use crate::plan::{Action, Effect, SettingUndo, Step, Undo};

/// The kernel's switch: 0 is off, anything else takes the keys (sysrq_filter of drivers/tty/sysrq.c).
pub const SYSRQ: &str = "/proc/sys/kernel/sysrq";

/// Read at the host's boot, after the distribution's own.
pub const DROP_IN: &str = "/etc/sysctl.d/90-vmserial-host.conf";

const LOOK: &str = include_str!("../../templates/sh/host/sysrq.sh");
const SET_VALUE: &str = include_str!("../../templates/sh/guest/set-value.sh");
const TEXT: &str = "# Set by vmserial, taken back by `vmserial undo`: Alt+SysRq typed here reaches the VM.\nkernel.sysrq = 0\n";

/// A host's SysRq as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedSysrq {
    /// `kernel.sysrq`.
    pub value: String,
    /// Whoever looked may change it.
    pub writable: bool,
    /// The drop-in of ours.
    pub file: Option<Vec<u8>>,
}

/// Returns the look; it prints nothing on a host without SysRq.
pub fn look() -> Invocation {
    Invocation::reads("sh", ["-c", LOOK, "sh", SYSRQ])
}

/// Reads what the look printed: the value, and whether it may be changed.
pub fn seen(output: &str, file: Option<Vec<u8>>) -> Option<ObservedSysrq> {
    let mut lines = output.lines();
    let value = lines.next()?.trim().to_owned();
    let writable = lines.next()? == "writable";
    Some(ObservedSysrq {
        value,
        writable,
        file,
    })
}

/// Plans a host's SysRq off, now and for its boots to come.
///
/// # Errors
///
/// The host has none, or whoever looked may not change it.
pub fn steps(host: &HostRef, observed: Option<&ObservedSysrq>) -> Result<Vec<Step>, Problem> {
    let observed = observed.ok_or_else(|| {
        let message = format!("`host_sysrq: off` is for Linux hosts, and {host} has no `{SYSRQ}`");
        Problem::new(FailureKind::Precondition, message)
            .hint("Take `host_sysrq` out of the profile: another system's keyboard captures no SysRq.")
    })?;
    let steps: Vec<Step> = [live(host, observed), drop_in(host, observed)]
        .into_iter()
        .flatten()
        .collect();
    if !steps.is_empty() && !observed.writable {
        let message = format!("only root may switch the SysRq of {host} off");
        return Err(Problem::new(FailureKind::Precondition, message).hint(
            "Run vmserial as root, give the host `sudo: true`, or take `host_sysrq` out of the profile: what goes through a serial port needs no keyboard.",
        ));
    }
    Ok(steps)
}

/// Tells whether a step is one of these.
pub fn is_ours(step: &Step) -> bool {
    match &step.action {
        Action::Edit(edit) => edit.path.as_str() == DROP_IN,
        Action::Run(_) => {
            matches!(&step.undo, Undo::Setting(undo) if undo.name == SYSRQ && undo.ours.as_deref() == Some("0"))
        }
        _ => false,
    }
}

fn step(host: &HostRef, summary: &str, action: Action, undo: Undo, effect: Effect) -> Step {
    Step {
        summary: summary.to_owned(),
        host: host.clone(),
        target: None,
        action,
        undo,
        effect,
        power: None,
        notes: Vec::new(),
        confirm: None,
    }
}

fn live(host: &HostRef, observed: &ObservedSysrq) -> Option<Step> {
    if observed.value == "0" {
        return None;
    }
    let set = |value: &str| Invocation::changes("sh", ["-c", SET_VALUE, "sh", SYSRQ, value]);
    let undo = SettingUndo {
        name: SYSRQ.to_owned(),
        look: Invocation::reads("cat", [SYSRQ]),
        absent: "No such file".to_owned(),
        ours: Some("0".to_owned()),
        before: Some(observed.value.clone()),
        restore: set(&observed.value),
    };
    let summary = "switch the host's own SysRq off, so that its keys reach the VM";
    let mut off = step(
        host,
        summary,
        Action::Run(set("0")),
        Undo::Setting(undo),
        Effect::Live,
    );
    off.notes
        .push("Alt+SysRq no longer helps this host when it hangs".to_owned());
    Some(off)
}

fn drop_in(host: &HostRef, observed: &ObservedSysrq) -> Option<Step> {
    if observed.file.as_deref() == Some(TEXT.as_bytes()) {
        return None;
    }
    let edit = FileEdit {
        path: HostPath::new(DROP_IN),
        format: FileFormat::Whole,
        planned_on: observed.file.as_deref().map(Digest::of),
        operations: vec![EditOperation::Set {
            key: String::new(),
            value: TEXT.to_owned(),
        }],
        before: observed.file.clone(),
    };
    let summary = format!("keep it off at the host's boot, by `{DROP_IN}`");
    Some(step(
        host,
        &summary,
        Action::Edit(edit),
        Undo::Keys,
        Effect::NextBoot,
    ))
}

/// Tells people at the host's keyboard where their SysRq goes.
pub fn check(observed: &ObservedSysrq) -> Check {
    if observed.value == "0" {
        return Check::new(
            "host's SysRq",
            CheckState::Good,
            "off: Alt+SysRq typed in a VM's window reaches the VM",
        );
    }
    let found = format!(
        "on ({}): Alt+SysRq typed in a VM's window goes to this host's kernel, not to the VM's",
        observed.value
    );
    Check::new("host's SysRq", CheckState::Advice, found)
        .mend("`vmserial break-in TARGET` goes through the serial port and needs no keyboard.")
        .mend("Or `host_sysrq: off` in the profile switches the host's off, with undo.")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn observed(output: &str) -> Option<ObservedSysrq> {
        seen(output, None)
    }

    fn summaries(observed: Option<&ObservedSysrq>) -> Result<usize, FailureKind> {
        steps(&HostRef::Local, observed)
            .map(|steps| {
                assert!(steps.iter().all(is_ours), "{steps:?}");
                steps.len()
            })
            .map_err(|problem| problem.kind)
    }

    #[test]
    fn it_goes_off_now_and_for_good() {
        assert_eq!(summaries(observed("438\nwritable\n").as_ref()), Ok(2));
        assert_eq!(summaries(observed("0\nwritable\n").as_ref()), Ok(1));
        let all = ObservedSysrq {
            file: Some(TEXT.into()),
            ..observed("0\nreadable\n").unwrap()
        };
        assert_eq!(
            summaries(Some(&all)),
            Ok(0),
            "nothing is to be changed, so nobody needs root"
        );
    }

    #[test]
    fn who_cannot_change_it_is_told_before_anything_is_tried() {
        assert_eq!(
            summaries(observed("438\nreadable\n").as_ref()),
            Err(FailureKind::Precondition)
        );
        assert_eq!(summaries(observed("").as_ref()), Err(FailureKind::Precondition));
    }

    #[test]
    fn people_are_told_where_their_keys_go() {
        let on = check(&observed("16\nreadable\n").unwrap());
        assert_eq!(on.state, CheckState::Advice);
        assert!(on.mend.iter().any(|line| line.contains("break-in")), "{on:?}");
        assert_eq!(check(&observed("0\nreadable\n").unwrap()).state, CheckState::Good);
    }
}
