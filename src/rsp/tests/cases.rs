//! The thirteen cases in which the known demultiplexers were measured (agent-proxy is right in five, kdmx in four), case by
//! case. The last two are about connections: `engine/tests/shared.rs` has them (`any_number_of_consoles_and_one_gdb_are_served`,
//! `keys_for_a_kernel_that_is_gone_do_not_reach_the_new_boot`).

use super::rig::Rig;
use crate::rsp::framing::packet;
use crate::rsp::{Input, KernelState};

/// A gdb that waits for the answer to a packet which kgdb has acknowledged.
fn asked() -> Rig {
    let mut rig = Rig::shared();
    rig.attach();
    rig.sim.answers = false;
    rig.ask("qC");
    say(&mut rig, b"+");
    assert_eq!(rig.heard(), "+");
    rig.console.clear();
    rig
}

/// A gdb that has let the kernel run and waits for a stop.
fn waiting() -> Rig {
    let mut rig = Rig::shared();
    rig.attach();
    assert_eq!(rig.talk("c"), "+");
    rig.console.clear();
    rig
}

fn say(rig: &mut Rig, bytes: &[u8]) {
    rig.input(Input::TargetBytes(bytes));
}

fn shown(rig: &Rig) -> String {
    String::from_utf8_lossy(&rig.console).into_owned()
}

#[test]
fn console_text_with_plus_and_minus_is_the_consoles() {
    for mut rig in [waiting(), Rig::shared()] {
        say(&mut rig, b"a-b c+d e\r\n");
        assert_eq!(shown(&rig), "a-b c+d e\r\n");
        assert_eq!(rig.heard(), "");
    }
}

#[test]
fn a_prompt_before_a_packet_is_the_consoles() {
    let mut rig = asked();
    // A stopped kernel's shell prints no line; what it had begun to print may come.
    say(&mut rig, b"user@h:~$ ls -l $OK#9a");
    assert_eq!(shown(&rig), "user@h:~$ ls -l ");
    assert_eq!(rig.heard(), "$OK#9a");
    let mut rig = waiting();
    say(&mut rig, b"user@h:~$ ls -l\r\n$T05thread:1b;#39");
    assert_eq!(shown(&rig), "user@h:~$ ls -l\r\n");
    assert_eq!(rig.heard(), "$T05thread:1b;#39");
}

#[test]
fn a_bad_checksum_makes_it_text() {
    let mut rig = asked();
    say(&mut rig, b"$OK#00");
    assert_eq!((shown(&rig).as_str(), rig.heard().as_str()), ("$OK#00", ""));
}

#[test]
fn a_packet_of_3000_bytes_is_a_packet() {
    let long = packet("61".repeat(1500).as_bytes());
    let mut rig = asked();
    for chunk in long.chunks(1000) {
        say(&mut rig, chunk);
    }
    assert_eq!(rig.heard().as_bytes(), long);
    assert!(rig.console.is_empty());
}

#[test]
fn a_packet_that_stalls_for_150_ms_or_for_a_minute_is_a_packet() {
    for milliseconds in [150, 9000] {
        let mut rig = asked();
        say(&mut rig, b"$O");
        rig.wait_ms(milliseconds);
        say(&mut rig, b"K#9a");
        assert_eq!((shown(&rig).as_str(), rig.heard().as_str()), ("", "$OK#9a"));
        let mut rig = waiting();
        say(&mut rig, b"$T05th");
        rig.wait_ms(milliseconds);
        say(&mut rig, b"read:1b;#39");
        assert_eq!(
            (shown(&rig).as_str(), rig.heard().as_str()),
            ("", "$T05thread:1b;#39")
        );
    }
}

#[test]
fn a_packet_before_gdb_has_written_is_acknowledged_and_counted() {
    for attached in [false, true] {
        let mut rig = Rig::shared();
        rig.sim.answers = false;
        if attached {
            rig.input(Input::GdbAttached);
        }
        say(&mut rig, b"$T05thread:1b;#39");
        assert_eq!(rig.dropped, "$T05thread:1b;#39".len());
        assert_eq!(rig.to_target, b"+");
        assert_eq!((shown(&rig).as_str(), rig.heard().as_str()), ("", ""));
        assert_eq!(rig.kernel(), KernelState::Stopped);
    }
}

#[test]
fn the_console_shows_no_packet_of_a_whole_session() {
    let mut rig = waiting();
    rig.sim.say("tick $5 + 3 - 1 #42\r\n");
    rig.sim.stop_by_sysrq();
    rig.input(Input::Tick);
    rig.input(Input::GdbBytes(b"+"));
    for request in ["g", "mffffffff81000000,8", "Z0,ffffffff8103a38d,1", "D"] {
        rig.talk(request);
    }
    assert_eq!(shown(&rig), "tick $5 + 3 - 1 #42\r\n");
}

#[test]
fn ctrl_c_is_a_break_and_g() {
    let mut rig = waiting();
    let before = rig.to_target.len();
    rig.input(Input::GdbBytes(&[3]));
    rig.wait_ms(450);
    assert_eq!((rig.breaks, rig.keys), (2, 2), "one for the attach, one for this");
    assert!(!rig.to_target[before..].contains(&3));
    assert_eq!(rig.kernel(), KernelState::Stopped);
}

#[test]
fn a_payload_is_not_looked_into() {
    let mut rig = Rig::shared();
    rig.attach();
    let before = (rig.breaks, rig.to_target.len());
    let write = packet(b"X0,4:\x01\x03\xff\x04");
    rig.input(Input::GdbBytes(&write));
    let also = packet(b"X0,3:\xff\xf3g");
    rig.input(Input::GdbBytes(b"+"));
    rig.input(Input::GdbBytes(&also));
    assert_eq!(rig.breaks, before.0);
    let sent = &rig.to_target[before.1..];
    assert_eq!(sent, [write.as_slice(), b"+", &also].concat());
}

#[test]
fn gdbs_own_break_and_g_are_one_of_each() {
    for bytes in [&b"\xff\xf3g"[..], b"\xff\xf3"] {
        let mut rig = waiting();
        let before = rig.to_target.len();
        rig.input(Input::GdbBytes(bytes));
        rig.wait_ms(450);
        assert_eq!((rig.breaks, rig.keys), (2, 2));
        let sent = &rig.to_target[before..];
        assert!(!sent.contains(&b'g') && !sent.contains(&0xff), "{sent:?}");
    }
}

#[test]
fn gdb_may_come_first_and_without_a_console() {
    let mut rig = Rig::shared();
    rig.attach();
    assert_eq!(rig.kernel(), KernelState::Stopped);
    assert_eq!(rig.breaks, 1);
}
