//! Precedence of settings: flag over environment over profile over built-in default, each setting by itself.

use crate::model::{RestartPolicy, TargetSpec};

/// What flags say about all chosen targets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--restart`.
    pub restart: Option<RestartPolicy>,
}

/// Returns the first that is set: flag, environment, profile, else the built-in default.
pub fn first<T>(flag: Option<T>, environment: Option<T>, profile: Option<T>, default: T) -> T {
    flag.or(environment).or(profile).unwrap_or(default)
}

/// Applies what flags say.
#[must_use]
pub fn with_overrides(mut target: TargetSpec, overrides: Overrides) -> TargetSpec {
    target.restart = overrides.restart.unwrap_or(target.restart);
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_then_the_environment_then_the_profile() {
        for (flag, environment, profile, expected) in [
            (Some(1), Some(2), Some(3), 1),
            (None, Some(2), Some(3), 2),
            (None, None, Some(3), 3),
            (None, None, None, 4),
        ] {
            assert_eq!(first(flag, environment, profile, 4), expected);
        }
    }
}
