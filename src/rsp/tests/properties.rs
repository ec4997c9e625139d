//! What holds whatever happens.

use super::rig::Rig;
use crate::rsp::framing::packet;
use crate::rsp::{Input, Output, PortKind, WhenGdbDies};
use proptest::prelude::*;

/// Something that happens.
#[derive(Debug, Clone)]
enum Step {
    Attach,
    Ask(&'static str),
    Acknowledge,
    Refuse,
    Interrupt,
    Die,
    Hit,
    SysRq,
    Say(&'static str),
    Wait(u64),
    Noise,
}

fn step() -> impl Strategy<Value = Step> {
    let request = prop_oneof![
        Just("?"),
        Just("g"),
        Just("mffffffff81000000,8"),
        Just("Z0,ffffffff8103a38d,1"),
        Just("z0,ffffffff8103a38d,1"),
        Just("P10=8da30381ffffffff"),
        Just("c"),
        Just("c"),
        Just("s"),
        Just("D"),
        Just("k"),
    ];
    let text = prop_oneof![
        Just("tick 3 $5 + 3\r\n"),
        Just("$ "),
        Just("x"),
        Just("KGDB: Entering KGDB\r\nx\r\n# ")
    ];
    prop_oneof![
        2 => Just(Step::Attach),
        6 => request.prop_map(Step::Ask),
        6 => Just(Step::Acknowledge),
        1 => Just(Step::Refuse),
        1 => Just(Step::Interrupt),
        1 => Just(Step::Die),
        2 => Just(Step::Hit),
        1 => Just(Step::SysRq),
        1 => text.prop_map(Step::Say),
        4 => prop_oneof![Just(1_u64), Just(60), Just(150), Just(600), Just(2000)].prop_map(Step::Wait),
        1 => Just(Step::Noise),
    ]
}

fn play(rig: &mut Rig, steps: &[Step]) {
    let mut attached = false;
    for step in steps {
        match step {
            Step::Attach if !attached => {
                attached = true;
                rig.closed = None;
                rig.input(Input::GdbAttached);
                rig.input(Input::GdbBytes(&packet(b"qSupported:xmlRegisters=i386")));
            }
            Step::Attach => {}
            Step::Ask(data) if attached => rig.input(Input::GdbBytes(&packet(data.as_bytes()))),
            Step::Acknowledge if attached => rig.input(Input::GdbBytes(b"+")),
            Step::Refuse if attached => rig.input(Input::GdbBytes(b"-")),
            Step::Interrupt if attached => rig.input(Input::GdbBytes(&[0x03])),
            Step::Die if attached => {
                attached = false;
                rig.input(Input::GdbDetached);
            }
            Step::Hit => rig.sim.run_into_breakpoint(),
            Step::SysRq => rig.sim.stop_by_sysrq(),
            Step::Say(text) if rig.sim.runs() => rig.sim.say(text),
            Step::Wait(milliseconds) => rig.wait_ms(*milliseconds),
            // kgdb repeats a packet that waits for its acknowledgement.
            Step::Noise if !rig.sim.runs() => rig.sim.receive(b"x"),
            _ => {}
        }
        rig.input(Input::Tick);
        attached &= rig.closed.is_none();
    }
}

fn port() -> impl Strategy<Value = PortKind> {
    prop_oneof![Just(PortKind::Own), Just(PortKind::Shared)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases * 5 / 4))]

    #[test]
    fn no_kernel_is_left_frozen_and_none_is_crashed(
        port in port(), free in any::<bool>(), seen in any::<bool>(), steps in proptest::collection::vec(step(), 0..30),
    ) {
        let mut rig = Rig::new(port, |config| {
            config.when_gdb_dies = if free { WhenGdbDies::Free } else { WhenGdbDies::Report };
        });
        rig.console_seen = seen;
        play(&mut rig, &steps);
        // A kernel that stops by itself, where nobody sees it, cannot be told from one that runs.
        let hidden = !rig.sim.runs() && rig.kernel() != crate::rsp::KernelState::Stopped && rig.planted.is_empty();
        rig.input(Input::Release { leave_stopped: false });
        rig.wait_ms(4000);
        prop_assert_eq!(rig.released.len(), 1);
        if !hidden {
            prop_assert!(rig.sim.runs(), "{:?} {:?} {}", rig.released, rig.events, String::from_utf8_lossy(&rig.to_target));
            prop_assert!(rig.sim.planted.is_empty());
        }
    }

    #[test]
    fn nothing_of_gdbs_reaches_a_running_kernel(
        port in port(), steps in proptest::collection::vec(step(), 0..30),
    ) {
        let mut rig = Rig::new(port, |_| {});
        play(&mut rig, &steps);
        let came = &rig.sim.while_running;
        let ours: [&[u8]; 7] = [b"$?#3f", b"$qC#b4", b"$Hg0#df", b"$p10#d1", b"$g#67", b"$D#44", b"+"];
        let mut rest = came.as_slice();
        while !rest.is_empty() {
            let known = ours.iter().find(|packet| rest.starts_with(packet));
            prop_assert!(known.is_some(), "{}", String::from_utf8_lossy(rest));
            rest = &rest[known.map_or(1, |packet| packet.len())..];
        }
    }

    #[test]
    fn nothing_of_gdbs_reaches_a_new_boot(
        port in port(), reported in any::<bool>(),
        before in proptest::collection::vec(step(), 0..20), after in proptest::collection::vec(step(), 0..20),
    ) {
        let mut rig = Rig::new(port, |_| {});
        rig.attach();
        play(&mut rig, &before);
        let gdb_is_there = rig.machine.has_gdb();
        rig.sim.reset();
        rig.sim.out.clear();
        rig.sim.console.clear();
        if reported {
            rig.input(Input::TargetReset);
        } else {
            rig.input(Input::TargetGone { reason: "ended" });
            rig.input(Input::TargetUp);
        }
        for step in after {
            match step {
                Step::Ask(data) if gdb_is_there => rig.input(Input::GdbBytes(&packet(data.as_bytes()))),
                Step::Acknowledge if gdb_is_there => rig.input(Input::GdbBytes(b"+")),
                Step::Refuse if gdb_is_there => rig.input(Input::GdbBytes(b"-")),
                Step::Interrupt if gdb_is_there => rig.input(Input::GdbBytes(&[0x03])),
                Step::Wait(milliseconds) => rig.wait_ms(milliseconds),
                _ => {}
            }
        }
        prop_assert_eq!(&rig.sim.while_running, b"");
    }

    #[test]
    fn how_the_stream_is_cut_changes_nothing(
        port in port(), steps in proptest::collection::vec(step(), 0..20), chunk in 1_usize..5,
    ) {
        let run = |chunk: usize| {
            let mut rig = Rig::new(port, |_| {});
            rig.chunk = chunk;
            play(&mut rig, &steps);
            (rig.to_target, rig.gdb, rig.console, rig.events, rig.planted)
        };
        prop_assert_eq!(run(usize::MAX), run(chunk));
    }

    #[test]
    fn console_and_gdb_share_out_the_input(
        pieces in proptest::collection::vec(prop_oneof![
            Just("$T05thread:1b;#39"), Just("$O6b0a#78"), Just("tick $5 + 3 - 1 #42\r\n"), Just("$ "), Just("+"), Just("-"),
            Just("$OK#9a"), Just("$$"), Just("$T0"), Just("KGDB: KGDB or $3#33 for KDB"), Just("$T05th"),
        ], 0..20),
        attached in any::<bool>(), waits in any::<bool>(), chunk in 1_usize..9,
    ) {
        let mut rig = Rig::shared();
        if attached {
            rig.attach();
        }
        if attached && waits {
            rig.talk("c");
        }
        let input = pieces.concat();
        let mut outputs = Vec::new();
        for chunk in input.as_bytes().chunks(chunk) {
            rig.machine.handle(rig.now, Input::TargetBytes(chunk), &mut outputs);
        }
        // Each byte goes to one side, in its order, or is counted.
        let mut rest = input.as_bytes();
        for output in outputs {
            match output {
                Output::ToGdb(bytes) | Output::ToConsole(bytes) if !bytes.starts_with(b"$X09") => {
                    prop_assert!(rest.starts_with(&bytes), "{input:?}: {:?}", String::from_utf8_lossy(&bytes));
                    rest = &rest[bytes.len()..];
                }
                Output::Dropped(count) => rest = &rest[count..],
                _ => {}
            }
        }
        // What is left may still become a packet.
        prop_assert!(rest.is_empty() || rest.starts_with(b"$"), "{:?}", String::from_utf8_lossy(rest));
    }
}
