//! Who does which option (RFC 1143's rules for a side that never takes an option back).

use super::codec::{Mode, Verb, put_option};

/// Transmit binary (RFC 856).
pub(super) const BINARY: u8 = 0;
/// Echo (RFC 857).
pub(super) const ECHO: u8 = 1;
/// Suppress go-ahead (RFC 858): with ECHO a client types character by character.
pub(super) const SGA: u8 = 3;
/// Timing mark (RFC 860): a client that flushes drops all output until this is answered, each time.
const TIMING_MARK: u8 = 6;
/// COM port control (RFC 2217).
pub(super) const COM_PORT: u8 = 44;

/// Where one side of an option stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    /// Not done, not spoken of.
    Off,
    /// We asked for it.
    Asked,
    /// Done.
    On,
    /// The other side does not want it.
    Refused,
}

#[derive(Debug, Clone, Copy)]
struct OptionState {
    code: u8,
    /// We do it; `None`: we never do.
    ours: Option<Half>,
    /// They do it; `None`: they must not.
    theirs: Option<Half>,
}

/// All options of one connection.
#[derive(Debug)]
pub(super) struct Options {
    known: Vec<OptionState>,
    /// Refusals that were said, `[ours, theirs]`, one bit per option: each is said once, so two sides that refuse each other cannot
    /// go on for ever.
    refused: [[u64; 4]; 2],
}

/// An option, whether we would do it and whether they may.
pub(super) type Rule = (u8, bool, bool);

impl Options {
    pub fn new(rules: &[Rule]) -> Self {
        let half = |allowed: bool| allowed.then_some(Half::Off);
        Self {
            known: rules
                .iter()
                .map(|&(code, ours, theirs)| OptionState {
                    code,
                    ours: half(ours),
                    theirs: half(theirs),
                })
                .collect(),
            refused: [[0; 4]; 2],
        }
    }

    /// Asks for everything that is allowed and was not spoken of yet.
    pub fn ask(&mut self, wire: &mut Vec<u8>) {
        for option in &mut self.known {
            if option.ours == Some(Half::Off) {
                option.ours = Some(Half::Asked);
                put_option(Verb::Will, option.code, wire);
            }
            if option.theirs == Some(Half::Off) {
                option.theirs = Some(Half::Asked);
                put_option(Verb::Do, option.code, wire);
            }
        }
    }

    /// Hears what the other side says and answers where an answer is due.
    pub fn hear(&mut self, verb: Verb, code: u8, wire: &mut Vec<u8>) {
        if (verb, code) == (Verb::Do, TIMING_MARK) {
            put_option(Verb::Will, code, wire);
            return;
        }
        let is_ours = matches!(verb, Verb::Do | Verb::Dont);
        let (yes, no) = if is_ours {
            (Verb::Will, Verb::Wont)
        } else {
            (Verb::Do, Verb::Dont)
        };
        let half =
            self.known
                .iter_mut()
                .find(|option| option.code == code)
                .and_then(|option| match is_ours {
                    true => option.ours.as_mut(),
                    false => option.theirs.as_mut(),
                });
        match (half, verb) {
            (Some(half), Verb::Do | Verb::Will) => {
                if matches!(half, Half::Off | Half::Refused) {
                    put_option(yes, code, wire);
                }
                *half = Half::On;
            }
            (Some(half), Verb::Dont | Verb::Wont) => {
                if *half == Half::On {
                    put_option(no, code, wire);
                }
                *half = Half::Refused;
            }
            (None, Verb::Do | Verb::Will) => {
                let said = &mut self.refused[usize::from(!is_ours)][usize::from(code >> 6)];
                let bit = 1 << (code & 63);
                if *said & bit == 0 {
                    *said |= bit;
                    put_option(no, code, wire);
                }
            }
            // We do not, they do not: agreed.
            (None, Verb::Dont | Verb::Wont) => {}
        }
    }

    /// The other side uses an option that we asked for: that is its agreement. (pyserial takes our DO for the answer to a
    /// WILL that it was about to send, and then never sends it.)
    pub fn hear_use(&mut self, code: u8) {
        for option in self.known.iter_mut().filter(|option| option.code == code) {
            for half in [&mut option.ours, &mut option.theirs].into_iter().flatten() {
                if *half == Half::Asked {
                    *half = Half::On;
                }
            }
        }
    }

    fn half(&self, code: u8, of: impl Fn(&OptionState) -> Option<Half>) -> Option<Half> {
        self.known.iter().find(|option| option.code == code).and_then(of)
    }

    /// Tells whether the option is done by either side.
    pub fn is_on(&self, code: u8) -> bool {
        let on = Some(Half::On);
        self.half(code, |option| option.ours) == on || self.half(code, |option| option.theirs) == on
    }

    /// Tells whether the other side wants nothing of the option.
    pub fn is_refused(&self, code: u8) -> bool {
        let refused = Some(Half::Refused);
        !self.is_on(code)
            && (self.half(code, |option| option.ours) == refused
                || self.half(code, |option| option.theirs) == refused)
    }

    /// Returns how our data are written. Only who refuses BINARY gets CR NUL: whoever says nothing is a plain stream.
    pub fn sending(&self) -> Mode {
        mode(self.half(BINARY, |option| option.ours))
    }

    /// Returns how their data are written.
    pub fn receiving(&self) -> Mode {
        mode(self.half(BINARY, |option| option.theirs))
    }
}

fn mode(half: Option<Half>) -> Mode {
    match half {
        Some(Half::Refused) => Mode::Nvt,
        _ => Mode::Binary,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: &[Rule] = &[(BINARY, true, true), (ECHO, true, false), (SGA, true, true)];

    fn say(options: &mut Options, verb: Verb, code: u8) -> Vec<u8> {
        let mut wire = Vec::new();
        options.hear(verb, code, &mut wire);
        wire
    }

    #[test]
    fn what_was_asked_for_is_not_answered_again() {
        let mut options = Options::new(RULES);
        let mut wire = Vec::new();
        options.ask(&mut wire);
        assert_eq!(
            wire,
            b"\xff\xfb\x00\xff\xfd\x00\xff\xfb\x01\xff\xfb\x03\xff\xfd\x03"
        );
        assert_eq!(say(&mut options, Verb::Do, BINARY), b"");
        assert!(options.is_on(BINARY));
        assert_eq!(say(&mut options, Verb::Do, BINARY), b"");
        assert_eq!(say(&mut options, Verb::Dont, BINARY), b"\xff\xfc\x00");
        assert_eq!(options.sending(), Mode::Nvt);
        assert_eq!(options.receiving(), Mode::Binary);
        assert_eq!(say(&mut options, Verb::Do, BINARY), b"\xff\xfb\x00");
        assert_eq!(options.sending(), Mode::Binary);
        wire.clear();
        options.ask(&mut wire);
        assert_eq!(wire, b"");
    }

    #[test]
    fn what_is_unknown_is_refused_once_and_a_timing_mark_is_answered_each_time() {
        let mut options = Options::new(RULES);
        assert_eq!(say(&mut options, Verb::Will, 31), b"\xff\xfe\x1f");
        assert_eq!(say(&mut options, Verb::Will, 31), b"");
        assert_eq!(say(&mut options, Verb::Do, 31), b"\xff\xfc\x1f");
        assert_eq!(say(&mut options, Verb::Wont, 31), b"");
        // They must not echo.
        assert_eq!(say(&mut options, Verb::Will, ECHO), b"\xff\xfe\x01");
        for _ in 0..2 {
            assert_eq!(say(&mut options, Verb::Do, TIMING_MARK), b"\xff\xfb\x06");
        }
    }

    #[test]
    fn a_refusal_is_kept() {
        let mut options = Options::new(&[(COM_PORT, true, true)]);
        let mut wire = Vec::new();
        options.ask(&mut wire);
        assert!(!options.is_refused(COM_PORT));
        assert_eq!(say(&mut options, Verb::Dont, COM_PORT), b"");
        assert!(options.is_refused(COM_PORT));
        assert_eq!(say(&mut options, Verb::Will, COM_PORT), b"");
        assert!(options.is_on(COM_PORT) && !options.is_refused(COM_PORT));
    }

    proptest! {
        /// Two sides with any rules come to rest: nobody answers an answer for ever.
        #[test]
        fn two_sides_come_to_rest(first in rules(), second in rules(), first_asks in any::<bool>()) {
            let (mut one, mut other) = (Options::new(&first), Options::new(&second));
            let (mut to_other, mut to_one) = (Vec::new(), Vec::new());
            if first_asks {
                one.ask(&mut to_other);
            }
            other.ask(&mut to_one);
            for _ in 0..4 {
                for said in std::mem::take(&mut to_one).chunks(3) {
                    one.hear(verb(said[1]), said[2], &mut to_other);
                }
                for said in std::mem::take(&mut to_other).chunks(3) {
                    other.hear(verb(said[1]), said[2], &mut to_one);
                }
            }
            prop_assert!(to_one.is_empty() && to_other.is_empty());
        }
    }

    fn rules() -> impl Strategy<Value = Vec<Rule>> {
        (any::<[bool; 8]>()).prop_map(|may| {
            [BINARY, ECHO, SGA, COM_PORT]
                .into_iter()
                .enumerate()
                .map(|(at, code)| (code, may[at], may[at + 4]))
                .collect()
        })
    }

    fn verb(byte: u8) -> Verb {
        match byte {
            0xfb => Verb::Will,
            0xfc => Verb::Wont,
            0xfd => Verb::Do,
            _ => Verb::Dont,
        }
    }
}
