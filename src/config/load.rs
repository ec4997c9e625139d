//! Finds and reads profiles: the only place that reads YAML.
//!
//! Three passes: nodes with places; the nodes against the schema, all errors at once; only then the types.

use crate::config::check::{check, nearest};
use crate::config::node::{Issue, Node, Place};
use crate::config::validate::{Base, validate};
use crate::config::yaml::nodes;
use crate::model::profile::{PROFILE_VERSION, Profile};
use crate::model::{FailureKind, Problem, TargetSpec};
use std::fs;
use std::io;
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
mod tests;
