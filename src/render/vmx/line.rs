//! Lines of a `.vmx` file and what VMware reads in them.

use std::ops::Range;

/// A line with its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// The line without its end.
    pub(super) text: Vec<u8>,
    /// `\n`, `\r\n`, or nothing at the end of the file.
    pub(super) end: &'static [u8],
}

impl Line {
    pub(super) fn is_blank(&self) -> bool {
        self.text.trim_ascii().is_empty()
    }

    pub(super) fn is_comment(&self) -> bool {
        self.text.trim_ascii().starts_with(b"#")
    }
}

/// The parts of a setting.
pub(super) struct Entry<'a> {
    /// The key as it is written.
    pub(super) key: &'a [u8],
    /// Where the value's content lies in the line.
    pub(super) value: Range<usize>,
    /// Where the value lies with its quotes, if it has some.
    pub(super) whole: Range<usize>,
}

impl Entry<'_> {
    /// Tells whether this is the entry of a key. Case does not matter (libvirt `STRCASEEQ`, GNS3).
    pub(super) fn is(&self, key: &str) -> bool {
        self.key.eq_ignore_ascii_case(key.as_bytes())
    }
}

/// Splits a file into lines. Joining them gives the same bytes.
pub(super) fn split(bytes: &[u8]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (text, end, after): (&[u8], &'static [u8], &[u8]) =
            match rest.iter().position(|&byte| byte == b'\n') {
                Some(at) if at > 0 && rest[at - 1] == b'\r' => (&rest[..at - 1], b"\r\n", &rest[at + 1..]),
                Some(at) => (&rest[..at], b"\n", &rest[at + 1..]),
                None => (rest, b"", &[]),
            };
        lines.push(Line {
            text: text.to_vec(),
            end,
        });
        rest = after;
    }
    lines
}

/// Takes a setting apart; `None` if the line is none.
pub(super) fn entry(line: &[u8]) -> Option<Entry<'_>> {
    let equals = line.iter().position(|&byte| byte == b'=')?;
    let key = line[..equals].trim_ascii();
    if key.is_empty()
        || key
            .iter()
            .any(|byte| byte.is_ascii_whitespace() || b"#\"".contains(byte))
    {
        return None;
    }
    let blanks = line[equals + 1..]
        .iter()
        .take_while(|byte| byte.is_ascii_whitespace())
        .count();
    let begin = equals + 1 + blanks;
    let (value, whole) = if line.get(begin) == Some(&b'"') {
        let close = begin + 1 + line[begin + 1..].iter().position(|&byte| byte == b'"')?;
        (begin + 1..close, begin..close + 1)
    } else {
        let length = line[begin..]
            .iter()
            .take_while(|byte| !byte.is_ascii_whitespace() && **byte != b'#')
            .count();
        (begin..begin + length, begin..begin + length)
    };
    let after = line[whole.end..].trim_ascii();
    let well_formed = after.is_empty() || after.starts_with(b"#");
    let stray_quote = whole == value && line[value.clone()].contains(&b'"');
    (well_formed && !stray_quote).then_some(Entry { key, value, whole })
}
