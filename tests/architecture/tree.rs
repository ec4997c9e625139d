//! Checks of the tree beside `src/`: tests, documents, paths of one machine.

use crate::sources::{files, report, root};
use std::fs;

#[test]
fn every_test_file_is_compiled_in() {
    let main = fs::read_to_string(root().join("tests/it/main.rs")).unwrap();
    let mut broken = Vec::new();
    for entry in fs::read_dir(root().join("tests/it")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.extension().is_some_and(|ending| ending == "rs")
            && name != "main"
            && !main.contains(&format!("mod {name};"))
        {
            broken.push(format!("tests/it/{name}.rs is not in main.rs"));
        }
    }
    report(&broken);
}

#[test]
fn nothing_of_one_machine_is_in_the_tree() {
    let mut found = Vec::new();
    for folder in ["src", "tests", "xtask", "docs", "profiles", "templates"] {
        for ending in [".rs", ".md", ".yaml", ".j2", ".gdb", ".sh", ".ps1"] {
            files(&root().join(folder), ending, &mut found);
        }
    }
    let mut broken = Vec::new();
    for path in found {
        // What `cargo xtask` linked there is no part of the tree.
        if path.starts_with(root().join("profiles/guest"))
            || path.starts_with(root().join("profiles/guest-debian"))
        {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for part in [concat!("/wo", "rk/"), concat!("/ro", "ot/")] {
            if text.contains(part) {
                broken.push(format!("{} names `{part}`", path.display()));
            }
        }
    }
    report(&broken);
}

#[test]
fn links_in_the_docs_lead_somewhere() {
    let mut found = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    files(&root().join("docs"), ".md", &mut found);
    let mut broken = Vec::new();
    for path in found {
        let text = fs::read_to_string(path.as_path()).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            if !path.parent().unwrap().join(file).exists() {
                broken.push(format!("{} links to `{link}`", path.display()));
            }
        }
    }
    report(&broken);
}
