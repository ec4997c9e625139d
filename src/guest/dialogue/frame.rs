//! Frames: what our shell in the guest says, so that it is known from everything else on the console.
//!
//! `<MARK:KIND:FIELD:…>` is one. A kernel message may stand in the middle of one, as it may stand anywhere on a console: such a
//! frame is passed over, and asked for again, unless its last field tells its length and can be put together.

use std::fmt;

/// A word that nothing on a console says by chance. It is new for each login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark(String);

impl Mark {
    /// Makes a mark from a seed: letters and digits only.
    pub fn new(seed: u64) -> Self {
        Self(format!("vm{seed:016x}"))
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A frame that came whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it tells.
    pub kind: String,
    /// Its fields.
    pub fields: Vec<String>,
}

impl Frame {
    /// Returns a field that is a number.
    pub fn number(&self, index: usize) -> Option<u64> {
        self.fields.get(index)?.parse().ok()
    }
}

/// What is kept while a frame's end has not come: the longest frame, and a flood of messages inside of it.
const MOST: usize = 64 << 10;

/// Takes frames out of what the console says.
#[derive(Debug)]
pub struct Frames {
    begin: String,
    received: Vec<u8>,
}

impl Frames {
    /// Makes the reader of a mark's frames.
    pub fn new(mark: &Mark) -> Self {
        Self {
            begin: format!("<{mark}:"),
            received: Vec::new(),
        }
    }

    /// Takes what came, and returns the frames that are whole.
    pub fn input(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.received.extend_from_slice(bytes);
        let mut frames = Vec::new();
        while let Some(start) = find(&self.received, self.begin.as_bytes()) {
            self.received.drain(..start);
            let body = &self.received[self.begin.len()..];
            // A frame that is broken ends where the next one begins.
            let next = find(body, self.begin.as_bytes());
            let reach = next.unwrap_or(body.len());
            match frame_in(&body[..reach]) {
                Some((frame, length)) => {
                    frames.push(frame);
                    self.received.drain(..self.begin.len() + length);
                }
                None if next.is_some() || self.received.len() > MOST => {
                    self.received.drain(..self.begin.len());
                }
                None => return frames,
            }
        }
        // Keep what may be the beginning of one.
        let keep = self.received.len().saturating_sub(self.begin.len());
        self.received.drain(..keep);
        frames
    }
}

fn find(all: &[u8], part: &[u8]) -> Option<usize> {
    all.windows(part.len()).position(|window| window == part)
}

/// Finds the frame whose body this begins with, and how much of it belongs to it.
fn frame_in(body: &[u8]) -> Option<(Frame, usize)> {
    for (at, _) in body.iter().enumerate().filter(|(_, byte)| **byte == b'>') {
        if let Some(frame) = frame_of(&body[..at]) {
            return Some((frame, at + 1));
        }
    }
    None
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=-._".contains(&byte)
}

/// Reads a body: words between colons. The kind `g` has a number, the length of its last field, and that field.
fn frame_of(body: &[u8]) -> Option<Frame> {
    let text = std::str::from_utf8(body).ok()?;
    let mut words = text.splitn(4, ':');
    let kind = words.next()?.to_owned();
    if kind != "g" {
        let plain = text.bytes().all(|byte| byte == b':' || is_plain(byte));
        let fields = text.split(':').skip(1).map(str::to_owned).collect();
        return plain.then_some(Frame { kind, fields });
    }
    let (number, length, data) = (words.next()?, words.next()?, words.next()?);
    let wanted: usize = length.parse().ok()?;
    let data = put_together(data, wanted)?;
    let whole = number.bytes().all(is_plain) && data.bytes().all(is_plain);
    whole.then(|| Frame {
        kind,
        fields: vec![number.to_owned(), data],
    })
}

/// Takes a message out that stands in the middle: what is behind its last line break is the data's end, and the data's beginning
/// stands before it. (Whether that is right, the digest of the whole tells.)
fn put_together(data: &str, wanted: usize) -> Option<String> {
    let Some(line_break) = data.rfind(['\n', '\r']) else {
        return (data.len() == wanted).then(|| data.to_owned());
    };
    let end = &data[line_break + 1..];
    let begin = data.get(..wanted.checked_sub(end.len())?)?;
    (begin.len() <= line_break).then(|| format!("{begin}{end}"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn frames(text: &str) -> Vec<String> {
        let mark = Mark::new(1);
        let text = text.replace('@', &mark.to_string());
        Frames::new(&mark)
            .input(text.as_bytes())
            .into_iter()
            .map(|frame| format!("{}:{}", frame.kind, frame.fields.join(":")))
            .collect()
    }

    #[test]
    fn frames_stand_among_anything() {
        let message = "[   12.3] usb 1-1: new <high> speed device\r\n";
        let table = [
            ("noise<@:k:12>more".to_owned(), vec!["k:12"]),
            (
                "<@:k:1><@:q:2:0:4:5:-:->".to_owned(),
                vec!["k:1", "q:2:0:4:5:-:-"],
            ),
            ("<@:g:3:8:QUJDREVG>".to_owned(), vec!["g:3:QUJDREVG"]),
            ("<@:g:3:0:>".to_owned(), vec!["g:3:"]),
            // In the middle of data, which tells its length.
            (format!("<@:g:3:8:QUJ{message}DREVG>"), vec!["g:3:QUJDREVG"]),
            (format!("<@:g:3:8:{message}QUJDREVG>"), vec!["g:3:QUJDREVG"]),
            (format!("<@:g:3:8:QUJDREVG{message}>"), vec!["g:3:QUJDREVG"]),
            // In the middle of anything else: the frame is lost, the next one is not.
            (format!("<@:k:1{message}2><@:k:13>"), vec!["k:13"]),
            (format!("<@:g:{message}3:8:QUJDREVG><@:k:13>"), vec!["k:13"]),
            ("<@:g:3:9:QUJDREVG>".to_owned(), vec![]),
            ("<@:k:1".to_owned(), vec![]),
        ];
        for (text, expected) in table {
            assert_eq!(frames(&text), expected, "{text}");
        }
    }

    proptest! {
        /// However the bytes are cut, the same frames come out.
        #[test]
        fn cutting_changes_nothing(data in "[A-Za-z0-9+/]{0,40}", cut in 0usize..200, noise in "[ -;=?-~\r\n]{0,20}") {
            let mark = Mark::new(7);
            let text = format!("{noise}<{mark}:g:5:{}:{data}>{noise}<{mark}:k:6>", data.len());
            let cut = cut.min(text.len());
            let mut reader = Frames::new(&mark);
            let mut found = reader.input(&text.as_bytes()[..cut]);
            found.extend(reader.input(&text.as_bytes()[cut..]));
            prop_assert_eq!(found.len(), 2);
            prop_assert_eq!(&found[0].fields[1], &data);
        }

        /// A kernel message at any place never makes wrong data: it is put together, or passed over.
        #[test]
        fn one_message_never_makes_wrong_data(data in "[A-Za-z0-9+/]{1,60}", at in 0usize..100, message in "\\[ [0-9.]{1,6}\\] [ -;=?-~]{0,30}\r\n") {
            let mark = Mark::new(7);
            let whole = format!("<{mark}:g:5:{}:{data}>", data.len());
            let at = at.min(whole.len());
            let text = format!("{}{message}{}", &whole[..at], &whole[at..]);
            for frame in Frames::new(&mark).input(text.as_bytes()) {
                prop_assert_eq!(&frame.fields[1], &data);
            }
        }

        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut reader = Frames::new(&Mark::new(7));
            let _ = reader.input(b"<vm0000000000000007:g:1:");
            let _ = reader.input(&bytes);
            let ended = reader.input(b">");
            prop_assert!(ended.len() < 5);
        }
    }

    #[test]
    fn numbers_are_read() {
        let frame = Frame {
            kind: "k".into(),
            fields: vec!["12".into(), "x".into()],
        };
        assert_eq!(
            (frame.number(0), frame.number(1), frame.number(2)),
            (Some(12), None, None)
        );
        assert_eq!(Mark::new(255).to_string(), "vm00000000000000ff".to_owned());
        assert!(Frames::new(&Mark::new(1)).input(b"").is_empty());
        assert_eq!(frames("").first(), None);
        let _ = frames("<@:k:1>").first().unwrap();
    }
}
