//! gdb attaches: stopped or not, echo, silence, no way to BREAK.

use super::rig::Rig;
use crate::rsp::framing::packet;
use crate::rsp::{BreakResult, Event, Input, KernelState, Output, PortKind};

const HELLO: &str = "qSupported:multiprocess+;swbreak+;xmlRegisters=i386";

fn hello(rig: &mut Rig) {
    rig.input(Input::GdbAttached);
    rig.input(Input::GdbBytes(b"+"));
    rig.input(Input::GdbBytes(&packet(HELLO.as_bytes())));
}

#[test]
fn a_kernel_that_is_known_to_be_stopped_gets_the_first_packet_at_once() {
    for mut rig in [Rig::own(), Rig::shared()] {
        rig.attach();
        rig.input(Input::GdbDetached);
        let breaks = rig.breaks;
        rig.to_target.clear();
        hello(&mut rig);
        assert_eq!((rig.heard().as_str(), rig.breaks), ("+$#00", breaks));
        assert_eq!(
            rig.to_target,
            packet(HELLO.as_bytes()),
            "gdb's greeting `+` stays here"
        );
    }
    let mut rig = Rig::shared();
    rig.sim.stop_by_sysrq();
    hello(&mut rig);
    assert_eq!(
        (rig.heard().as_str(), rig.breaks),
        ("+$#00", 0),
        "the banner is enough on its own port"
    );
}

#[test]
fn a_banner_on_another_port_is_checked_by_the_probe() {
    let mut rig = Rig::own();
    rig.sim.stop_by_sysrq();
    rig.input(Input::Tick);
    assert_eq!(rig.kernel(), KernelState::Stopped);
    hello(&mut rig);
    rig.wait_ms(50);
    assert_eq!((rig.heard().as_str(), rig.breaks), ("+$#00", 0));
}

#[test]
fn a_kernel_that_stopped_before_we_came_is_found_by_the_probe() {
    let mut rig = Rig::own();
    rig.console_seen = false;
    rig.sim.stop_by_sysrq();
    rig.input(Input::Tick);
    assert_eq!(rig.kernel(), KernelState::Unknown);
    hello(&mut rig);
    assert_eq!(rig.kernel(), KernelState::Stopped);
    assert_eq!(rig.heard(), "", "held while late answers may come");
    rig.wait_ms(50);
    assert_eq!(rig.heard(), "+$#00");
    assert_eq!(rig.breaks, 0);
}

#[test]
fn a_running_kernel_is_broken_into_and_the_late_answer_is_the_proof() {
    for seen in [true, false] {
        let mut rig = Rig::own();
        rig.console_seen = seen;
        hello(&mut rig);
        rig.wait_ms(499);
        assert_eq!(rig.breaks, 0, "the probe has its time");
        rig.wait_ms(1);
        assert_eq!((rig.breaks, rig.keys), (1, 0));
        assert!(rig.held, "no key may come between");
        rig.wait_ms(99);
        assert_eq!(rig.keys, 0);
        rig.wait_ms(1);
        assert_eq!(rig.keys, 1);
        assert!(!rig.held);
        rig.wait_ms(50);
        assert_eq!(rig.heard(), "+$#00");
        assert!(rig.has(|event| *event == Event::Break(BreakResult::Stopped)));
        let probes = rig
            .to_target
            .windows(6)
            .filter(|window| window == b"$?#3f")
            .count();
        assert_eq!(
            rig.to_target
                .windows(5)
                .filter(|window| *window == b"$?#3f")
                .count(),
            1 + probes
        );
    }
}

#[test]
fn a_kernel_that_was_connected_before_answers_with_its_stop() {
    let mut rig = Rig::own();
    rig.attach();
    rig.talk("c");
    rig.input(Input::GdbDetached);
    assert_eq!(rig.kernel(), KernelState::Running);
    rig.console_seen = false;
    hello(&mut rig);
    rig.wait_ms(700);
    assert_eq!(
        rig.heard(),
        "+$#00",
        "the stop and the probe's remains are swallowed"
    );
    assert_eq!(rig.kernel(), KernelState::Stopped);
}

#[test]
fn a_shell_on_the_port_echoes_and_is_broken_into_at_once() {
    for seen in [true, false] {
        let mut rig = Rig::own();
        rig.sim.echo = true;
        rig.console_seen = seen;
        hello(&mut rig);
        assert_eq!(rig.breaks, 1);
        rig.wait_ms(700);
        assert!(rig.heard().ends_with("+$#00"));
        assert_eq!(rig.kernel(), KernelState::Stopped);
    }
}

#[test]
fn without_a_break_an_echo_turns_gdb_away() {
    for mut rig in [Rig::own(), Rig::shared()] {
        rig.break_works = false;
        rig.sim.echo = true;
        hello(&mut rig);
        rig.wait_ms(1100);
        assert!(
            rig.has(
                |event| matches!(event, Event::GdbRefused { reason } if reason.starts_with("not in kgdb"))
            )
        );
        assert!(rig.closed.is_some());
        assert!(rig.has(|event| matches!(event, Event::Break(BreakResult::Failed(_)))));
    }
}

#[test]
fn silence_holds_gdb_until_a_stop_shows() {
    let mut rig = Rig::own();
    rig.break_works = false;
    hello(&mut rig);
    rig.wait_ms(500 + 1500);
    assert!(rig.has(|event| matches!(event, Event::GdbHeld { .. })));
    assert_eq!(rig.closed, None);
    let before = rig.to_target.len();
    for _ in 0..3 {
        rig.input(Input::GdbBytes(&packet(HELLO.as_bytes())));
        rig.wait_ms(2000);
    }
    assert_eq!(rig.to_target.len(), before, "nothing more goes out");
    rig.heard();
    rig.sim.stop_by_sysrq();
    rig.wait_ms(700);
    assert_eq!(rig.heard(), "+$#00", "only the newest packet, only its answer");
    rig.input(Input::GdbBytes(b"+"));
    assert_eq!(rig.talk("?"), "+$S05#b8");
}

#[test]
fn an_interrupt_request_of_a_held_gdb_tries_again() {
    let mut rig = Rig::own();
    rig.break_works = false;
    hello(&mut rig);
    rig.wait_ms(2000);
    rig.break_works = true;
    rig.input(Input::GdbBytes(&[0x03]));
    rig.wait_ms(800);
    assert_eq!(rig.heard(), "+$#00");
}

#[test]
fn what_was_known_may_be_wrong() {
    // The VM was reset while nobody was there and nothing told us.
    let mut rig = Rig::own();
    rig.attach();
    rig.input(Input::GdbDetached);
    let breaks = rig.breaks;
    rig.console_seen = false;
    rig.sim.reset();
    hello(&mut rig);
    rig.wait_ms(500 + 500 + 100 + 50);
    assert_eq!(rig.breaks, breaks + 1);
    rig.wait_ms(600);
    assert_eq!(rig.heard(), "+$#00");
}

#[test]
fn on_a_shared_port_the_signs_are_the_proof() {
    let mut rig = Rig::shared();
    hello(&mut rig);
    assert_eq!(rig.breaks, 1);
    rig.wait_ms(100);
    assert_eq!(rig.kernel(), KernelState::Stopped);
    rig.wait_ms(50);
    assert_eq!(rig.heard(), "+$#00");
    assert_eq!(rig.console, b"sysrq: DEBUG\r\nKGDB: Entering KGDB\r\n");
    assert_eq!(rig.sim.while_running, b"");
    assert!(rig.held, "keys are held while the kernel is stopped");
    rig.input(Input::GdbBytes(b"+"));
    rig.talk("D");
    assert_eq!(rig.kernel(), KernelState::Running);
    assert!(!rig.held);
}

#[test]
fn an_unasked_stop_is_acknowledged_once_and_swallowed() {
    let mut rig = Rig::shared();
    rig.attach();
    rig.talk("c");
    rig.input(Input::GdbDetached);
    rig.to_target.clear();
    rig.sim.say("tick 5");
    rig.sim.stop_by_sysrq();
    rig.input(Input::Tick);
    assert_eq!(rig.to_target, b"+");
    assert!(rig.console.ends_with(b"tick 5"));
    hello(&mut rig);
    assert_eq!(rig.heard(), "+$#00");
}

#[test]
fn the_newest_packet_is_the_one_that_passes() {
    let mut rig = Rig::new(PortKind::Own, |_| {});
    hello(&mut rig);
    rig.wait_ms(300);
    rig.input(Input::GdbBytes(&packet(b"vMustReplyEmpty")));
    rig.wait_ms(500);
    assert_eq!(rig.heard(), "+$#00");
    let target = String::from_utf8_lossy(&rig.to_target).into_owned();
    assert!(
        target.contains("vMustReplyEmpty") && !target.contains("qSupported"),
        "{target}"
    );
}

/// What went to the target, to gdb, and how often BREAK was asked for.
fn sorted(outputs: &mut Vec<Output>) -> (String, String, usize) {
    let (mut target, mut gdb, mut breaks) = (Vec::new(), Vec::new(), 0);
    for output in outputs.drain(..) {
        match output {
            Output::ToTarget(bytes) => target.extend(bytes),
            Output::ToGdb(bytes) => gdb.extend(bytes),
            Output::SendBreak => breaks += 1,
            _ => {}
        }
    }
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(target), text(gdb), breaks)
}

const KDB: &[u8] = b"\r\nEntering kdb (current=0x0, pid 0) due to NonMaskable Interrupt @ 0x0\r\nkdb> ";

#[test]
fn at_kdbs_prompt_the_probe_switches_to_gdb() {
    for found_so in [true, false] {
        let mut rig = Rig::shared();
        let mut outputs = Vec::new();
        if found_so {
            rig.machine.handle(rig.now, Input::TargetBytes(KDB), &mut outputs);
        }
        rig.machine.handle(rig.now, Input::GdbAttached, &mut outputs);
        rig.machine
            .handle(rig.now, Input::GdbBytes(&packet(b"qSupported")), &mut outputs);
        let (target, gdb, breaks) = sorted(&mut outputs);
        if found_so {
            assert_eq!((target.as_str(), gdb.as_str(), breaks), ("$?#3f", "", 0));
        } else {
            assert_eq!((target.as_str(), gdb.as_str(), breaks), ("", "", 1));
            rig.machine
                .handle(rig.now, Input::TargetBytes(b"sysrq: DEBUG\r\n"), &mut outputs);
            rig.machine.handle(rig.now, Input::TargetBytes(KDB), &mut outputs);
            assert_eq!(rig.kernel(), KernelState::Kdb);
            assert_eq!(sorted(&mut outputs).0, "$?#3f");
        }
        rig.machine
            .handle(rig.now, Input::TargetBytes(b"+$S05#b8"), &mut outputs);
        assert_eq!(
            sorted(&mut outputs),
            ("+".into(), String::new(), 0),
            "its answer is swallowed"
        );
        rig.now += std::time::Duration::from_millis(50);
        rig.machine.handle(rig.now, Input::Tick, &mut outputs);
        assert_eq!(sorted(&mut outputs).0, "$qSupported#37");
        assert_eq!(rig.kernel(), KernelState::Stopped);
    }
}

#[test]
fn a_prompt_that_does_not_answer_is_broken_into() {
    let mut rig = Rig::shared();
    let mut outputs = Vec::new();
    rig.machine.handle(rig.now, Input::TargetBytes(KDB), &mut outputs);
    rig.machine.handle(rig.now, Input::GdbAttached, &mut outputs);
    rig.machine
        .handle(rig.now, Input::GdbBytes(&packet(b"qSupported")), &mut outputs);
    outputs.clear();
    rig.now += std::time::Duration::from_millis(500);
    rig.machine.handle(rig.now, Input::Tick, &mut outputs);
    assert_eq!(sorted(&mut outputs).2, 1);
}
