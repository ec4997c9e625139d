//! Boot entries in files of their own (Boot Loader Specification): a key and its value a line. Every other byte stays.

use crate::render::edit::EditError;
use crate::render::lines;

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoaderEntry {
    /// With their ends.
    lines: Vec<String>,
}

fn key_of(line: &str) -> Option<&str> {
    let line = line.trim_start();
    if line.starts_with('#') {
        return None;
    }
    line.split_whitespace().next()
}

impl LoaderEntry {
    /// Takes an entry apart.
    ///
    /// # Errors
    ///
    /// It is no UTF-8.
    pub fn parse(bytes: &[u8]) -> Result<Self, EditError> {
        Ok(Self {
            lines: lines::split(bytes)?,
        })
    }

    fn find(&self, key: &str) -> Result<Option<usize>, EditError> {
        let lines = self.lines.iter().enumerate();
        let places: Vec<usize> = lines
            .filter(|(_, line)| key_of(line) == Some(key))
            .map(|(at, _)| at)
            .collect();
        match places.as_slice() {
            [] => Ok(None),
            [line] => Ok(Some(*line)),
            [first, second, ..] => Err(EditError::Duplicate {
                key: key.to_owned(),
                first: first + 1,
                second: second + 1,
            }),
        }
    }

    /// Returns a key's value.
    ///
    /// # Errors
    ///
    /// It stands twice (as `options` and `initrd` may: then none of them is the value).
    pub fn value(&self, key: &str) -> Result<Option<String>, EditError> {
        Ok(self.find(key)?.map(|at| {
            let line = self.lines[at].trim();
            line[key.len()..].trim().to_owned()
        }))
    }

    /// Sets a key's value, at the end if it is new.
    ///
    /// # Errors
    ///
    /// It stands twice, or the value has a line break.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), EditError> {
        if value.contains(['\n', '\r']) {
            return Err(EditError::Malformed {
                line: 0,
                message: format!("the value of `{key}` has a line break"),
            });
        }
        match self.find(key)? {
            Some(at) => {
                let line = &self.lines[at];
                let start = line.len() - line.trim_start().len() + key.len();
                let gap = line[start..].len() - line[start..].trim_start_matches([' ', '\t']).len();
                let gap = if gap == 0 { " " } else { &line[start..start + gap] };
                let end = &line[line.trim_end_matches(['\n', '\r']).len()..];
                self.lines[at] = format!("{}{gap}{value}{end}", &line[..start]);
            }
            None => lines::append(&mut self.lines, [format!("{key} {value}\n")]),
        }
        Ok(())
    }

    /// Takes a key away.
    ///
    /// # Errors
    ///
    /// It stands twice.
    pub fn remove(&mut self, key: &str) -> Result<(), EditError> {
        if let Some(at) = self.find(key)? {
            self.lines.remove(at);
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

    const ENTRY: &str = "title Fedora Linux (6.11)\n# options none\nversion\t6.11\nlinux /vmlinuz-6.11\noptions root=UUID=1 ro rhgb quiet $tuned_params\ngrub_users $grub_users";

    #[test]
    fn one_value_changes_and_nothing_else() {
        let mut entry = LoaderEntry::parse(ENTRY.as_bytes()).unwrap();
        assert_eq!(
            entry.value("options").unwrap().unwrap(),
            "root=UUID=1 ro rhgb quiet $tuned_params"
        );
        assert_eq!(entry.value("version").unwrap().unwrap(), "6.11");
        assert_eq!(entry.value("opt").unwrap(), None);
        entry.set("options", "a b").unwrap();
        entry.set("version", "7").unwrap();
        entry.set("sort-key", "z").unwrap();
        let expected = ENTRY
            .replace("root=UUID=1 ro rhgb quiet $tuned_params", "a b")
            .replace("version\t6.11", "version\t7");
        assert_eq!(
            String::from_utf8(entry.clone().into_bytes()).unwrap(),
            format!("{expected}\nsort-key z\n")
        );
        entry.remove("sort-key").unwrap();
        assert_eq!(entry.value("sort-key").unwrap(), None);
        assert!(entry.set("title", "a\nb").is_err());
    }

    #[test]
    fn a_key_that_stands_twice_has_no_certain_value() {
        let entry = LoaderEntry::parse(b"initrd /a\ninitrd /b\n").unwrap();
        assert!(matches!(
            entry.value("initrd"),
            Err(EditError::Duplicate {
                first: 1,
                second: 2,
                ..
            })
        ));
    }
}
