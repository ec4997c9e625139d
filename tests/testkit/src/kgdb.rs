//! A kernel with kgdb on a port of its own, as a real one was seen to behave (`docs/dev/kgdb-wire.md`): enough of it for a
//! real gdb to attach, read registers and memory, continue and leave, as often as it likes.
//!
//! It holds bytes only: [`Kernel::receive`] takes what came over the port and returns what the port sends. Memory holds its
//! own addresses, so that each answer is proven to be the one to its question.

/// What BREAK is on a stream that carries it as telnet does.
const BREAK: [u8; 2] = [0xff, 0xf3];

/// x86-64's registers in gdb's order, up to `gs`: 164 bytes.
const REGISTERS: usize = 164;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Mode {
    /// Nobody reads the port; what comes stays in it.
    Running,
    /// Between packets.
    Stopped,
    /// Since `$`.
    Reading(Vec<u8>),
    /// A packet was sent; after its acknowledgement the kernel runs or stays.
    Sent { packet: Vec<u8>, then_runs: bool },
}

/// The kernel. It starts running.
#[derive(Debug)]
pub struct Kernel {
    mode: Mode,
    /// Came while it ran.
    unread: Vec<u8>,
    connected: bool,
    asked: usize,
}

impl Default for Kernel {
    fn default() -> Self {
        Self {
            mode: Mode::Running,
            unread: Vec::new(),
            connected: false,
            asked: 0,
        }
    }
}

impl Kernel {
    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.mode == Mode::Running
    }

    /// Returns how often it was asked why it stopped: once by each gdb that attaches, and by whoever probes.
    pub fn asked(&self) -> usize {
        self.asked
    }

    /// Takes what came over the port, and returns what it sends.
    pub fn receive(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut sent = Vec::new();
        for &byte in bytes {
            if self.runs() {
                self.unread.push(byte);
                self.break_in(&mut sent);
            } else {
                self.take(byte, &mut sent);
            }
        }
        sent
    }

    /// BREAK and then `g` stop it; what lay in the port before is read then.
    fn break_in(&mut self, sent: &mut Vec<u8>) {
        if self.unread.ends_with(&[BREAK[0], BREAK[1], b'g']) {
            self.unread.truncate(self.unread.len() - 3);
            self.mode = Mode::Stopped;
            if self.connected {
                self.put(b"T05thread:1b;", false, sent);
            }
            for byte in std::mem::take(&mut self.unread) {
                self.take(byte, sent);
            }
        }
    }

    fn put(&mut self, data: &[u8], then_runs: bool, sent: &mut Vec<u8>) {
        let sum = data.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        let packet = [b"$", data, format!("#{sum:02x}").as_bytes()].concat();
        sent.extend_from_slice(&packet);
        self.mode = Mode::Sent { packet, then_runs };
    }

    fn take(&mut self, byte: u8, sent: &mut Vec<u8>) {
        self.mode = match std::mem::replace(&mut self.mode, Mode::Stopped) {
            Mode::Running => {
                self.unread.push(byte);
                Mode::Running
            }
            Mode::Stopped if byte == b'$' => {
                self.connected = true;
                Mode::Reading(Vec::new())
            }
            Mode::Stopped => Mode::Stopped,
            Mode::Reading(mut frame) => {
                frame.push(byte);
                if frame.len() < 3 || frame[frame.len() - 3] != b'#' {
                    Mode::Reading(frame)
                } else {
                    return self.packet(&frame, sent);
                }
            }
            Mode::Sent { then_runs, .. } if matches!(byte, b'+' | b'$') => {
                if byte == b'$' {
                    // put_packet takes the start of a packet for an acknowledgement, and refuses the packet.
                    sent.push(b'-');
                }
                if then_runs { Mode::Running } else { Mode::Stopped }
            }
            Mode::Sent { packet, then_runs } => {
                if byte != 0x03 {
                    sent.extend_from_slice(&packet);
                }
                Mode::Sent { packet, then_runs }
            }
        };
    }

    fn packet(&mut self, frame: &[u8], sent: &mut Vec<u8>) {
        let (data, tail) = frame.split_at(frame.len() - 3);
        let sum = data.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        if tail[1..] != *format!("{sum:02x}").as_bytes() {
            sent.push(b'-');
            return;
        }
        sent.push(b'+');
        let text = String::from_utf8_lossy(data);
        match data.first() {
            Some(b'?') => {
                self.asked += 1;
                self.put(b"S05", false, sent);
            }
            Some(b'g') => self.put("00".repeat(REGISTERS).as_bytes(), false, sent),
            Some(b'm') => {
                let memory = memory(&text[1..]).unwrap_or_else(|| "E22".into());
                self.put(memory.as_bytes(), false, sent);
            }
            Some(b'H' | b'T') => self.put(b"OK", false, sent),
            Some(b'D') => {
                self.connected = false;
                self.put(b"OK", true, sent);
            }
            Some(b'k') => {
                self.connected = false;
                self.mode = Mode::Running;
            }
            Some(b'c') => self.mode = Mode::Running,
            _ => match data {
                b"qC" => self.put(b"QC1b", false, sent),
                b"qfThreadInfo" => self.put(b"m1b", false, sent),
                b"qsThreadInfo" => self.put(b"l", false, sent),
                _ => self.put(b"", false, sent),
            },
        }
    }
}

/// The bytes at `ADDRESS,COUNT` in hexadecimal: each 8 bytes hold their own address.
fn memory(place: &str) -> Option<String> {
    let (address, count) = place.split_once(',')?;
    let address = u64::from_str_radix(address, 16).ok()?;
    let count = u64::from_str_radix(count, 16).ok()?;
    // kgdb's buffer has 2,048 bytes.
    let byte = |at: u64| (at & !7).to_le_bytes()[usize::try_from(at & 7).unwrap_or_default()];
    (count <= 1000).then(|| {
        (0..count)
            .map(|index| format!("{:02x}", byte(address.wrapping_add(index))))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::Kernel;

    #[test]
    fn a_break_in_answers_what_lay_in_the_port() {
        let mut kernel = Kernel::default();
        assert_eq!(kernel.receive(b"$?#3f"), b"");
        assert_eq!(kernel.receive(b"\xff\xf3g"), b"+$S05#b8");
        assert!(!kernel.runs());
        assert_eq!(kernel.receive(b"+$m1008,2#94"), b"+$0810#c9");
        // Without an acknowledgement it says it again, and stays.
        assert_eq!(kernel.receive(b"-"), b"$0810#c9");
        assert_eq!(kernel.receive(b"+$D#44"), b"+$OK#9a");
        assert!(!kernel.runs());
        assert_eq!(kernel.receive(b"+"), b"");
        assert!(kernel.runs());
    }

    #[test]
    fn a_wrong_checksum_is_refused() {
        let mut kernel = Kernel::default();
        kernel.receive(b"\xff\xf3g");
        assert_eq!(kernel.receive(b"$?#3e"), b"-");
        assert_eq!(
            (kernel.receive(b"$?#3f"), kernel.asked()),
            (b"+$S05#b8".to_vec(), 1)
        );
    }
}
