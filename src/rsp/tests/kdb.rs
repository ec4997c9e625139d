//! kdb: its prompt counts as running for keys and text, and it stands in for a stop where one is looked for.

use super::rig::Rig;
use crate::rsp::{BreakResult, Event, Input, KernelState, Output};
use std::time::Duration;

const ENTERING: &[u8] = b"\r\nEntering kdb (current=0x0, pid 0) due to Keyboard Entry\r\n";

#[test]
fn at_the_prompt_text_passes_keys_pass_and_no_line_means_a_reset() {
    let mut rig = Rig::shared();
    rig.input(Input::TargetBytes(ENTERING));
    assert_eq!(rig.kernel(), KernelState::Unknown, "the prompt is the sign");
    rig.input(Input::TargetBytes(b"[0]kdb> "));
    assert_eq!(rig.kernel(), KernelState::Kdb);
    assert!(!rig.held);
    rig.console.clear();
    rig.input(Input::TargetBytes(b"ps\r\nTask Addr $g#67\r\n[0]kdb> "));
    assert_eq!(rig.console, b"ps\r\nTask Addr $g#67\r\n[0]kdb> ");
    assert_eq!(rig.to_target, b"", "nothing that kdb writes is acknowledged");
    assert!(!rig.held);
    assert!(!rig.has(|event| matches!(event, Event::KernelGone { .. })));
    assert_eq!(rig.kernel(), KernelState::Kdb);
}

#[test]
fn a_prompt_within_a_line_is_text() {
    let mut rig = Rig::shared();
    rig.input(Input::TargetBytes(b"# echo kdb> \r\n"));
    assert_eq!(rig.kernel(), KernelState::Unknown);
    assert_eq!(rig.console, b"# echo kdb> \r\n");
}

#[test]
fn where_kdb_is_at_hand_an_attached_gdb_takes_the_keys_away() {
    let mut rig = Rig::shared();
    rig.input(Input::TargetBytes(b"KGDB: KGDB or $3#33 for KDB\r\n"));
    assert_eq!(rig.kernel(), KernelState::Stopped);
    assert!(!rig.held);
    rig.input(Input::GdbAttached);
    assert!(rig.held, "a key would be read as a part of gdb's packets");
    rig.input(Input::GdbDetached);
    assert!(!rig.held);
}

#[test]
fn a_prompt_seen_before_the_key_cancels_the_key() {
    let mut rig = Rig::shared();
    let mut outputs = Vec::new();
    let mut take = |now, input: Input<'_>| rig.machine.handle(now, input, &mut outputs);
    let start = rig.now;
    take(start, Input::BreakRequested);
    take(start, Input::BreakSent(Ok(())));
    take(start, Input::TargetBytes(ENTERING));
    take(start + Duration::from_millis(50), Input::TargetBytes(b"kdb> "));
    take(start + Duration::from_secs(2), Input::Tick);
    assert!(outputs.contains(&Output::SendBreak));
    assert!(!outputs.contains(&Output::SendBreakKey), "kdb would read the `g`");
    assert!(outputs.contains(&Output::Event(Event::Break(BreakResult::Stopped))));
    let holds: Vec<_> = outputs
        .iter()
        .filter(|output| matches!(output, Output::HoldConsole(_)))
        .collect();
    assert_eq!(holds, [&Output::HoldConsole(true), &Output::HoldConsole(false)]);
}

#[test]
fn a_kernel_that_enters_kdb_while_gdb_waits_is_not_gdbs() {
    let mut rig = Rig::shared();
    rig.attach();
    rig.talk("c");
    rig.heard();
    rig.input(Input::TargetBytes(ENTERING));
    assert!(!rig.machine.kernel_is_gone(), "`dmesg` prints it too");
    rig.input(Input::TargetBytes(b"kdb> "));
    assert!(rig.machine.kernel_is_gone());
    assert!(rig.heard().contains("$X09#"), "gdb is told at once");
    assert_eq!(rig.kernel(), KernelState::Kdb);
}
