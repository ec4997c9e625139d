//! Telnet's wire (RFC 854): data, commands, negotiations, subnegotiations. Bytes and nothing else.

/// "Interpret as command"; doubled it is a data byte.
pub(super) const IAC: u8 = 0xff;
const SE: u8 = 0xf0;
/// BREAK.
pub(super) const BRK: u8 = 0xf3;
const SB: u8 = 0xfa;
const WILL: u8 = 0xfb;
const WONT: u8 = 0xfc;
const DO: u8 = 0xfd;
const DONT: u8 = 0xfe;

const CR: u8 = b'\r';
const LF: u8 = b'\n';

/// A subnegotiation is a handful of bytes; what is longer than this is not for us and is dropped.
const LONGEST_SUBNEGOTIATION: usize = 512;

/// What a side says about an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    /// I do it, or want to.
    Will,
    /// I do not.
    Wont,
    /// You may, or shall.
    Do,
    /// You must not.
    Dont,
}

impl Verb {
    fn byte(self) -> u8 {
        match self {
            Self::Will => WILL,
            Self::Wont => WONT,
            Self::Do => DO,
            Self::Dont => DONT,
        }
    }
}

/// Something that is no data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// `IAC` and this byte.
    Command(u8),
    /// A negotiation of an option.
    Option(Verb, u8),
    /// A subnegotiation: the option and its bytes.
    Sub(u8, Vec<u8>),
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Data,
    /// In network virtual terminal mode, behind a CR.
    AfterCr,
    Iac,
    Option(Verb),
    SubOption,
    Sub(u8),
    SubIac(u8),
}

/// How the data bytes of one direction are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// As they are (RFC 856), 0xff doubled.
    Binary,
    /// As a network virtual terminal has them: a CR that no LF follows is CR NUL.
    Nvt,
}

/// How far a buffer was decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    /// Bytes that were read.
    pub consumed: usize,
    /// Data bytes that were written.
    pub data: usize,
    /// What was heard behind them, if anything.
    pub heard: Option<Heard>,
}

/// Takes the wire apart. Any split of the input gives the same output.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    state: State,
    sub: Vec<u8>,
}

impl Decoder {
    /// Tells whether a run without `IAC` is data as it is.
    pub fn passes(&self, mode: Mode) -> bool {
        self.state == State::Data && mode == Mode::Binary
    }

    /// Decodes from `buffer[read..]` up to the first thing that is no data; data bytes go to `buffer[write..]`, in the
    /// same buffer because there are never more of them.
    pub fn decode(&mut self, buffer: &mut [u8], read: usize, write: usize, mode: Mode) -> Decoded {
        let (mut from, mut to) = (read, write);
        let mut heard = None;
        while from < buffer.len() && heard.is_none() {
            if self.passes(mode) {
                let run = buffer[from..]
                    .iter()
                    .position(|&byte| byte == IAC)
                    .unwrap_or(buffer.len() - from);
                buffer.copy_within(from..from + run, to);
                from += run;
                to += run;
                if from == buffer.len() {
                    break;
                }
            }
            let byte = buffer[from];
            from += 1;
            match self.step(byte, mode) {
                Step::Data => {
                    buffer[to] = byte;
                    to += 1;
                }
                Step::Nothing => {}
                Step::Heard(what) => heard = Some(what),
            }
        }
        Decoded {
            consumed: from - read,
            data: to - write,
            heard,
        }
    }

    fn step(&mut self, byte: u8, mode: Mode) -> Step {
        match self.state {
            State::Data | State::AfterCr => {
                let after_cr = self.state == State::AfterCr;
                self.state = match (byte, mode) {
                    (IAC, _) => State::Iac,
                    (CR, Mode::Nvt) => State::AfterCr,
                    _ => State::Data,
                };
                match byte {
                    IAC => Step::Nothing,
                    0 if after_cr => Step::Nothing,
                    _ => Step::Data,
                }
            }
            State::Iac => self.command(byte),
            State::Option(verb) => {
                self.state = State::Data;
                Step::Heard(Heard::Option(verb, byte))
            }
            State::SubOption => {
                self.sub.clear();
                self.state = State::Sub(byte);
                Step::Nothing
            }
            State::Sub(option) => {
                if byte == IAC {
                    self.state = State::SubIac(option);
                } else {
                    self.keep(byte);
                }
                Step::Nothing
            }
            State::SubIac(option) => match byte {
                IAC => {
                    self.keep(IAC);
                    self.state = State::Sub(option);
                    Step::Nothing
                }
                SE => {
                    self.state = State::Data;
                    let bytes = std::mem::take(&mut self.sub);
                    if bytes.len() > LONGEST_SUBNEGOTIATION {
                        return Step::Nothing;
                    }
                    Step::Heard(Heard::Sub(option, bytes))
                }
                // Its end is missing: what follows `IAC` is a command again.
                _ => self.command(byte),
            },
        }
    }

    fn command(&mut self, byte: u8) -> Step {
        let next = |verb| (State::Option(verb), Step::Nothing);
        let (state, step) = match byte {
            IAC => (State::Data, Step::Data),
            WILL => next(Verb::Will),
            WONT => next(Verb::Wont),
            DO => next(Verb::Do),
            DONT => next(Verb::Dont),
            SB => (State::SubOption, Step::Nothing),
            _ => (State::Data, Step::Heard(Heard::Command(byte))),
        };
        self.state = state;
        step
    }

    fn keep(&mut self, byte: u8) {
        if self.sub.len() <= LONGEST_SUBNEGOTIATION {
            self.sub.push(byte);
        }
    }
}

enum Step {
    Data,
    Nothing,
    Heard(Heard),
}

/// Tells whether these data bytes are written as they are.
pub(super) fn is_plain(bytes: &[u8], mode: Mode) -> bool {
    !bytes.contains(&IAC) && (mode == Mode::Binary || !bytes.contains(&CR))
}

/// Returns how many wire bytes the data byte at `at` takes.
pub(super) fn width(bytes: &[u8], at: usize, mode: Mode) -> usize {
    match bytes[at] {
        IAC => 2,
        CR if mode == Mode::Nvt && bytes.get(at + 1) != Some(&LF) => 2,
        _ => 1,
    }
}

/// Appends data bytes as they are on the wire. A CR at the end is CR NUL, because nobody knows what follows.
pub(super) fn encode(bytes: &[u8], mode: Mode, wire: &mut Vec<u8>) {
    let mut from = 0;
    while from < bytes.len() {
        let run = bytes[from..]
            .iter()
            .position(|&byte| byte == IAC || (byte == CR && mode == Mode::Nvt))
            .map_or(bytes.len(), |run| from + run);
        wire.extend_from_slice(&bytes[from..run]);
        if run < bytes.len() {
            wire.push(bytes[run]);
            if width(bytes, run, mode) == 2 {
                wire.push(if bytes[run] == IAC { IAC } else { 0 });
            }
        }
        from = run + 1;
    }
}

/// Appends a command.
pub(super) fn put_command(command: u8, wire: &mut Vec<u8>) {
    wire.extend([IAC, command]);
}

/// Appends a negotiation.
pub(super) fn put_option(verb: Verb, option: u8, wire: &mut Vec<u8>) {
    wire.extend([IAC, verb.byte(), option]);
}

/// Appends a subnegotiation.
pub(super) fn put_sub(option: u8, bytes: &[u8], wire: &mut Vec<u8>) {
    wire.extend([IAC, SB, option]);
    encode(bytes, Mode::Binary, wire);
    wire.extend([IAC, SE]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Everything that a decoder says of `wire` when it comes in pieces that end at `cuts`.
    fn decoded(wire: &[u8], cuts: &[usize], mode: Mode) -> (Vec<u8>, Vec<(usize, Heard)>) {
        let mut decoder = Decoder::default();
        let (mut data, mut all) = (Vec::new(), Vec::new());
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (wire.len() + 1)).collect();
        ends.push(wire.len());
        ends.sort_unstable();
        let mut start = 0;
        for end in ends {
            let mut piece = wire[start..end].to_vec();
            start = end;
            let mut read = 0;
            while read < piece.len() {
                let step = decoder.decode(&mut piece, read, 0, mode);
                data.extend_from_slice(&piece[..step.data]);
                read += step.consumed;
                all.extend(step.heard.map(|heard| (data.len(), heard)));
            }
        }
        (data, all)
    }

    #[test]
    fn the_wire_is_taken_apart() {
        use Heard::{Command, Option, Sub};
        type Case = (&'static [u8], Mode, &'static [u8], Vec<Heard>);
        let cases: Vec<Case> = vec![
            (b"plain", Mode::Binary, b"plain", vec![]),
            (b"a\xff\xffb", Mode::Binary, b"a\xffb", vec![]),
            (b"a\xff\xf3g", Mode::Binary, b"ag", vec![Command(BRK)]),
            (b"\xff\xfd\x00x", Mode::Binary, b"x", vec![Option(Verb::Do, 0)]),
            (
                b"\xff\xfb\x01\xff\xfe\xff.",
                Mode::Binary,
                b".",
                vec![Option(Verb::Will, 1), Option(Verb::Dont, 255)],
            ),
            (
                b"\xff\xfa\x2c\x01\x00\xff\xff\xff\xf0y",
                Mode::Binary,
                b"y",
                vec![Sub(44, b"\x01\x00\xff".to_vec())],
            ),
            // The end of a subnegotiation is missing.
            (
                b"\xff\xfa\x2cab\xff\xfb\x03z",
                Mode::Binary,
                b"z",
                vec![Option(Verb::Will, 3)],
            ),
            (b"\r\0\n\r\n\0", Mode::Binary, b"\r\0\n\r\n\0", vec![]),
            (b"\r\0\n\r\n\0", Mode::Nvt, b"\r\n\r\n\0", vec![]),
            (b"\r\r\0\0", Mode::Nvt, b"\r\r\0", vec![]),
            (b"\r\xff\xf1\0", Mode::Nvt, b"\r\0", vec![Command(0xf1)]),
        ];
        for (wire, mode, data, heard) in cases {
            let (got, all) = decoded(wire, &[], mode);
            assert_eq!(got, data, "{wire:x?}");
            let all: Vec<Heard> = all.into_iter().map(|(_, heard)| heard).collect();
            assert_eq!(all, heard, "{wire:x?}");
        }
    }

    #[test]
    fn data_is_put_on_the_wire() {
        for (data, mode, wire) in [
            (&b"a\xffb"[..], Mode::Binary, &b"a\xff\xffb"[..]),
            (b"\r\n\rx\r", Mode::Binary, b"\r\n\rx\r"),
            (b"\r\n\rx\r", Mode::Nvt, b"\r\n\r\0x\r\0"),
        ] {
            let mut got = Vec::new();
            encode(data, mode, &mut got);
            assert_eq!(got, wire);
            let widths: usize = (0..data.len()).map(|at| width(data, at, mode)).sum();
            assert_eq!(widths, wire.len());
        }
        let mut wire = Vec::new();
        put_sub(44, &[1, 0xff], &mut wire);
        put_option(Verb::Wont, 3, &mut wire);
        put_command(BRK, &mut wire);
        assert_eq!(wire, b"\xff\xfa\x2c\x01\xff\xff\xff\xf0\xff\xfc\x03\xff\xf3");
    }

    #[test]
    fn a_subnegotiation_without_end_takes_no_memory() {
        let mut decoder = Decoder::default();
        let mut wire = vec![b'x'; 1 << 20];
        wire[..3].copy_from_slice(&[IAC, SB, 44]);
        decoder.decode(&mut wire, 0, 0, Mode::Binary);
        assert!(decoder.sub.capacity() < 4096);
        let mut end = *b"\xff\xf0ok";
        let step = decoder.decode(&mut end, 0, 0, Mode::Binary);
        assert_eq!((step.data, step.heard), (2, None));
        assert_eq!(end[..2], *b"ok");
    }

    /// Bytes in which telnet's own are frequent.
    fn wire() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            3 => Just(IAC),
            2 => proptest::sample::select(vec![SE, BRK, SB, WILL, WONT, DO, DONT, 0, 1, 3, 44, CR, LF]),
            2 => any::<u8>(),
        ];
        proptest::collection::vec(byte, 0..200)
    }

    fn mode() -> impl Strategy<Value = Mode> {
        prop_oneof![Just(Mode::Binary), Just(Mode::Nvt)]
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(wire in wire(), cuts in proptest::collection::vec(any::<usize>(), 0..12), mode in mode()) {
            let whole = decoded(&wire, &[], mode);
            prop_assert_eq!(&decoded(&wire, &cuts, mode), &whole);
            let each: Vec<usize> = (0..wire.len()).collect();
            prop_assert_eq!(&decoded(&wire, &each, mode), &whole);
        }

        #[test]
        fn what_is_encoded_in_pieces_comes_back(pieces in proptest::collection::vec(wire(), 0..5), mode in mode()) {
            let mut on_wire = Vec::new();
            for piece in &pieces {
                encode(piece, mode, &mut on_wire);
            }
            let (data, heard) = decoded(&on_wire, &[], mode);
            prop_assert_eq!(data, pieces.concat());
            prop_assert!(heard.is_empty());
        }

        #[test]
        fn a_plain_run_is_the_same_on_the_wire(data in wire(), mode in mode()) {
            let mut on_wire = Vec::new();
            encode(&data, mode, &mut on_wire);
            prop_assert!(!is_plain(&data, mode) || on_wire == data);
        }
    }
}
