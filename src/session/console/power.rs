//! A target's power, asked for from its console: by the same commands as from a shell.

use crate::model::{Cancel, Deadline, FailureKind, Invocation, Problem, Wait};
use crate::runner::Runner;
use crate::runner::local::Local;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A VM that is shut down cleanly may take minutes.
const LIMIT: Duration = Duration::from_secs(300);

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerAction {
    /// Start it.
    Up,
    /// Stop it.
    Down,
    /// Stop it and start it again.
    Reset,
}

impl PowerAction {
    /// Reads the user's answer.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "up" => Some(Self::Up),
            "down" => Some(Self::Down),
            "reset" => Some(Self::Reset),
            _ => None,
        }
    }

    fn commands(self) -> &'static [&'static str] {
        match self {
            Self::Up => &["up"],
            Self::Down => &["down"],
            Self::Reset => &["down", "up"],
        }
    }
}

/// The target whose power can be asked for.
#[derive(Debug, Clone)]
pub struct PowerOf {
    /// Its name.
    pub target: String,
    /// The profile, if it was named.
    pub profile: Option<PathBuf>,
    /// The state folder.
    pub state: PathBuf,
}

impl PowerOf {
    /// Does it with commands of our own program, and returns what they said. Blocks.
    ///
    /// # Errors
    ///
    /// What the command failed with.
    pub fn act(&self, action: PowerAction) -> Result<Vec<String>, Problem> {
        let program = std::env::current_exe()
            .map_err(|error| Problem::new(FailureKind::Host, format!("cannot find vmserial: {error}")))?;
        let mut said = Vec::new();
        for command in action.commands() {
            let invocation = self.invocation(&program, command);
            let wait = Wait {
                deadline: Deadline::after(Instant::now(), LIMIT),
                cancel: Cancel::new(),
                what: format!("`vmserial {command} {}`", self.target),
            };
            let output = Local::new()
                .run(&invocation, &wait)
                .map_err(|error| Problem::new(FailureKind::Host, error.to_string()))?;
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            said.extend(text.lines().map(str::to_owned));
            if !output.success() {
                return Err(Problem::new(FailureKind::Host, said.join("; ")));
            }
        }
        Ok(said)
    }

    fn invocation(&self, program: &Path, command: &str) -> Invocation {
        let text = |path: &Path| path.display().to_string();
        let mut arguments = Vec::new();
        if let Some(profile) = &self.profile {
            arguments.extend(["-p".to_owned(), text(profile)]);
        }
        arguments.extend(["--state".to_owned(), text(&self.state), command.to_owned()]);
        arguments.push(self.target.clone());
        if command == "up" {
            arguments.push("--yes".to_owned());
        }
        Invocation::changes(text(program), arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_is_the_command_that_a_shell_would_be_given() {
        let power = PowerOf {
            target: "dev".into(),
            profile: Some("/p.yaml".into()),
            state: "/s".into(),
        };
        let shown = |command| power.invocation(Path::new("vmserial"), command).to_string();
        assert_eq!(shown("up"), "vmserial -p /p.yaml --state /s up dev --yes");
        assert_eq!(shown("down"), "vmserial -p /p.yaml --state /s down dev");
        assert_eq!(PowerAction::parse("reset"), Some(PowerAction::Reset));
        assert_eq!(PowerAction::parse(""), None);
    }
}
