//! Breaking in, second by second: BREAK waits for a kernel that was just let run, a lost one is made once more, and no
//! key goes to a kernel that has stopped.

use super::rig::Rig;
use crate::rsp::framing::packet;
use crate::rsp::{BreakResult, Event, Freed, Input, KernelState};

fn hello(rig: &mut Rig) {
    rig.input(Input::GdbAttached);
    rig.input(Input::GdbBytes(&packet(b"qSupported:xmlRegisters=i386")));
}

/// A shared port whose gdb has just detached.
fn detached() -> Rig {
    let mut rig = Rig::shared();
    rig.attach();
    rig.talk("D");
    rig.input(Input::GdbDetached);
    assert!(rig.sim.runs());
    (rig.breaks, rig.keys) = (0, 0);
    rig.events.clear();
    rig
}

fn results(rig: &Rig) -> Vec<&BreakResult> {
    let mut results = Vec::new();
    for event in &rig.events {
        if let Event::Break(result) = event {
            results.push(result);
        }
    }
    results
}

#[test]
fn a_break_waits_until_kgdb_has_let_go_of_a_shared_port() {
    let mut rig = detached();
    hello(&mut rig);
    assert_eq!(rig.breaks, 0);
    assert!(!rig.held, "no BREAK is out: all may type");
    rig.wait_ms(299);
    assert_eq!(rig.breaks, 0);
    rig.wait_ms(1);
    assert_eq!((rig.breaks, rig.keys), (1, 0));
    assert!(rig.held);
    rig.wait_ms(150);
    assert_eq!((rig.breaks, rig.keys), (1, 1));
    assert_eq!(rig.heard(), "+$#00");
}

#[test]
fn a_break_waits_after_a_continue_a_kill_and_our_own_detach_too() {
    let mut rig = Rig::shared();
    rig.attach();
    rig.talk("c");
    rig.wait_ms(100);
    rig.input(Input::GdbBytes(&[3]));
    assert_eq!(rig.breaks, 1, "the one of the attach");
    rig.wait_ms(200);
    assert_eq!(rig.breaks, 2);
    rig.wait_ms(100);
    assert_eq!(rig.heard(), "$T05thread:1b;#39");
    rig.input(Input::GdbBytes(b"+"));
    rig.talk("k");
    rig.input(Input::BreakRequested);
    assert_eq!(rig.breaks, 2);
    rig.wait_ms(400);
    assert_eq!((rig.breaks, rig.kernel()), (3, KernelState::Stopped));
    rig.input(Input::Resume);
    rig.wait_ms(100);
    assert_eq!(rig.released, [Freed::Freed]);
    rig.input(Input::BreakRequested);
    assert_eq!(rig.breaks, 3);
    rig.wait_ms(400);
    assert_eq!((rig.breaks, rig.kernel()), (4, KernelState::Stopped));
}

#[test]
fn a_break_does_not_wait_where_nobody_polls_its_port_or_long_after() {
    let mut rig = Rig::own();
    rig.attach();
    rig.talk("c");
    let breaks = rig.breaks;
    rig.input(Input::GdbBytes(&[3]));
    assert_eq!(rig.breaks, breaks + 1);
    let mut rig = detached();
    rig.wait_ms(300);
    hello(&mut rig);
    assert_eq!(rig.breaks, 1);
    // A new kernel was never let run by us.
    let mut rig = detached();
    rig.input(Input::TargetReset);
    hello(&mut rig);
    assert_eq!(rig.breaks, 1);
}

#[test]
fn a_stop_while_break_waits_cancels_it() {
    let mut rig = Rig::shared();
    rig.attach();
    rig.talk("Z0,ffffffff8103a38d,1");
    rig.talk("c");
    rig.input(Input::GdbBytes(&[3]));
    rig.sim.run_into_breakpoint();
    rig.wait_ms(5000);
    assert_eq!((rig.breaks, rig.keys), (1, 1), "those of the attach");
    assert_eq!(rig.heard(), "$T05thread:1b;#39");
    assert_eq!(rig.kernel(), KernelState::Stopped);
}

#[test]
fn a_gdb_that_leaves_takes_its_waiting_break_along() {
    let mut rig = detached();
    hello(&mut rig);
    rig.input(Input::GdbDetached);
    rig.wait_ms(5000);
    assert_eq!((rig.breaks, rig.keys), (0, 0));
    assert!(rig.sim.runs() && !rig.held);
    // Somebody else's stays.
    let mut rig = detached();
    hello(&mut rig);
    rig.input(Input::BreakRequested);
    rig.input(Input::GdbDetached);
    rig.wait_ms(5000);
    assert_eq!((rig.breaks, rig.keys), (1, 1));
    assert_eq!(rig.kernel(), KernelState::Stopped);
    assert!(
        !rig.has(|event| *event == Event::KernelLeftStopped),
        "as asked for"
    );
}

#[test]
fn a_stop_for_a_gdb_that_has_left_is_told() {
    for (mut rig, between_break_and_key) in [(Rig::own(), 550), (Rig::shared(), 50)] {
        hello(&mut rig);
        rig.wait_ms(between_break_and_key);
        rig.input(Input::GdbDetached);
        rig.wait_ms(1600);
        assert!(!rig.sim.runs());
        let told = |event: &&Event| **event == Event::KernelLeftStopped;
        assert_eq!(rig.events.iter().filter(told).count(), 1);
        rig.input(Input::Release { leave_stopped: false });
        rig.wait_ms(4000);
        assert_eq!(rig.released, [Freed::Freed]);
    }
}

#[test]
fn a_lost_break_is_made_once_more_whole() {
    let mut rig = Rig::shared();
    rig.sim.loses = 1;
    hello(&mut rig);
    rig.wait_ms(1599);
    assert_eq!((rig.breaks, rig.keys), (1, 1));
    assert!(rig.held);
    rig.wait_ms(1);
    assert_eq!((rig.breaks, rig.keys), (2, 1), "a BREAK before the next `g`");
    assert!(rig.held, "and no key of anybody's between the two");
    rig.wait_ms(99);
    assert_eq!(rig.keys, 1);
    rig.wait_ms(51);
    assert_eq!((rig.breaks, rig.keys), (2, 2));
    assert_eq!(rig.heard(), "+$#00");
    assert_eq!(results(&rig), [&BreakResult::Stopped], "one break-in, one result");
}

#[test]
fn ctrl_c_and_break_are_made_once_more_too() {
    let mut rig = Rig::shared();
    rig.attach();
    rig.talk("c");
    rig.wait_ms(1000);
    rig.sim.loses = 1;
    rig.input(Input::GdbBytes(&[3]));
    rig.wait_ms(1700);
    assert_eq!(rig.heard(), "$T05thread:1b;#39");
    assert_eq!(rig.keys, 3);
    let mut rig = Rig::shared();
    rig.sim.loses = 1;
    rig.input(Input::BreakRequested);
    rig.wait_ms(1700);
    assert_eq!(results(&rig), [&BreakResult::Stopped]);
}

#[test]
fn a_stop_that_comes_late_is_not_broken_into_again() {
    let mut rig = Rig::shared();
    rig.sim.loses = 2;
    hello(&mut rig);
    rig.wait_ms(1650);
    assert_eq!((rig.breaks, rig.keys), (2, 1));
    rig.sim.stop_by_sysrq();
    rig.wait_ms(5000);
    assert_eq!(
        (rig.breaks, rig.keys),
        (2, 1),
        "no `g` for a kernel that has stopped"
    );
    assert_eq!(rig.heard(), "+$#00");
    assert_eq!(results(&rig), [&BreakResult::Stopped]);
}

#[test]
fn two_lost_breaks_are_the_end_of_it() {
    let mut rig = Rig::shared();
    rig.sim.loses = 9;
    rig.input(Input::BreakRequested);
    rig.wait_ms(3199);
    assert_eq!(results(&rig), [] as [&BreakResult; 0]);
    assert!(rig.held);
    rig.wait_ms(1);
    assert_eq!(results(&rig), [&BreakResult::NoStop]);
    assert!(!rig.held);
    rig.wait_ms(10_000);
    assert_eq!((rig.breaks, rig.keys), (2, 2));
}

#[test]
fn an_answer_of_sysrq_is_no_lost_break() {
    let mut rig = Rig::shared();
    rig.sim.no_kgdb = true;
    rig.input(Input::BreakRequested);
    rig.wait_ms(1600);
    assert_eq!(results(&rig), [&BreakResult::NoStop]);
    rig.wait_ms(5000);
    assert_eq!((rig.breaks, rig.keys), (1, 1));
}

#[test]
fn a_port_of_kgdbs_own_loses_no_break_and_makes_none_again() {
    let mut rig = Rig::own();
    rig.sim.loses = 1;
    rig.input(Input::BreakRequested);
    rig.wait_ms(5000);
    assert_eq!((rig.breaks, rig.keys), (1, 1));
    assert_eq!(results(&rig), [&BreakResult::NoStop]);
}

#[test]
fn a_way_that_fails_is_told_at_once() {
    let mut rig = Rig::shared();
    rig.sim.loses = 1;
    rig.input(Input::BreakRequested);
    rig.wait_ms(1000);
    rig.break_works = false;
    rig.wait_ms(600);
    assert!(matches!(results(&rig).as_slice(), [BreakResult::Failed(reason)] if reason.starts_with("qmp")));
    assert_eq!((rig.breaks, rig.keys), (2, 1));
    assert!(!rig.held);
}

#[test]
fn the_end_frees_in_its_four_seconds_what_a_lost_break_left_running() {
    // gdb is killed in the moment in which it has continued: BREAK waits, is lost, and made again.
    for (milliseconds, loses, freed) in [(0, 0, true), (0, 1, true), (200, 1, true), (0, 2, false)] {
        let mut rig = Rig::shared();
        rig.attach();
        rig.talk("Z0,ffffffff8103a38d,1");
        rig.talk("c");
        rig.wait_ms(milliseconds);
        rig.sim.loses = loses;
        rig.input(Input::GdbDetached);
        rig.input(Input::Release { leave_stopped: false });
        rig.wait_ms(4000);
        assert_eq!(rig.released.len(), 1, "{milliseconds} {loses}");
        assert_eq!(rig.released == [Freed::Freed], freed, "{milliseconds} {loses}");
        assert!(rig.sim.runs() && rig.sim.planted.is_empty() == freed);
    }
}

#[test]
fn no_kernel_is_stopped_that_cannot_be_freed_before_the_end() {
    // Each moment of the break-in as the bridge's end begins, with any number of lost BREAKs.
    for milliseconds in (0..3300).step_by(50) {
        for loses in 0..4 {
            let mut rig = Rig::shared();
            rig.sim.loses = loses;
            rig.input(Input::BreakRequested);
            rig.wait_ms(milliseconds);
            rig.input(Input::Release { leave_stopped: false });
            rig.wait_ms(4000);
            assert_eq!(rig.released.len(), 1, "{milliseconds} {loses}");
            assert!(rig.sim.runs(), "{milliseconds} {loses} {:?}", rig.released);
            assert!(rig.keys <= 2);
        }
    }
}
