//! What `bcdedit` prints, taken apart by the names of elements alone.
//!
//! Headers, the name of the identifier and the last sentence are in the system's language; names of elements, `Yes` and `No` are
//! not (seen on German and French systems). An element stands at the beginning of a line, in lowercase ASCII, its value in column
//! 25; further values stand below it.

use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;

/// Where a value begins.
const COLUMN: usize = 24;

/// Elements whose values are never shown: the key of debugging over a network.
const SECRET: &[&str] = &["key"];

/// Stands for a value that is not shown.
pub const HIDDEN: &str = "***";

/// Elements with their values, in the order of their names.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Elements(BTreeMap<String, Vec<String>>);

/// One object of the store.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Object {
    /// `{current}`, or a GUID in braces: the first element, whatever it is called.
    pub identifier: String,
    /// All elements.
    pub elements: Elements,
}

impl Elements {
    /// Returns the first value of an element.
    pub fn get(&self, name: &str) -> Option<&str> {
        Some(self.0.get(name)?.first()?.as_str())
    }

    /// Tells whether an element says yes. One that is absent does not.
    pub fn is_on(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| value.eq_ignore_ascii_case("yes"))
    }

    /// Returns names and first values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .filter_map(|(name, values)| Some((name.as_str(), values.first()?.as_str())))
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the value as people may see it.
    pub fn shown(&self, name: &str) -> Option<&str> {
        let value = self.get(name)?;
        Some(if is_secret(name) { HIDDEN } else { value })
    }
}

/// Tells whether an element's value is never shown.
pub fn is_secret(name: &str) -> bool {
    SECRET.contains(&name)
}

impl fmt::Debug for Elements {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.iter().map(|(name, values)| match is_secret(name) {
            true => (name, vec![HIDDEN.to_owned()]),
            false => (name, values.clone()),
        });
        formatter.debug_map().entries(shown).finish()
    }
}

impl Serialize for Elements {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.keys().map(|name| (name, self.shown(name))))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Elements {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(all: I) -> Self {
        Self(
            all.into_iter()
                .map(|(name, value)| (name.into(), vec![value.into()]))
                .collect(),
        )
    }
}

/// Reads the objects of `/enum`.
pub fn objects(text: &str) -> Vec<Object> {
    let mut objects: Vec<Object> = Vec::new();
    let mut newest: Option<String> = None;
    let mut begins = false;
    for line in text.lines().map(str::trim_end) {
        if !line.is_empty() && line.bytes().all(|byte| byte == b'-') {
            begins = true;
            continue;
        }
        if begins {
            // The identifier, under a name in the system's language.
            if let Some(at) = line.rfind('{').filter(|_| line.ends_with('}')) {
                objects.push(Object {
                    identifier: line[at..].to_owned(),
                    elements: Elements::default(),
                });
                begins = false;
                newest = None;
            }
            continue;
        }
        let Some(object) = objects.last_mut() else {
            continue;
        };
        take(line, &mut object.elements, &mut newest);
    }
    objects
}

/// Reads elements that stand alone, as `/dbgsettings` prints them.
pub fn settings(text: &str) -> Elements {
    let mut elements = Elements::default();
    let mut newest = None;
    for line in text.lines() {
        take(line.trim_end(), &mut elements, &mut newest);
    }
    elements
}

fn take(line: &str, elements: &mut Elements, newest: &mut Option<String>) {
    if line.is_empty() {
        *newest = None;
        return;
    }
    let Some(name) = name_of(line) else {
        // A further value stands in the values' column, under nothing.
        let further = line.get(..COLUMN).is_some_and(|front| front.trim().is_empty());
        if let (true, Some(name)) = (further, newest.as_ref())
            && let Some(values) = elements.0.get_mut(name)
        {
            values.push(line.trim().to_owned());
        }
        return;
    };
    let value = line[name.len()..].trim().to_owned();
    elements.0.insert(name.to_owned(), vec![value]);
    *newest = Some(name.to_owned());
}

/// Returns the name of the element that a line begins with. Sentences are none: their words are not lowercase ASCII with the
/// next one in the values' column.
fn name_of(line: &str) -> Option<&str> {
    let name = line.split(' ').next()?;
    let rest = line.get(name.len()..)?;
    let gap = rest.len() - rest.trim_start().len();
    let is_name = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b':');
    let in_column = name.len() + gap == COLUMN || (name.len() >= COLUMN && gap == 1);
    (is_name && in_column && !rest.trim().is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ENGLISH: &str = include_str!("../../../tests/data/windows/enum-current.en.txt");
    const GERMAN: &str = include_str!("../../../tests/data/windows/enum-current.de.txt");
    const FRENCH: &str = include_str!("../../../tests/data/windows/enum-current.fr.txt");
    const ALL_GERMAN: &str = include_str!("../../../tests/data/windows/enum-settings.de.txt");
    const NET: &str = include_str!("../../../tests/data/windows/dbgsettings-net.en.txt");
    const LOCAL: &str = include_str!("../../../tests/data/windows/dbgsettings-local.en.txt");

    #[test]
    fn an_entry_is_read_in_every_language() {
        for (text, id) in [
            (ENGLISH, "{5189b25c-0000-4bf2-bca4-289b11bd29e2}"),
            (GERMAN, "{current}"),
            (FRENCH, "{current}"),
        ] {
            let found = objects(text);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].identifier, id);
            assert_eq!(found[0].elements.get("osdevice"), Some("partition=C:"));
            assert!(found[0].elements.is_on("recoveryenabled"));
            assert!(!found[0].elements.is_on("debug"));
        }
        assert!(objects(FRENCH)[0].elements.get("description").is_some());
    }

    #[test]
    fn objects_stand_one_after_another() {
        let found = objects(ALL_GERMAN);
        let ids: Vec<&str> = found.iter().map(|object| object.identifier.as_str()).collect();
        assert_eq!(ids, ["{emssettings}", "{dbgsettings}", "{globalsettings}"]);
        assert_eq!(found[0].elements.get("bootems"), Some("No"));
        assert_eq!(found[1].elements.get("debugtype"), Some("Local"));
        // Three values, of which only the first has the name before it.
        assert_eq!(found[2].elements.0["inherit"].len(), 3);
    }

    #[test]
    fn settings_are_read_and_the_sentence_behind_them_is_none() {
        let local: Vec<(String, String)> = settings(LOCAL)
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        assert_eq!(local, [("debugtype".to_owned(), "Local".to_owned())]);
        let net = settings(NET);
        assert_eq!(net.get("hostip"), Some("192.168.2.10"));
        assert_eq!(net.get("key"), Some("1.2.3.4"));
        assert_eq!(net.0.len(), 6, "{net:?}");
    }

    #[test]
    fn a_key_is_never_shown() {
        let net = settings(NET);
        let json = serde_json::to_string(&net).unwrap_or_default();
        for shown in [format!("{net:?}"), json] {
            assert!(shown.contains(HIDDEN) && !shown.contains("1.2.3.4"), "{shown}");
        }
        assert_eq!(net.shown("key"), Some(HIDDEN));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(names in proptest::collection::btree_map("[a-z]{1,20}", "[A-Za-z0-9={}:.]{1,30}", 0..8)) {
            let text: String = names.iter().map(|(name, value)| format!("{name:<24}{value}\r\n")).collect();
            let read = settings(&format!("{text}L'op\u{e9}ration a r\u{e9}ussi.\r\n"));
            let expected: Elements = names.into_iter().collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn nothing_makes_it_panic(text in "(-{1,5}|\\{x\\}|debug|  |é|Yes|\r\n|\n|[a-z]{20,30} x){0,30}") {
            objects(&text);
            settings(&text);
        }
    }
}
