//! Our own blocks in files of others: lines between `# vmserial begin NAME` and `# vmserial end NAME`, all else left alone.

use crate::render::edit::EditError;
use crate::render::lines;

/// A file of lines in which blocks of ours stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkedFile {
    /// With their ends.
    lines: Vec<String>,
}

fn begin(name: &str) -> String {
    format!("# vmserial begin {name}")
}

fn end(name: &str) -> String {
    format!("# vmserial end {name}")
}

fn malformed(line: usize, message: &str) -> EditError {
    EditError::Malformed {
        line,
        message: message.to_owned(),
    }
}

impl MarkedFile {
    /// Takes a file apart.
    ///
    /// # Errors
    ///
    /// It is no UTF-8.
    pub fn parse(bytes: &[u8]) -> Result<Self, EditError> {
        Ok(Self {
            lines: lines::split(bytes)?,
        })
    }

    /// Finds the lines of a block, its marks among them.
    fn find(&self, name: &str) -> Result<Option<std::ops::Range<usize>>, EditError> {
        let places = |mark: &str| -> Vec<usize> {
            let lines = self.lines.iter().enumerate();
            lines
                .filter(|(_, line)| line.trim_end() == mark)
                .map(|(at, _)| at)
                .collect()
        };
        match (places(&begin(name)).as_slice(), places(&end(name)).as_slice()) {
            ([], []) => Ok(None),
            ([first], [last]) if first < last => Ok(Some(*first..last + 1)),
            ([first, second, ..], _) => Err(EditError::Duplicate {
                key: name.to_owned(),
                first: first + 1,
                second: second + 1,
            }),
            ([line, ..], _) | ([], [line, ..]) => Err(malformed(
                line + 1,
                &format!("the marks of vmserial's block `{name}` do not fit each other"),
            )),
        }
    }

    /// Returns a block's text; `None` if it is not there.
    ///
    /// # Errors
    ///
    /// Its marks do not fit each other.
    pub fn value(&self, name: &str) -> Result<Option<String>, EditError> {
        Ok(self
            .find(name)?
            .map(|range| self.lines[range.start + 1..range.end - 1].concat()))
    }

    /// Puts a block in the place of the one that is there, or at the end.
    ///
    /// # Errors
    ///
    /// The marks of the present one do not fit each other, or the text has such a mark.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), EditError> {
        if text.lines().any(|line| line.starts_with("# vmserial ")) {
            return Err(malformed(0, "the text has a mark of vmserial's own"));
        }
        let mut block = vec![format!("{}\n", begin(name))];
        block.extend(
            text.split_inclusive('\n')
                .map(|line| format!("{}\n", line.trim_end_matches('\n'))),
        );
        block.push(format!("{}\n", end(name)));
        match self.find(name)? {
            Some(range) => {
                self.lines.splice(range, block);
            }
            None => lines::append(&mut self.lines, block),
        }
        Ok(())
    }

    /// Takes a block away.
    ///
    /// # Errors
    ///
    /// Its marks do not fit each other.
    pub fn remove(&mut self, name: &str) -> Result<(), EditError> {
        if let Some(range) = self.find(name)? {
            self.lines.drain(range);
        }
        Ok(())
    }

    /// Returns the file's bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.lines.concat().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn set(before: &str, name: &str, text: &str) -> String {
        let mut file = MarkedFile::parse(before.as_bytes()).unwrap();
        file.set(name, text).unwrap();
        String::from_utf8(file.into_bytes()).unwrap()
    }

    #[test]
    fn a_block_stands_at_the_end_and_is_replaced_in_its_place() {
        let one = set("a=1\n", "x", "b=2\n");
        assert_eq!(one, "a=1\n# vmserial begin x\nb=2\n# vmserial end x\n");
        assert_eq!(set(&one, "x", "b=2\n"), one);
        let two = set(&format!("{one}c=3\n"), "x", "b=4\nb=5\n");
        assert_eq!(two, "a=1\n# vmserial begin x\nb=4\nb=5\n# vmserial end x\nc=3\n");
        let mut file = MarkedFile::parse(two.as_bytes()).unwrap();
        assert_eq!(file.value("x").unwrap().unwrap(), "b=4\nb=5\n");
        assert_eq!(file.value("y").unwrap(), None);
        file.remove("x").unwrap();
        assert_eq!(file.into_bytes(), b"a=1\nc=3\n");
    }

    #[test]
    fn marks_that_do_not_fit_are_refused() {
        for text in [
            "# vmserial begin x\n",
            "# vmserial end x\n",
            "# vmserial end x\n# vmserial begin x\n",
        ] {
            assert!(
                matches!(
                    MarkedFile::parse(text.as_bytes()).unwrap().value("x"),
                    Err(EditError::Malformed { .. })
                ),
                "{text}"
            );
        }
        let twice = "# vmserial begin x\n# vmserial end x\n".repeat(2);
        assert!(matches!(
            MarkedFile::parse(twice.as_bytes()).unwrap().value("x"),
            Err(EditError::Duplicate { .. })
        ));
        assert!(
            MarkedFile::parse(b"")
                .unwrap()
                .set("x", "# vmserial end x\n")
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn setting_and_removing_leaves_every_other_byte(text in "([ -~]{0,20}\n){0,8}", block in "([a-z=]{0,9}\n){0,4}") {
            let with = set(&text, "kgdb", &block);
            let mut file = MarkedFile::parse(with.as_bytes()).unwrap();
            prop_assert_eq!(file.value("kgdb").unwrap().unwrap(), block);
            file.remove("kgdb").unwrap();
            prop_assert_eq!(String::from_utf8(file.into_bytes()).unwrap(), text);
        }
    }
}
