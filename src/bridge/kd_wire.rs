//! KD's packets, as far as they tell whether the kernel is stopped. Pure; it only watches, and no byte depends on it.
//!
//! A packet (as `windbgkd.h` of the public WDK and ReactOS has it, little-endian): leader `0000` for data or `iiii` for control, type
//! u16, length u16, id u32, sum of the payload's bytes u32, payload, and after a data packet the byte `AA`.

const DATA: [u8; 4] = *b"0000";
const HEADER: usize = 16;
const TRAILER: u8 = 0xaa;

/// No payload is longer (PACKET_MAX_SIZE).
const LONGEST: usize = 4000;

const STATE_CHANGE_32: u16 = 1;
const MANIPULATE: u16 = 2;
const STATE_CHANGE_64: u16 = 7;

const CONTINUE: u32 = 0x3136;
const REBOOT: u32 = 0x313b;
const CONTINUE_2: u32 = 0x313c;

/// What a packet tells of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The kernel has stopped and waits to be told to go on.
    Stopped,
    /// The debugger told it to go on, or to reboot.
    Continued,
}

/// Watches one direction of a KD stream.
#[derive(Debug, Default)]
pub struct KdWatch {
    /// From what may be a leader on.
    packet: Vec<u8>,
}

impl KdWatch {
    /// Takes bytes and returns the last thing that they tell.
    pub fn feed(&mut self, bytes: &[u8]) -> Option<Told> {
        let mut told = None;
        for &byte in bytes {
            self.packet.push(byte);
            while let Some(end) = self.look() {
                match end {
                    End::Whole => {
                        told = self.tells().or(told);
                        self.packet.clear();
                    }
                    // No packet begins here; one may begin later in what was kept.
                    End::None => drop(self.packet.drain(..1)),
                }
            }
        }
        told
    }

    /// The stream ended.
    pub fn reset(&mut self) {
        self.packet.clear();
    }

    /// Tells whether what is kept is a whole data packet or the start of none; `None` while it may become one.
    fn look(&self) -> Option<End> {
        let packet = &self.packet;
        if packet.is_empty() {
            return None;
        }
        let leader = packet.len().min(DATA.len());
        if packet[..leader] != DATA[..leader] {
            return Some(End::None);
        }
        let length = usize::from(u16::from_le_bytes([*packet.get(6)?, *packet.get(7)?]));
        if length > LONGEST {
            return Some(End::None);
        }
        if packet.len() < HEADER + length + 1 {
            return None;
        }
        let payload = &packet[HEADER..HEADER + length];
        let sum: u32 = payload.iter().map(|byte| u32::from(*byte)).sum();
        let good = packet[12..HEADER] == sum.to_le_bytes() && packet[HEADER + length] == TRAILER;
        Some(if good { End::Whole } else { End::None })
    }

    fn tells(&self) -> Option<Told> {
        let kind = u16::from_le_bytes([self.packet[4], self.packet[5]]);
        let number = self.packet.get(HEADER..HEADER + 4)?;
        let number = u32::from_le_bytes([number[0], number[1], number[2], number[3]]);
        match (kind, number) {
            (STATE_CHANGE_32 | STATE_CHANGE_64, _) => Some(Told::Stopped),
            (MANIPULATE, CONTINUE | CONTINUE_2 | REBOOT) => Some(Told::Continued),
            _ => None,
        }
    }
}

enum End {
    Whole,
    None,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A data packet as the header file says.
    pub(crate) fn packet(kind: u16, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
        let sum: u32 = payload.iter().map(|byte| u32::from(*byte)).sum();
        let mut packet = DATA.to_vec();
        packet.extend(kind.to_le_bytes());
        packet.extend(length.to_le_bytes());
        packet.extend(0x8080_0000_u32.to_le_bytes());
        packet.extend(sum.to_le_bytes());
        packet.extend(payload);
        packet.push(TRAILER);
        packet
    }

    /// An exception's state change (`DbgKdExceptionStateChange`, 0x3030).
    pub(crate) fn state_change() -> Vec<u8> {
        packet(
            STATE_CHANGE_64,
            &[&0x3030_u32.to_le_bytes()[..], &[0; 236]].concat(),
        )
    }

    /// `DbgKdContinueApi2` with `DBG_CONTINUE`, in a manipulate state of 56 bytes.
    pub(crate) fn go_on() -> Vec<u8> {
        let mut state = vec![0; 56];
        state[..4].copy_from_slice(&CONTINUE_2.to_le_bytes());
        state[16..20].copy_from_slice(&0x0001_0002_u32.to_le_bytes());
        packet(MANIPULATE, &state)
    }

    #[test]
    fn a_packet_byte_for_byte() {
        let bytes = [
            0x30, 0x30, 0x30, 0x30, 0x02, 0x00, 0x04, 0x00, 0x00, 0x00, 0x80, 0x80, 0x6d, 0x00, 0x00, 0x00,
            0x3c, 0x31, 0x00, 0x00, 0xaa,
        ];
        assert_eq!(packet(MANIPULATE, &CONTINUE_2.to_le_bytes()), bytes);
        assert_eq!(KdWatch::default().feed(&bytes), Some(Told::Continued));
    }

    #[test]
    fn only_whole_and_good_packets_tell() {
        assert_eq!(KdWatch::default().feed(&go_on()), Some(Told::Continued));
        let whole = state_change();
        assert_eq!(KdWatch::default().feed(&whole), Some(Told::Stopped));
        assert_eq!(KdWatch::default().feed(&whole[..whole.len() - 1]), None);
        let mut wrong = whole.clone();
        wrong[20] ^= 1;
        assert_eq!(KdWatch::default().feed(&wrong), None);
        // Debug output and symbols' loading by name are no stop; an acknowledgement has no payload.
        assert_eq!(KdWatch::default().feed(&packet(3, b"DbgPrint")), None);
        assert_eq!(
            KdWatch::default().feed(b"iiii\x04\x00\x00\x00\x00\x00\x80\x80\x00\x00\x00\x00"),
            None
        );
    }

    proptest! {
        #[test]
        fn a_packet_is_found_behind_anything_however_it_is_cut(
            noise in proptest::collection::vec(prop_oneof![Just(b'0'), Just(b'i'), Just(b'b'), any::<u8>()], 0..40),
            chunk in 1_usize..50,
        ) {
            let mut watch = KdWatch::default();
            let mut told = None;
            // A broken packet hides what follows within its length at most.
            let bytes = [noise, vec![0; LONGEST + HEADER + 1], state_change()].concat();
            for chunk in bytes.chunks(chunk) {
                told = watch.feed(chunk).or(told);
            }
            prop_assert_eq!(told, Some(Told::Stopped));
        }
    }
}
