//! The command of an `exec:` endpoint.

use std::fmt;
use std::hash::{Hash, Hasher};

/// A program and its arguments, never empty. Two are equal if their words are.
#[derive(Debug, Clone)]
pub struct ExecCommand {
    words: Vec<String>,
    written: Option<String>,
}

impl ExecCommand {
    /// Takes a command line; its words are split as a shell splits them. `None` if quotes do not match or there is no word.
    pub fn from_line(line: &str) -> Option<Self> {
        let words = shlex::split(line).filter(|words| !words.is_empty())?;
        Some(Self {
            words,
            written: Some(line.trim_start().to_owned()),
        })
    }

    /// Takes the words. `None` if there is no program, or a word that no command line can hold (a NUL).
    pub fn from_words(words: Vec<String>) -> Option<Self> {
        let can_be_written = words.first().is_some_and(|program| !program.is_empty())
            && !words.iter().any(|word| word.contains('\0'));
        can_be_written.then_some(Self { words, written: None })
    }

    /// Returns the program and its arguments.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// Returns the program.
    pub fn program(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// Returns the command line as it was written, if it was: Windows programs split theirs by themselves.
    pub fn written(&self) -> Option<&str> {
        self.written.as_deref()
    }
}

impl fmt::Display for ExecCommand {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.written {
            Some(line) => formatter.write_str(line),
            None => {
                let words = self.words.iter().map(String::as_str);
                formatter.write_str(&shlex::try_join(words).map_err(|_| fmt::Error)?)
            }
        }
    }
}

impl PartialEq for ExecCommand {
    fn eq(&self, other: &Self) -> bool {
        self.words == other.words
    }
}

impl Eq for ExecCommand {}

impl Hash for ExecCommand {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.words.hash(state);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_line_is_split_and_shown_as_it_was_written() {
        let command = ExecCommand::from_line(r" nc -U 'a b' \c").unwrap();
        assert_eq!(command.words(), ["nc", "-U", "a b", "c"]);
        assert_eq!(command.program(), "nc");
        assert_eq!(command.to_string(), r"nc -U 'a b' \c");
        assert_eq!(command.written(), Some(r"nc -U 'a b' \c"));
        assert!(ExecCommand::from_line("'").is_none() && ExecCommand::from_line(" ").is_none());
    }

    #[test]
    fn words_are_shown_as_a_line_that_splits_into_them() {
        let words = vec!["a b".to_owned(), "it's".to_owned(), String::new()];
        let command = ExecCommand::from_words(words).unwrap();
        assert_eq!(ExecCommand::from_line(&command.to_string()).unwrap(), command);
        assert_eq!(command.written(), None);
        assert!(ExecCommand::from_words(Vec::new()).is_none());
        assert!(ExecCommand::from_words(vec!["\0".to_owned()]).is_none());
    }
}
