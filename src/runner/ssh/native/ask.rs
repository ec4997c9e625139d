//! Asks the `ssh` program what the user's configuration says of a host.
#![expect(clippy::disallowed_methods, reason = "the runner starts processes")]

use super::settings::Settings;
use super::sys;
use crate::model::{FailureKind, Problem};
use crate::runner::ssh::options::options;
use crate::runner::ssh_words::destination_word;
use std::path::Path;
use std::process::{Command, Stdio};

/// Returns the settings for a destination; those of the destination itself where there is no `ssh`.
///
/// # Errors
///
/// Configuration: `ssh` refuses its own configuration, in its words.
pub fn settings(destination: &str) -> Result<Settings, Problem> {
    let home = sys::home();
    let Ok(program) = which::which("ssh") else {
        let config = Path::new(&home).join(".ssh/config");
        if config.exists() {
            (options().warn)(&format!(
                "`{}` is not read: that needs the program `ssh`, which was not found",
                config.display()
            ));
        }
        let keys: Vec<String> = ["id_ed25519", "id_ecdsa", "id_rsa"]
            .iter()
            .map(|name| format!("identityfile ~/.ssh/{name}\n"))
            .collect();
        let printed = format!("{}userknownhostsfile ~/.ssh/known_hosts\n", keys.concat());
        let mut settings = Settings::parse(&printed, destination, &home);
        settings.known_hosts.push(sys::known_hosts_of_all());
        if settings.user.is_empty() {
            settings.user = sys::user().unwrap_or_default();
        }
        return Ok(settings);
    };
    let output = Command::new(program)
        .args(["-G", "--", &destination_word(destination)])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Problem::new(FailureKind::Host, format!("cannot run `ssh -G`: {error}")))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Problem::new(
            FailureKind::Configuration,
            format!("`ssh` does not take its own configuration for `{destination}`: {words}"),
        ));
    }
    Ok(Settings::parse(
        &sys::spelled_out(&String::from_utf8_lossy(&output.stdout)),
        destination,
        &home,
    ))
}
