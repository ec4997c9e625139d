//! Finds and reads profiles.
//!
//! Four passes: nodes with places; ranges into targets; the nodes against the schema, all errors at once; only then the types.

mod report;
mod select;
#[cfg(test)]
mod tests;

pub use report::report;
pub use select::{Arguments, is_profile, split_arguments};

use crate::config::check::check;
use crate::config::expand::{expand, once_per_place};
use crate::config::node::{FieldPath, Issue, Node, ScalarType};
use crate::config::validate::{Base, validate};
use crate::config::yaml;
use crate::model::join::JoinSpec;
use crate::model::profile::{PROFILE_VERSION, Profile};
use crate::model::{FailureKind, Problem, TargetSpec};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

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
    /// As it is written, with one target for each number of a range.
    pub profile: Profile,
    /// Its targets, validated, in the order of their names.
    pub targets: Vec<TargetSpec>,
}

/// Why there is no profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadError {
    /// It cannot be read.
    Unreadable(Problem),
    /// It can be read and is wrong.
    Wrong {
        /// Everything that is wrong, in the order of the document.
        issues: Vec<Issue>,
        /// The same for people.
        problem: Problem,
    },
}

impl LoadedProfile {
    /// Returns the cables between targets' ports.
    pub fn joins(&self) -> Vec<JoinSpec> {
        self.profile.joins.iter().filter_map(JoinSpec::of).collect()
    }
}

impl From<LoadError> for Problem {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Unreadable(problem) | LoadError::Wrong { problem, .. } => problem,
        }
    }
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
    load_or_explain(path, surroundings).map_err(Problem::from)
}

/// Reads a profile and validates it, as [`load`] does, and gives the errors one by one.
///
/// # Errors
///
/// See [`LoadError`].
pub fn load_or_explain(path: &Path, surroundings: &Surroundings) -> Result<LoadedProfile, LoadError> {
    let text = read(path).map_err(LoadError::Unreadable)?;
    let folder = path
        .parent()
        .map(|folder| surroundings.current.join(folder))
        .unwrap_or_default();
    let base = Base {
        folder,
        home: surroundings.home.clone(),
    };
    let text = yaml::without_mark(&text);
    let (profile, targets) = parse(text, &base).map_err(|issues| LoadError::Wrong {
        problem: report(path, text, &issues),
        issues,
    })?;
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
    // A pipe and a device do not tell their size.
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Problem::new(
            FailureKind::Configuration,
            format!("`{shown}` has more than {MOST_BYTES} bytes, which is no profile"),
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|&&byte| byte == b'\n').count() + 1;
        Problem::new(
            FailureKind::Configuration,
            format!("the profile `{shown}` is not UTF-8 on line {line}"),
        )
        .hint("Save it as UTF-8.")
    })
}

/// Reads a profile's text, which has no byte-order mark.
///
/// # Errors
///
/// Everything that is wrong, in the order of the document.
pub fn parse(text: &str, base: &Base) -> Result<(Profile, Vec<TargetSpec>), Vec<Issue>> {
    let document = yaml::nodes(text).map_err(|issue| vec![issue])?;
    if let Some(issue) = newer_version(&document.root) {
        return Err(vec![issue]);
    }
    let (root, unexpanded) = expand(&document.root);
    let mut issues = document.issues;
    issues.extend(unexpanded);
    let value = match check(&schema(), &root) {
        Ok(value) if issues.is_empty() => value,
        checked => {
            // What was told of a place already is not told in other words.
            let told: Vec<_> = issues.iter().map(|issue| issue.place).collect();
            issues.extend(
                checked
                    .err()
                    .into_iter()
                    .flatten()
                    .filter(|issue| !told.contains(&issue.place)),
            );
            return Err(in_order(issues));
        }
    };
    let mut profile: Profile = serde_json::from_value(value).map_err(|error| {
        // The schema's check is as strict as the types; what only they find is told in their words.
        vec![Issue::of_document(root.place, error.to_string())]
    })?;
    // Each target of a range stands for itself now.
    for target in profile.targets.values_mut() {
        target.range = None;
    }
    match validate(&profile, &root, base) {
        Ok(targets) => Ok((profile, targets)),
        Err(issues) => Err(in_order(issues)),
    }
}

fn in_order(mut issues: Vec<Issue>) -> Vec<Issue> {
    issues.sort_by_key(|issue| issue.place);
    once_per_place(issues)
}

/// Returns the JSON schema of profiles.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Profile).into()
}

fn newer_version(document: &Node) -> Option<Issue> {
    let version = document.get("version")?;
    match version.scalar_type() {
        Some(ScalarType::Integer(number)) if number != i128::from(PROFILE_VERSION) => Some(Issue::new(
            version.place,
            FieldPath::default().key("version"),
            format!(
                "got {number}, this program reads version {PROFILE_VERSION}; use a vmserial that fits the profile"
            ),
        )),
        _ => None,
    }
}
