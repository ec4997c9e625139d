//! The house rules that a machine can check (`docs/dev/style.md`), read from the sources themselves.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod rules;
mod sources;
mod tree;

use sources::{Names, files, in_sys, is_test_file, report, root, sources};
use std::collections::BTreeMap;
use std::fs;
use syn::visit::Visit;

/// What each module of `src/` may use of the others.
const ALLOWED: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("render", &["model"]),
    ("rsp", &["model"]),
    ("plan", &["model", "render"]),
    ("runner", &["model", "plan", "render", "bridge"]),
    ("driver", &["model", "plan", "render", "runner"]),
    ("debugger", &["model", "render", "runner", "plan"]),
    ("host_service", &["model", "plan", "render"]),
    ("guest", &["model", "plan", "render"]),
    ("bridge", &["model", "rsp"]),
    ("config", &["model"]),
    (
        "session",
        &[
            "model",
            "render",
            "rsp",
            "plan",
            "runner",
            "driver",
            "debugger",
            "bridge",
            "config",
            "host_service",
            "guest",
        ],
    ),
    (
        "cli",
        &[
            "model", "render", "rsp", "plan", "runner", "driver", "debugger", "bridge", "config", "session",
            "guest",
        ],
    ),
];

/// Modules without I/O, clock, environment, processes or logging.
const PURE: &[&str] = &[
    "model",
    "plan",
    "render",
    "rsp",
    "host_service",
    "guest",
    "config/merge",
    "config/validate",
    "config/check",
    "config/expand",
    "config/expression",
    "config/near",
    "config/node",
];

/// What a pure module must not name.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::thread",
    "std::os",
    "tokio",
    "tracing",
    "rustix",
    "tempfile",
    "Instant::now",
    "SystemTime::now",
    "Timestamp::now",
];

/// Files that may be longer than the rest, with the reason.
const LONG: &[(&str, &str)] = &[];

/// Longest file.
const MOST_LINES: usize = 500;

#[test]
fn arrows_point_inwards() {
    let mut broken = Vec::new();
    for source in sources() {
        let module = source.name.split('/').next().unwrap();
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == module) else {
            continue;
        };
        for path in &source.paths {
            let Some(other) = path
                .strip_prefix("crate::")
                .and_then(|rest| rest.split("::").next())
            else {
                continue;
            };
            if other != module && !allowed.contains(&other) && ALLOWED.iter().any(|(name, _)| *name == other)
            {
                broken.push(format!(
                    "src/{}.rs uses `{path}`: `{module}` may use {allowed:?}",
                    source.name
                ));
            }
        }
    }
    report(&broken);
}

#[test]
fn runner_uses_of_the_bridge_only_what_it_implements() {
    let mut broken = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| source.name.starts_with("runner/"))
    {
        for path in source
            .paths
            .iter()
            .filter(|path| path.starts_with("crate::bridge"))
        {
            let last = path.rsplit("::").next().unwrap();
            if ![
                "Breaker",
                "Dialer",
                "Opener",
                "Opening",
                "ControlledStream",
                "Remarks",
                "Channel",
                "Facts",
                "BreakMeans",
                "BreakOwner",
                "BreakPort",
                "TargetSource",
                "VmEvent",
                "VmEventReader",
                "VmEventSource",
            ]
            .contains(&last)
            {
                broken.push(format!("src/{}.rs uses `{path}`", source.name));
            }
        }
    }
    report(&broken);
}

#[test]
fn no_driver_knows_another() {
    let mut broken = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| source.name.starts_with("driver/"))
    {
        let own = source.name.split('/').nth(1).unwrap().to_owned();
        for path in source
            .paths
            .iter()
            .filter_map(|path| path.strip_prefix("crate::driver::"))
        {
            let other = path.split("::").next().unwrap();
            let is_driver = [
                "qemu",
                "vmware",
                "hyperv",
                "xen",
                "virtualbox",
                "libvirt",
                "proxmox",
            ]
            .contains(&other);
            if is_driver && other != own && own != "registry" {
                broken.push(format!("src/{}.rs uses `crate::driver::{path}`", source.name));
            }
        }
    }
    report(&broken);
}

#[test]
fn pure_modules_do_no_effects() {
    let mut broken = Vec::new();
    for source in sources() {
        let pure = PURE
            .iter()
            .any(|module| source.name == *module || source.name.starts_with(&format!("{module}/")));
        if !pure || is_test_file(&source.name) {
            continue;
        }
        for path in &source.paths {
            for impure in IMPURE {
                let hit =
                    path == impure || path.starts_with(&format!("{impure}::")) || path.ends_with(impure);
                // An address is parsed, not opened.
                if hit && !path.starts_with("std::net::Ip") {
                    broken.push(format!("src/{}.rs names `{path}`", source.name));
                }
            }
        }
    }
    report(&broken);
}

#[test]
fn processes_start_in_the_runner_only() {
    let mut broken = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| !source.name.starts_with("runner/"))
    {
        for path in &source.paths {
            if path.ends_with("process::Command")
                || path == "Command::new" && source.text.contains("std::process::Command")
            {
                broken.push(format!("src/{}.rs names `{path}`", source.name));
            }
        }
    }
    report(&broken);
}

#[test]
fn nobody_sleeps_on_a_thread() {
    let broken: Vec<String> = sources()
        .iter()
        .filter(|source| source.paths.iter().any(|path| path.ends_with("thread::sleep")))
        .map(|source| format!("src/{}.rs sleeps", source.name))
        .collect();
    report(&broken);
}

#[test]
fn platforms_differ_in_sys_only() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| !in_sys(&source.name)) {
        for cfg in &source.cfgs {
            if ["unix", "windows", "target_os"]
                .iter()
                .any(|word| cfg.contains(word))
            {
                broken.push(format!("src/{}.rs has `cfg({cfg})`", source.name));
            }
        }
    }
    report(&broken);
}

#[test]
fn unsafe_stands_in_sys_only_and_says_why() {
    let mut broken = Vec::new();
    for source in sources() {
        if source.unsafes == 0 {
            continue;
        }
        if !in_sys(&source.name) {
            broken.push(format!("src/{}.rs has unsafe code", source.name));
        } else if source.text.matches("SAFETY:").count() < source.unsafes {
            broken.push(format!(
                "src/{}.rs has unsafe code without `SAFETY:`",
                source.name
            ));
        }
    }
    report(&broken);
}

#[test]
fn files_have_one_purpose_and_one_page() {
    let mut broken = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        let long = LONG.iter().any(|(name, _)| *name == source.name);
        if lines > MOST_LINES && !long && !is_test_file(&source.name) {
            broken.push(format!(
                "src/{}.rs has {lines} lines, at most {MOST_LINES}",
                source.name
            ));
        }
        if !source.text.starts_with("//! ") {
            broken.push(format!(
                "src/{}.rs does not begin with what it is for",
                source.name
            ));
        }
    }
    // Tests and tools are read, too.
    let mut others = Vec::new();
    for folder in ["tests", "xtask"] {
        files(&root().join(folder), ".rs", &mut others);
    }
    for path in others {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        if lines > MOST_LINES {
            broken.push(format!(
                "{} has {lines} lines, at most {MOST_LINES}",
                path.display()
            ));
        }
    }
    report(&broken);
}

#[test]
fn main_is_a_few_lines() {
    assert!(
        fs::read_to_string(root().join("src/main.rs"))
            .unwrap()
            .lines()
            .count()
            < 20
    );
}

#[test]
fn mod_files_hold_docs_and_re_exports() {
    let mut broken = Vec::new();
    for source in sources()
        .iter()
        // The command line's arguments and its dispatch are one table.
        .filter(|source| source.name.ends_with("/mod") && source.name != "cli/mod")
        .filter(|source| !is_test_file(&source.name))
    {
        for item in syn::parse_file(&source.text).unwrap().items {
            if !matches!(item, syn::Item::Mod(_) | syn::Item::Use(_)) {
                broken.push(format!(
                    "src/{}.rs defines something: it belongs in a file of its own",
                    source.name
                ));
            }
        }
    }
    report(&broken);
}

#[test]
fn a_vendor_spelling_lives_in_one_place() {
    let mut broken = Vec::new();
    for (spelling, place) in [("fileType", "driver/vmware"), ("chardev-change", "driver/qemu")] {
        for source in sources() {
            let code: String = source
                .text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect();
            if code.contains(spelling)
                && !source.name.starts_with(place)
                && !source.name.starts_with("render/")
            {
                broken.push(format!(
                    "src/{}.rs spells `{spelling}`, which is {place}'s",
                    source.name
                ));
            }
        }
    }
    report(&broken);
}

#[test]
fn hypervisors_are_told_apart_in_the_registry_only() {
    let mut broken = Vec::new();
    for source in sources() {
        let allowed = [
            "model/vm",
            "driver/",
            "cli/commands/setup",
            "config/",
            "session/fake",
        ]
        .iter()
        .any(|place| source.name.starts_with(place));
        for path in source
            .paths
            .iter()
            .filter(|path| path.contains("HypervisorKind::"))
        {
            let variant = path.rsplit("::").next().unwrap();
            if !allowed && variant.starts_with(char::is_uppercase) && variant != "ALL" {
                broken.push(format!("src/{}.rs names `{path}`", source.name));
            }
        }
    }
    report(&broken);
}

#[test]
fn the_checks_see_what_they_look_for() {
    let mut names = Names::default();
    let code = "use std::{fs, net::IpAddr}; fn f() { crate::cli::run(); unsafe { g() } } #[cfg(test)] mod tests { use tokio::x; }";
    names.visit_file(&syn::parse_file(code).unwrap());
    let seen: BTreeMap<&str, ()> = names.paths.iter().map(|path| (path.as_str(), ())).collect();
    assert!(
        seen.contains_key("std::fs")
            && seen.contains_key("crate::cli::run")
            && !seen.contains_key("tokio::x")
    );
    assert_eq!(names.unsafes, 1);
}
