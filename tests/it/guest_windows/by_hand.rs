//! No way in: somebody types the lines on a terminal's word, and the VM's port shows whether they worked.

use super::trial;
use crate::bridge_rig::{accepted, bridge, vm};
use crate::kit::Sandbox;
use crate::terminal_rig::OnTerminal;
use libtest_mimic::Trial;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_kernel_that_was_set_by_hand_is_heard", a_kernel_is_heard),
        trial("waiting_by_hand_ends_with_ctrl_c", waiting_ends_with_ctrl_c),
        trial("waiting_by_hand_has_a_deadline", waiting_has_a_deadline),
        trial(
            "a_port_that_a_debugger_has_is_not_heard",
            a_debugger_s_port_is_not_heard,
        ),
        trial("ems_that_was_set_by_hand_is_heard", ems_is_heard),
    ]
}

const LINES: [&str; 4] = [
    "manage-bde -protectors -disable C: -RebootCount 1",
    "bcdedit /dbgsettings serial debugport:1 baudrate:115200",
    "bcdedit /debug on",
    "shutdown /r /t 0",
];

/// What shows a boot on the port and is no debugger: firmware's and boot manager's text, the digits and letters of KD's leaders
/// among it.
const TEXT: &[u8] = b"BdsDxe: starting Boot0001\r\n0000000000000000000000 iiiiiiiiiiiiiiiiiiii\r\nSAC>\r\nC:\\Windows\\system32>bcdedit /debug on\r\n";

/// A kernel's first word to its debugger: a state change of 64-bit Windows (type 7, the initial packet's ID with the sync bit)
/// that tells of loaded symbols, in the form of `windbgkd.h`.
fn state_change() -> Vec<u8> {
    let mut payload = vec![0; 0xf0];
    payload[..4].copy_from_slice(&0x3031u32.to_le_bytes());
    payload[4..8].copy_from_slice(&[0x06, 0, 0, 0]);
    payload[8..12].copy_from_slice(&1u32.to_le_bytes());
    payload[16..24].copy_from_slice(&0xffff_f801_1122_3300u64.to_le_bytes());
    payload.extend(b"\\SystemRoot\\system32\\ntoskrnl.exe\0");
    let sum: u32 = payload.iter().map(|byte| u32::from(*byte)).sum();
    let mut packet = b"0000\x07\x00".to_vec();
    packet.extend(u16::try_from(payload.len()).unwrap().to_le_bytes());
    packet.extend(0x8080_0800u32.to_le_bytes());
    packet.extend(sum.to_le_bytes());
    packet.extend(payload);
    packet.push(0xaa);
    packet
}

/// A target on a hypervisor that puts its port there, whose profile names no way in.
fn without_a_way_in() -> (Sandbox, UnixListener) {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let vmx = format!(
        "serial0.present = \"TRUE\"\nserial0.fileType = \"pipe\"\nserial0.fileName = \"{}\"\nserial0.pipe.endPoint = \"server\"\n",
        sandbox.path("vm").display()
    );
    fs::write(sandbox.path("win.vmx"), vmx).unwrap();
    let text = format!(
        "version: 1\nhosts: {{here: {{hypervisor: vmware}}}}\ntargets:\n  win:\n    host: here\n    vm: {}\n    \
            ports: [{{port: 1, as: kd, attach: \"listen:unix:{}\"}}]\n    guest: {{os: windows}}\n",
        sandbox.path("win.vmx").display(),
        sandbox.path("vm").display(),
    );
    fs::write(sandbox.path("lab.yaml"), text).unwrap();
    (sandbox, listener)
}

/// Starts it on a terminal of its own, on which Ctrl-C is a signal.
fn start(sandbox: &Sandbox, words: &[&str]) -> OnTerminal {
    let inner = sandbox.vmserial(words);
    let mut command = Command::new("setsid");
    command
        .arg("--ctty")
        .arg(inner.get_program())
        .args(inner.get_args())
        .env_clear()
        .envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(sandbox.path(""));
    let terminal = OnTerminal::start_command(command);
    terminal.cook();
    terminal
}

/// Nothing was said to the kernel, and nothing stands in a journal.
fn assert_untouched(sandbox: &Sandbox, mut port: UnixStream) {
    let mut said = Vec::new();
    port.read_to_end(&mut said).unwrap();
    assert!(said.is_empty(), "{said:?}");
    assert!(!sandbox.path("state/journal").exists());
}

fn a_kernel_is_heard() {
    let (sandbox, listener) = without_a_way_in();
    let mut by_hand = start(&sandbox, &["guest", "windows", "lab.yaml"]);
    by_hand.wait("Waiting for the kernel to speak KD on the port");
    let shown = by_hand.shown();
    let typed: Vec<&str> = shown.lines().map(str::trim_end).collect();
    let first = typed.iter().position(|line| *line == LINES[0]).unwrap();
    assert_eq!(typed[first..first + LINES.len()], LINES, "{shown}");
    assert!(shown.contains("have the recovery key ready"), "{shown}");
    let mut port = accepted(&listener);
    // The last line boots the VM again, and its port goes away and comes back.
    port.write_all(TEXT).unwrap();
    drop(port);
    let mut port = accepted(&listener);
    // A packet that is broken is none, and half of one neither.
    let packet = state_change();
    let mut broken = packet.clone();
    broken[20] ^= 1;
    let (half, rest) = packet.split_at(packet.len() / 2);
    for part in [TEXT, &broken, TEXT, half] {
        port.write_all(part).unwrap();
    }
    // All that was said until here is read before what follows it.
    port.write_all(rest).unwrap();
    by_hand.wait("The guest is ready: its kernel speaks KD on that port.");
    assert_eq!(by_hand.end(), Some(0));
    assert_untouched(&sandbox, port);
}

fn waiting_ends_with_ctrl_c() {
    let (sandbox, listener) = without_a_way_in();
    let endpoint = sandbox.endpoint("connect:unix", "vm");
    let words = [
        "guest",
        "windows",
        "--by-hand",
        "--port",
        "1",
        "--heard",
        &endpoint,
    ];
    for words in [&["guest", "windows", "lab.yaml"][..], &words[..]] {
        let mut by_hand = start(&sandbox, words);
        by_hand.wait("(Ctrl-C ends this)");
        let mut port = accepted(&listener);
        port.write_all(TEXT).unwrap();
        by_hand.press(b"\x03");
        by_hand.wait("interrupted");
        assert_eq!(by_hand.end(), Some(130));
        assert!(!by_hand.shown().contains("is ready"), "{}", by_hand.shown());
        assert_untouched(&sandbox, port);
    }
}

fn waiting_has_a_deadline() {
    let (sandbox, listener) = without_a_way_in();
    let mut by_hand = start(&sandbox, &["guest", "windows", "lab.yaml", "--wait", "1s"]);
    let mut port = accepted(&listener);
    let mut broken = state_change();
    broken[20] ^= 1;
    // It may have ended already.
    let _ = port.write_all(&broken);
    by_hand.wait("gave up waiting for the kernel to speak KD on the port");
    assert_eq!(by_hand.end(), Some(7));
    assert_untouched(&sandbox, port);
}

fn a_debugger_s_port_is_not_heard() {
    let (sandbox, listener) = without_a_way_in();
    let bridge = bridge(&sandbox, &[], &["kd=listen:tcp:127.0.0.1:0"]);
    let _port = accepted(&listener);
    let mut by_hand = start(&sandbox, &["guest", "windows", "lab.yaml"]);
    by_hand.wait(&format!("is owned by pid {}", bridge.pid()));
    assert_eq!(by_hand.end(), Some(5));
}

fn ems_is_heard() {
    let (sandbox, listener) = without_a_way_in();
    let endpoint = sandbox.endpoint("connect:unix", "vm");
    let words = [
        "guest",
        "windows",
        "--by-hand",
        "--ems",
        "2",
        "--heard",
        &endpoint,
    ];
    let mut by_hand = start(&sandbox, &words);
    by_hand.wait("Waiting for the console of EMS");
    assert!(by_hand.shown().contains("bcdedit /ems on"), "{}", by_hand.shown());
    let mut port = accepted(&listener);
    port.write_all(&state_change()).unwrap();
    port.write_all(b"\r\nComputer is booting, SAC started and initialized.\r\n\r\nSAC>")
        .unwrap();
    by_hand.wait("The guest is ready: the console of EMS is on that port.");
    assert_eq!(by_hand.end(), Some(0));
    assert_untouched(&sandbox, port);
}
