//! The sources, read once and taken apart.

use std::fs;
use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};

pub struct Source {
    /// From `src/`, without `.rs`.
    pub name: String,
    pub text: String,
    /// Paths that it names, `use` trees taken apart, with `crate::` kept. Tests inside the file are left out.
    pub paths: Vec<String>,
    pub unsafes: usize,
    pub cfgs: Vec<String>,
}

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
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
pub struct Names {
    pub paths: Vec<String>,
    pub unsafes: usize,
    pub cfgs: Vec<String>,
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) => {
            let condition = list.tokens.to_string().replace(' ', "");
            // Tests whose rig is made of Unix sockets are left out where there are none.
            list.path.is_ident("cfg") && ["test", "all(test,unix)"].contains(&condition.as_str())
        }
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

pub fn sources() -> &'static [Source] {
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

pub fn is_test_file(name: &str) -> bool {
    name.ends_with("/tests") || name.contains("/tests/")
}

pub fn in_sys(name: &str) -> bool {
    name.split('/').any(|part| part == "sys")
}

pub fn report(broken: &[String]) {
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}
