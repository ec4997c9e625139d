//! How boot settings are taken back: the elements that we changed, and those that went away by it, nothing else.

use super::bcd::{Elements, is_secret, objects, settings};
use super::facts::DEBUGGER;
use super::program::line;
use crate::plan::BootSettingsUndo;
use crate::plan::take_back::ThreeVersions;
use std::collections::BTreeSet;

/// Elements that some kind of debugger connection has. Those that were not there before us go away again.
const OF_CONNECTIONS: [&str; 9] = [
    "baudrate",
    "busparams",
    "channel",
    "debugport",
    "dhcp",
    "hostip",
    "key",
    "port",
    "targetname",
];

/// How boot settings are, against what we made of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// As before us.
    Before,
    /// As we left them, or on the way there.
    Ours,
    /// Somebody else changed these after us.
    Foreign(Vec<ThreeVersions>),
}

/// Reads what an undo's look printed.
pub fn read(object: &str, text: &str) -> Elements {
    if object == DEBUGGER {
        return settings(text);
    }
    let first = objects(text).into_iter().next();
    first.map(|object| object.elements).unwrap_or_default()
}

fn same(one: Option<&str>, other: Option<&str>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
        (one, other) => one == other,
    }
}

/// Compares what is there with what was before us and what we wrote. A change of several elements that was cut off in the middle
/// is ours.
pub fn state(undo: &BootSettingsUndo, now: &Elements) -> State {
    let mut foreign = Vec::new();
    let mut is_before = true;
    for (name, ours) in &undo.ours {
        let before = undo.before.get(name).and_then(Option::as_deref);
        let now = now.get(name);
        if same(now, before) {
            continue;
        }
        is_before = false;
        if !same(now, Some(ours)) {
            foreign.push(ThreeVersions {
                key: name.clone(),
                before: before.map(ToOwned::to_owned),
                ours: Some(ours.clone()),
                now: now.map(ToOwned::to_owned),
            });
        }
    }
    match (foreign.is_empty(), is_before) {
        (false, _) => State::Foreign(foreign),
        (true, true) => State::Before,
        (true, false) => State::Ours,
    }
}

/// Returns what is to be run so that the elements are as they were, from how they are now; nothing is left when it is empty. The
/// first round uses the documented command that sets a whole connection, later ones mend single elements.
pub fn runs(undo: &BootSettingsUndo, before: &Elements, now: &Elements, first: bool) -> Vec<Vec<String>> {
    let whole = undo.object == DEBUGGER;
    let mut names: BTreeSet<&str> = undo.ours.keys().map(String::as_str).collect();
    if whole {
        names.extend(OF_CONNECTIONS);
        names.extend(before.iter().map(|(name, _)| name));
    }
    // What is not ours and is there stays as it is: somebody may have made a new key.
    let wanted = |name: &str| match (before.get(name), now.get(name)) {
        (Some(_), Some(now)) if !undo.ours.contains_key(name) => Some(now),
        (before, _) => before,
    };
    let different: Vec<&str> = names
        .into_iter()
        .filter(|name| !same(now.get(name), wanted(name)))
        .collect();
    if different.is_empty() {
        return Vec::new();
    }
    if whole
        && first
        && let Some(words) = connection(&wanted)
    {
        return vec![words];
    }
    let object = undo.object.as_str();
    let single = |name: &&str| match wanted(name) {
        Some(value) => line("bcdedit", ["/set", object, name, value]),
        None => line("bcdedit", ["/deletevalue", object, name]),
    };
    different.iter().map(single).collect()
}

/// Returns the documented command for a connection; `None` where an element of it is missing or its kind is another.
fn connection<'a>(wanted: &dyn Fn(&str) -> Option<&'a str>) -> Option<Vec<String>> {
    let option = |name: &str| Some(format!("{name}:{}", wanted(name)?));
    let kind = wanted("debugtype")?;
    let mut words = line("bcdedit", ["/dbgsettings", kind]);
    match kind.to_ascii_lowercase().as_str() {
        "local" => {}
        "serial" => words.extend([option("debugport")?, option("baudrate")?]),
        "1394" => words.extend([option("channel")?]),
        "usb" => words.extend([option("targetname")?]),
        "net" => {
            words.extend([option("hostip")?, option("port")?, option("key")?]);
            words.extend(option("busparams"));
            let fixed = wanted("dhcp").is_some_and(|dhcp| dhcp.eq_ignore_ascii_case("no"));
            words.extend(fixed.then(|| "nodhcp".to_owned()));
        }
        _ => return None,
    }
    Some(words)
}

/// Writes what an undo will do, for people: names and values, secrets masked.
pub fn shown(undo: &BootSettingsUndo, before: &Elements, now: &Elements) -> String {
    let mut text = String::new();
    for run in runs(undo, before, now, true) {
        let words: Vec<String> = run
            .iter()
            .map(|word| match word.split_once(':') {
                Some((name, _)) if is_secret(name) => format!("{name}:***"),
                _ => word.clone(),
            })
            .collect();
        text.push_str(&words.join(" "));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::guest::windows::program;
    use proptest::prelude::*;

    fn undo(object: &str, before: &Elements, ours: &[(&str, &str)]) -> BootSettingsUndo {
        BootSettingsUndo {
            name: "settings".to_owned(),
            object: object.to_owned(),
            look: program::one("bcdedit", ["/dbgsettings"]),
            before: ours
                .iter()
                .map(|(name, _)| ((*name).to_owned(), before.get(name).map(ToOwned::to_owned)))
                .collect(),
            ours: ours
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    const SERIAL: [(&str, &str); 3] = [
        ("debugtype", "Serial"),
        ("debugport", "1"),
        ("baudrate", "115200"),
    ];

    fn elements(all: &[(&str, &str)]) -> Elements {
        all.iter().copied().collect()
    }

    fn lines(runs: &[Vec<String>]) -> Vec<String> {
        runs.iter().map(|run| run[1..].join(" ")).collect()
    }

    const NET: [(&str, &str); 6] = [
        ("busparams", "0.25.0"),
        ("debugtype", "NET"),
        ("dhcp", "Yes"),
        ("hostip", "10.0.0.2"),
        ("key", "1.2.3.4"),
        ("port", "50000"),
    ];

    #[test]
    fn every_kind_of_connection_comes_back() {
        let table: [(&[(&str, &str)], &str); 5] = [
            (&[("debugtype", "Local")], "/dbgsettings Local"),
            (
                &[("debugtype", "Serial"), ("debugport", "2"), ("baudrate", "9600")],
                "/dbgsettings Serial debugport:2 baudrate:9600",
            ),
            (
                &NET,
                "/dbgsettings NET hostip:10.0.0.2 port:50000 key:1.2.3.4 busparams:0.25.0",
            ),
            (
                &[("debugtype", "USB"), ("targetname", "dev")],
                "/dbgsettings USB targetname:dev",
            ),
            (
                &[("debugtype", "1394"), ("channel", "32")],
                "/dbgsettings 1394 channel:32",
            ),
        ];
        for (before, expected) in table {
            let before = elements(before);
            let undo = undo(DEBUGGER, &before, &SERIAL);
            // What the old kind had goes away with it, or stays: both are met in the field.
            for now in [
                elements(&SERIAL),
                before.iter().chain(SERIAL).collect::<Elements>(),
            ] {
                assert_eq!(state(&undo, &now), State::Ours);
                assert_eq!(lines(&runs(&undo, &before, &now, true)), [expected]);
            }
            assert_eq!(state(&undo, &before), State::Before);
            assert!(runs(&undo, &before, &before, true).is_empty());
        }
    }

    #[test]
    fn what_the_command_left_is_mended_element_by_element() {
        let before = elements(&[("debugtype", "Local"), ("noumex", "Yes")]);
        let undo = undo(DEBUGGER, &before, &SERIAL);
        let left = elements(&[("debugtype", "Local"), ("debugport", "1"), ("baudrate", "115200")]);
        assert_eq!(
            lines(&runs(&undo, &before, &left, false)),
            [
                "/deletevalue {dbgsettings} baudrate",
                "/deletevalue {dbgsettings} debugport",
                "/set {dbgsettings} noumex Yes",
            ]
        );
    }

    #[test]
    fn a_new_key_of_somebody_else_stays() {
        let before = elements(&NET);
        let undo = undo(DEBUGGER, &before, &SERIAL);
        let newer: Elements = before.iter().chain(SERIAL).chain([("key", "9.9.9.9")]).collect();
        let line = lines(&runs(&undo, &before, &newer, true)).concat();
        assert!(line.contains("key:9.9.9.9"), "{line}");
    }

    #[test]
    fn one_element_of_an_entry_comes_back_and_others_are_left_alone() {
        let id = "{5189b25c-0000-4bf2-bca4-289b11bd29e2}";
        let now = elements(&[("debug", "Yes"), ("description", "changed")]);
        let absent = elements(&[("description", "Windows")]);
        let gone = undo(id, &absent, &[("debug", "Yes")]);
        assert_eq!(
            lines(&runs(&gone, &absent, &now, true)),
            [format!("/deletevalue {id} debug")]
        );
        let no = elements(&[("debug", "No")]);
        let set = undo(id, &no, &[("debug", "Yes")]);
        assert_eq!(
            lines(&runs(&set, &no, &now, true)),
            [format!("/set {id} debug No")]
        );
    }

    #[test]
    fn what_somebody_else_changed_is_refused_with_three_versions() {
        let before = elements(&[("debugtype", "Local")]);
        let undo = undo(DEBUGGER, &before, &SERIAL);
        let now = elements(&[("debugtype", "NET"), ("debugport", "1"), ("baudrate", "115200")]);
        let State::Foreign(versions) = state(&undo, &now) else {
            panic!("it is foreign");
        };
        assert_eq!(versions[0].now.as_deref(), Some("NET"));
        // Killed in the middle of its change.
        let half = elements(&[("debugtype", "Local"), ("debugport", "1")]);
        assert_eq!(state(&undo, &half), State::Ours);
    }

    #[test]
    fn a_key_is_not_shown() {
        let before = elements(&NET);
        let undo = undo(DEBUGGER, &before, &SERIAL);
        let text = shown(&undo, &before, &elements(&SERIAL));
        assert!(text.contains("key:***") && !text.contains("1.2.3.4"), "{text}");
    }

    proptest! {
        /// Element by element everything is as it was, whatever the first command did.
        #[test]
        fn a_second_round_makes_everything_as_it_was(
            kind in "(Local|Serial|NET|USB|Other)",
            more in proptest::collection::btree_map("(baudrate|debugport|dhcp|hostip|key|port|noumex)", "[0-9]{1,3}", 0..5),
            left in proptest::collection::btree_map("(baudrate|debugport|dhcp|hostip|port|channel)", "[0-9]{1,3}", 0..5),
        ) {
            let before: Elements = more.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain([("debugtype", kind.as_str())]).collect();
            let undo = undo(DEBUGGER, &before, &SERIAL);
            let mut now: std::collections::BTreeMap<String, String> = left;
            for run in runs(&undo, &before, &now.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(), false) {
                match run[1].as_str() {
                    "/set" => { now.insert(run[3].clone(), run[4].clone()); }
                    "/deletevalue" => { now.remove(&run[3]).unwrap(); }
                    other => prop_assert!(false, "{}", other),
                }
            }
            let now: Elements = now.into_iter().collect();
            prop_assert!(runs(&undo, &before, &now, false).is_empty());
            for name in ["debugtype", "debugport", "baudrate"] {
                prop_assert_eq!(now.get(name), before.get(name));
            }
        }
    }
}
