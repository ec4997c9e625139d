//! A byte-preserving editor of VMware's `.vmx` files.
//!
//! Rules of the format (libvirt `src/vmx/vmx.c`, GNS3, field reports): lines `key = "value"`, keys compared without
//! case, everything quoted, `"` written `|22` and `|` written `|7C`; the first lines may be `#!/usr/bin/vmware` and
//! `.encoding = "…"`. The file is in the encoding that it names, so it is handled as bytes and only ASCII is added.
//! VMware calls a file with a byte-order mark or a key that stands twice corrupt.

use crate::render::edit::EditError;
use crate::render::quote::vmx_value;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    /// The line without its end.
    text: Vec<u8>,
    /// `\n`, `\r\n`, or nothing at the end of the file.
    end: &'static [u8],
}

/// A `.vmx` file, line by line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmxFile {
    lines: Vec<Line>,
}

/// The parts of a line `key = "value"`: where the value's content lies in the line.
struct Entry<'a> {
    key: &'a [u8],
    value: std::ops::Range<usize>,
}

impl VmxFile {
    /// Takes a file apart.
    ///
    /// # Errors
    ///
    /// A byte-order mark, a NUL, or a line that is neither an entry nor a comment nor blank: the file is something
    /// else (an encrypted VM has an `encryption.data` entry and its settings elsewhere).
    pub fn parse(bytes: &[u8]) -> Result<Self, EditError> {
        let malformed = |line, message: &str| EditError::Malformed {
            line,
            message: message.to_owned(),
        };
        if bytes.starts_with(b"\xef\xbb\xbf") {
            return Err(malformed(
                1,
                "it begins with a byte-order mark, which VMware calls corrupt; save it without",
            ));
        }
        let mut lines = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (text, end, after): (&[u8], &'static [u8], &[u8]) = match rest
                .iter()
                .position(|&byte| byte == b'\n')
            {
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
        for (index, line) in lines.iter().enumerate() {
            if line.text.contains(&0) {
                return Err(malformed(index + 1, "it holds a NUL byte, so it is no .vmx file"));
            }
            let trimmed = line.text.trim_ascii();
            if trimmed.is_empty() || trimmed.starts_with(b"#") {
                continue;
            }
            let Some(entry) = entry(&line.text) else {
                return Err(malformed(
                    index + 1,
                    "expected `key = \"value\"`, a comment or a blank line",
                ));
            };
            if entry.key.eq_ignore_ascii_case(b"encryption.data") {
                return Err(malformed(
                    index + 1,
                    "the VM is encrypted: its settings cannot be edited as text",
                ));
            }
        }
        Ok(Self { lines })
    }

    /// Returns the plain value of a key.
    ///
    /// # Errors
    ///
    /// The key stands twice.
    pub fn value(&self, key: &str) -> Result<Option<String>, EditError> {
        let Some(index) = self.find(key)? else {
            return Ok(None);
        };
        let text = &self.lines[index].text;
        Ok(entry(text).map(|entry| unescape(&text[entry.value])))
    }

    /// Returns the keys that begin with a prefix (without case), as they are written.
    pub fn keys_with_prefix(&self, prefix: &str) -> Vec<String> {
        self.lines
            .iter()
            .filter_map(|line| entry(&line.text).map(|entry| String::from_utf8_lossy(entry.key).into_owned()))
            .filter(|key| {
                key.get(..prefix.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
            })
            .collect()
    }

    /// Gives a key a value. A key that is there keeps its place, spelling and surrounding blanks, and its bytes if it
    /// holds the value already; a new one comes last.
    ///
    /// # Errors
    ///
    /// The key stands twice, or the value cannot be written.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), EditError> {
        let quoted = vmx_value(value)?;
        if let Some(index) = self.find(key)? {
            let text = &mut self.lines[index].text;
            if let Some(range) = entry(text).map(|entry| entry.value)
                && unescape(&text[range.clone()]) != value
            {
                // The range lies between the quotes, which stay.
                text.splice(range, quoted.as_bytes()[1..quoted.len() - 1].iter().copied());
            }
            return Ok(());
        }
        let end = self.newline();
        if let Some(last) = self.lines.last_mut()
            && last.end.is_empty()
        {
            last.end = end;
        }
        self.lines.push(Line {
            text: format!("{key} = {quoted}").into_bytes(),
            end,
        });
        Ok(())
    }

    /// Takes a key out, with its line.
    ///
    /// # Errors
    ///
    /// The key stands twice.
    pub fn remove(&mut self, key: &str) -> Result<(), EditError> {
        if let Some(index) = self.find(key)? {
            self.lines.remove(index);
        }
        Ok(())
    }

    /// Returns the file's bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.lines
            .into_iter()
            .flat_map(|line| line.text.into_iter().chain(line.end.iter().copied()))
            .collect()
    }

    fn newline(&self) -> &'static [u8] {
        self.lines
            .iter()
            .map(|line| line.end)
            .find(|end| !end.is_empty())
            .unwrap_or(b"\n")
    }

    fn find(&self, key: &str) -> Result<Option<usize>, EditError> {
        let mut found = None;
        for (index, line) in self.lines.iter().enumerate() {
            if entry(&line.text).is_some_and(|entry| entry.key.eq_ignore_ascii_case(key.as_bytes())) {
                if let Some(first) = found {
                    return Err(EditError::Duplicate {
                        key: key.to_owned(),
                        first: first + 1,
                        second: index + 1,
                    });
                }
                found = Some(index);
            }
        }
        Ok(found)
    }
}

fn entry(line: &[u8]) -> Option<Entry<'_>> {
    let equals = line.iter().position(|&byte| byte == b'=')?;
    let key = line[..equals].trim_ascii();
    if key.is_empty() || key.starts_with(b"#") || key.contains(&b'"') {
        return None;
    }
    let open = equals
        + 1
        + line[equals + 1..]
            .iter()
            .position(|byte| !byte.is_ascii_whitespace())?;
    if line[open] != b'"' {
        return None;
    }
    let close = open + 1 + line[open + 1..].iter().position(|&byte| byte == b'"')?;
    let after = line[close + 1..].trim_ascii();
    (after.is_empty() || after.starts_with(b"#")).then_some(Entry {
        key,
        value: open + 1..close,
    })
}

/// Takes `|XX` back to the byte. Bytes beyond ASCII are in the file's own encoding and are only compared and shown.
fn unescape(bytes: &[u8]) -> String {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        let code = (first == b'|').then(|| after.get(..2)).flatten();
        let code = code.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match code {
            Some(byte) => {
                plain.push(byte);
                rest = &after[2..];
            }
            None => {
                plain.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn edited(file: &str, key: &str, value: Option<&str>) -> String {
        let mut vmx = VmxFile::parse(file.as_bytes()).unwrap();
        match value {
            Some(value) => vmx.set(key, value).unwrap(),
            None => vmx.remove(key).unwrap(),
        }
        String::from_utf8(vmx.into_bytes()).unwrap()
    }

    #[test]
    fn edits_keep_place_spelling_and_line_ends() {
        for (before, key, value, after) in [
            (
                "a = \"1\"\r\nB = \"2\"\r\n",
                "b",
                Some("3"),
                "a = \"1\"\r\nB = \"3\"\r\n",
            ),
            ("a = \"1\"\r\n", "b", Some("2"), "a = \"1\"\r\nb = \"2\"\r\n"),
            ("a = \"1\"", "b", Some("2"), "a = \"1\"\nb = \"2\"\n"),
            ("", "b", Some("x\"|"), "b = \"x|22|7C\"\n"),
            ("a=\"1\" # why\n", "A", Some("2"), "a=\"2\" # why\n"),
            ("a = \"1\"\nb = \"2\"\n", "a", None, "b = \"2\"\n"),
            ("a = \"1\"\n", "z", None, "a = \"1\"\n"),
            ("a = \"x|7cy\"\n", "a", Some("x|y"), "a = \"x|7cy\"\n"),
        ] {
            assert_eq!(edited(before, key, value), after);
        }
    }

    #[test]
    fn what_is_no_vmx_is_refused() {
        for (file, part) in [
            (&b"\xef\xbb\xbfa = \"1\"\n"[..], "byte-order mark"),
            (b"a = 1\n", "expected"),
            (b"[section]\n", "expected"),
            (b"\x7fELF\0\0", "NUL"),
            (b"encryption.data = \"x\"\n", "encrypted"),
        ] {
            assert!(VmxFile::parse(file).unwrap_err().to_string().contains(part));
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_named_with_its_lines() {
        let file = VmxFile::parse(b"a = \"1\"\n#\nA = \"2\"\n").unwrap();
        assert_eq!(
            file.value("a").unwrap_err().to_string(),
            "the key `a` stands on the lines 1 and 3"
        );
    }

    prop_compose! {
        fn vmx_line()(kind in 0u8..5, key in "[a-e][0-9]?\\.?[a-z]{0,3}", value in "[^\"\n\r\0]{0,8}", blank in "[ \t]{0,2}") -> Vec<u8> {
            match kind {
                0 => format!("# {value}").into_bytes(),
                1 => blank.into_bytes(),
                2 => [format!("{key}{blank}={blank}\"").as_bytes(), b"\xe9\xff", b"\""].concat(),
                _ => format!("{blank}{key} = \"{value}\"{blank}").into_bytes(),
            }
        }
    }

    proptest! {
        #[test]
        fn editing_twice_is_editing_once_and_other_lines_stay(
            lines in proptest::collection::vec(vmx_line(), 0..8), crlf: bool, value in "[^\n\r\0]{0,8}",
        ) {
            let end: &[u8] = if crlf { b"\r\n" } else { b"\n" };
            let bytes: Vec<u8> = lines.iter().flat_map(|line| [line.as_slice(), end].concat()).collect();
            let mut once = VmxFile::parse(&bytes).unwrap();
            prop_assert_eq!(once.clone().into_bytes(), bytes.clone());
            if once.set("serial1.fileName", &value).is_ok() {
                let mut twice = once.clone();
                twice.set("SERIAL1.filename", &value).unwrap();
                prop_assert_eq!(&once, &twice);
                prop_assert_eq!(once.value("serial1.filename").unwrap(), Some(value));
                prop_assert!(once.clone().into_bytes().starts_with(&bytes));
                once.remove("serial1.fileName").unwrap();
                prop_assert_eq!(once.into_bytes(), bytes);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(file) = VmxFile::parse(&bytes) {
                prop_assert_eq!(file.into_bytes(), bytes);
            }
        }
    }
}
