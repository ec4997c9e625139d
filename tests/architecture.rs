//! The house rules that a machine can check (`docs/dev/style.md`), read from the sources themselves.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};

/// What each module of `src/` may use of the others.
const ALLOWED: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("render", &["model"]),
    ("rsp", &["model"]),
    ("plan", &["model", "render"]),
    ("runner", &["model", "plan", "render", "bridge"]),
    ("driver", &["model", "plan", "render", "runner"]),
    ("debugger", &["model", "render", "runner", "plan"]),
    ("bridge", &["model", "rsp"]),
    ("config", &["model"]),
    (
        "session",
        &[
            "model", "render", "rsp", "plan", "runner", "driver", "debugger", "bridge", "config",
        ],
    ),
    (
        "cli",
        &[
            "model", "render", "rsp", "plan", "runner", "driver", "debugger", "bridge", "config", "session",
        ],
    ),
];

/// Modules without I/O, clock, environment, processes or logging.
const PURE: &[&str] = &[
    "model",
    "plan",
    "render",
    "rsp",
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

struct Source {
    /// From `src/`, without `.rs`.
    name: String,
    text: String,
    /// Paths that it names, `use` trees taken apart, with `crate::` kept. Tests inside the file are left out.
    paths: Vec<String>,
    unsafes: usize,
    cfgs: Vec<String>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, ending, found);
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
}

#[derive(Default)]
struct Names {
    paths: Vec<String>,
    unsafes: usize,
    cfgs: Vec<String>,
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string().trim() == "test",
        _ => false,
    })
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test(&item.attrs) {
            flatten(&item.tree, String::new(), &mut self.paths);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        self.paths.push(parts.join("::"));
        visit::visit_path(self, path);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if let syn::Meta::List(list) = &attribute.meta
            && list.path.is_ident("cfg")
        {
            self.cfgs.push(list.tokens.to_string());
        }
    }

    fn visit_expr_unsafe(&mut self, expression: &'ast syn::ExprUnsafe) {
        self.unsafes += 1;
        visit::visit_expr_unsafe(self, expression);
    }
}

fn flatten(tree: &syn::UseTree, before: String, paths: &mut Vec<String>) {
    let join = |name: &str| {
        if before.is_empty() {
            name.to_owned()
        } else {
            format!("{before}::{name}")
        }
    };
    match tree {
        syn::UseTree::Path(path) => flatten(&path.tree, join(&path.ident.to_string()), paths),
        syn::UseTree::Name(name) => paths.push(join(&name.ident.to_string())),
        syn::UseTree::Rename(rename) => paths.push(join(&rename.ident.to_string())),
        syn::UseTree::Glob(_) => paths.push(before),
        syn::UseTree::Group(group) => group
            .items
            .iter()
            .for_each(|item| flatten(item, before.clone(), paths)),
    }
}

fn sources() -> &'static [Source] {
    static SOURCES: std::sync::OnceLock<Vec<Source>> = std::sync::OnceLock::new();
    SOURCES.get_or_init(read_sources)
}

fn read_sources() -> Vec<Source> {
    let src = root().join("src");
    let mut found = Vec::new();
    files(&src, ".rs", &mut found);
    found
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path.as_path()).unwrap();
            let name = path
                .strip_prefix(&src)
                .unwrap()
                .with_extension("")
                .to_string_lossy()
                .into_owned();
            let mut names = Names::default();
            names.visit_file(&syn::parse_file(&text).unwrap());
            Source {
                name,
                text,
                paths: names.paths,
                unsafes: names.unsafes,
                cfgs: names.cfgs,
            }
        })
        .collect()
}

fn is_test_file(name: &str) -> bool {
    name.ends_with("/tests") || name.contains("/tests/")
}

fn in_sys(name: &str) -> bool {
    name.split('/').any(|part| part == "sys")
}

fn report(broken: &[String]) {
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

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
                "Remarks",
                "Channel",
                "Facts",
                "BreakMeans",
                "BreakOwner",
                "BreakPort",
                "TargetSource",
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
        for ending in [".rs", ".md", ".yaml", ".j2", ".gdb"] {
            files(&root().join(folder), ending, &mut found);
        }
    }
    let mut broken = Vec::new();
    for path in found {
        // The guest behind the link is not ours to check.
        if path.components().any(|part| part.as_os_str() == "guest") {
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
