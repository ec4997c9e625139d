//! The lists of rules in docs/dev name tests that are there.

use std::path::{Path, PathBuf};

fn all_sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all_sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// Fails unless every test that a list names is a function or a trial in these folders.
fn names_tests_that_are_there(list: &str, folders: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = std::fs::read_to_string(root.join("docs/dev").join(list)).unwrap();
    let mut files = Vec::new();
    for folder in folders {
        all_sources(&root.join(folder), &mut files);
    }
    let sources: Vec<String> = files
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    let is_test = |name: &str| {
        let (function, trial) = (format!("fn {name}("), format!("\"{name}\""));
        sources
            .iter()
            .any(|source| source.contains(&function) || source.contains(&trial))
    };
    let quoted = list.split('`').skip(1).step_by(2);
    let names: Vec<&str> = quoted
        .map(|word| word.trim_start_matches("e2e::"))
        .filter(|word| {
            word.contains('_') && word.chars().all(|one| one == '_' || one.is_ascii_alphanumeric())
        })
        .collect();
    assert!(names.len() > 30, "the list names them");
    let missing: Vec<&&str> = names.iter().filter(|name| !is_test(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_test_that_shows_a_rule_of_the_demultiplexer_is_there() {
    names_tests_that_are_there(
        "rules-of-the-demultiplexer.md",
        &["src/rsp", "src/bridge", "tests/it"],
    );
}

#[test]
fn every_test_that_shows_a_rule_of_hyperv_is_there() {
    names_tests_that_are_there("rules-of-hyperv.md", &["src", "tests/it", "tests/testkit/src"]);
}

#[test]
fn every_test_that_shows_a_rule_of_xen_is_there() {
    names_tests_that_are_there("rules-of-xen.md", &["src", "tests/it"]);
}

#[test]
fn the_rules_of_guests_name_tests_that_are_there() {
    names_tests_that_are_there("rules-of-guests.md", &["src", "tests/it", "tests/testkit/src"]);
}
