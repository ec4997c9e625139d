//! Whatever stands in a profile: no panic, and nothing that the check lets pass and the types refuse.

use super::{base, shipped};
use crate::config::check::check;
use crate::config::expand::expand;
use crate::config::load::{parse, report, schema};
use crate::config::node::{Content, Node, Style};
use crate::config::validate::validate;
use crate::config::yaml;
use crate::model::profile::Profile;
use proptest::prelude::*;
use std::fs;
use std::path::Path;

/// Every scalar of a document, by a path of indexes.
fn scalars(node: &Node, at: &mut Vec<usize>, found: &mut Vec<Vec<usize>>) {
    let children: Vec<&Node> = match &node.content {
        Content::Scalar { .. } => return found.push(at.clone()),
        Content::Sequence(items) => items.iter().collect(),
        Content::Mapping(entries) => entries.iter().map(|(_, value)| value).collect(),
    };
    for (index, child) in children.into_iter().enumerate() {
        at.push(index);
        scalars(child, at, found);
        at.pop();
    }
}

fn replace(node: &mut Node, at: &[usize], with: &Content) {
    let Some((first, rest)) = at.split_first() else {
        node.content = with.clone();
        return;
    };
    match &mut node.content {
        Content::Scalar { .. } => {}
        Content::Sequence(items) => replace(&mut items[*first], rest, with),
        Content::Mapping(entries) => replace(&mut entries[*first].1, rest, with),
    }
}

fn any_scalar() -> impl Strategy<Value = Content> {
    let words = [
        "",
        "0",
        "1",
        "-1",
        "33",
        "65536",
        "4294967296",
        "1e9",
        "true",
        "off",
        "x",
        "~",
        "64MiB",
        "stdio",
        "listen:tcp:1",
    ];
    let style = prop_oneof![Just(Style::Plain), Just(Style::Quoted), Just(Style::Made)];
    (
        prop_oneof![
            proptest::sample::select(words.to_vec()).prop_map(str::to_owned),
            "\\PC{0,12}"
        ],
        style,
    )
        .prop_map(|(text, style)| Content::Scalar { text, style })
}

proptest! {
    #[test]
    fn no_text_panics(text in "[ -~\n\t&*!:{}\\[\\]é]{0,80}") {
        let _ = parse(&text, &base()).map_err(|issues| report(Path::new("x"), &text, &issues));
    }

    /// What the schema's check lets pass, the types take; and what they are not told of, validation does not trip over.
    #[test]
    fn the_check_is_as_strict_as_the_types(which in any::<proptest::sample::Index>(), with in any_scalar()) {
        let text = fs::read_to_string(shipped("default.yaml")).unwrap();
        let mut document = yaml::nodes(&text).unwrap().root;
        let mut found = Vec::new();
        scalars(&document, &mut Vec::new(), &mut found);
        replace(&mut document, &found[which.index(found.len())], &with);
        let (document, _) = expand(&document);
        if let Ok(value) = check(&schema(), &document) {
            let profile: Result<Profile, _> = serde_json::from_value(value);
            prop_assert!(profile.is_ok(), "{with:?}: {profile:?}");
            let _ = validate(&profile.unwrap(), &document, &base());
        }
    }
}
