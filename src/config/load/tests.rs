//! Every error of a profile with its place, what is refused, and what a profile may look like.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod documents;
mod properties;
mod ranges;
mod tables;

use super::*;
use crate::config::yaml::to_yaml;
use crate::model::DebuggerKind;
use crate::model::profile::{DEFAULT_GDB, DEFAULT_QEMU};

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

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles").join(name)
}

#[test]
fn all_errors_are_told_at_once_with_their_places() {
    insta::assert_snapshot!(errors(
        "\
version: 1
hosts:
  ws1: {hypervisor: vmwrae}
targets:
  dev:
    host: qemu
    vm: dev
    prots: []
    restart: maybe
    nested: yes
    ports:
      - {port: 0, as: gbd}
      - {port: 2, as: gdb, attach: \"unix:/a\", serve: [1]}
      - {port: !x 3, as: console, port: 3}
      - {as: console}
    debugger: gdb
    guest: {os: linux, password: {plain: x}}
  two words: {host: qemu, vm: 12}
"
    ));
}

#[test]
fn what_only_the_whole_profile_tells_is_told_with_its_place() {
    insta::assert_snapshot!(errors(
        "\
version: 1
hosts:
  ws1: {hypervisor: vmware}
  qemu: {hypervisor: xen, ssh: -oProxyCommand=x}
targets:
  a: {host: ws2, vm: x, ports: [{port: 1, as: kd, hold: 1KiB}]}
  b:
    host: ws1
    vm: {name: q, start: true, initrd: i, memory: 1KiB}
    ports:
      - {port: 1, as: console, serve: [\"gdb=listen:tcp:0\", \"listen:tcp:7001\", \"ro=listen:tcp:127.0.0.1:7001\"]}
      - {port: 1, as: gdb, replay: 1KiB, tunnel: ssh, firewall: {allow_from: everybody}}
      - {port: 2, as: kd, attach: \"file:/x\"}
    guest: {os: windows, boot_entry: {}, password: {command: \"\"}}
joins:
  - {a: b/1, b: c/1, as: kd}
  - {a: b/2, b: b/2, as: kd}
  - {a: bb/1, b: b/7, as: kd}
"
    ));
}

#[test]
fn a_secret_that_was_written_out_is_not_shown() {
    for secret in [
        "hunter2",
        "\"hunter2\"",
        "{env: \"hunter2!\"}",
        "[hunter2]",
        "{plain: hunter2}",
        "{env: A, x: hunter2}",
        "{env: {x: hunter2}}",
    ] {
        let told = errors(&format!(
            "version: 1\nhosts: {{a: {{hypervisor: xen, sshh: x, password: {secret}}}}}\ntargets: {{}}\n"
        ));
        assert!(!told.contains("hunter2"), "{told}");
    }
    insta::assert_snapshot!(errors(
        "version: 1\ntargets:\n  a: {host: qemu, vm: x, oops: 1, guest: {os: linux, password: hunter2}}\n"
    ));
}

#[test]
fn line_ends_marks_and_indents_of_other_systems_are_read() {
    let text = "version: 1\ntargets:\n  a: {host: qemu, vm: x}\n";
    let marked = format!("\u{feff}{text}");
    for same in [text.replace('\n', "\r\n"), yaml::without_mark(&marked).to_owned()] {
        assert_eq!(parse(&same, &base()).unwrap(), parse(text, &base()).unwrap());
    }
    insta::assert_snapshot!(errors(
        "version: 1\r\ntargets:\r\n  a: {host: qemu, vm: x, é: ü, z: 1}\r\n"
    ));
    // A tab is white space within a line, and no indent.
    assert!(parse("version:\t1\ntargets:\t{}\n", &base()).is_ok());
    assert!(errors("version: 1\ntargets:\n\ta: {host: qemu, vm: x}\n").contains("x.yaml:3:"));
}

#[test]
fn files_that_are_no_profiles_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes, kind, part) in [
        (
            "latin.yaml",
            &b"version: 1\n# gr\xfc\xdfe\n"[..],
            FailureKind::Configuration,
            "is not UTF-8 on line 2",
        ),
        (
            "wide.yaml",
            b"\xff\xfev\0",
            FailureKind::Configuration,
            "is not UTF-8 on line 1",
        ),
        (
            "marked.yaml",
            b"\xef\xbb\xbfversion: 1\nx: 1\n",
            FailureKind::Configuration,
            "unknown key",
        ),
        (
            "mark.yaml",
            b"\xef\xbb\xbfxersion: 1\n",
            FailureKind::Configuration,
            "1 | xersion: 1\n   | ^",
        ),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let problem = load(&path, &Surroundings::default()).unwrap_err();
        assert_eq!(problem.kind, kind, "{name}");
        assert!(problem.message.contains(part), "{name}: {}", problem.message);
    }
    let missing = load(&folder.path().join("none.yaml"), &Surroundings::default()).unwrap_err();
    assert_eq!(missing.kind, FailureKind::NotFound);
    let directory = load(folder.path(), &Surroundings::default()).unwrap_err();
    assert_eq!(directory.kind, FailureKind::Configuration);
    let large = folder.path().join("large.yaml");
    fs::File::create(&large).unwrap().set_len(MOST_BYTES + 1).unwrap();
    assert!(
        load(&large, &Surroundings::default())
            .unwrap_err()
            .message
            .contains("bytes")
    );
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut wide = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    let mut deep = format!("a0: &a0 {}{}\n", "[".repeat(40), "]".repeat(40));
    for level in 1..200 {
        let below = format!("*a{}", level - 1);
        wide.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            [below.as_str(); 10].join(", ")
        ));
        deep.push_str(&format!(
            "a{level}: &a{level} {}{below}{}\n",
            "[".repeat(40),
            "]".repeat(40)
        ));
    }
    for text in [wide, deep, "[".repeat(5000)] {
        let issue = yaml::nodes(&text).unwrap_err();
        assert!(
            issue.message.contains("too large or too deep") || issue.message.contains("no YAML"),
            "{issue:?}"
        );
    }
}

#[test]
fn anchors_are_shared_and_their_errors_told_once() {
    let text = "version: 1\ntargets:\n  a: {host: qemu, vm: x, ports: &p [{port: 1, as: console}]}\n  b: {host: qemu, vm: y, ports: *p}\n";
    let (_, targets) = parse(text, &base()).unwrap();
    assert_eq!(targets[0].ports, targets[1].ports);
    let told = errors(&text.replace("console", "consle"));
    assert!(
        told.contains("an error\n") && told.contains("did you mean `console`?"),
        "{told}"
    );
}

#[test]
fn paths_are_relative_to_the_profile_and_those_of_other_hosts_are_theirs() {
    let keys = "vm: {name: x, start: true, kernel: k/b, memory: 64MiB}, ports: [{port: 1, as: console, log: ~/l, attach: \"listen:unix:s\"}]";
    let text = format!(
        "version: 1\nhosts: {{far: {{hypervisor: qemu, ssh: h}}}}\ntargets: {{a: {{host: qemu, {keys}}}, b: {{host: far, {keys}}}, c: {{host: far, vm: d/x.vmx}}}}\n"
    );
    let (_, targets) = parse(&text, &base()).unwrap();
    for (target, kernel, attach) in [
        (&targets[0], "/p/k/b", "listen:unix:/p/s"),
        (&targets[1], "k/b", "listen:unix:s"),
    ] {
        assert_eq!(target.start.as_ref().unwrap().kernel, Some(kernel.into()));
        assert_eq!(target.ports[0].attach.as_ref().unwrap().to_string(), attach);
        // A log is ours, wherever the VM is.
        assert_eq!(target.ports[0].log.raw, Some("/home/me/l".into()));
    }
    assert_eq!(targets[2].vm.as_str(), "d/x.vmx");
}

/// Programs that are written out mean the same as those that are not.
fn with_programs(mut targets: Vec<TargetSpec>) -> Vec<TargetSpec> {
    for target in &mut targets {
        if let Some(start) = &mut target.start {
            start.program.get_or_insert_with(|| DEFAULT_QEMU.to_owned());
        }
        if let Some(debugger) = &mut target.debugger
            && debugger.kind == DebuggerKind::Gdb
        {
            debugger.program.get_or_insert_with(|| DEFAULT_GDB.to_owned());
        }
    }
    targets
}

#[test]
fn every_shipped_profile_is_right_and_survives_being_shown() {
    let mut count = 0;
    for entry in fs::read_dir(shipped("")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let loaded = load(&path, &Surroundings::default()).unwrap_or_else(|problem| panic!("{problem}"));
            let folder = Base {
                folder: path.parent().unwrap().to_owned(),
                home: None,
            };
            for profile in [loaded.profile.clone(), loaded.profile.with_defaults()] {
                let (again, targets) = parse(&to_yaml(&profile).unwrap(), &folder).unwrap();
                assert_eq!(again, profile, "{}", path.display());
                assert_eq!(
                    with_programs(targets),
                    with_programs(loaded.targets.clone()),
                    "{}",
                    path.display()
                );
            }
            count += 1;
        }
    }
    assert!(count >= 8, "{count} profiles");
}

#[test]
fn the_schema_in_the_docs_is_todays() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/profile.schema.json");
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let today = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    assert!(
        kept == today,
        "run `cargo run -- profile schema > docs/reference/profile.schema.json` to regenerate it"
    );
}
