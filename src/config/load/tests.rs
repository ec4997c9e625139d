//! Profiles, right and wrong, through all three passes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;
use crate::config::yaml::nodes;
use proptest::prelude::*;

fn base() -> Base {
    Base {
        folder: "/p".into(),
        home: Some("/home/me".into()),
    }
}

fn errors(text: &str) -> String {
    let issues = parse(text, &base()).unwrap_err();
    report(Path::new("x.yaml"), text, &issues).message
}

#[test]
fn all_errors_are_told_at_once_with_their_places() {
    let text = "version: 1\ntargets:\n  dev:\n    host: qemu\n    vm: dev\n    prots: []\n    ports:\n      - {port: 0, as: gbd}\n      - {port: 2, as: gdb, attach: \"unix:/a\", serve: [1]}\n";
    insta::assert_snapshot!(errors(text));
}

#[test]
fn what_only_the_whole_profile_tells_is_told_with_its_place() {
    let text = "version: 1\nhosts:\n  ws1: {hypervisor: vmware}\ntargets:\n  a: {host: ws2, vm: x}\n  b:\n    host: ws1\n    vm: {name: q, start: true}\n    ports:\n      - {port: 1, as: console, serve: [\"gdb=listen:tcp:0\"]}\n      - {port: 1, as: gdb}\njoins:\n  - {a: b/1, b: c/1, as: kd}\n";
    insta::assert_snapshot!(errors(text));
}

#[test]
fn wrong_documents_are_told_apart() {
    for (text, part) in [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("- a\n", "got a list, expected a map"),
        ("version: 2\nfuture: yes\n", "reads version 1"),
        ("version: one\n", "got `one`, expected a whole number"),
        ("version: 1\nversion: 1\n", "stands on line 1 already"),
        ("version: 1\n---\nversion: 1\n", "second document"),
        ("version: !int 1\n", "a tag"),
        ("version: 1\n\ttargets: {}\n", "no YAML"),
        (
            "version: 1\ntargets: {a b: {host: qemu, vm: x}}\n",
            "no target name",
        ),
        ("version: 1\ntargets: {a: {host: qemu, vm: 12}}\n", "in quotes"),
        (
            "version: 1\ntargets: {a: {host: qemu, vm: x, restart: maybe}}\n",
            "expected one of never, ask, graceful, hard",
        ),
        (
            "version: 1\ntargets: {a: {host: qemu, vm: x, nested: yes}}\n",
            "expected true or false",
        ),
        (
            "version: 1\ntargets: {a: {host: qemu}}\n",
            "the key `vm` is missing",
        ),
        (
            "version: 1\ntargets: {a: {host: qemu, vm: x, guest: {os: linux, password: secret}}}\n",
            "expected a map",
        ),
        (
            "version: 1\ntargets: {a: {host: qemu, vm: {name: x, start: true, kernel: k, memory: 64}}}\n",
            "in quotes",
        ),
        (
            "version: 1\ntargets: {a: {host: vmware, vm: {name: x, kernel: k}}}\n",
            "starts no VM of `vmware`",
        ),
    ] {
        let told = errors(text);
        assert!(told.contains(part), "{text:?}: {told}");
    }
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..8 {
        let item = format!("*a{}", level - 1);
        text.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            [item.as_str(); 10].join(", ")
        ));
    }
    assert!(nodes(&text).unwrap_err().message.contains("too large"));
}

#[test]
fn paths_are_relative_to_the_profile() {
    let text = "version: 1\ntargets: {a: {host: qemu, vm: {name: x, start: true, kernel: k/b}, ports: [{port: 1, as: console, log: ~/l, attach: \"listen:unix:s\"}]}}\n";
    let (_, targets) = parse(text, &base()).unwrap();
    assert_eq!(targets[0].start.as_ref().unwrap().kernel, Some("/p/k/b".into()));
    assert_eq!(targets[0].ports[0].log, Some("/home/me/l".into()));
    assert_eq!(
        targets[0].ports[0].attach.as_ref().unwrap().to_string(),
        "listen:unix:/p/s"
    );
}

#[test]
fn every_shipped_profile_is_right_and_survives_being_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles");
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let loaded = load(&path, &Surroundings::default()).unwrap_or_else(|problem| panic!("{problem}"));
            let again = parse(&to_yaml(&loaded.profile).unwrap(), &base()).unwrap().0;
            assert_eq!(again, loaded.profile);
            count += 1;
        }
    }
    assert!(count >= 7);
}

#[test]
fn the_schema_in_the_docs_is_todays() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/profile.schema.json");
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let today = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    assert!(
        kept == today,
        "write it anew: vmserial profile schema > docs/reference/profile.schema.json"
    );
}

#[test]
fn names_and_globs_choose_targets() {
    assert!(
        glob("lab-*", "lab-17")
            && glob("*", "")
            && glob("l?b", "lab")
            && !glob("lab", "lab1")
            && !glob("?", "")
    );
}

proptest! {
    #[test]
    fn no_text_panics(text in "[ -~\n\t&*!:{}\\[\\]é]{0,80}") {
        let _ = parse(&text, &base());
    }
}
