//! A file typed at the console's pace: no more characters a second than asked, and after each line its echo. Pure.

use std::time::{Duration, Instant};

/// How fast a file is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Characters a second.
    pub characters_per_second: u32,
    /// Pause after each line.
    pub line_delay: Duration,
}

/// How long the echo of a line is waited for. A password prompt echoes nothing.
const ECHO_WAIT: Duration = Duration::from_secs(1);

/// At most so many chunks a second: a paste needs no more wake-ups.
const CHUNKS_PER_SECOND: u32 = 50;

/// A file that is being typed.
#[derive(Debug, Clone)]
pub struct Paste {
    bytes: Vec<u8>,
    at: usize,
    pace: Pace,
    not_before: Instant,
    echo_until: Option<Instant>,
}

impl Paste {
    /// Begins to type a file. Its line ends become the Enter key.
    pub fn new(contents: &[u8], pace: Pace, now: Instant) -> Self {
        let mut bytes = Vec::with_capacity(contents.len());
        for (index, &byte) in contents.iter().enumerate() {
            match byte {
                b'\n' if index > 0 && contents[index - 1] == b'\r' => {}
                b'\n' => bytes.push(b'\r'),
                _ => bytes.push(byte),
            }
        }
        Self {
            bytes,
            at: 0,
            pace,
            not_before: now,
            echo_until: None,
        }
    }

    /// Returns when the next bytes are due.
    pub fn due(&self) -> Instant {
        self.echo_until
            .map_or(self.not_before, |until| until.max(self.not_before))
    }

    /// Notes that the target said something: it keeps up.
    pub fn echoed(&mut self) {
        self.echo_until = None;
    }

    /// Returns the bytes that are due; `None` when all are typed.
    pub fn next(&mut self, now: Instant) -> Option<&[u8]> {
        let rest = &self.bytes[self.at..];
        if rest.is_empty() {
            return None;
        }
        let rate = self.pace.characters_per_second.max(1);
        let most = (rate / CHUNKS_PER_SECOND).max(1) as usize;
        let head = &rest[..rest.len().min(most)];
        let line = head.iter().position(|&byte| byte == b'\r');
        let count = line.map_or(head.len(), |end| end + 1);
        self.not_before = now + Duration::from_secs_f64(count as f64 / f64::from(rate));
        if line.is_some() {
            self.not_before += self.pace.line_delay;
            self.echo_until = Some(now + ECHO_WAIT);
        }
        self.at += count;
        Some(&self.bytes[self.at - count..self.at])
    }

    /// Returns how many bytes are typed, and of how many.
    pub fn progress(&self) -> (usize, usize) {
        (self.at, self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pace(characters_per_second: u32) -> Pace {
        Pace {
            characters_per_second,
            line_delay: Duration::from_millis(20),
        }
    }

    #[test]
    fn a_line_waits_for_its_echo_or_a_second() {
        let start = Instant::now();
        let mut paste = Paste::new(b"one\r\ntwo\nx", pace(1000), start);
        assert_eq!(paste.next(start), Some(&b"one\r"[..]));
        assert_eq!(paste.due(), start + ECHO_WAIT);
        paste.echoed();
        let after = start + Duration::from_millis(4 + 20);
        assert_eq!(paste.due(), after);
        assert_eq!(paste.next(after), Some(&b"two\r"[..]));
        assert_eq!(paste.due(), after + ECHO_WAIT);
        assert_eq!(paste.progress(), (8, 9));
        let late = after + ECHO_WAIT;
        assert_eq!(paste.next(late), Some(&b"x"[..]));
        assert_eq!(paste.next(late), None);
    }

    proptest! {
        #[test]
        fn every_byte_is_typed_once_and_never_too_fast(
            contents in proptest::collection::vec(prop_oneof![Just(b'\n'), 1u8..255], 0..400),
            rate in 1u32..5000,
        ) {
            let contents: Vec<u8> = contents.into_iter().filter(|&byte| byte != b'\r').collect();
            let start = Instant::now();
            let mut paste = Paste::new(&contents, pace(rate), start);
            let mut typed = Vec::new();
            let mut now = start;
            loop {
                now = now.max(paste.due());
                match paste.next(now) {
                    Some(part) => typed.extend_from_slice(part),
                    None => break,
                }
                paste.echoed();
                let chunk = (rate / CHUNKS_PER_SECOND).max(1);
                let allowed = (now - start).as_secs_f64() * f64::from(rate) + f64::from(chunk);
                prop_assert!(typed.len() as f64 <= allowed + 0.001);
            }
            let expected: Vec<u8> = contents.iter().map(|&byte| if byte == b'\n' { b'\r' } else { byte }).collect();
            prop_assert_eq!(typed, expected);
        }
    }
}
