//! A byte-preserving editor of xl's domain configuration files (`/etc/xen/NAME.cfg`).
//!
//! Rules of the format (Xen `tools/libs/util/libxlu_cfg_{l.l,y.y,.c}`, xl.cfg(5)): statements `key = value` or
//! `key += value`, ended by a line break, `;` or the end of the file; a value is a string in `'` or `"` with backslash
//! escapes, a number, or a list in `[ ]` over as many lines as it likes, with a comma behind the last value allowed; `#`
//! begins a comment anywhere. The last of several statements with one key counts, so that one is read and edited; a key
//! that is added to with `+=` is not edited.
//!
//! The value of a key is its *source text*: `[ "pty", 'unix:/a' ]`. So an undo brings back the user's own spelling, quotes
//! and comments inside a list included. A key that begins with `#` means a comment: the line that equals it, and its
//! value is the empty text.

mod devices;
mod scan;

use crate::model::EditOperation;
use crate::render::edit::EditError;
use scan::{Operator, Statement, Value};
use std::ops::Range;

pub use devices::{devices, with_device, without_device};

/// A configuration file, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XlCfg {
    bytes: Vec<u8>,
    statements: Vec<Statement>,
}

/// Turns the text of a rendered template into the operations that write it: each comment and each setting.
///
/// # Errors
///
/// The text is no configuration, which a test of the templates excludes.
pub fn operations(text: &str) -> Result<Vec<EditOperation>, EditError> {
    let comments = text.lines().filter(|line| is_comment(line));
    let marks = comments.map(|line| EditOperation::Set {
        key: line.to_owned(),
        value: String::new(),
    });
    let file = XlCfg::parse(text.as_bytes())?;
    let settings = file.statements.iter().map(|statement| {
        Ok(EditOperation::Set {
            key: statement.key.clone(),
            value: file.text(statement)?,
        })
    });
    marks.map(Ok).chain(settings).collect()
}

/// Checks that a text is exactly one value, so that nothing else gets into the file with it.
///
/// # Errors
///
/// It is none, or more than one.
pub fn check_value(text: &str) -> Result<(), EditError> {
    scan::value(text).map(|_| ())
}

impl XlCfg {
    /// Takes a file apart.
    ///
    /// # Errors
    ///
    /// What xl itself refuses, with its line; a Python file of the old `xm` among it.
    pub fn parse(bytes: &[u8]) -> Result<Self, EditError> {
        Ok(Self {
            bytes: bytes.to_vec(),
            statements: scan::statements(bytes)?,
        })
    }

    /// Returns the source text of a key's value: of the last statement, as xl does.
    ///
    /// # Errors
    ///
    /// The key is added to with `+=`, or its value is no UTF-8.
    pub fn value(&self, key: &str) -> Result<Option<String>, EditError> {
        if is_comment(key) {
            return Ok(self.find_comment(key).map(|_| String::new()));
        }
        self.find(key)?.map(|statement| self.text(statement)).transpose()
    }

    /// Returns the plain text of a key whose value is a string or a number; `None` if it is absent or a list.
    pub fn plain(&self, key: &str) -> Option<String> {
        match &self
            .statements
            .iter()
            .rfind(|statement| statement.key == key)?
            .value
        {
            Value::Atom { plain, .. } => Some(String::from_utf8_lossy(plain).into_owned()),
            Value::List { .. } => None,
        }
    }

    /// Returns the lines, from 1, on which a key stands.
    pub fn lines_of(&self, key: &str) -> Vec<usize> {
        self.statements
            .iter()
            .filter(|statement| statement.key == key)
            .map(|statement| statement.line)
            .collect()
    }

    /// Gives a key a value. A key that is there keeps its place and everything around its value; a new one comes last.
    ///
    /// # Errors
    ///
    /// The text is not exactly one value, or the key is added to with `+=`.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), EditError> {
        if is_comment(key) {
            if self.find_comment(key).is_none() {
                self.append(key);
            }
            return Ok(());
        }
        check_value(value)?;
        match self.find(key)? {
            Some(statement) => {
                let range = statement.value.range();
                self.bytes.splice(range, value.bytes());
            }
            None => self.append(&format!("{key} = {value}")),
        }
        self.look_again()
    }

    /// Takes a key out, with its line if nothing else stands on it.
    ///
    /// # Errors
    ///
    /// The key stands twice: with the last gone, the one before would count.
    pub fn remove(&mut self, key: &str) -> Result<(), EditError> {
        if is_comment(key) {
            if let Some(range) = self.find_comment(key) {
                self.bytes.drain(range);
            }
            return self.look_again();
        }
        if let [first, second, ..] = self.lines_of(key)[..] {
            return Err(EditError::Duplicate {
                key: key.to_owned(),
                first,
                second,
            });
        }
        if let Some(statement) = self.find(key)? {
            let range = self.removal(statement);
            self.bytes.drain(range);
        }
        self.look_again()
    }

    /// Returns the file's bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn text(&self, statement: &Statement) -> Result<String, EditError> {
        let bytes = &self.bytes[statement.value.range()];
        String::from_utf8(bytes.to_vec()).map_err(|_| EditError::Malformed {
            line: statement.line,
            message: format!("the value of `{}` is no UTF-8", statement.key),
        })
    }

    fn find(&self, key: &str) -> Result<Option<&Statement>, EditError> {
        let mut of_key = self.statements.iter().filter(|statement| statement.key == key);
        if let Some(added) = of_key
            .clone()
            .find(|statement| statement.operator == Operator::Add)
        {
            return Err(EditError::Malformed {
                line: added.line,
                message: format!("`{key}` is added to with `+=`; write it as one `{key} = [ … ]`"),
            });
        }
        Ok(of_key.next_back())
    }

    /// Finds the line that equals a comment, with its end.
    fn find_comment(&self, comment: &str) -> Option<Range<usize>> {
        let mut begin = 0;
        for line in self.bytes.split_inclusive(|&byte| byte == b'\n') {
            let end = begin + line.len();
            let inside = |statement: &&Statement| {
                let range = statement.value.range();
                range.start < begin && begin < range.end
            };
            // A line within a list is part of its value.
            if line.trim_ascii() == comment.as_bytes() && !self.statements.iter().any(|one| inside(&one)) {
                return Some(begin..end);
            }
            begin = end;
        }
        None
    }

    fn append(&mut self, line: &str) {
        let end: &[u8] = match self.bytes.windows(2).any(|pair| pair == b"\r\n") {
            true => b"\r\n",
            false => b"\n",
        };
        if !self.bytes.is_empty() && !self.bytes.ends_with(b"\n") {
            self.bytes.extend_from_slice(end);
        }
        self.bytes.extend_from_slice(line.as_bytes());
        self.bytes.extend_from_slice(end);
    }

    fn look_again(&mut self) -> Result<(), EditError> {
        self.statements = scan::statements(&self.bytes)?;
        Ok(())
    }

    /// Returns what goes with a statement: its lines if it is alone there, else it with one `;`.
    fn removal(&self, statement: &Statement) -> Range<usize> {
        let (start, end) = (statement.start, statement.value.range().end);
        let blank = |byte: &&u8| **byte == b' ' || **byte == b'\t';
        let before = &self.bytes[..start];
        let line_start = before
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        let first = before[line_start..].trim_ascii().is_empty();
        let skip_blanks = |from: usize| from + self.bytes[from..].iter().take_while(blank).count();
        let mut after = skip_blanks(end);
        let ended_by_semicolon = self.bytes.get(after) == Some(&b';');
        if ended_by_semicolon {
            after = skip_blanks(after + 1);
        }
        let rest = self.bytes[after..].split(|&byte| byte == b'\n').next();
        let rest = rest.unwrap_or_default().trim_ascii();
        if first && (rest.is_empty() || rest.starts_with(b"#")) {
            let line_end = self.bytes[after..].iter().position(|&byte| byte == b'\n');
            return line_start..line_end.map_or(self.bytes.len(), |at| after + at + 1);
        }
        if ended_by_semicolon {
            return start..after;
        }
        let semicolon = before.iter().rposition(|&byte| byte == b';');
        semicolon.unwrap_or(start)..end
    }
}

fn is_comment(key: &str) -> bool {
    key.starts_with('#')
}

#[cfg(test)]
mod tests;
