//! The kernel is gone: gdb is answered until it leaves, and nothing of it reaches the new boot.

use super::rig::Rig;
use crate::rsp::framing::packet;
use crate::rsp::{Event, Freed, Input, KernelState};

fn told(rig: &Rig) -> bool {
    rig.has(|event| matches!(event, Event::KernelGone { .. }))
}

/// gdb ends its session against nobody; nothing goes to the target.
fn ends_cleanly(rig: &mut Rig) {
    let before = rig.to_target.len();
    assert_eq!(rig.talk("g"), "+$E01#a6");
    assert_eq!(rig.talk("qSymbol::"), "+$#00");
    assert_eq!(rig.talk("c"), "+$X09#c1");
    assert_eq!(rig.ask("D"), "+$OK#9a");
    rig.input(Input::GdbBytes(b"-"));
    assert_eq!(rig.heard(), "$OK#9a");
    rig.input(Input::GdbBytes(b"\x03+"));
    rig.input(Input::GdbDetached);
    assert_eq!(rig.to_target.len(), before);
    assert!(rig.planted.is_empty());
}

#[test]
fn the_stream_ends_while_gdb_waits_for_a_stop() {
    let mut rig = Rig::own();
    rig.attach();
    rig.talk("Z0,ffffffff8103a38d,1");
    rig.talk("c");
    rig.input(Input::TargetGone { reason: "ended" });
    assert_eq!(rig.heard(), "$X09#c1");
    assert!(told(&rig));
    rig.sim.reset();
    rig.input(Input::TargetUp);
    ends_cleanly(&mut rig);
    assert_eq!(rig.sim.while_running, b"");
}

#[test]
fn the_stream_ends_while_gdb_is_at_its_prompt_or_waits_for_memory() {
    let mut rig = Rig::own();
    rig.attach();
    rig.input(Input::TargetGone { reason: "ended" });
    assert_eq!(rig.heard(), "", "nothing was asked");
    ends_cleanly(&mut rig);

    let mut rig = Rig::own();
    rig.attach();
    let mut outputs = Vec::new();
    rig.machine
        .handle(rig.now, Input::GdbBytes(&packet(b"m0,8")), &mut outputs);
    rig.input(Input::TargetGone { reason: "ended" });
    assert_eq!(
        rig.heard(),
        "+$E01#a6",
        "the outstanding request is answered at once"
    );
    ends_cleanly(&mut rig);
}

#[test]
fn gdb_comes_while_the_target_is_away() {
    let mut rig = Rig::own();
    rig.input(Input::TargetGone { reason: "ended" });
    rig.input(Input::GdbAttached);
    rig.input(Input::GdbBytes(b"+"));
    assert_eq!(rig.talk("vMustReplyEmpty"), "+$#00");
    assert_eq!(rig.talk("?"), "+$X09#c1");
    rig.input(Input::GdbDetached);
    rig.input(Input::TargetUp);
    rig.attach();
}

#[test]
fn ten_seconds_without_an_acknowledgement() {
    let mut rig = Rig::own();
    rig.attach();
    rig.console_seen = false;
    rig.sim.reset();
    assert_eq!(rig.ask("m0,8"), "");
    for _ in 0..3 {
        rig.wait_ms(2000);
        assert_eq!(rig.ask("m0,8"), "", "a repeat does not start the time anew");
    }
    rig.wait_ms(3999);
    assert!(!told(&rig));
    rig.wait_ms(1);
    assert!(told(&rig));
    assert_eq!(rig.heard(), "+$E01#a6");
    ends_cleanly(&mut rig);
}

#[test]
fn after_a_silence_kgdb_is_asked_before_a_packet_of_gdbs_passes() {
    let mut rig = Rig::own();
    rig.attach();
    rig.wait_ms(5000);
    rig.to_target.clear();
    assert_eq!(rig.talk("m0,8"), "+$4883ec#9f");
    assert_eq!(rig.talk("m8,8"), "+$4883ec#9f");
    assert_eq!(rig.to_target, b"$qC#b4+$m0,8#01+$m8,8#09+");

    rig.wait_ms(5000);
    rig.console_seen = false;
    rig.sim.reset();
    for _ in 0..4 {
        assert_eq!(rig.ask("m0,8"), "");
        rig.wait_ms(2000);
    }
    rig.wait_ms(1999);
    assert!(!told(&rig));
    rig.wait_ms(1);
    assert!(told(&rig));
    assert_eq!(rig.heard(), "+$E01#a6");
    ends_cleanly(&mut rig);
    assert_eq!(
        rig.sim.while_running, b"$qC#b4",
        "a question of ours and not one byte of gdb's"
    );
}

#[test]
fn a_vm_that_is_paused_while_kgdb_is_asked_has_its_time() {
    let mut rig = Rig::own();
    rig.attach();
    rig.wait_ms(5000);
    rig.input(Input::VmPaused(true));
    let mut outputs = Vec::new();
    rig.machine
        .handle(rig.now, Input::GdbBytes(&packet(b"m0,8")), &mut outputs);
    rig.wait_ms(60_000);
    rig.input(Input::VmPaused(false));
    rig.wait_ms(9_000);
    assert!(!told(&rig));
    rig.sim.receive(&packet(b"qC"));
    rig.wait_ms(1);
    assert_eq!(rig.heard(), "+$4883ec#9f");
}

#[test]
fn a_paused_vm_is_not_gone() {
    let mut rig = Rig::own();
    rig.attach();
    rig.input(Input::VmPaused(true));
    let mut outputs = Vec::new();
    rig.machine
        .handle(rig.now, Input::GdbBytes(&packet(b"m0,8")), &mut outputs);
    rig.wait_ms(60_000);
    rig.input(Input::VmPaused(false));
    rig.wait_ms(9_999);
    assert!(!told(&rig));
    rig.sim.receive(&packet(b"m0,8"));
    rig.wait_ms(2);
    assert_eq!(rig.heard(), "+$4883ec#9f");
}

#[test]
fn text_of_a_new_boot_while_stopped() {
    // A port of its own: the console is another stream, so kgdb is asked before it is believed.
    let mut rig = Rig::own();
    rig.attach();
    rig.sim.reset();
    rig.input(Input::Tick);
    assert!(!told(&rig));
    rig.wait_ms(500);
    assert!(told(&rig));
    ends_cleanly(&mut rig);
    let of_gdb = rig
        .sim
        .while_running
        .windows(2)
        .any(|window| window == b"$g" || window == b"$c");
    assert!(!of_gdb);

    let mut rig = Rig::shared();
    rig.attach();
    rig.sim.reset();
    rig.input(Input::Tick);
    assert!(told(&rig));
    assert_eq!(rig.kernel(), KernelState::Unknown);
    ends_cleanly(&mut rig);
    assert_eq!(rig.sim.while_running, b"");
}

#[test]
fn late_console_text_of_a_stopped_kernel_is_no_reset() {
    let mut rig = Rig::own();
    rig.attach();
    rig.sim.say("this line was on its way\r\n");
    rig.input(Input::Tick);
    rig.wait_ms(1000);
    assert!(!told(&rig));
    assert_eq!(rig.talk("m0,8"), "+$4883ec#9f");
}

#[test]
fn a_new_kernel_stops_while_gdb_waits() {
    for (mut rig, seen) in [(Rig::own(), true), (Rig::own(), false), (Rig::shared(), true)] {
        rig.attach();
        rig.console_seen = seen;
        rig.talk("c");
        rig.sim.reset();
        rig.input(Input::Tick);
        assert!(!told(&rig), "a running kernel may print what it likes");
        rig.input(Input::GdbBytes(&[0x03]));
        rig.wait_ms(1600);
        assert!(told(&rig));
        assert_eq!(rig.heard(), "$X09#c1");
        rig.input(Input::GdbDetached);
        rig.input(Input::Release { leave_stopped: false });
        rig.wait_ms(2000);
        assert_eq!(rig.released, [Freed::Freed], "we stopped it");
        assert!(rig.sim.runs());
    }
}

#[test]
fn old_messages_are_no_stop() {
    for mut rig in [Rig::own(), Rig::shared()] {
        rig.attach();
        rig.talk("c");
        let sent = rig.to_target.len();
        rig.sim
            .say("[    9.1] KGDB: Entering KGDB\r\n[    9.2] more\r\n# ");
        rig.input(Input::Tick);
        rig.wait_ms(2000);
        assert!(!told(&rig));
        assert_eq!(rig.to_target.len(), sent);
        assert_eq!(rig.kernel(), KernelState::Running);
    }
}

#[test]
fn the_kernel_says_goodbye() {
    let mut rig = Rig::own();
    rig.attach();
    rig.talk("c");
    rig.sim.out.extend_from_slice(b"$W01#b8");
    rig.input(Input::Tick);
    assert_eq!(rig.heard(), "$W01#b8");
    assert!(told(&rig));
    ends_cleanly(&mut rig);
}

#[test]
fn the_driver_reports_a_reset() {
    let mut rig = Rig::own();
    rig.attach();
    rig.talk("c");
    rig.sim.reset();
    rig.input(Input::TargetReset);
    assert_eq!(rig.heard(), "$X09#c1");
    ends_cleanly(&mut rig);
    rig.attach();
    rig.talk("D");
    assert!(rig.sim.runs());
}
