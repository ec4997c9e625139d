//! What a real kernel sent, played into the machine of a shared port.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::rsp::{Config, Event, Input, KernelState, Machine, Output, PortKind};
use std::time::{Duration, Instant};

const SYSRQ: &str = include_str!("../../../tests/data/kgdb/b-sysrq-g-shared-raw.jsonl");
const BREAK: &str = include_str!("../../../tests/data/kgdb/b-break-g-shared-raw.jsonl");
const NOT_IN_KGDB: &str = include_str!("../../../tests/data/kgdb/d-not-in-kgdb-raw.jsonl");
const BOOT: &[u8] = include_bytes!("../../../tests/data/kgdb/a-boot-shared.rx.bin");
const KGDBWAIT: &[u8] = include_bytes!("../../../tests/data/kgdb/a-kgdbwait-shared.rx.bin");

#[derive(Default)]
struct Played {
    console: Vec<u8>,
    gdb: Vec<u8>,
    target: Vec<u8>,
    kernel: Vec<KernelState>,
    refused: Option<String>,
}

impl Played {
    fn take(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::ToConsole(bytes) => self.console.extend(bytes),
                Output::ToGdb(bytes) => self.gdb.extend(bytes),
                Output::ToTarget(bytes) => self.target.extend(bytes),
                Output::Event(Event::Kernel(state)) => self.kernel.push(state),
                Output::Event(Event::GdbRefused { reason }) => self.refused = Some(reason),
                _ => {}
            }
        }
    }
}

fn start() -> Instant {
    Instant::now()
}

fn machine() -> Machine {
    let mut machine = Machine::new(Config {
        can_break: false,
        ..Config::new(PortKind::Shared)
    });
    machine.handle(start(), Input::TargetUp, &mut Vec::new());
    machine
}

/// Plays a capture: what was sent and begins like a packet is gdb's, all else was typed on the console.
fn play(capture: &str, chunk: usize) -> Played {
    let start = start();
    let mut machine = machine();
    let mut played = Played::default();
    let mut attached = false;
    for line in capture.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let now = start + Duration::from_secs_f64(record["t"].as_f64().unwrap());
        let hex = record["hex"].as_str().unwrap();
        let bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        let mut outputs = Vec::new();
        while let Some(deadline) = machine.deadline().filter(|deadline| *deadline <= now) {
            machine.handle(deadline, Input::Tick, &mut outputs);
        }
        if record["dir"] == "rx" {
            for chunk in bytes.chunks(chunk) {
                machine.handle(now, Input::TargetBytes(chunk), &mut outputs);
            }
        } else if bytes.starts_with(b"$") || bytes.starts_with(b"+") {
            if !std::mem::replace(&mut attached, true) {
                machine.handle(now, Input::GdbAttached, &mut outputs);
            }
            machine.handle(now, Input::GdbBytes(&bytes), &mut outputs);
        }
        played.take(outputs);
    }
    played
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_whole_session_after_sysrq_g() {
    use KernelState::{Running, Stopped};
    for chunk in [1, 3, 20, 4096] {
        let played = play(SYSRQ, chunk);
        assert_eq!(
            text(&played.console),
            "echo g > /proc/sysrq-trigger\r\nsysrq: DEBUG\r\nKGDB: Entering KGDB\r\nkgdbtest# \u{1b}[6n\
             sh -c 'echo pid $$'\r\npid 28\r\nkgdbtest# \u{1b}[6n"
        );
        let gdb = text(&played.gdb);
        assert!(gdb.starts_with("+$S05#b8+$#00+$#00+$mfffffffe,01,"), "{gdb}");
        // The key `x` made kgdb repeat `$QC1b#27`: gdb gets it once.
        assert!(
            gdb.contains("+$OK#9a+$QC1b#27-+$T05thread:1c;#3a+$OK#9a+$OK#9a+$T05thread:1c;#3a+$OK#9a"),
            "{gdb}"
        );
        assert_eq!(
            played.kernel,
            [Stopped, Running, Stopped, Running, Stopped, Running]
        );
        let target = text(&played.target);
        assert!(
            target.ends_with("+$z0,ffffffff8103a38d,1#5f+$P10=8da30381ffffffff#1a+$s#73+$D#44+"),
            "{target}"
        );
    }
}

#[test]
fn break_and_g_then_detach() {
    let played = play(BREAK, 4096);
    assert_eq!(text(&played.gdb), "+$S05#b8+$OK#9a");
    assert_eq!(text(&played.target), "$?#3f+$D#44+");
    let console = text(&played.console);
    assert!(
        console.starts_with("sysrq: DEBUG\r\nKGDB: Entering KGDB\r\n\r\nkgdbtest# "),
        "{console}"
    );
    assert_eq!(played.kernel, [KernelState::Stopped, KernelState::Running]);
}

#[test]
fn gdb_on_a_shell_is_turned_away_and_the_echo_is_the_consoles() {
    // gdb's greeting `+`, which this capture has and which the machine keeps, is taken out of the echo.
    let capture = NOT_IN_KGDB.replacen(r#""dir": "rx", "hex": "2b"#, r#""dir": "rx", "hex": ""#, 1);
    for chunk in [1, 7, 4096] {
        let played = play(&capture, chunk);
        assert!(played.refused.unwrap().starts_with("not in kgdb"));
        assert_eq!(text(&played.gdb), "");
        let console = text(&played.console);
        assert!(console.contains("fork-events+;\r\r\nvfork-events+"), "{console}");
        assert!(
            console.contains("sh: +:multiprocess+: not found\r\n"),
            "{console}"
        );
    }
}

#[test]
fn boot_logs_pass_byte_for_byte() {
    for (log, state) in [(BOOT, KernelState::Unknown), (KGDBWAIT, KernelState::Stopped)] {
        let mut machine = machine();
        let mut played = Played::default();
        for chunk in log.chunks(7) {
            let mut outputs = Vec::new();
            machine.handle(start(), Input::TargetBytes(chunk), &mut outputs);
            played.take(outputs);
        }
        assert_eq!(played.console, log);
        assert_eq!(machine.kernel(), state);
    }
}
