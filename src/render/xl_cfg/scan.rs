//! Takes a configuration file apart as xl's own scanner and grammar do.

use crate::render::edit::EditError;
use std::ops::Range;

/// `=` or `+=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Assign,
    Add,
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// A string or a number.
    Atom {
        range: Range<usize>,
        /// Without quotes and escapes.
        plain: Vec<u8>,
    },
    /// A list.
    List { range: Range<usize>, values: Vec<Value> },
}

impl Value {
    /// Where it stands, quotes and brackets included.
    pub(super) fn range(&self) -> Range<usize> {
        match self {
            Self::Atom { range, .. } | Self::List { range, .. } => range.clone(),
        }
    }
}

/// `key = value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) key: String,
    pub(super) operator: Operator,
    pub(super) value: Value,
    /// Where the key begins.
    pub(super) start: usize,
    /// From 1.
    pub(super) line: usize,
}

/// Lists in lists in lists are nobody's configuration, and each level is a call.
const MOST_LEVELS: usize = 16;

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Returns all statements.
pub(super) fn statements(bytes: &[u8]) -> Result<Vec<Statement>, EditError> {
    let mut scanner = Scanner { bytes, at: 0 };
    let mut found = Vec::new();
    loop {
        scanner.skip_blanks();
        match scanner.peek() {
            None => return Ok(found),
            Some(b'\n' | b';') => scanner.at += 1,
            Some(_) => found.push(scanner.statement()?),
        }
    }
}

/// Takes one value apart that is the whole text.
pub(super) fn value(text: &str) -> Result<Value, EditError> {
    let mut scanner = Scanner {
        bytes: text.as_bytes(),
        at: 0,
    };
    let value = scanner.value(0)?;
    if value.range() == (0..text.len()) {
        return Ok(value);
    }
    Err(EditError::Malformed {
        line: 0,
        message: format!("`{text}` is not one value"),
    })
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn line(&self) -> usize {
        1 + self.bytes[..self.at]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count()
    }

    fn refuse<T>(&self, message: &str) -> Result<T, EditError> {
        Err(EditError::Malformed {
            line: self.line(),
            message: message.to_owned(),
        })
    }

    /// Skips blanks and comments, not line breaks. The CR of a CRLF is blank here, though xl itself refuses it.
    fn skip_blanks(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' => self.at += 1,
                b'\r' if matches!(self.bytes.get(self.at + 1), None | Some(b'\n')) => self.at += 1,
                b'#' => {
                    let length = self.bytes[self.at..].iter().take_while(|&&byte| byte != b'\n');
                    self.at += length.count();
                }
                _ => return,
            }
        }
    }

    fn skip_lines(&mut self) {
        self.skip_blanks();
        while self.peek() == Some(b'\n') {
            self.at += 1;
            self.skip_blanks();
        }
    }

    fn statement(&mut self) -> Result<Statement, EditError> {
        let (start, line) = (self.at, self.line());
        let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
        if !self.peek().is_some_and(is_letter) {
            return self.refuse("expected `key = value`, a comment or a blank line");
        }
        while self
            .peek()
            .is_some_and(|byte| is_letter(byte) || byte.is_ascii_digit())
        {
            self.at += 1;
        }
        let key = String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned();
        self.skip_blanks();
        let operator = match self.bytes.get(self.at..).unwrap_or_default() {
            [b'=', ..] => Operator::Assign,
            [b'+', b'=', ..] => Operator::Add,
            _ => return self.refuse(&format!("expected `=` behind `{key}`")),
        };
        self.at += if operator == Operator::Add { 2 } else { 1 };
        self.skip_blanks();
        let value = self.value(0)?;
        self.skip_blanks();
        match self.peek() {
            None | Some(b'\n' | b';') => Ok(Statement {
                key,
                operator,
                value,
                start,
                line,
            }),
            Some(_) => self.refuse(&format!(
                "expected the end of the line behind the value of `{key}`"
            )),
        }
    }

    fn value(&mut self, level: usize) -> Result<Value, EditError> {
        let start = self.at;
        match self.peek() {
            Some(quote @ (b'\'' | b'"')) => {
                let plain = self.string(quote)?;
                let range = start..self.at;
                Ok(Value::Atom { range, plain })
            }
            Some(b'0'..=b'9') => {
                let digits = self.bytes[start..]
                    .iter()
                    .take_while(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f' | b'x'));
                self.at += digits.count();
                let range = start..self.at;
                let plain = self.bytes[range.clone()].to_vec();
                Ok(Value::Atom { range, plain })
            }
            Some(b'[') if level < MOST_LEVELS => self.list(start, level),
            _ => self.refuse("expected a value: a string in quotes, a number or a list"),
        }
    }

    fn list(&mut self, start: usize, level: usize) -> Result<Value, EditError> {
        self.at += 1;
        let mut values = Vec::new();
        loop {
            self.skip_lines();
            if self.peek() == Some(b']') {
                break;
            }
            values.push(self.value(level + 1)?);
            self.skip_lines();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return self.refuse("expected `,` or `]` in a list"),
            }
        }
        self.at += 1;
        Ok(Value::List {
            range: start..self.at,
            values,
        })
    }

    /// Reads a string with its quotes; returns it without them and without escapes (`xlu__cfgl_dequote`).
    fn string(&mut self, quote: u8) -> Result<Vec<u8>, EditError> {
        let unended = "a string without its end on the same line";
        self.at += 1;
        let mut plain = Vec::new();
        loop {
            let Some(byte) = self.peek().filter(|&byte| byte != b'\n') else {
                return self.refuse(unended);
            };
            self.at += 1;
            if byte == quote {
                return Ok(plain);
            }
            if byte != b'\\' {
                plain.push(byte);
                continue;
            }
            let Some(escaped) = self.peek().filter(|&byte| byte != b'\n') else {
                return self.refuse(unended);
            };
            self.at += 1;
            plain.push(match escaped {
                b'"' | b'\'' | b'\\' => escaped,
                b'a' => 0x07,
                b'b' => 0x08,
                b'f' => 0x0c,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'v' => 0x0b,
                b'x' => self.number(16, 2, 2)?,
                b'0'..=b'7' => {
                    self.at -= 1;
                    self.number(8, 1, 3)?
                }
                _ => return self.refuse("an unknown escape in a string"),
            });
        }
    }

    fn number(&mut self, base: u32, least: usize, most: usize) -> Result<u8, EditError> {
        let (mut number, mut digits) = (0_u32, 0);
        while digits < most
            && let Some(digit) = self.peek().and_then(|byte| char::from(byte).to_digit(base))
        {
            number = number * base + digit;
            digits += 1;
            self.at += 1;
        }
        match u8::try_from(number) {
            Ok(byte) if digits >= least && byte != 0 => Ok(byte),
            _ => self.refuse("an escape in a string that is no character"),
        }
    }
}
