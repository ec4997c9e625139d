//! Where this machine has a vmserial.exe that can be started: named by the user, installed, or on the PATH.

use super::wsl;
use std::ffi::OsString;
use std::path::PathBuf;

/// What names the program.
pub const VARIABLE: &str = "VMSERIAL_EXE";

/// The program on the Windows side.
const PROGRAM: &str = "vmserial.exe";

/// Where [`crate::host_service`] installs it, below `%LOCALAPPDATA%`.
const INSTALLED: &str = "vmserial/bin/vmserial.exe";

/// No program was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindError {
    /// What was looked for where, a fragment each.
    pub looked: Vec<String>,
}

impl std::fmt::Display for FindError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "no helper was found for named pipes: {}",
            self.looked.join("; ")
        )
    }
}

impl std::error::Error for FindError {}

/// The places where a helper may be.
#[derive(Debug, Clone, Default)]
pub struct HelperPlaces {
    /// Named by the user.
    pub named: Option<OsString>,
    /// The user's `%LOCALAPPDATA%` as this machine reaches it, or why it is not known.
    pub local_app_data: Option<Result<PathBuf, String>>,
    /// The folders of the PATH.
    pub path: OsString,
}

impl HelperPlaces {
    /// Returns the places of this machine. In WSL it asks Windows, which takes a tenth of a second.
    pub fn of_this_machine() -> Self {
        let named = std::env::var_os(VARIABLE).filter(|value| !value.is_empty());
        Self {
            // Asked only when it matters.
            local_app_data: (named.is_none() && wsl::is_here()).then(wsl::local_app_data),
            named,
            path: std::env::var_os("PATH").unwrap_or_default(),
        }
    }

    /// Returns the places that are not ours to fill: what the user named, and the PATH.
    pub fn without_installed() -> Self {
        Self {
            named: std::env::var_os(VARIABLE).filter(|value| !value.is_empty()),
            local_app_data: None,
            path: std::env::var_os("PATH").unwrap_or_default(),
        }
    }

    /// Returns where a helper is installed on this machine's Windows side, or why that is not known. `None` if there is
    /// no Windows here.
    pub fn installed_path() -> Option<Result<PathBuf, String>> {
        let folder = if wsl::is_here() {
            wsl::local_app_data()
        } else {
            // Windows itself.
            Ok(std::env::var_os("LOCALAPPDATA").map(PathBuf::from)?)
        };
        Some(folder.map(|folder| INSTALLED.split('/').fold(folder, |path, part| path.join(part))))
    }

    /// Returns the program.
    ///
    /// # Errors
    ///
    /// It is in none of them. A name that the user gave is not looked past.
    pub fn find(&self) -> Result<PathBuf, FindError> {
        let folder = std::env::current_dir().unwrap_or_default();
        if let Some(named) = &self.named {
            return which::which_in(named, Some(&self.path), folder).map_err(|_| FindError {
                looked: vec![format!(
                    "{VARIABLE} names `{}`, which is no program",
                    named.to_string_lossy()
                )],
            });
        }
        let mut looked = vec![format!("{VARIABLE} is not set")];
        match &self.local_app_data {
            None => looked.push("this is not WSL, so there is no %LOCALAPPDATA%".to_owned()),
            Some(Err(reason)) => looked.push(format!("%LOCALAPPDATA% is not known ({reason})")),
            Some(Ok(folder)) => {
                let installed = folder.join(INSTALLED);
                if installed.is_file() {
                    return Ok(installed);
                }
                looked.push(format!("`{}` is not there", installed.display()));
            }
        }
        which::which_in(PROGRAM, Some(&self.path), folder).map_err(|_| {
            looked.push(format!("there is no `{PROGRAM}` on the PATH"));
            FindError { looked }
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::path::Path;

    fn program(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::copy(std::env::current_exe().unwrap(), path).unwrap();
    }

    #[test]
    fn the_places_are_looked_at_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut places = HelperPlaces {
            named: None,
            local_app_data: Some(Ok(at("local"))),
            path: at("bin").into(),
        };
        let error = places.find().unwrap_err().to_string();
        for part in [
            "VMSERIAL_EXE is not set",
            "bin/vmserial.exe` is not there",
            "no `vmserial.exe` on the PATH",
        ] {
            assert!(error.contains(part), "{error}");
        }
        program(&at("bin/vmserial.exe"));
        assert_eq!(places.find().unwrap(), at("bin/vmserial.exe"));
        program(&at("local/vmserial/bin/vmserial.exe"));
        assert_eq!(places.find().unwrap(), at("local/vmserial/bin/vmserial.exe"));
        places.named = Some(at("mine").into());
        let error = places.find().unwrap_err().to_string();
        assert!(
            error.contains("VMSERIAL_EXE names") && !error.contains("PATH"),
            "{error}"
        );
        program(&at("mine"));
        assert_eq!(places.find().unwrap(), at("mine"));
    }

    #[test]
    fn a_machine_that_is_not_wsl_says_so() {
        let places = HelperPlaces {
            path: "/nonexistent".into(),
            ..HelperPlaces::default()
        };
        let error = places.find().unwrap_err().to_string();
        assert!(error.contains("this is not WSL"), "{error}");
    }
}
