//! Which of a profile's targets are meant: names and globs.

use super::LoadedProfile;
use crate::model::near::nearest;
use crate::model::{FailureKind, Problem, TargetSpec};
use std::path::PathBuf;

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

/// Matches a name against a glob of `*` and `?`, in time that is the product of their lengths at most.
fn glob(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Where the last `*` stands, and up to where in the name it reaches so far.
    let mut star: Option<(usize, usize)> = None;
    let (mut at, mut in_name) = (0, 0);
    while in_name < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, in_name));
                at += 1;
            }
            Some(&one) if one == '?' || one == name[in_name] => {
                at += 1;
                in_name += 1;
            }
            _ => match star {
                Some((place, reach)) => {
                    star = Some((place, reach + 1));
                    at = place + 1;
                    in_name = reach + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&rest| rest == '*')
}

/// What a command's arguments say when they may name a profile and targets of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Arguments {
    /// The profile among them.
    pub profile: Option<PathBuf>,
    /// Names and globs of targets; none means all.
    pub patterns: Vec<String>,
}

/// Tells arguments that end in `.yaml` or `.yml` (the profile) from targets.
///
/// # Errors
///
/// Usage: two profiles.
pub fn split_arguments(arguments: &[String]) -> Result<Arguments, Problem> {
    let mut split = Arguments::default();
    for argument in arguments {
        if !is_profile(argument) {
            split.patterns.push(argument.clone());
        } else if let Some(first) = &split.profile {
            return Err(Problem::new(
                FailureKind::Usage,
                format!("two profiles are named, `{}` and `{argument}`", first.display()),
            )
            .hint("Run the command once for each."));
        } else {
            split.profile = Some(PathBuf::from(argument));
        }
    }
    Ok(split)
}

/// Tells whether an argument is a profile's file.
pub fn is_profile(argument: &str) -> bool {
    let lower = argument.to_ascii_lowercase();
    lower.ends_with(".yaml") || lower.ends_with(".yml")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn globs_fit_names() {
        for (pattern, name, fits) in [
            ("lab-*", "lab-17", true),
            ("*", "", true),
            ("l?b", "lab", true),
            ("lab", "lab1", false),
            ("?", "", false),
            ("*-*-*", "a-b", false),
            (
                "*a*a*a*a*a*a*a*a*b",
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                false,
            ),
        ] {
            assert_eq!(glob(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn a_file_among_the_arguments_is_the_profile() {
        let split = |arguments: &[&str]| {
            split_arguments(
                &arguments
                    .iter()
                    .map(|&argument| argument.to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(split(&[]).unwrap(), Arguments::default());
        let both = split(&["lab-*", "x/demo.yaml", "dev"]).unwrap();
        assert_eq!(both.profile, Some("x/demo.yaml".into()));
        assert_eq!(both.patterns, ["lab-*", "dev"]);
        assert_eq!(split(&["D.YML"]).unwrap().profile, Some("D.YML".into()));
        assert_eq!(split(&["a.yaml", "b.yml"]).unwrap_err().kind, FailureKind::Usage);
    }
}
