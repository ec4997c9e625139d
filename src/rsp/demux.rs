//! Takes the target's stream apart: text, packets, acknowledgements. On a shared port this is the demultiplexer.
//!
//! The pieces, put together, are the input: nothing is lost, doubled or moved (property test).

use crate::rsp::framing::{self, LONGEST_PACKET};
use std::time::{Duration, Instant};

/// A lone `$` that may still become a packet is shown after this time: else a `$ ` prompt would hang.
pub const LET_GO: Duration = Duration::from_millis(300);

/// From this length on a candidate is no accident and is kept however long it takes.
const CERTAIN: usize = 4;

/// What may be a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grammar {
    /// The kernel is stopped: anything framed is a packet, and a candidate is never let go by time.
    Stopped,
    /// The kernel runs: only what announces a stop, an exit or console output.
    Running {
        /// `$E` and two digits too: gdb has just told the kernel to run, and kgdb may refuse.
        errors: bool,
    },
}

/// A piece of what the target sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Neither packet nor acknowledgement.
    Text(Vec<u8>),
    /// A whole packet with a good checksum.
    Packet(Vec<u8>),
    /// `+`.
    Ack,
    /// `-`.
    Nak,
}

impl Piece {
    /// Returns the bytes of the piece.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(bytes) | Self::Packet(bytes) => bytes,
            Self::Ack => b"+",
            Self::Nak => b"-",
        }
    }
}

/// Takes the target's stream apart, a piece at a time, because a piece may change the grammar of what follows it.
#[derive(Debug, Default)]
pub struct TargetScanner {
    /// From `$` on; empty outside a candidate.
    candidate: Vec<u8>,
    /// Where `#` stands in it.
    hash: Option<usize>,
    since: Option<Instant>,
}

impl TargetScanner {
    /// Takes bytes from the front of `bytes` until a piece is whole. `None`: all were taken.
    pub fn next(&mut self, now: Instant, bytes: &mut &[u8], grammar: Grammar) -> Option<Piece> {
        if !self.candidate.is_empty() && !fits(&self.candidate, grammar) {
            return Some(self.let_go());
        }
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.candidate.is_empty() {
                match byte {
                    b'$' => {
                        self.candidate.push(byte);
                        self.since = Some(now);
                        *bytes = rest;
                    }
                    b'+' | b'-' => {
                        *bytes = rest;
                        return Some(if byte == b'+' { Piece::Ack } else { Piece::Nak });
                    }
                    _ => {
                        let end = bytes
                            .iter()
                            .position(|byte| b"$+-".contains(byte))
                            .unwrap_or(bytes.len());
                        let (text, rest) = bytes.split_at(end);
                        *bytes = rest;
                        return Some(Piece::Text(text.to_vec()));
                    }
                }
                continue;
            }
            if matches!(byte, b'$' | b'\r' | b'\n') || self.candidate.len() >= LONGEST_PACKET {
                return Some(self.let_go());
            }
            self.candidate.push(byte);
            if !fits(&self.candidate, grammar) {
                // The byte that does not fit may start something of its own.
                self.candidate.pop();
                return Some(self.let_go());
            }
            *bytes = rest;
            match self.hash {
                None if byte == b'#' => self.hash = Some(self.candidate.len() - 1),
                Some(hash) if self.candidate.len() == hash + 3 => {
                    let good = framing::data(&self.candidate).is_some();
                    let Piece::Text(frame) = self.let_go() else {
                        return None;
                    };
                    return Some(if good {
                        Piece::Packet(frame)
                    } else {
                        Piece::Text(frame)
                    });
                }
                _ => {}
            }
        }
        None
    }

    /// Lets a short candidate go whose time is over.
    pub fn tick(&mut self, now: Instant, grammar: Grammar) -> Option<Piece> {
        self.deadline(grammar)
            .is_some_and(|deadline| now >= deadline)
            .then(|| self.let_go())
    }

    /// Returns when [`Self::tick`] has something to do.
    pub fn deadline(&self, grammar: Grammar) -> Option<Instant> {
        let short = (1..CERTAIN).contains(&self.candidate.len());
        (short && grammar != Grammar::Stopped).then_some(self.since? + LET_GO)
    }

    /// Gives back what was held, as text. The stream has ended.
    pub fn finish(&mut self) -> Option<Piece> {
        (!self.candidate.is_empty()).then(|| self.let_go())
    }

    fn let_go(&mut self) -> Piece {
        self.hash = None;
        self.since = None;
        Piece::Text(std::mem::take(&mut self.candidate))
    }
}

/// Tells whether a candidate may still become a packet.
fn fits(candidate: &[u8], grammar: Grammar) -> bool {
    let Grammar::Running { errors } = grammar else {
        return true;
    };
    let Some(kind) = candidate.get(1) else { return true };
    let rest = &candidate[2..];
    let lowercase = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    match kind {
        b'T' | b'S' | b'W' | b'X' => rest.iter().take(2).all(lowercase),
        b'E' if errors => rest.iter().take(2).all(lowercase) && rest.get(2).is_none_or(|byte| *byte == b'#'),
        b'O' => match rest.iter().position(|byte| *byte == b'#') {
            Some(end) => end > 0 && end % 2 == 0 && rest[..end].iter().all(lowercase),
            None => rest.iter().all(lowercase),
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use Piece::{Ack, Nak, Packet, Text};
    use proptest::prelude::*;

    const RUNNING: Grammar = Grammar::Running { errors: false };

    fn scan(bytes: &[u8], grammar: Grammar) -> Vec<Piece> {
        let now = Instant::now();
        let mut scanner = TargetScanner::default();
        let mut rest = bytes;
        let mut pieces = Vec::new();
        while let Some(piece) = scanner.next(now, &mut rest, grammar) {
            pieces.push(piece);
        }
        pieces.extend(scanner.finish());
        join(pieces)
    }

    fn join(pieces: Vec<Piece>) -> Vec<Piece> {
        let mut joined: Vec<Piece> = Vec::new();
        for piece in pieces {
            match (joined.last_mut(), piece) {
                (Some(Text(last)), Text(more)) => last.extend(more),
                (_, piece) => joined.push(piece),
            }
        }
        joined
    }

    fn text(text: &str) -> Piece {
        Text(text.as_bytes().to_vec())
    }

    fn frame(text: &str) -> Piece {
        Packet(text.as_bytes().to_vec())
    }

    #[test]
    fn a_stopped_kernel_may_send_any_packet() {
        let table: [(&str, Vec<Piece>); 9] = [
            ("+$OK#9a", vec![Ack, frame("$OK#9a")]),
            ("-$#00", vec![Nak, frame("$#00")]),
            (
                "user@host:~$ $T05thread:1b;#39",
                vec![text("user@host:~$ "), frame("$T05thread:1b;#39")],
            ),
            (
                "tick 5$T05thread:1c;#3a",
                vec![text("tick 5"), frame("$T05thread:1c;#3a")],
            ),
            ("$OK#9b$OK#9a", vec![text("$OK#9b"), frame("$OK#9a")]),
            ("$qSup\r\nx", vec![text("$qSup\r\nx")]),
            ("$OK#9\n", vec![text("$OK#9\n")]),
            ("$a+b-c", vec![text("$a+b-c")]),
            ("$$$S05#b8", vec![text("$$"), frame("$S05#b8")]),
        ];
        for (input, expected) in table {
            assert_eq!(scan(input.as_bytes(), Grammar::Stopped), expected, "{input:?}");
        }
    }

    #[test]
    fn a_running_kernel_announces_stops_and_console_output_only() {
        let table: [(&str, Vec<Piece>); 10] = [
            ("$T05thread:1b;#39", vec![frame("$T05thread:1b;#39")]),
            ("$S05#b8", vec![frame("$S05#b8")]),
            ("$W01#b8", vec![frame("$W01#b8")]),
            ("$O6b0a#78", vec![frame("$O6b0a#78")]),
            ("$OK#9a", vec![text("$OK#9a")]),
            ("$O#4f", vec![text("$O#4f")]),
            ("$O6#85", vec![text("$O6#85")]),
            ("KGDB or $3#33 for KDB", vec![text("KGDB or $3#33 for KDB")]),
            (
                "tick 3 $5 + 3 - 1 #42",
                vec![text("tick 3 $5 "), Ack, text(" 3 "), Nak, text(" 1 #42")],
            ),
            ("$E16#ac", vec![text("$E16#ac")]),
        ];
        for (input, expected) in table {
            assert_eq!(scan(input.as_bytes(), RUNNING), expected, "{input:?}");
        }
        assert_eq!(
            scan(b"$E16#ac", Grammar::Running { errors: true }),
            [frame("$E16#ac")]
        );
        assert_eq!(
            scan(b"$E1x#ac", Grammar::Running { errors: true }),
            [text("$E1x#ac")]
        );
    }

    #[test]
    fn a_lone_dollar_is_let_go_after_its_time_unless_the_kernel_is_stopped() {
        let start = Instant::now();
        for (input, grammar, wanted) in [
            ("$", RUNNING, true),
            ("$T0", RUNNING, true),
            ("$T05", RUNNING, false),
            ("$T0", Grammar::Stopped, false),
        ] {
            let mut scanner = TargetScanner::default();
            assert_eq!(scanner.next(start, &mut input.as_bytes(), grammar), None);
            assert_eq!(scanner.tick(start + LET_GO / 2, grammar), None);
            assert_eq!(
                scanner.deadline(grammar),
                wanted.then_some(start + LET_GO),
                "{input}"
            );
            assert_eq!(
                scanner.tick(start + LET_GO, grammar),
                wanted.then(|| text(input)),
                "{input}"
            );
        }
    }

    #[test]
    fn a_candidate_ends_at_4_kib() {
        let mut input = vec![b'$'];
        input.resize(LONGEST_PACKET + 10, b'a');
        input.extend_from_slice(b"#00");
        assert_eq!(scan(&input, Grammar::Stopped), [Text(input.clone())]);
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"$T05thread:1b;#39".to_vec()),
            Just(b"$OK#9a".to_vec()),
            Just(b"$O6b0a#78".to_vec()),
            Just(b"+".to_vec()),
            Just(b"$ ".to_vec()),
            Just(b"\r\n".to_vec()),
            proptest::collection::vec(
                prop_oneof![Just(b'$'), Just(b'#'), Just(b'T'), Just(b'0'), any::<u8>()],
                0..6
            ),
        ];
        proptest::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn the_pieces_are_the_input_however_it_is_cut(input in stream(), size in 1_usize..9, stopped in any::<bool>()) {
            let grammar = if stopped { Grammar::Stopped } else { RUNNING };
            let now = Instant::now();
            let mut scanner = TargetScanner::default();
            let mut pieces = Vec::new();
            for mut chunk in input.chunks(size) {
                while let Some(piece) = scanner.next(now, &mut chunk, grammar) {
                    pieces.push(piece);
                }
            }
            pieces.extend(scanner.finish());
            let together: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes().to_vec()).collect();
            prop_assert_eq!(&together, &input);
            prop_assert_eq!(join(pieces), scan(&input, grammar));
        }
    }
}
