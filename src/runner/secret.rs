//! Fetches a secret from where the profile says it is.
#![expect(clippy::disallowed_methods, reason = "a secret may be what a command prints")]

use crate::model::profile::Secret;
use crate::model::{FailureKind, Problem};
use std::fmt;
use std::process::{Command, Stdio};

/// A secret itself. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// Wraps it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns it, for the one who must say it to somebody else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// Fetches a secret.
///
/// # Errors
///
/// Precondition: the variable is not set, or the command failed or said nothing.
pub fn fetch(secret: &Secret) -> Result<SecretText, Problem> {
    match secret {
        Secret::Env(name) => std::env::var(name.as_str()).map(SecretText).map_err(|_| {
            let message = format!(
                "the environment variable `{}` with the password is not set",
                name.as_str()
            );
            Problem::new(FailureKind::Precondition, message)
        }),
        Secret::Command(line) => by_command(line),
    }
}

fn by_command(line: &str) -> Result<SecretText, Problem> {
    let refuse = |why: String| {
        Problem::new(
            FailureKind::Precondition,
            format!("the command `{line}` gave no password: {why}"),
        )
    };
    let words = shlex::split(line).unwrap_or_default();
    let (program, arguments) = words
        .split_first()
        .ok_or_else(|| refuse("it is no command line".into()))?;
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| refuse(error.to_string()))?;
    if !output.status.success() {
        return Err(refuse(output.status.to_string()));
    }
    let text = String::from_utf8(output.stdout).map_err(|_| refuse("it is no text".into()))?;
    match text.lines().next() {
        Some(first) if !first.is_empty() => Ok(SecretText::new(first)),
        _ => Err(refuse("it printed nothing".into())),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_command_s_first_line_is_the_secret_and_never_shown() {
        let secret = fetch(&Secret::Command("printf 'one two\\nthree\\n'".into())).unwrap();
        assert_eq!(secret.reveal(), "one two");
        assert_eq!(format!("{secret:?}"), "***");
        for (line, expected) in [
            ("false", "exit status: 1"),
            ("true", "it printed nothing"),
            ("no-such-program-at-all", "No such file"),
        ] {
            let problem = fetch(&Secret::Command(line.into())).unwrap_err();
            assert!(problem.message.contains(expected), "{problem}");
        }
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let problem = fetch(&Secret::Env("VMSERIAL_NO_SUCH_VARIABLE".parse().unwrap())).unwrap_err();
        assert!(problem.message.contains("`VMSERIAL_NO_SUCH_VARIABLE`"));
    }
}
