//! A kgdb as it was seen to behave (`docs/dev/kgdb-wire.md`) and as kernel/debug/gdbstub.c reads.

use crate::rsp::framing::{checksum, packet};
use std::collections::{BTreeSet, VecDeque};

pub const FUNCTION: u64 = 0xffff_ffff_8103_a38d;
const ELSEWHERE: u64 = 0xffff_ffff_8106_ec64;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Mode {
    Running,
    /// `get_packet`, between packets.
    Idle,
    /// `get_packet`, since `$`.
    Reading(Vec<u8>),
    /// `put_packet`: waits for the acknowledgement; then this happens.
    Sent(Vec<u8>, Then),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Stay,
    Run,
}

/// The guest, as its two ports show it.
#[derive(Debug)]
pub struct Sim {
    mode: Mode,
    /// kgdb and the console are one port.
    shared: bool,
    /// A shell or getty has kgdb's port and echoes.
    pub echo: bool,
    /// Sent to kgdb's port and not read.
    uart: VecDeque<u8>,
    /// What kgdb's port has sent and nobody has read.
    pub out: Vec<u8>,
    /// What the console's own port shows.
    pub console: Vec<u8>,
    connected: bool,
    pub planted: BTreeSet<u64>,
    pub counter: u64,
    /// The counter stands behind a trap that was in the code.
    behind: Option<u64>,
    /// Resumed in the middle of an instruction.
    pub crashed: bool,
    /// What came while the kernel ran.
    pub while_running: Vec<u8>,
    break_seen: bool,
    /// So many BREAKs are lost on their way.
    pub loses: usize,
    /// kgdb has no part in its SysRq.
    pub no_kgdb: bool,
    /// Its host gives it no time: what is sent to it waits.
    pub answers: bool,
}

impl Sim {
    pub fn new(shared: bool) -> Self {
        Self {
            mode: Mode::Running,
            shared,
            echo: false,
            uart: VecDeque::new(),
            out: Vec::new(),
            console: Vec::new(),
            connected: false,
            planted: BTreeSet::new(),
            counter: 0,
            behind: None,
            crashed: false,
            while_running: Vec::new(),
            break_seen: false,
            loses: 0,
            no_kgdb: false,
            answers: true,
        }
    }

    pub fn runs(&self) -> bool {
        self.mode == Mode::Running
    }

    /// Prints on the console.
    pub fn say(&mut self, text: &str) {
        if self.shared {
            self.out.extend_from_slice(text.as_bytes());
        } else {
            self.console.extend_from_slice(text.as_bytes());
        }
    }

    /// The machine starts anew.
    pub fn reset(&mut self) {
        *self = Self {
            echo: self.echo,
            ..Self::new(self.shared)
        };
        self.say("Linux version 6.1.0\r\nCommand line: console=ttyS0\r\n");
    }

    pub fn send_break(&mut self) {
        if self.loses > 0 {
            self.loses -= 1;
            return;
        }
        match self.mode {
            Mode::Running => self.break_seen = true,
            // A NUL with a framing error: kgdb reads a byte.
            _ if self.shared => self.receive(&[0]),
            _ => {}
        }
    }

    pub fn break_key(&mut self) {
        let heard = std::mem::take(&mut self.break_seen) && self.runs();
        if heard && self.no_kgdb {
            self.say("sysrq: HELP : loglevel(0-9) reboot(b) crash(c)\r\n");
        } else if heard {
            self.say("sysrq: DEBUG\r\n");
            self.stop_by_sysrq();
        } else if self.shared {
            self.receive(b"g");
        }
    }

    pub fn stop_by_sysrq(&mut self) {
        if !self.runs() {
            return;
        }
        if !self.connected {
            self.say("KGDB: Entering KGDB\r\n");
        }
        self.behind = None;
        self.counter = ELSEWHERE;
        self.stop();
    }

    /// A process runs into a breakpoint, if there is one.
    pub fn run_into_breakpoint(&mut self) {
        if let Some(address) = self.planted.first().copied().filter(|_| self.runs()) {
            self.counter = address + 1;
            self.behind = Some(address);
            self.stop();
        }
    }

    fn stop(&mut self) {
        self.break_seen = false;
        self.mode = Mode::Idle;
        if self.connected {
            self.put(b"T05thread:1b;", Then::Stay);
        }
        let waiting: Vec<u8> = self.uart.drain(..).collect();
        self.receive(&waiting);
    }

    fn put(&mut self, data: &[u8], then: Then) {
        let packet = packet(data);
        self.out.extend_from_slice(&packet);
        self.mode = Mode::Sent(packet, then);
    }

    fn run(&mut self) {
        if self.behind.take().is_some() {
            self.crashed = true;
        }
        self.mode = Mode::Running;
    }

    /// Its host gives it time again.
    pub fn catch_up(&mut self) {
        self.answers = true;
        let waiting: Vec<u8> = self.uart.drain(..).collect();
        self.receive(&waiting);
    }

    /// Bytes come in on kgdb's port.
    pub fn receive(&mut self, bytes: &[u8]) {
        if !self.answers {
            self.uart.extend(bytes);
            return;
        }
        for &byte in bytes {
            self.mode = match std::mem::replace(&mut self.mode, Mode::Idle) {
                Mode::Running => {
                    self.while_running.push(byte);
                    if self.break_seen && self.shared {
                        // The key after a BREAK on the console is SysRq's.
                        self.mode = Mode::Running;
                        self.break_seen = false;
                        continue;
                    }
                    if self.echo || self.shared {
                        self.out.push(byte);
                    } else {
                        self.uart.push_back(byte);
                    }
                    Mode::Running
                }
                Mode::Idle if byte == b'$' => {
                    self.connected = true;
                    Mode::Reading(Vec::new())
                }
                Mode::Idle => Mode::Idle,
                Mode::Reading(mut data) => {
                    data.push(byte);
                    if data.len() < 3 || data[data.len() - 3] != b'#' {
                        Mode::Reading(data)
                    } else {
                        self.mode = Mode::Idle;
                        self.packet(&data);
                        continue;
                    }
                }
                Mode::Sent(packet, then) => match byte {
                    0x03 => Mode::Sent(packet, then),
                    b'+' | b'$' => {
                        if byte == b'$' {
                            self.out.push(b'-');
                        }
                        self.mode = Mode::Idle;
                        if then == Then::Run {
                            self.run();
                        }
                        continue;
                    }
                    _ => {
                        self.out.extend_from_slice(&packet);
                        Mode::Sent(packet, then)
                    }
                },
            };
        }
    }

    fn packet(&mut self, frame: &[u8]) {
        let (data, tail) = frame.split_at(frame.len() - 3);
        let sum = u8::from_str_radix(&String::from_utf8_lossy(&tail[1..]), 16);
        if sum != Ok(checksum(data)) {
            self.out.push(b'-');
            return;
        }
        self.out.push(b'+');
        let text = String::from_utf8_lossy(data).into_owned();
        let address = || {
            text.split(',')
                .nth(1)
                .and_then(|text| u64::from_str_radix(text, 16).ok())
        };
        match data.first() {
            Some(b'?') => {
                self.planted.clear();
                self.put(b"S05", Then::Stay);
            }
            Some(b'c') => self.run(),
            Some(b's') => {
                self.behind = None;
                self.put(b"T05thread:1b;", Then::Stay);
            }
            Some(b'k') => {
                self.planted.clear();
                self.connected = false;
                self.run();
            }
            Some(b'D') => {
                self.planted.clear();
                self.connected = false;
                self.put(b"OK", Then::Run);
            }
            Some(b'Z') => {
                self.planted.extend(address());
                self.put(b"OK", Then::Stay);
            }
            Some(b'z') => {
                if let Some(address) = address() {
                    self.planted.remove(&address);
                }
                self.put(b"OK", Then::Stay);
            }
            Some(b'p') => {
                let digits = hex(self.counter);
                self.put(digits.as_bytes(), Then::Stay);
            }
            Some(b'P') => {
                let digits = text
                    .split('=')
                    .nth(1)
                    .and_then(|text| u64::from_str_radix(text, 16).ok());
                self.counter = digits.map_or(0, u64::swap_bytes);
                self.behind = self.behind.filter(|address| *address + 1 == self.counter);
                self.put(b"OK", Then::Stay);
            }
            Some(b'H') => self.put(b"OK", Then::Stay),
            Some(b'q') if data == b"qC" => self.put(b"QC1b", Then::Stay),
            Some(b'm') => self.put(b"4883ec", Then::Stay),
            _ => self.put(b"", Then::Stay),
        }
    }
}

pub fn hex(value: u64) -> String {
    value
        .to_le_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
