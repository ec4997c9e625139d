//! The escape key of a console, recognised across chunk boundaries. Pure.

use std::fmt;
use std::str::FromStr;

/// The key that leads vmserial's own keys in: a control character, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EscapeKey(Option<u8>);

impl EscapeKey {
    /// No key: every byte goes to the target.
    pub const NONE: Self = Self(None);

    /// Returns the byte that the key sends.
    pub fn byte(self) -> Option<u8> {
        self.0
    }
}

impl Default for EscapeKey {
    /// Ctrl-], as telnet and virsh have it.
    fn default() -> Self {
        Self(Some(0x1d))
    }
}

impl fmt::Display for EscapeKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(byte) => write!(formatter, "^{}", char::from(byte ^ 0x40)),
            None => formatter.write_str("none"),
        }
    }
}

/// The text is no escape key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no escape key, expected a control character as `^]` or `^t`, or `none`")]
pub struct EscapeKeyError(String);

impl FromStr for EscapeKey {
    type Err = EscapeKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Self::NONE);
        }
        match text.as_bytes() {
            [b'^', key] => {
                let key = key.to_ascii_uppercase();
                // Ctrl-@ is NUL, which terminals also send for other keys; Ctrl-[ begins every function key.
                if (b'A'..=b'_').contains(&key) && key != b'[' {
                    return Ok(Self(Some(key ^ 0x40)));
                }
                Err(EscapeKeyError(text.to_owned()))
            }
            _ => Err(EscapeKeyError(text.to_owned())),
        }
    }
}

/// What a key needs to know before it can act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// How much history to print.
    History,
    /// Which file the log goes to.
    Log,
    /// Which file is pasted.
    Paste,
    /// What happens to the VM's power.
    Power,
}

impl Question {
    /// Returns the question as it is shown.
    pub fn text(self) -> &'static str {
        match self {
            Self::History => "[vmserial: print how many KiB of history? (16)] ",
            Self::Log => "[vmserial: log to which file? (`-` ends the log, Enter changes nothing)] ",
            Self::Paste => "[vmserial: paste which file?] ",
            Self::Power => "[vmserial: up, down or reset? (Enter changes nothing)] ",
        }
    }
}

/// What the user's keys mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// Bytes for the target.
    Bytes(Vec<u8>),
    /// Leave the console.
    Leave,
    /// Send BREAK.
    Break,
    /// List the keys.
    Help,
    /// Tell who is attached.
    Who,
    /// Detach everybody else who may write.
    TakeOver,
    /// Give the terminal back to the shell until `fg`.
    Suspend,
    /// A question is to be shown; its answer follows.
    Ask(Question),
    /// A key of the answer, as it is shown.
    Echo(Vec<u8>),
    /// The answer.
    Answer(Question, String),
    /// There is no answer.
    Cancelled,
    /// Not one of ours.
    Unknown(u8),
}

/// Where the recogniser stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Plain,
    Escaped,
    Asking(Question, Vec<u8>),
}

/// Finds the escape key in what is typed, and reads the answers to questions.
#[derive(Debug, Clone)]
pub struct Recogniser {
    escape: EscapeKey,
    state: State,
}

impl Recogniser {
    /// Makes a recogniser.
    pub fn new(escape: EscapeKey) -> Self {
        Self {
            escape,
            state: State::Plain,
        }
    }

    /// Takes the next chunk of what is typed. The escape key typed twice sends it once.
    pub fn input(&mut self, chunk: &[u8]) -> Vec<Key> {
        let mut keys = Vec::new();
        for &byte in chunk {
            self.state = match std::mem::replace(&mut self.state, State::Plain) {
                State::Plain if Some(byte) == self.escape.byte() => State::Escaped,
                State::Plain => {
                    push(&mut keys, byte);
                    State::Plain
                }
                State::Escaped => self.after_escape(byte, &mut keys),
                State::Asking(question, line) => self.answer(question, line, byte, &mut keys),
            };
        }
        keys
    }

    fn after_escape(&self, byte: u8, keys: &mut Vec<Key>) -> State {
        let question = match byte {
            b'h' => Question::History,
            b'l' => Question::Log,
            b'p' => Question::Paste,
            b'o' => Question::Power,
            _ => {
                match byte {
                    b'.' | b'q' => keys.push(Key::Leave),
                    b'b' => keys.push(Key::Break),
                    b'w' => keys.push(Key::Who),
                    b't' => keys.push(Key::TakeOver),
                    b'z' => keys.push(Key::Suspend),
                    b'?' => keys.push(Key::Help),
                    _ if Some(byte) == self.escape.byte() => push(keys, byte),
                    _ => keys.push(Key::Unknown(byte)),
                }
                return State::Plain;
            }
        };
        keys.push(Key::Ask(question));
        State::Asking(question, Vec::new())
    }

    fn answer(&self, question: Question, mut line: Vec<u8>, byte: u8, keys: &mut Vec<Key>) -> State {
        match byte {
            b'\r' | b'\n' => {
                let answer = String::from_utf8_lossy(&line).trim().to_owned();
                keys.push(Key::Answer(question, answer));
                return State::Plain;
            }
            // Ctrl-C, Esc, or our own key again.
            0x03 | 0x1b => {
                keys.push(Key::Cancelled);
                return State::Plain;
            }
            _ if Some(byte) == self.escape.byte() => {
                keys.push(Key::Cancelled);
                return State::Plain;
            }
            0x08 | 0x7f => {
                // A character of UTF-8 is erased whole.
                while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
                keys.push(Key::Echo(b"\x08 \x08".to_vec()));
            }
            0..=0x1f => {}
            _ if line.len() < LONGEST_ANSWER => {
                line.push(byte);
                keys.push(Key::Echo(vec![byte]));
            }
            _ => {}
        }
        State::Asking(question, line)
    }
}

/// A file's path is no longer.
const LONGEST_ANSWER: usize = 4096;

fn push(keys: &mut Vec<Key>, byte: u8) {
    if let Some(Key::Bytes(bytes)) = keys.last_mut() {
        bytes.push(byte);
    } else {
        keys.push(Key::Bytes(vec![byte]));
    }
}

/// Returns the list that `<escape> ?` shows, a line each.
pub fn help(escape: EscapeKey) -> Vec<String> {
    [
        (".  or  q", "leave the console; the target goes on"),
        ("b", "send BREAK"),
        ("h", "print history"),
        ("l", "log to a file, or end the log"),
        ("p", "paste a file at the console's pace"),
        ("w", "tell who is attached"),
        ("t", "take over: detach everybody else who may type"),
        ("o", "power: up, down or reset"),
        ("z", "suspend (`fg` goes on)"),
        ("?", "list these keys"),
    ]
    .iter()
    .map(|(key, what)| format!("{escape} {key:<9} {what}"))
    .chain([format!("{escape} {escape}        send {escape} itself")])
    .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_written_as_carets() {
        assert_eq!(EscapeKey::default().to_string(), "^]");
        for (text, byte) in [("^]", 0x1d), ("^t", 0x14), ("^T", 0x14), ("^A", 1)] {
            assert_eq!(text.parse::<EscapeKey>().unwrap().byte(), Some(byte));
        }
        assert_eq!("none".parse::<EscapeKey>().unwrap(), EscapeKey::NONE);
        for wrong in ["", "^", "]", "^[", "^@", "^1", "ctrl-t", "^]]"] {
            assert!(wrong.parse::<EscapeKey>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_escape_key_leads_ours_in() {
        let mut keys = Recogniser::new(EscapeKey::default());
        assert_eq!(
            keys.input(b"ls\r\x1d\x1d\x1db\x1d?\x1dx"),
            [
                Key::Bytes(b"ls\r\x1d".to_vec()),
                Key::Break,
                Key::Help,
                Key::Unknown(b'x')
            ]
        );
        assert_eq!(keys.input(b"\x1d"), []);
        assert_eq!(keys.input(b"."), [Key::Leave]);
    }

    #[test]
    fn without_a_key_every_byte_is_the_targets() {
        let mut keys = Recogniser::new(EscapeKey::NONE);
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(keys.input(&all), [Key::Bytes(all.clone())]);
    }

    #[test]
    fn keys_of_the_menu_ask_what_they_need() {
        let escape = EscapeKey::default();
        let echo = |text: &str| -> Vec<Key> { text.bytes().map(|byte| Key::Echo(vec![byte])).collect() };
        let erased = || Key::Echo(b"\x08 \x08".to_vec());
        let cases: Vec<(&[u8], Vec<Key>)> = vec![
            (b"\x1dw\x1dt\x1dz", vec![Key::Who, Key::TakeOver, Key::Suspend]),
            (
                b"\x1dh\rls",
                vec![
                    Key::Ask(Question::History),
                    Key::Answer(Question::History, String::new()),
                    Key::Bytes(b"ls".to_vec()),
                ],
            ),
            (
                b"\x1dp/x \r",
                [
                    vec![Key::Ask(Question::Paste)],
                    echo("/x "),
                    vec![Key::Answer(Question::Paste, "/x".into())],
                ]
                .concat(),
            ),
            (
                "\x1dlaß\x7f\x08b\n".as_bytes(),
                [
                    vec![Key::Ask(Question::Log)],
                    echo("aß"),
                    vec![erased(), erased()],
                    echo("b"),
                    vec![Key::Answer(Question::Log, "b".into())],
                ]
                .concat(),
            ),
            // Given up with Ctrl-C, Esc or the escape key; what follows is the target's.
            (
                b"\x1do\x03a",
                vec![
                    Key::Ask(Question::Power),
                    Key::Cancelled,
                    Key::Bytes(b"a".to_vec()),
                ],
            ),
            (b"\x1do\x1b", vec![Key::Ask(Question::Power), Key::Cancelled]),
            (b"\x1do\x1d", vec![Key::Ask(Question::Power), Key::Cancelled]),
        ];
        for (typed, keys) in cases {
            assert_eq!(Recogniser::new(escape).input(typed), keys, "{typed:?}");
        }
    }

    #[test]
    fn every_key_is_listed() {
        let escape = EscapeKey::default();
        let listed = help(escape).join("\n");
        for byte in 0x21..0x7f_u8 {
            let known = Recogniser::new(escape).input(&[0x1d, byte]) != [Key::Unknown(byte)];
            let letter = char::from(byte);
            let shown = listed.contains(&format!("^] {letter} ")) || listed.contains(&format!("  {letter} "));
            assert_eq!(known, shown || (letter == 'q' && known), "{letter}");
        }
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(bytes in proptest::collection::vec(prop_oneof![Just(0x1du8), Just(b'b'), Just(b'p'), Just(b'\r'), any::<u8>()], 0..60), cut in 0usize..60) {
            let cut = cut.min(bytes.len());
            let merge = |keys: Vec<Key>| {
                let mut merged: Vec<Key> = Vec::new();
                for key in keys {
                    match (merged.last_mut(), key) {
                        (Some(Key::Bytes(before)), Key::Bytes(after)) => before.extend(after),
                        (_, key) => merged.push(key),
                    }
                }
                merged
            };
            let whole = Recogniser::new(EscapeKey::default()).input(&bytes);
            let mut parts = Recogniser::new(EscapeKey::default());
            let mut keys = parts.input(&bytes[..cut]);
            keys.extend(parts.input(&bytes[cut..]));
            prop_assert_eq!(merge(keys), merge(whole));
        }
    }
}
