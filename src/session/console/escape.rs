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
    /// Not one of ours.
    Unknown(u8),
}

/// Finds the escape key in what is typed.
#[derive(Debug, Clone)]
pub struct Recogniser {
    escape: EscapeKey,
    escaped: bool,
}

impl Recogniser {
    /// Makes a recogniser.
    pub fn new(escape: EscapeKey) -> Self {
        Self {
            escape,
            escaped: false,
        }
    }

    /// Takes the next chunk of what is typed. The escape key typed twice sends it once.
    pub fn input(&mut self, chunk: &[u8]) -> Vec<Key> {
        let mut keys = Vec::new();
        for &byte in chunk {
            if self.escaped {
                self.escaped = false;
                match byte {
                    b'.' | b'q' => keys.push(Key::Leave),
                    b'b' => keys.push(Key::Break),
                    b'?' | b'h' => keys.push(Key::Help),
                    _ if Some(byte) == self.escape.byte() => push(&mut keys, byte),
                    _ => keys.push(Key::Unknown(byte)),
                }
            } else if Some(byte) == self.escape.byte() {
                self.escaped = true;
            } else {
                push(&mut keys, byte);
            }
        }
        keys
    }
}

fn push(keys: &mut Vec<Key>, byte: u8) {
    if let Some(Key::Bytes(bytes)) = keys.last_mut() {
        bytes.push(byte);
    } else {
        keys.push(Key::Bytes(vec![byte]));
    }
}

/// Returns the list that `<escape> ?` shows, a line each.
pub fn help(escape: EscapeKey) -> Vec<String> {
    vec![
        format!("{escape} .  or  {escape} q   leave the console; the target goes on"),
        format!("{escape} b           send BREAK"),
        format!("{escape} {escape}          send {escape} itself"),
        format!("{escape} ?           list these keys"),
    ]
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

    proptest! {
        #[test]
        fn chunks_do_not_matter(bytes in proptest::collection::vec(prop_oneof![Just(0x1du8), Just(b'b'), any::<u8>()], 0..60), cut in 0usize..60) {
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
