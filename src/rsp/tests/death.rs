//! gdb dies, the bridge ends: no kernel is left frozen, none is resumed in the middle of an instruction.

use super::rig::Rig;
use super::sim::FUNCTION;
use crate::rsp::{Event, Freed, Input, KernelState, Planted, PortKind};

const PLANT: &str = "Z0,ffffffff8103a38d,1";

fn free(rig: &mut Rig) {
    rig.input(Input::Release { leave_stopped: false });
    rig.wait_ms(4000);
    assert_eq!(rig.released, [Freed::Freed]);
    assert!(rig.sim.runs() && !rig.sim.crashed && rig.sim.planted.is_empty());
    assert!(rig.planted.is_empty());
}

#[test]
fn killed_while_stopped_is_reported_and_freed_at_the_end() {
    for mut rig in [Rig::own(), Rig::shared()] {
        rig.attach();
        rig.talk(PLANT);
        rig.input(Input::GdbDetached);
        assert!(rig.has(|event| *event == Event::KernelLeftStopped));
        rig.wait_ms(5000);
        assert!(!rig.sim.runs(), "the next gdb finds it as it was");
        free(&mut rig);
    }
}

#[test]
fn killed_while_stopped_is_freed_at_once_in_a_session() {
    for port in [PortKind::Own, PortKind::Shared] {
        let mut rig = Rig::freeing(port);
        rig.attach();
        rig.talk(PLANT);
        rig.input(Input::GdbDetached);
        rig.wait_ms(1000);
        assert!(rig.sim.runs() && rig.sim.planted.is_empty());
        assert_eq!(rig.kernel(), KernelState::Running);
    }
}

#[test]
fn killed_with_an_answer_on_its_way_owes_the_acknowledgement() {
    for request in ["g", "mffffffff81000000,8", PLANT, "D"] {
        let mut rig = Rig::own();
        rig.attach();
        rig.ask(request);
        rig.input(Input::GdbDetached);
        rig.input(Input::Release { leave_stopped: false });
        rig.wait_ms(4000);
        assert!(rig.sim.runs() && rig.sim.planted.is_empty(), "{request}");
        assert_eq!(rig.released.len(), 1);
    }
}

#[test]
fn killed_while_running_with_a_breakpoint_is_broken_into_and_freed() {
    for port in [PortKind::Own, PortKind::Shared] {
        for seen in [true, false] {
            let mut rig = Rig::freeing(port);
            rig.attach();
            rig.console_seen = seen;
            rig.talk(PLANT);
            rig.talk("c");
            rig.input(Input::GdbDetached);
            rig.wait_ms(1500);
            assert!(rig.sim.runs() && rig.sim.planted.is_empty());
            assert!(rig.planted.is_empty());
        }
    }
}

#[test]
fn killed_while_running_with_nothing_planted_is_left_alone() {
    let mut rig = Rig::own();
    rig.attach();
    rig.talk("c");
    let breaks = rig.breaks;
    rig.input(Input::GdbDetached);
    rig.input(Input::Release { leave_stopped: false });
    assert_eq!(rig.released, [Freed::LeftAlone]);
    assert_eq!(rig.breaks, breaks);
    assert!(rig.sim.runs());
}

#[test]
fn a_breakpoint_that_is_hit_with_nobody_there_does_not_crash_its_process() {
    for mut rig in [Rig::own(), Rig::shared()] {
        rig.attach();
        rig.talk(PLANT);
        rig.talk("c");
        rig.input(Input::GdbDetached);
        rig.sim.run_into_breakpoint();
        rig.input(Input::Tick);
        assert!(rig.has(|event| *event == Event::KernelLeftStopped));
        assert_eq!(rig.sim.counter, FUNCTION + 1);
        free(&mut rig);
        assert_eq!(rig.sim.counter, FUNCTION);
    }
}

#[test]
fn the_next_gdb_finds_the_counter_put_back() {
    let mut rig = Rig::own();
    rig.attach();
    rig.talk(PLANT);
    rig.talk("c");
    rig.input(Input::GdbDetached);
    rig.sim.run_into_breakpoint();
    rig.input(Input::Tick);
    rig.attach();
    assert_eq!(
        rig.talk("p10"),
        "+$8da30381ffffffff#aa".replace("#aa", &checksum("8da30381ffffffff"))
    );
    rig.talk("D");
    assert!(rig.sim.runs() && !rig.sim.crashed);
}

fn checksum(data: &str) -> String {
    format!("#{:02x}", crate::rsp::framing::checksum(data.as_bytes()))
}

#[test]
fn gdb_dies_between_the_stop_and_putting_the_counter_back() {
    let mut rig = Rig::own();
    rig.attach();
    rig.talk(PLANT);
    rig.talk("c");
    rig.sim.run_into_breakpoint();
    rig.input(Input::Tick);
    rig.input(Input::GdbBytes(b"+"));
    rig.talk("z0,ffffffff8103a38d,1");
    rig.input(Input::GdbDetached);
    free(&mut rig);
}

#[test]
fn after_a_single_step_a_counter_behind_a_breakpoint_is_rightful() {
    let mut rig = Rig::own();
    rig.attach();
    rig.talk(PLANT);
    rig.talk("s");
    rig.sim.counter = FUNCTION + 1;
    rig.input(Input::GdbDetached);
    free(&mut rig);
    assert_eq!(rig.sim.counter, FUNCTION + 1);
}

#[test]
fn what_a_killed_bridge_had_written_down_frees_the_kernel_at_the_next_start() {
    for (continued, hit) in [(true, false), (true, true), (false, false)] {
        let mut first = Rig::own();
        first.attach();
        first.talk(PLANT);
        if continued {
            first.talk("c");
        }
        if hit {
            first.sim.run_into_breakpoint();
        }
        first.sim.out.clear();
        let mut rig = Rig::with(first.sim, PortKind::Own, |config| config.planted = first.planted);
        rig.console_seen = false;
        rig.wait_ms(2000);
        assert!(rig.sim.runs() && !rig.sim.crashed && rig.sim.planted.is_empty());
        assert!(rig.planted.is_empty());
        assert!(!hit || rig.sim.counter == FUNCTION);
        rig.attach();
    }
}

#[test]
fn a_kernel_that_a_killed_bridge_left_stopped_is_freed_without_any_breakpoint() {
    for (port, other) in [(PortKind::Own, Rig::own()), (PortKind::Shared, Rig::shared())] {
        let mut first = other;
        first.attach();
        assert!(first.planted.stopped);
        let planted = first.planted;
        let mut rig = Rig::with(first.sim, port, |config| config.planted = planted);
        rig.wait_ms(1000);
        assert!(rig.sim.runs() && rig.planted.is_empty());
        assert_eq!(rig.breaks, 0);
    }
}

#[test]
fn a_machine_that_was_reset_since_is_left_alone() {
    let planted = Planted {
        stopped: true,
        ..Planted::default()
    };
    let mut rig = Rig::new(PortKind::Own, |config| config.planted = planted);
    rig.wait_ms(1000);
    assert!(rig.sim.runs() && rig.planted.is_empty());
    assert_eq!(rig.breaks, 0);
}

#[test]
fn resume_frees_a_stopped_kernel_and_leaves_a_running_one_alone() {
    let mut rig = Rig::own();
    rig.console_seen = false;
    rig.input(Input::Resume);
    rig.wait_ms(600);
    assert_eq!(rig.released, [Freed::LeftAlone]);
    assert_eq!(rig.breaks, 0);
    let mut rig = Rig::own();
    rig.console_seen = false;
    rig.sim.stop_by_sysrq();
    rig.input(Input::Resume);
    rig.wait_ms(600);
    assert_eq!(rig.released, [Freed::Freed]);
    assert!(rig.sim.runs());
}

#[test]
fn on_a_shared_port_resume_finds_a_kernel_that_stopped_before_we_came() {
    let mut rig = Rig::shared();
    rig.sim.stop_by_sysrq();
    rig.sim.out.clear();
    rig.input(Input::Resume);
    rig.wait_ms(4000);
    assert_eq!(rig.released, [Freed::Freed]);
    assert!(rig.sim.runs());
    // Now it is known to run.
    rig.input(Input::Resume);
    rig.wait_ms(4000);
    assert_eq!(rig.released, [Freed::Freed, Freed::LeftAlone]);
    // One that runs, as nobody knows, is stopped by the break-in and freed again.
    let mut rig = Rig::shared();
    rig.input(Input::Resume);
    rig.wait_ms(4000);
    assert_eq!(rig.released, [Freed::Freed]);
    assert!(rig.sim.runs() && !rig.held);
}

#[test]
fn leave_stopped_leaves_it_but_not_waiting_for_an_acknowledgement() {
    let mut rig = Rig::own();
    rig.attach();
    rig.ask("g");
    rig.input(Input::Release { leave_stopped: true });
    assert_eq!(rig.released, [Freed::LeftStopped]);
    assert!(rig.closed.is_some());
    assert!(!rig.sim.runs());
    rig.sim.receive(b"$?#3f");
    assert_eq!(rig.sim.out, b"+$S05#b8");
    rig.sim.receive(b"+");
    rig.sim.out.clear();
    let mut next = Rig::with(rig.sim, PortKind::Own, |config| config.planted = rig.planted);
    next.wait_ms(5000);
    assert!(!next.sim.runs(), "it was left on purpose");
    next.attach();
    next.input(Input::Release { leave_stopped: false });
    next.wait_ms(1000);
    assert!(next.sim.runs());
}

#[test]
fn the_end_closes_an_attached_gdb_and_frees_the_kernel() {
    for running in [false, true] {
        let mut rig = Rig::own();
        rig.attach();
        rig.talk(PLANT);
        if running {
            rig.talk("c");
        }
        free(&mut rig);
        assert!(rig.closed.is_some());
    }
}

#[test]
fn the_end_in_the_middle_of_an_attach_frees_what_the_break_in_stops() {
    for milliseconds in [0, 100, 499, 500, 550, 599, 600, 620, 700] {
        let mut rig = Rig::own();
        rig.input(Input::GdbAttached);
        rig.input(Input::GdbBytes(&crate::rsp::framing::packet(b"qSupported")));
        rig.wait_ms(milliseconds);
        rig.input(Input::Release { leave_stopped: false });
        rig.wait_ms(4000);
        assert_eq!(rig.released.len(), 1, "{milliseconds}");
        assert!(rig.sim.runs(), "{milliseconds}");
    }
}

#[test]
fn without_a_way_to_break_the_end_says_what_it_could_not_do() {
    let mut rig = Rig::own();
    rig.attach();
    rig.talk(PLANT);
    rig.talk("c");
    rig.break_works = false;
    rig.input(Input::Release { leave_stopped: false });
    rig.wait_ms(4000);
    assert!(
        matches!(rig.released.as_slice(), [Freed::Failed { .. }]),
        "{:?}",
        rig.released
    );
    assert_eq!(rig.planted.breakpoints, [FUNCTION].into(), "still written down");
    assert_ne!(rig.planted, Planted::default());
}

#[test]
fn a_slow_kernel_is_freed_all_the_same() {
    let mut rig = Rig::shared();
    rig.attach();
    rig.sim.answers = false;
    rig.input(Input::Release { leave_stopped: false });
    rig.wait_ms(1500);
    assert!(rig.released.is_empty(), "{:?}", rig.released);
    rig.sim.answers = true;
    rig.sim.catch_up();
    rig.input(Input::Tick);
    assert_eq!(rig.released, [Freed::Freed]);
    assert!(rig.sim.runs());
    // One whose answer comes too late finds the acknowledgement waiting.
    let mut rig = Rig::shared();
    rig.attach();
    rig.sim.answers = false;
    rig.input(Input::Release { leave_stopped: false });
    rig.wait_ms(4000);
    assert!(
        matches!(rig.released[..], [Freed::Failed { .. }]),
        "{:?}",
        rig.released
    );
    rig.sim.catch_up();
    assert!(rig.sim.runs());
}

#[test]
fn an_absent_target_has_nothing_to_free() {
    let mut rig = Rig::own();
    rig.input(Input::TargetGone { reason: "ended" });
    rig.input(Input::Release { leave_stopped: false });
    assert_eq!(rig.released, [Freed::TargetAway]);
}
