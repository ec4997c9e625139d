//! The documents of profiles have every key of the schema, and no other.

use super::{base, shipped};
use crate::config::load::{parse, schema};
use crate::config::node::{Content, Node};
use crate::config::yaml::nodes;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Collects the keys of a schema: `targets.NAME.ports[].as`.
fn keys(root: &Value, schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = root.pointer(reference.trim_start_matches('#')).unwrap();
        return keys(root, target, path, found);
    }
    for choices in ["anyOf", "oneOf"] {
        for choice in schema[choices].as_array().into_iter().flatten() {
            keys(root, choice, path, found);
        }
    }
    if schema["items"].is_object() {
        keys(root, &schema["items"], &format!("{path}[]"), found);
    }
    if schema["additionalProperties"].is_object() {
        keys(
            root,
            &schema["additionalProperties"],
            &format!("{path}.NAME"),
            found,
        );
    }
    for (_, below) in schema["patternProperties"].as_object().into_iter().flatten() {
        keys(root, below, &format!("{path}.NAME"), found);
    }
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        keys(root, below, &path, found);
        found.insert(path);
    }
}

fn all_keys() -> BTreeSet<String> {
    let schema = schema();
    let mut found = BTreeSet::new();
    keys(&schema, &schema, "", &mut found);
    assert!(found.contains("targets.NAME.ports[].firewall.allow_from"));
    found
}

#[test]
fn the_reference_has_every_key_and_no_other() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/profile.md");
    let text = fs::read_to_string(page).unwrap();
    let documented: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(key, _)| key.to_owned())
        .collect();
    assert_eq!(documented, all_keys());
}

/// Collects the keys that a document has, with `NAME` for names of the user's choice.
fn keys_of(node: &Node, path: &str, found: &mut BTreeSet<String>) {
    match &node.content {
        Content::Scalar { .. } => {}
        Content::Sequence(items) => {
            for item in items {
                keys_of(item, &format!("{path}[]"), found);
            }
        }
        Content::Mapping(entries) => {
            let named = ["hosts", "targets", "targets.NAME.debugger.source"].contains(&path);
            for (key, value) in entries {
                let path = match (named, path) {
                    (true, path) => format!("{path}.NAME"),
                    (false, "") => key.text.clone(),
                    (false, path) => format!("{path}.{}", key.text),
                };
                keys_of(value, &path, found);
                found.insert(path);
            }
        }
    }
}

#[test]
fn the_documented_profile_has_every_key() {
    let text = fs::read_to_string(shipped("default.yaml")).unwrap();
    let mut found = BTreeSet::new();
    keys_of(&nodes(&text).unwrap().root, "", &mut found);
    let missing: Vec<String> = all_keys().difference(&found).cloned().collect();
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn a_command_may_be_a_list_wherever_a_port_names_one() {
    let port = "port: 1, as: console+gdb, one_writer: true";
    let of = |attach: &str, way: &str| {
        let text = format!(
            "version: 1\ntargets: {{a: {{host: qemu, vm: x, ports: [{{{port}, attach: {attach}, break_with: {way}}}]}}}}"
        );
        parse(&text, &base()).unwrap().1
    };
    let lists = of("{exec: [nc, -U, \"a b\"]}", "{exec: [brk, \"it's\"]}");
    let texts = of("\"exec:nc -U 'a b'\"", "\"exec:brk \\\"it's\\\"\"");
    assert_eq!(lists, texts);
    assert!(lists[0].ports[0].one_writer);
    let attach = lists[0].ports[0].attach.as_ref().unwrap();
    assert_eq!(attach.to_string(), "exec:nc -U 'a b'");
}
