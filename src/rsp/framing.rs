//! Packets: `$data#cc`, where `cc` is the sum of the data bytes modulo 256; and the scanner for what gdb sends.

/// A packet longer than this is none. kgdb's buffer has 2 KiB, gdb asks for 400 bytes where nobody tells it a size.
pub const LONGEST_PACKET: usize = 4096;

/// The byte that gdb sends to stop a running target.
pub const INTERRUPT: u8 = 0x03;

/// Telnet's `IAC BRK`, which gdb sends over TCP with `set remote interrupt-sequence BREAK` (gdb/ser-tcp.c).
const TELNET_BREAK: [u8; 2] = [0xff, 0xf3];

/// Returns the sum of `data` modulo 256, as packets carry it.
pub fn checksum(data: &[u8]) -> u8 {
    data.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}

/// Puts `data` into a packet. The caller has escaped what must be.
pub fn packet(data: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(data.len() + 4);
    packet.push(b'$');
    packet.extend_from_slice(data);
    packet.extend_from_slice(format!("#{:02x}", checksum(data)).as_bytes());
    packet
}

/// Returns the data of a whole packet, or `None` if the frame or the checksum is wrong.
pub fn data(packet: &[u8]) -> Option<&[u8]> {
    let (data, tail) = packet.strip_prefix(b"$")?.split_last_chunk::<3>()?;
    let text = tail.strip_prefix(b"#")?;
    let sum = u8::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()?;
    let hexadecimal = text.iter().all(u8::is_ascii_hexdigit);
    (hexadecimal && sum == checksum(data)).then_some(data)
}

/// Takes the escapes out of a packet's data: `}` stands before `#`, `$`, `}` and `*`, which follow with bit 5 flipped.
pub fn unescape(data: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(data.len());
    let mut bytes = data.iter();
    while let Some(byte) = bytes.next() {
        if *byte == b'}'
            && let Some(escaped) = bytes.next()
        {
            plain.push(escaped ^ 0x20);
        } else {
            plain.push(*byte);
        }
    }
    plain
}

/// A piece of what gdb sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromGdb {
    /// A whole frame, right or wrong.
    Packet(Vec<u8>),
    /// `+`.
    Ack,
    /// `-`.
    Nak,
    /// `0x03` or `ff f3`, outside a packet.
    Interrupt,
    /// Anything else, and what stood before a second `$`.
    Other(Vec<u8>),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Outside,
    /// `ff` was seen.
    Telnet,
    /// `ff f3` was seen: a `g` that follows at once belongs to it.
    AfterBreak,
    /// Since `$`, with the number of bytes wanted behind `#`.
    Inside(Vec<u8>, Option<usize>),
}

/// Takes gdb's stream apart. Payloads are never looked into: in an `X` packet `03` and `ff f3` are memory.
#[derive(Debug, Default)]
pub struct GdbScanner {
    place: Place,
}

impl GdbScanner {
    /// Takes `bytes` and appends the pieces that are whole.
    pub fn feed(&mut self, bytes: &[u8], pieces: &mut Vec<FromGdb>) {
        for &byte in bytes {
            self.step(byte, pieces);
        }
    }

    fn step(&mut self, byte: u8, pieces: &mut Vec<FromGdb>) {
        self.place = match std::mem::take(&mut self.place) {
            Place::Outside => Self::outside(byte, pieces),
            Place::Telnet if byte == TELNET_BREAK[1] => {
                pieces.push(FromGdb::Interrupt);
                Place::AfterBreak
            }
            Place::Telnet => {
                other(&[TELNET_BREAK[0]], pieces);
                Self::outside(byte, pieces)
            }
            Place::AfterBreak if byte == b'g' => Place::Outside,
            Place::AfterBreak => Self::outside(byte, pieces),
            Place::Inside(mut frame, None) => match byte {
                b'$' => {
                    other(&frame, pieces);
                    Place::Inside(vec![byte], None)
                }
                _ if frame.len() >= LONGEST_PACKET => {
                    frame.push(byte);
                    other(&frame, pieces);
                    Place::Outside
                }
                _ => {
                    frame.push(byte);
                    Place::Inside(frame, (byte == b'#').then_some(2))
                }
            },
            Place::Inside(mut frame, Some(wanted)) => {
                frame.push(byte);
                if wanted > 1 {
                    Place::Inside(frame, Some(wanted - 1))
                } else {
                    pieces.push(FromGdb::Packet(frame));
                    Place::Outside
                }
            }
        };
    }

    fn outside(byte: u8, pieces: &mut Vec<FromGdb>) -> Place {
        match byte {
            b'$' => return Place::Inside(vec![byte], None),
            b'+' => pieces.push(FromGdb::Ack),
            b'-' => pieces.push(FromGdb::Nak),
            INTERRUPT => pieces.push(FromGdb::Interrupt),
            byte if byte == TELNET_BREAK[0] => return Place::Telnet,
            _ => other(&[byte], pieces),
        }
        Place::Outside
    }
}

fn other(bytes: &[u8], pieces: &mut Vec<FromGdb>) {
    if let Some(FromGdb::Other(last)) = pieces.last_mut() {
        last.extend_from_slice(bytes);
    } else {
        pieces.push(FromGdb::Other(bytes.to_vec()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan(bytes: &[u8]) -> Vec<FromGdb> {
        let mut pieces = Vec::new();
        GdbScanner::default().feed(bytes, &mut pieces);
        pieces
    }

    fn frame(text: &str) -> FromGdb {
        FromGdb::Packet(text.as_bytes().to_vec())
    }

    #[test]
    fn packets_carry_the_sum_of_their_data() {
        for (text, sum) in [
            ("?", "3f"),
            ("D", "44"),
            ("OK", "9a"),
            ("", "00"),
            ("S05", "b8"),
            ("vMustReplyEmpty", "3a"),
        ] {
            let whole = format!("${text}#{sum}").into_bytes();
            assert_eq!(packet(text.as_bytes()), whole);
            assert_eq!(data(&whole), Some(text.as_bytes()));
        }
        for wrong in ["$?#3e", "?#3f", "$?#3", "$?3f", "$", "", "#3f", "$?#+f", "$?#3f "] {
            assert_eq!(data(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn escapes_are_taken_out() {
        assert_eq!(unescape(b"a}\x03b}\x04}]}\x0a"), b"a#b$}*");
        assert_eq!(unescape(b"end}"), b"end}");
    }

    #[test]
    fn acks_interrupts_and_packets_are_told_apart() {
        use FromGdb::{Ack, Interrupt, Nak, Other};
        assert_eq!(scan(b"+$?#3f-"), [Ack, frame("$?#3f"), Nak]);
        assert_eq!(
            scan(b"\x03\xff\xf3g\xff\xf3$g#67"),
            [Interrupt, Interrupt, Interrupt, frame("$g#67")]
        );
        assert_eq!(scan(b"\xff\xf3gg"), [Interrupt, Other(b"g".to_vec())]);
        assert_eq!(scan(b"\xffa"), [Other(b"\xffa".to_vec())]);
        assert_eq!(scan(b"$half$c#63"), [Other(b"$half".to_vec()), frame("$c#63")]);
        assert_eq!(scan(b"$?#00"), [frame("$?#00")]);
    }

    #[test]
    fn payloads_are_not_looked_into() {
        let whole = packet(b"X1000,5:\x03\xff\xf3g+");
        assert_eq!(scan(&whole), [FromGdb::Packet(whole.clone())]);
    }

    #[test]
    fn a_frame_without_end_is_let_go() {
        let mut bytes = vec![b'$'];
        bytes.resize(LONGEST_PACKET + 1, b'a');
        bytes.extend_from_slice(b"+");
        let pieces = scan(&bytes);
        assert_eq!(pieces.len(), 2);
        assert!(matches!(&pieces[0], FromGdb::Other(frame) if frame.len() == LONGEST_PACKET + 1));
    }

    proptest! {
        #[test]
        fn chunking_changes_nothing(
            bytes in proptest::collection::vec(prop_oneof![Just(b'$'), Just(b'#'), Just(b'+'), Just(0x03), Just(0xff), Just(0xf3), Just(b'g'), any::<u8>()], 0..200),
            size in 1_usize..9,
        ) {
            let mut scanner = GdbScanner::default();
            let mut pieces = Vec::new();
            for chunk in bytes.chunks(size) {
                scanner.feed(chunk, &mut pieces);
            }
            prop_assert_eq!(pieces, scan(&bytes));
        }
    }
}
