//! A session that goes well: requests, continue, step, Ctrl-C, detach; acknowledgements; output of the kernel.

use super::rig::Rig;
use super::sim::FUNCTION;
use crate::rsp::framing::packet;
use crate::rsp::{BreakResult, Event, Freed, Input, KernelState};

#[test]
fn break_continue_step_detach() {
    for mut rig in [Rig::own(), Rig::shared()] {
        rig.attach();
        assert_eq!(rig.talk("mffffffff81000000,8"), "+$4883ec#9f");
        assert_eq!(rig.talk("Z0,ffffffff8103a38d,1"), "+$OK#9a");
        assert_eq!(rig.planted.breakpoints, [FUNCTION].into());
        assert_eq!(rig.talk("c"), "+");
        assert_eq!(rig.kernel(), KernelState::Running);
        assert_eq!(rig.planted.behind, [FUNCTION].into());
        rig.sim.run_into_breakpoint();
        rig.input(Input::Tick);
        assert_eq!(rig.heard(), "$T05thread:1b;#39");
        assert_eq!(rig.kernel(), KernelState::Stopped);
        rig.input(Input::GdbBytes(b"+"));
        assert_eq!(rig.talk("P10=8da30381ffffffff"), "+$OK#9a");
        assert!(
            rig.planted.behind.is_empty(),
            "gdb has put the counter back itself"
        );
        assert_eq!(rig.talk("z0,ffffffff8103a38d,1"), "+$OK#9a");
        assert!(!rig.planted.has_breakpoints() && rig.planted.stopped);
        assert_eq!(rig.talk("s"), "+$T05thread:1b;#39");
        assert_eq!(rig.kernel(), KernelState::Stopped);
        assert_eq!(rig.ask("D"), "+$OK#9a");
        assert_eq!(
            rig.kernel(),
            KernelState::Stopped,
            "kgdb waits for the acknowledgement"
        );
        rig.input(Input::GdbBytes(b"+"));
        assert_eq!(rig.kernel(), KernelState::Running);
        rig.input(Input::GdbDetached);
        assert!(rig.sim.runs() && !rig.sim.crashed);
        assert!(!rig.has(|event| *event == Event::KernelLeftStopped));
    }
}

#[test]
fn ctrl_c_breaks_in_while_the_kernel_runs_and_does_nothing_while_it_is_stopped() {
    for request in [&b"\x03"[..], b"\xff\xf3", b"\xff\xf3g"] {
        let mut rig = Rig::own();
        rig.attach();
        let breaks = rig.breaks;
        rig.input(Input::GdbBytes(request));
        assert_eq!(rig.breaks, breaks);
        rig.talk("c");
        rig.input(Input::GdbBytes(request));
        assert_eq!(rig.breaks, breaks + 1);
        rig.wait_ms(100);
        assert_eq!(rig.heard(), "$T05thread:1b;#39");
        rig.input(Input::GdbBytes(b"+"));
        assert_eq!(rig.talk("g"), "+$#00");
        assert!(!rig.to_target.contains(&0x03) && !rig.to_target.contains(&0xff));
    }
}

#[test]
fn a_breakpoint_that_is_hit_before_the_key_cancels_it() {
    let mut rig = Rig::own();
    rig.attach();
    rig.talk("Z0,ffffffff8103a38d,1");
    rig.talk("c");
    let keys = rig.keys;
    rig.input(Input::GdbBytes(&[0x03]));
    rig.wait_ms(50);
    rig.sim.run_into_breakpoint();
    rig.wait_ms(2000);
    assert_eq!(rig.keys, keys);
    assert_eq!(rig.heard(), "$T05thread:1b;#39");
    assert!(!rig.held);
}

#[test]
fn a_break_that_cannot_be_sent_is_told_with_its_reason_and_the_session_goes_on() {
    let mut rig = Rig::own();
    rig.attach();
    rig.talk("c");
    rig.break_works = false;
    rig.input(Input::GdbBytes(&[0x03]));
    assert!(
        rig.has(|event| *event == Event::Break(BreakResult::Failed("qmp: no answer within 500 ms".into())))
    );
    assert!(!rig.held);
    rig.break_works = true;
    rig.input(Input::GdbBytes(&[0x03]));
    rig.wait_ms(100);
    assert_eq!(rig.heard(), "$T05thread:1b;#39");
}

#[test]
fn packets_are_held_while_the_kernel_runs() {
    let mut rig = Rig::own();
    rig.attach();
    rig.talk("c");
    rig.to_target.clear();
    assert_eq!(rig.ask("g"), "");
    assert_eq!(rig.to_target, b"");
    rig.sim.stop_by_sysrq();
    rig.input(Input::Tick);
    assert!(rig.heard().starts_with("$T05thread:1b;#39"));
}

#[test]
fn a_refused_continue_leaves_the_kernel_stopped() {
    let mut rig = Rig::own();
    rig.attach();
    rig.input(Input::GdbBytes(b"$c#64"));
    assert_eq!(rig.heard(), "-");
    assert_eq!(rig.talk("g"), "+$#00", "gdb's next packet passes");
    assert_eq!(rig.kernel(), KernelState::Stopped);
}

#[test]
fn console_output_of_a_running_kernel_reaches_gdb_or_is_acknowledged() {
    let mut rig = Rig::own();
    rig.attach();
    rig.talk("c");
    rig.sim.out.extend_from_slice(b"$O6b0a#78");
    rig.input(Input::Tick);
    assert_eq!(rig.heard(), "$O6b0a#78");
    rig.input(Input::GdbBytes(b"+"));
    rig.input(Input::GdbDetached);
    rig.to_target.clear();
    rig.sim.out.extend_from_slice(b"$O6b0a#78");
    rig.input(Input::Tick);
    assert_eq!((rig.heard().as_str(), rig.to_target.as_slice()), ("", &b"+"[..]));
}

#[test]
fn the_console_of_a_shared_port_sees_text_only() {
    let mut rig = Rig::shared();
    rig.attach();
    rig.talk("c");
    rig.console.clear();
    rig.sim.say("tick 3 $5 + 3 - 1 #42\r\nuser@host:~$ ");
    rig.sim.stop_by_sysrq();
    rig.input(Input::Tick);
    assert_eq!(rig.console, b"tick 3 $5 + 3 - 1 #42\r\nuser@host:~$ ");
    assert_eq!(rig.heard(), "$T05thread:1b;#39");
}

#[test]
fn a_lone_dollar_reaches_the_console_in_time() {
    let mut rig = Rig::shared();
    rig.sim.say("login$");
    rig.input(Input::Tick);
    assert_eq!(rig.console, b"login");
    rig.wait_ms(300);
    assert_eq!(rig.console, b"login$");
}

#[test]
fn keys_are_kdbs_where_kdb_is_at_hand() {
    let mut rig = Rig::shared();
    rig.sim.say("KGDB: KGDB or $3#33 for KDB\r\n");
    rig.input(Input::Tick);
    assert_eq!(rig.kernel(), KernelState::Stopped);
    assert!(!rig.held);
    rig.sim
        .say("\r\nEntering kdb (current=0x0, pid 0) due to Keyboard Entry\r\nkdb> ");
    rig.input(Input::Tick);
    assert_eq!(rig.kernel(), KernelState::Kdb);
    assert!(!rig.held);
}

#[test]
fn a_break_that_somebody_asks_for_stops_the_kernel() {
    let mut rig = Rig::own();
    rig.input(Input::BreakRequested);
    rig.wait_ms(100);
    assert_eq!(rig.kernel(), KernelState::Stopped);
    assert!(rig.has(|event| *event == Event::Break(BreakResult::Stopped)));
    rig.input(Input::BreakRequested);
    assert!(rig.has(|event| *event == Event::Break(BreakResult::AlreadyStopped)));
    rig.input(Input::Resume);
    rig.wait_ms(1000);
    assert_eq!(rig.released, [Freed::Freed]);
    assert!(rig.sim.runs());
}

#[test]
fn a_target_without_acknowledgements_passes_unchanged() {
    let mut rig = Rig::own();
    rig.sim.stop_by_sysrq();
    rig.input(Input::Tick);
    rig.input(Input::GdbAttached);
    rig.input(Input::GdbBytes(&packet(b"QStartNoAckMode")));
    // This kgdb does not know it; a stub that does would have said OK.
    rig.input(Input::GdbBytes(b"+"));
    assert!(!rig.machine.is_transparent());
    rig.heard();
    let mut rig = Rig::own();
    rig.attach();
    let mut outputs = Vec::new();
    rig.machine.handle(
        rig.now,
        Input::GdbBytes(&packet(b"QStartNoAckMode")),
        &mut outputs,
    );
    rig.machine
        .handle(rig.now, Input::TargetBytes(b"+$OK#9a"), &mut outputs);
    assert!(!rig.machine.is_transparent());
    rig.machine.handle(rig.now, Input::GdbBytes(b"+"), &mut outputs);
    assert!(rig.machine.is_transparent());
    outputs.clear();
    rig.machine
        .handle(rig.now, Input::TargetBytes(b"-%Stop:$"), &mut outputs);
    rig.machine
        .handle(rig.now, Input::GdbBytes(b"\x03$"), &mut outputs);
    use crate::rsp::Output;
    assert_eq!(
        outputs,
        [
            Output::ToGdb(b"-%Stop:$".to_vec()),
            Output::ToTarget(b"\x03$".to_vec())
        ]
    );
}
