//! A byte-preserving editor of VMware's `.vmx` files.
//!
//! Rules of the format (open-vm-tools `lib/dict/dictll.c`, libvirt `src/vmx/vmx.c`, field reports): lines
//! `key = "value"` with an optional comment behind, keys compared without case, `"` written `|22` and `|` written `|7C`;
//! a value without quotes is read too, and written with them as soon as it changes. The first lines may be
//! `#!/usr/bin/vmware` and `.encoding = "…"`. The file is in the encoding that it names, so it is handled as bytes, and
//! only ASCII is added unless it says UTF-8. VMware calls a file with a byte-order mark or a key that stands twice corrupt.
//!
//! A key that begins with `#` means a comment: the line that equals it. Its value is the empty text. So an ownership mark
//! is set and removed by the same operations as the settings.

mod line;
mod text;

use crate::model::{EditOperation, HostPath};
use crate::render::edit::EditError;
use crate::render::quote::vmx_value;
use line::{Line, entry};

/// A `.vmx` file, line by line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmxFile {
    lines: Vec<Line>,
}

/// Turns the text of a rendered template into the operations that write it: each setting and each comment.
///
/// # Errors
///
/// The text is no `.vmx` text, which a test of the templates excludes.
pub fn operations(text: &str) -> Result<Vec<EditOperation>, EditError> {
    let file = VmxFile::parse(text.as_bytes())?;
    let operation = |line: &Line| {
        let (key, value) = match entry(&line.text) {
            Some(entry) => (entry.key, text::decode(&line.text[entry.value], true)),
            None => (line.text.trim_ascii(), String::new()),
        };
        EditOperation::Set {
            key: String::from_utf8_lossy(key).into_owned(),
            value,
        }
    };
    Ok(file
        .lines
        .iter()
        .filter(|line| !line.is_blank())
        .map(operation)
        .collect())
}

/// Returns what VMware makes beside a `.vmx` while the VM runs or is open in a tab: it has the file in memory then and
/// writes it over.
pub fn lock_of(path: &HostPath) -> HostPath {
    HostPath::new(format!("{path}.lck"))
}

/// Keys whose presence means that the settings are elsewhere, encrypted (VMware Workstation, VM access control).
const ENCRYPTED: [&str; 2] = ["encryption.data", "encryption.keySafe"];

impl VmxFile {
    /// Takes a file apart.
    ///
    /// # Errors
    ///
    /// A byte-order mark, a NUL, a line that is neither a setting nor a comment nor blank (the file is something else),
    /// or an encrypted VM.
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
        let lines = line::split(bytes);
        for (index, line) in lines.iter().enumerate() {
            if line.text.contains(&0) {
                return Err(malformed(index + 1, "it holds a NUL byte, so it is no .vmx file"));
            }
            if line.is_blank() || line.is_comment() {
                continue;
            }
            let Some(entry) = entry(&line.text) else {
                return Err(malformed(
                    index + 1,
                    "expected `key = \"value\"`, a comment or a blank line",
                ));
            };
            if ENCRYPTED.iter().any(|key| entry.is(key)) {
                return Err(malformed(
                    index + 1,
                    "the VM is encrypted: its settings cannot be edited as text",
                ));
            }
        }
        Ok(Self { lines })
    }

    /// Tells whether there is a setting at all.
    pub fn has_settings(&self) -> bool {
        self.lines.iter().any(|line| entry(&line.text).is_some())
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
        if is_comment(key) {
            return Ok(Some(String::new()));
        }
        let text = &self.lines[index].text;
        Ok(entry(text).map(|entry| text::decode(&text[entry.value], self.is_utf8())))
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
    /// The key stands twice, or the value cannot be written in the file's encoding.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), EditError> {
        let quoted = vmx_value(value)?;
        let utf8 = self.is_utf8();
        let quoted = text::encode(&quoted, utf8).map_err(|character| EditError::Encoding {
            key: key.to_owned(),
            character,
        })?;
        let found = self.find(key)?;
        if is_comment(key) {
            if found.is_none() {
                self.append(key.as_bytes().to_vec());
            }
            return Ok(());
        }
        let Some(index) = found else {
            self.append([key.as_bytes(), b" = ", &quoted].concat());
            return Ok(());
        };
        let text = &mut self.lines[index].text;
        if let Some(entry) = entry(text)
            && text::decode(&text[entry.value.clone()], utf8) != value
        {
            let whole = entry.whole;
            text.splice(whole, quoted);
        }
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

    fn is_utf8(&self) -> bool {
        let named = self.lines.iter().find_map(|line| {
            let entry = entry(&line.text).filter(|entry| entry.is(".encoding"))?;
            Some(&line.text[entry.value])
        });
        named.is_some_and(|name| name.eq_ignore_ascii_case(b"utf-8") || name.eq_ignore_ascii_case(b"utf8"))
    }

    fn append(&mut self, text: Vec<u8>) {
        let end = self
            .lines
            .iter()
            .map(|line| line.end)
            .find(|end| !end.is_empty())
            .unwrap_or(b"\n");
        if let Some(last) = self.lines.last_mut()
            && last.end.is_empty()
        {
            last.end = end;
        }
        self.lines.push(Line { text, end });
    }

    fn find(&self, key: &str) -> Result<Option<usize>, EditError> {
        let is_it = |line: &Line| match is_comment(key) {
            true => line.text.trim_ascii() == key.as_bytes(),
            false => entry(&line.text).is_some_and(|entry| entry.is(key)),
        };
        let mut found = self.lines.iter().enumerate().filter(|(_, line)| is_it(line));
        let first = found.next().map(|(index, _)| index);
        match (first, found.next()) {
            (Some(first), Some((second, _))) => Err(EditError::Duplicate {
                key: key.to_owned(),
                first: first + 1,
                second: second + 1,
            }),
            _ => Ok(first),
        }
    }
}

fn is_comment(key: &str) -> bool {
    key.starts_with('#')
}

#[cfg(test)]
mod tests;
