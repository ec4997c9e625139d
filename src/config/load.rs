//! Finds and reads profiles: the only place that reads YAML.
//!
//! Three passes: nodes with places; the nodes against the schema, all errors at once; only then the types.

use crate::config::check::{check, nearest};
use crate::config::node::{Content, Issue, Key, Node, Place};
use crate::config::validate::{Base, validate};
use crate::model::profile::{PROFILE_VERSION, Profile};
use crate::model::{FailureKind, Problem, TargetSpec};
use serde_yaml::granit_parser::{Event, Parser, ScalarStyle, Span};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// More nodes than this come from an alias bomb, not from a lab.
const MOST_NODES: usize = 200_000;

/// Deeper nesting than this is no profile.
const MOST_DEPTH: usize = 64;

/// A larger file is no profile.
const MOST_BYTES: u64 = 8 << 20;

/// What of the environment finding and reading a profile needs.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The user's home folder, for `~`.
    pub home: Option<PathBuf>,
    /// The configuration folder, `${XDG_CONFIG_HOME:-~/.config}`.
    pub configuration: Option<PathBuf>,
    /// The current folder.
    pub current: PathBuf,
}

/// A profile that was read and is right.
#[derive(Debug, Clone)]
pub struct LoadedProfile {
    /// Where it was found.
    pub path: PathBuf,
    /// As it is written.
    pub profile: Profile,
    /// Its targets, validated, in the order of their names.
    pub targets: Vec<TargetSpec>,
}

/// Returns the profile to read: the named one, else `./vmserial.yaml`, else the one in the configuration folder.
///
/// # Errors
///
/// There is none.
pub fn find(named: Option<&Path>, surroundings: &Surroundings) -> Result<PathBuf, Problem> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let here = surroundings.current.join("vmserial.yaml");
    let configured = surroundings
        .configuration
        .as_ref()
        .map(|folder| folder.join("vmserial/vmserial.yaml"));
    let candidates: Vec<PathBuf> = std::iter::once(here).chain(configured).collect();
    match candidates.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => {
            let looked: Vec<String> = candidates
                .iter()
                .map(|path| format!("`{}`", path.display()))
                .collect();
            Err(Problem::new(
                FailureKind::NotFound,
                format!("there is no profile at {}", looked.join(" or ")),
            )
            .hint("Name one with `-p FILE` or $VMSERIAL_PROFILE, or make one with `vmserial profile new`."))
        }
    }
}

/// Reads a profile and validates it.
///
/// # Errors
///
/// [`FailureKind::NotFound`] if there is no such file, [`FailureKind::Configuration`] with everything that is wrong.
pub fn load(path: &Path, surroundings: &Surroundings) -> Result<LoadedProfile, Problem> {
    let text = read(path)?;
    let folder = path
        .parent()
        .map(|folder| surroundings.current.join(folder))
        .unwrap_or_default();
    let base = Base {
        folder,
        home: surroundings.home.clone(),
    };
    let (profile, targets) = parse(&text, &base).map_err(|issues| report(path, &text, &issues))?;
    Ok(LoadedProfile {
        path: path.to_owned(),
        profile,
        targets,
    })
}

fn read(path: &Path) -> Result<String, Problem> {
    let shown = path.display();
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => {
            Problem::new(FailureKind::NotFound, format!("there is no profile `{shown}`"))
                .hint(format!("Make one with `vmserial profile new {shown}`."))
        }
        _ => Problem::new(
            FailureKind::Configuration,
            format!("cannot read the profile `{shown}`: {error}"),
        ),
    };
    let size = fs::metadata(path).map_err(failed)?.len();
    if size > MOST_BYTES {
        return Err(Problem::new(
            FailureKind::Configuration,
            format!("`{shown}` has {size} bytes, which is no profile"),
        ));
    }
    let bytes = fs::read(path).map_err(failed)?;
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count()
            + 1;
        Problem::new(
            FailureKind::Configuration,
            format!("the profile `{shown}` is not UTF-8 on line {line}"),
        )
        .hint("Save it as UTF-8.")
    })
}

/// Reads a profile's text.
///
/// # Errors
///
/// Everything that is wrong, in the order of the document.
pub fn parse(text: &str, base: &Base) -> Result<(Profile, Vec<TargetSpec>), Vec<Issue>> {
    let document = nodes(text).map_err(|issue| vec![issue])?;
    if let Some(issue) = newer_version(&document) {
        return Err(vec![issue]);
    }
    let schema = schema();
    let mut issues = check(&schema, &document);
    if !issues.is_empty() {
        issues.sort_by_key(|issue| issue.place);
        return Err(issues);
    }
    let profile: Profile = serde_yaml::from_str(text).map_err(|error| {
        // The schema's check is as strict as the types; what only they find is told in their words.
        vec![Issue {
            place: document.place,
            path: String::new(),
            message: error.to_string(),
        }]
    })?;
    let mut targets = validate(&profile, &document, base);
    if let Err(issues) = &mut targets {
        issues.sort_by_key(|issue| issue.place);
    }
    targets.map(|targets| (profile, targets))
}

/// Returns the JSON schema of profiles.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Profile).into()
}

fn newer_version(document: &Node) -> Option<Issue> {
    let version = document.at(&["version"]);
    match version.scalar_type() {
        Some(crate::config::node::ScalarType::Integer(number)) if number != i128::from(PROFILE_VERSION) => {
            Some(Issue {
                place: version.place,
                path: "version".to_owned(),
                message: format!(
                    "got {number}, this program reads version {PROFILE_VERSION}; use a vmserial that fits the profile"
                ),
            })
        }
        _ => None,
    }
}

fn report(path: &Path, text: &str, issues: &[Issue]) -> Problem {
    let lines: Vec<&str> = text.lines().collect();
    let shown = path.display();
    let count = if issues.len() == 1 {
        "an error".to_owned()
    } else {
        format!("{} errors", issues.len())
    };
    let mut message = format!("the profile `{shown}` has {count}");
    for issue in issues {
        let Place { line, column } = issue.place;
        let name = if issue.path.is_empty() {
            String::new()
        } else {
            format!("`{}`: ", issue.path)
        };
        message.push_str(&format!(
            "\n\n{name}{}\n  --> {shown}:{line}:{column}",
            issue.message
        ));
        if let Some(excerpt) = lines.get(line.saturating_sub(1)) {
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            let before: String = excerpt
                .chars()
                .take(column - 1)
                .map(|character| if character == '\t' { '\t' } else { ' ' })
                .collect();
            message.push_str(&format!(
                "\n {margin} |\n {number} | {excerpt}\n {margin} | {before}^"
            ));
        }
    }
    Problem::new(FailureKind::Configuration, message)
        .hint("`vmserial profile schema` prints every key; docs/reference/profile.md explains them.")
}

/// An anchor's number and the number of nodes below it.
type Anchors = HashMap<usize, (Node, usize)>;

struct Builder<'a> {
    parser: Box<dyn Iterator<Item = Result<(Event<'a>, Place), Issue>> + 'a>,
    anchors: Anchors,
    count: usize,
}

fn place(span: &Span) -> Place {
    Place {
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}

/// Reads one document into nodes.
///
/// # Errors
///
/// Wrong YAML, a tag, a second document, an empty one, an alias bomb.
pub fn nodes(text: &str) -> Result<Node, Issue> {
    let start = Place { line: 1, column: 1 };
    let issue = |place, message: &str| Issue {
        place,
        path: String::new(),
        message: message.to_owned(),
    };
    // A byte-order mark is no part of the document.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let events = Parser::new_from_str(text).map(|event| match event {
        Ok((event, span)) => Ok((event, place(&span))),
        Err(error) => Err(Issue {
            place: Place {
                line: error.marker().line().max(1),
                column: error.marker().col() + 1,
            },
            path: String::new(),
            message: format!("this is no YAML: {}", error.info()),
        }),
    });
    let mut builder = Builder {
        parser: Box::new(events),
        anchors: Anchors::new(),
        count: 0,
    };
    let mut document = None;
    while let Some((event, place)) = builder.next()? {
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(..) if document.is_some() => {
                return Err(issue(place, "a second document begins here, expected one"));
            }
            Event::DocumentStart(..) => {}
            event => document = Some(builder.node(event, place, 0)?.0),
        }
    }
    match document {
        Some(Node {
            content: Content::Scalar { text, quoted: false },
            ..
        }) if text.is_empty() => Err(issue(
            start,
            "the profile is empty, expected `version: 1` and `targets:`",
        )),
        Some(document) => Ok(document),
        None => Err(issue(
            start,
            "the profile is empty, expected `version: 1` and `targets:`",
        )),
    }
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Place)>, Issue> {
        loop {
            match self.parser.next().transpose()? {
                Some((Event::Comment(..), _)) => {}
                other => return Ok(other),
            }
        }
    }

    fn must_next(&mut self, at: Place) -> Result<(Event<'a>, Place), Issue> {
        self.next()?.ok_or(Issue {
            place: at,
            path: String::new(),
            message: "the document ends too early".to_owned(),
        })
    }

    /// Reads the node that begins with an event. Returns it with the number of nodes in it.
    fn node(&mut self, event: Event<'a>, place: Place, depth: usize) -> Result<(Node, usize), Issue> {
        let issue = |message: String| Issue {
            place,
            path: String::new(),
            message,
        };
        self.count += 1;
        if self.count > MOST_NODES || depth > MOST_DEPTH {
            return Err(issue(
                "the document is too large or too deep (aliases of aliases?)".to_owned(),
            ));
        }
        if event.tag().is_some() {
            return Err(issue(
                "a tag (`!…`) has no meaning in a profile; a text that begins with `!` stands in quotes"
                    .to_owned(),
            ));
        }
        let anchor = event.anchor_id();
        let (content, size) = match event {
            Event::Scalar(text, style, _, _) => (
                Content::Scalar {
                    text: text.into_owned(),
                    quoted: style != ScalarStyle::Plain,
                },
                1,
            ),
            Event::Alias(id) => {
                let (node, size) = self
                    .anchors
                    .get(&id)
                    .cloned()
                    .ok_or_else(|| issue("the alias has no anchor".to_owned()))?;
                self.count += size;
                if self.count > MOST_NODES {
                    return Err(issue(
                        "the document is too large (aliases of aliases?)".to_owned(),
                    ));
                }
                // Errors in it are told where the alias stands, which is where the user can tell what it is for.
                return Ok((Node { place, ..node }, size));
            }
            Event::SequenceStart(..) => {
                let (mut items, mut size) = (Vec::new(), 1);
                loop {
                    let (event, at) = self.must_next(place)?;
                    if matches!(event, Event::SequenceEnd) {
                        break;
                    }
                    let (item, below) = self.node(event, at, depth + 1)?;
                    items.push(item);
                    size += below;
                }
                (Content::Sequence(items), size)
            }
            Event::MappingStart(..) => {
                let (mut entries, mut size) = (Vec::new(), 1);
                loop {
                    let (event, at) = self.must_next(place)?;
                    if matches!(event, Event::MappingEnd) {
                        break;
                    }
                    let (key, _) = self.node(event, at, depth + 1)?;
                    let Content::Scalar { text, .. } = key.content else {
                        return Err(Issue {
                            place: at,
                            path: String::new(),
                            message: "a key is a text".to_owned(),
                        });
                    };
                    let (event, at_value) = self.must_next(at)?;
                    let (value, below) = self.node(event, at_value, depth + 1)?;
                    entries.push((Key { place: at, text }, value));
                    size += below + 1;
                }
                (Content::Mapping(entries), size)
            }
            _ => return Err(issue("expected a value".to_owned())),
        };
        let node = Node { place, content };
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, (node.clone(), size));
        }
        Ok((node, size))
    }
}

impl LoadedProfile {
    /// Returns the targets that names or globs (`*`, `?`) choose; all if there are none. Each once, in name order.
    ///
    /// # Errors
    ///
    /// A name or glob fits no target: [`FailureKind::NotFound`].
    pub fn targets(&self, patterns: &[String]) -> Result<Vec<TargetSpec>, Problem> {
        for pattern in patterns {
            if !self
                .targets
                .iter()
                .any(|target| glob(pattern, target.name.as_str()))
            {
                let names: Vec<&str> = self.targets.iter().map(|target| target.name.as_str()).collect();
                let problem = Problem::new(
                    FailureKind::NotFound,
                    format!("the profile `{}` has no target `{pattern}`", self.path.display()),
                );
                return Err(match nearest(pattern, names.iter().copied()) {
                    Some(near) => problem.hint(format!("Did you mean `{near}`?")),
                    None => problem.hint(format!("It has: {}.", names.join(", "))),
                });
            }
        }
        let chosen = |target: &&TargetSpec| {
            patterns.is_empty() || patterns.iter().any(|pattern| glob(pattern, target.name.as_str()))
        };
        Ok(self.targets.iter().filter(chosen).cloned().collect())
    }
}

/// Matches a name against a glob of `*` and `?`.
fn glob(pattern: &str, name: &str) -> bool {
    match (pattern.chars().next(), name.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            glob(&pattern[1..], name)
                || name
                    .chars()
                    .next()
                    .is_some_and(|first| glob(pattern, &name[first.len_utf8()..]))
        }
        (Some('?'), Some(first)) => glob(&pattern[1..], &name[first.len_utf8()..]),
        (Some(one), Some(other)) if one == other => {
            glob(&pattern[one.len_utf8()..], &name[other.len_utf8()..])
        }
        _ => false,
    }
}

/// Writes a profile as YAML.
///
/// # Errors
///
/// None is known: every profile can be written.
pub fn to_yaml(profile: &Profile) -> Result<String, Problem> {
    serde_yaml::to_string(profile).map_err(|error| {
        Problem::new(
            FailureKind::Internal,
            format!("cannot write the profile as YAML: {error}"),
        )
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
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
                vec![item.as_str(); 10].join(", ")
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
                let loaded =
                    load(&path, &Surroundings::default()).unwrap_or_else(|problem| panic!("{problem}"));
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
}
