//! Frames of the helper's protocol: bytes in, frames out, and back. Pure.
//!
//! A frame is its kind (1 byte), its stream (4 bytes), the length of its content (4 bytes, all big-endian), its content.

use std::io::ErrorKind;

/// The longest content of a frame. Data is cut to it; no other frame comes near.
pub const LONGEST: usize = 32 * 1024;

/// The length of what is before the content.
pub const HEAD: usize = 9;

/// Why an endpoint could not be opened, as far as a program has to know; the rest is in the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Whatever is not one of the others.
    Other,
    /// There is no such pipe or socket.
    Absent,
    /// Nobody listens.
    Refused,
    /// Somebody else has it.
    Busy,
    /// Not for this user.
    Denied,
    /// No answer in time.
    TimedOut,
}

impl Failure {
    const ALL: [(Self, ErrorKind); 6] = [
        (Self::Other, ErrorKind::Other),
        (Self::Absent, ErrorKind::NotFound),
        (Self::Refused, ErrorKind::ConnectionRefused),
        (Self::Busy, ErrorKind::WouldBlock),
        (Self::Denied, ErrorKind::PermissionDenied),
        (Self::TimedOut, ErrorKind::TimedOut),
    ];

    /// Returns the failure of a kind of error.
    pub fn of(kind: ErrorKind) -> Self {
        let found = Self::ALL.into_iter().find(|(_, of)| *of == kind);
        found.map_or(Self::Other, |(failure, _)| failure)
    }

    /// Returns the kind of error that it is.
    pub fn kind(self) -> ErrorKind {
        let found = Self::ALL.into_iter().find(|(failure, _)| *failure == self);
        found.map_or(ErrorKind::Other, |(_, kind)| kind)
    }

    fn byte(self) -> u8 {
        match self {
            Self::Other => 0,
            Self::Absent => 1,
            Self::Refused => 2,
            Self::Busy => 3,
            Self::Denied => 4,
            Self::TimedOut => 5,
        }
    }

    /// A reason that a newer helper knows is one like any other.
    fn from_byte(byte: u8) -> Self {
        let found = Self::ALL.into_iter().find(|(failure, _)| failure.byte() == byte);
        found.map_or(Self::Other, |(failure, _)| failure)
    }
}

/// What a stream can beside carrying bytes, in `Opened`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Abilities {
    /// One direction can end while the other goes on.
    pub half_close: bool,
    /// It can send BREAK by itself.
    pub sends_break: bool,
}

/// One message about a stream. The number of the stream stands beside it; pings have 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Open this endpoint; so many bytes may be sent back before more are granted.
    Open { window: u32, endpoint: String },
    /// It is open; so many bytes may be sent to it.
    Opened {
        window: u32,
        abilities: Abilities,
        peer: String,
    },
    /// It could not be opened. The stream is over.
    Failed { failure: Failure, reason: String },
    /// Bytes.
    Data(Vec<u8>),
    /// So many more bytes may be sent.
    Credit(u32),
    /// The sender's direction ended, for this reason.
    End { reason: String },
    /// The stream is over in both directions, for this reason. Answered with the same, once.
    Close { reason: String },
    /// Send BREAK behind the bytes before.
    Break,
    /// BREAK was sent; or it was not, for this reason.
    BreakDone { failure: Option<String> },
    /// Are you there?
    Ping,
    /// Yes.
    Pong,
}

const OPEN: u8 = 1;
const OPENED: u8 = 2;
const FAILED: u8 = 3;
const DATA: u8 = 4;
const CREDIT: u8 = 5;
const END: u8 = 6;
const CLOSE: u8 = 7;
const BREAK: u8 = 8;
const BREAK_DONE: u8 = 9;
const PING: u8 = 10;
const PONG: u8 = 11;

/// Bytes that are no frame. There is no going on after them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// No frame has this kind.
    #[error("no frame has the kind {0}")]
    Kind(u8),
    /// The content is longer than any may be.
    #[error("a frame of kind {kind} announces {length} bytes, at most {LONGEST} are allowed")]
    Length {
        /// The frame's kind.
        kind: u8,
        /// What it announces.
        length: usize,
    },
    /// The content is not what the kind has.
    #[error("a frame of kind {0} has a content that does not fit")]
    Content(u8),
}

/// Appends a frame to `out`. Text that is too long is cut.
pub fn encode(stream: u32, frame: &Frame, out: &mut Vec<u8>) {
    let mut fixed: Vec<u8> = Vec::with_capacity(8);
    let (kind, rest): (u8, &[u8]) = match frame {
        Frame::Open { window, endpoint } => {
            fixed.extend(window.to_be_bytes());
            (OPEN, endpoint.as_bytes())
        }
        Frame::Opened {
            window,
            abilities,
            peer,
        } => {
            fixed.extend(window.to_be_bytes());
            fixed.push(u8::from(abilities.half_close) | u8::from(abilities.sends_break) << 1);
            (OPENED, peer.as_bytes())
        }
        Frame::Failed { failure, reason } => {
            fixed.push(failure.byte());
            (FAILED, reason.as_bytes())
        }
        Frame::Data(bytes) => (DATA, bytes),
        Frame::Credit(bytes) => {
            fixed.extend(bytes.to_be_bytes());
            (CREDIT, &[])
        }
        Frame::End { reason } => (END, reason.as_bytes()),
        Frame::Close { reason } => (CLOSE, reason.as_bytes()),
        Frame::Break => (BREAK, &[]),
        Frame::BreakDone { failure } => {
            fixed.push(u8::from(failure.is_some()));
            (BREAK_DONE, failure.as_deref().unwrap_or_default().as_bytes())
        }
        Frame::Ping => (PING, &[]),
        Frame::Pong => (PONG, &[]),
    };
    let rest = match std::str::from_utf8(rest) {
        // Only what people read can be too long, and is cut between characters.
        Ok(text) if kind != DATA => &text.as_bytes()[..text.floor(LONGEST - fixed.len())],
        _ => rest,
    };
    debug_assert!(fixed.len() + rest.len() <= LONGEST, "data is cut by its sender");
    out.push(kind);
    out.extend(stream.to_be_bytes());
    out.extend(((fixed.len() + rest.len()) as u32).to_be_bytes());
    out.extend(fixed);
    out.extend(rest);
}

trait Floor {
    fn floor(&self, most: usize) -> usize;
}

impl Floor for str {
    /// Returns the last place between two characters that is not behind `most`.
    fn floor(&self, most: usize) -> usize {
        let mut at = most.min(self.len());
        while !self.is_char_boundary(at) {
            at -= 1;
        }
        at
    }
}

/// Takes bytes as they come and gives whole frames.
#[derive(Debug, Default)]
pub struct Decoder {
    pending: Vec<u8>,
    taken: usize,
}

impl Decoder {
    /// Takes bytes in.
    pub fn input(&mut self, bytes: &[u8]) {
        // What was given out is dropped before more comes in, so this stays about as long as one frame.
        self.pending.drain(..self.taken);
        self.taken = 0;
        self.pending.extend_from_slice(bytes);
    }

    /// Returns the next whole frame with its stream; `None` until more bytes came.
    ///
    /// # Errors
    ///
    /// The bytes are no frame; the same error again when asked again.
    pub fn next(&mut self) -> Result<Option<(u32, Frame)>, WireError> {
        let rest = &self.pending[self.taken..];
        let Some((head, rest)) = rest.split_at_checked(HEAD) else {
            // The kind is known from its first byte.
            return match rest.first() {
                Some(&kind) if !(OPEN..=PONG).contains(&kind) => Err(WireError::Kind(kind)),
                _ => Ok(None),
            };
        };
        let [kind, s0, s1, s2, s3, l0, l1, l2, l3] = *head else {
            return Ok(None);
        };
        if !(OPEN..=PONG).contains(&kind) {
            return Err(WireError::Kind(kind));
        }
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if length > LONGEST {
            return Err(WireError::Length { kind, length });
        }
        let Some(content) = rest.get(..length) else {
            return Ok(None);
        };
        let frame = parse(kind, content).ok_or(WireError::Content(kind))?;
        self.taken += HEAD + length;
        Ok(Some((stream, frame)))
    }
}

fn parse(kind: u8, content: &[u8]) -> Option<Frame> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let number = |bytes: &[u8]| bytes.first_chunk::<4>().map(|four| u32::from_be_bytes(*four));
    let nothing = |frame| content.is_empty().then_some(frame);
    match kind {
        OPEN => Some(Frame::Open {
            window: number(content)?,
            endpoint: text(&content[4..])?,
        }),
        OPENED => {
            let bits = *content.get(4)?;
            Some(Frame::Opened {
                window: number(content)?,
                abilities: Abilities {
                    half_close: bits & 1 != 0,
                    sends_break: bits & 2 != 0,
                },
                peer: text(&content[5..])?,
            })
        }
        FAILED => {
            let (&failure, reason) = content.split_first()?;
            Some(Frame::Failed {
                failure: Failure::from_byte(failure),
                reason: text(reason)?,
            })
        }
        DATA => (!content.is_empty()).then(|| Frame::Data(content.to_vec())),
        CREDIT if content.len() == 4 => Some(Frame::Credit(number(content)?)),
        END => Some(Frame::End {
            reason: text(content)?,
        }),
        CLOSE => Some(Frame::Close {
            reason: text(content)?,
        }),
        BREAK => nothing(Frame::Break),
        BREAK_DONE => {
            let (&failed, reason) = content.split_first()?;
            let reason = text(reason)?;
            Some(Frame::BreakDone {
                failure: (failed != 0).then_some(reason),
            })
        }
        PING => nothing(Frame::Ping),
        PONG => nothing(Frame::Pong),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn frame() -> impl Strategy<Value = Frame> {
        let failure = prop::sample::select(Failure::ALL.map(|(failure, _)| failure).to_vec());
        prop_oneof![
            (any::<u32>(), ".{0,40}").prop_map(|(window, endpoint)| Frame::Open { window, endpoint }),
            (any::<u32>(), any::<bool>(), any::<bool>(), ".{0,20}").prop_map(
                |(window, half_close, sends_break, peer)| Frame::Opened {
                    window,
                    abilities: Abilities {
                        half_close,
                        sends_break
                    },
                    peer
                }
            ),
            (failure, ".{0,40}").prop_map(|(failure, reason)| Frame::Failed { failure, reason }),
            prop::collection::vec(any::<u8>(), 1..200).prop_map(Frame::Data),
            any::<u32>().prop_map(Frame::Credit),
            ".{0,40}".prop_map(|reason| Frame::End { reason }),
            ".{0,40}".prop_map(|reason| Frame::Close { reason }),
            Just(Frame::Break),
            prop::option::of(".{0,40}").prop_map(|failure| Frame::BreakDone { failure }),
            Just(Frame::Ping),
            Just(Frame::Pong),
        ]
    }

    fn decoded(pieces: &[&[u8]]) -> Result<Vec<(u32, Frame)>, WireError> {
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        for piece in pieces {
            decoder.input(piece);
            while let Some(frame) = decoder.next()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_frames(
            frames in prop::collection::vec((any::<u32>(), frame()), 1..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut bytes = Vec::new();
            for (stream, frame) in &frames {
                encode(*stream, frame, &mut bytes);
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let (mut pieces, mut from) = (Vec::new(), 0);
            for cut in cuts {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            pieces.push(&bytes[from..]);
            prop_assert_eq!(decoded(&pieces).unwrap(), frames);
        }

        #[test]
        fn no_bytes_make_it_panic_or_keep_more_than_a_frame(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut decoder = Decoder::default();
            for piece in bytes.chunks(7) {
                decoder.input(piece);
                loop {
                    match decoder.next() {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(error) => {
                            prop_assert_eq!(decoder.next(), Err(error));
                            return Ok(());
                        }
                    }
                }
                prop_assert!(decoder.pending.len() - decoder.taken < HEAD + LONGEST);
            }
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let head = |kind: u8, length: u32| [&[kind, 0, 0, 0, 1][..], &length.to_be_bytes()].concat();
        for (bytes, expected) in [
            (b"vmserial".to_vec(), WireError::Kind(b'v')),
            (vec![0], WireError::Kind(0)),
            (vec![12], WireError::Kind(12)),
            (
                head(DATA, 32 * 1024 + 1),
                WireError::Length {
                    kind: DATA,
                    length: 32 * 1024 + 1,
                },
            ),
            (head(DATA, 0), WireError::Content(DATA)),
            (head(PING, 0)[..4].to_vec(), WireError::Kind(0)),
            ([head(PING, 1), vec![0]].concat(), WireError::Content(PING)),
            ([head(CREDIT, 3), vec![0; 3]].concat(), WireError::Content(CREDIT)),
            ([head(OPEN, 3), vec![0; 3]].concat(), WireError::Content(OPEN)),
            ([head(OPENED, 4), vec![0; 4]].concat(), WireError::Content(OPENED)),
            ([head(FAILED, 0)].concat(), WireError::Content(FAILED)),
            ([head(END, 1), vec![0xff]].concat(), WireError::Content(END)),
        ] {
            if bytes == head(PING, 0)[..4] {
                // The start of a frame is only that.
                assert_eq!(decoded(&[&bytes]).unwrap(), []);
                continue;
            }
            assert_eq!(decoded(&[&bytes]).unwrap_err(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn long_words_are_cut_between_characters() {
        let mut bytes = Vec::new();
        let reason = format!("x{}", "ä".repeat(LONGEST));
        encode(7, &Frame::Close { reason }, &mut bytes);
        let frames = decoded(&[&bytes]).unwrap();
        let [(7, Frame::Close { reason })] = &frames[..] else {
            panic!("{frames:?}");
        };
        assert_eq!(reason.len(), LONGEST - 1);
    }
}
