//! What an endpoint may be used for, and where its relative paths start.

use super::parse::{SAMPLE, meant};
use super::{Address, EndpointError, EndpointSpec};
use crate::model::target::{TargetName, TargetNameError};
use std::path::{Path, PathBuf};

impl EndpointSpec {
    /// Checks that the endpoint can be a VM's side.
    ///
    /// # Errors
    ///
    /// A file takes bytes and gives none: it is for clients only.
    pub fn check_as_target(&self) -> Result<(), EndpointError> {
        match self.address {
            Address::File(_) => Err(self.misplaced(
                "kind: got `file`, expected a stream that is read and written (a file is for clients only)",
                "connect:unix:/run/vm/ser0.sock",
            )),
            _ => Ok(()),
        }
    }

    /// Checks that the endpoint can be a client's.
    ///
    /// # Errors
    ///
    /// A file behind SSH: there is no stream to carry.
    pub fn check_as_client(&self) -> Result<(), EndpointError> {
        match self.address {
            Address::File(_) if !self.via.is_empty() => Err(self.misplaced(
                "option `via`: got a file behind it, expected a file of this machine",
                "file:/var/log/vm.log",
            )),
            _ => Ok(()),
        }
    }

    /// Returns the endpoint with a relative local path taken from `base` (the profile's folder, or the current one on the
    /// command line) and `~/` from `home`. Paths behind `via=` are the remote host's and stay as they are.
    ///
    /// # Errors
    ///
    /// Fails when a Unix socket's path is then too long.
    pub fn resolved(&self, base: &Path, home: Option<&Path>) -> Result<Self, EndpointError> {
        if !self.via.is_empty() {
            return Ok(self.clone());
        }
        let mut resolved = self.clone();
        match &mut resolved.address {
            Address::Unix(path) | Address::File(path) | Address::Pty { link: Some(path) } => {
                *path = resolved_path(path, base, home);
            }
            Address::Tty { device, .. } if device.contains('/') => {
                *device = resolved_path(Path::new(device), base, home)
                    .to_string_lossy()
                    .into_owned();
            }
            _ => return Ok(resolved),
        }
        // Parsing it again checks the length of what came out.
        resolved.to_string().parse()
    }

    fn misplaced(&self, message: &str, example: &str) -> EndpointError {
        EndpointError {
            what: "endpoint that fits here",
            text: self.to_string(),
            column: 1,
            message: message.to_owned(),
            example: example.to_owned(),
        }
    }
}

/// Returns a path with `~/` taken from `home`, else a relative one from `base`.
pub(crate) fn resolved_path(path: &Path, base: &Path, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => base.join(path),
    }
}

/// What a command says that takes `TARGET|ENDPOINT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetOrEndpoint {
    /// The name of a target in a profile.
    Target(TargetName),
    /// An endpoint, with our role.
    Endpoint(EndpointSpec),
}

/// The text is neither a target's name nor an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetOrEndpointError {
    /// It has a colon, so it was meant as an endpoint.
    #[error(transparent)]
    Endpoint(EndpointError),
    /// It has none, so it was meant as a name.
    #[error("{0}; an endpoint begins with its role or kind, as in `{1}`")]
    Name(TargetNameError, String),
}

impl std::str::FromStr for TargetOrEndpoint {
    type Err = TargetOrEndpointError;

    /// A known `KIND:` (or a role) makes it an endpoint, else it is a target's name. `pty` and `stdio` without a colon are names.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains(':') {
            text.parse()
                .map(Self::Endpoint)
                .map_err(TargetOrEndpointError::Endpoint)
        } else {
            text.parse().map(Self::Target).map_err(|error| {
                let example = meant(text).unwrap_or_else(|| SAMPLE.to_owned());
                TargetOrEndpointError::Name(error, example)
            })
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_file_is_a_client_and_no_target() {
        let file: EndpointSpec = "file:/x".parse().unwrap();
        assert!(file.check_as_client().is_ok());
        let error = file.check_as_target().unwrap_err();
        assert!(error.to_string().contains("clients only"), "{error}");
        let socket: EndpointSpec = "connect:unix:/x".parse().unwrap();
        assert!(socket.check_as_target().is_ok() && socket.check_as_client().is_ok());
    }

    #[test]
    fn relative_paths_start_where_they_are_told_to() {
        for (written, resolved) in [
            ("connect:unix:a/b", "connect:unix:/base/a/b"),
            ("connect:unix:/a/b", "connect:unix:/a/b"),
            ("connect:unix:~/b", "connect:unix:/home/me/b"),
            ("file:~x", "file:/base/~x"),
            ("pty:link", "pty:/base/link"),
            ("pty", "pty"),
            ("tty:./ttyS0", "tty:/base/./ttyS0"),
            ("tty:COM3", "tty:COM3"),
            ("connect:unix:a,via=h", "connect:unix:a,via=h"),
            ("connect:tcp:h:1", "connect:tcp:h:1"),
        ] {
            let spec: EndpointSpec = written.parse().unwrap();
            let got = spec
                .resolved(Path::new("/base"), Some(Path::new("/home/me")))
                .unwrap();
            assert_eq!(got.to_string(), resolved, "{written}");
        }
        let spec: EndpointSpec = "connect:unix:a".parse().unwrap();
        let deep = PathBuf::from(format!("/{}", "d".repeat(120)));
        assert!(
            spec.resolved(&deep, None)
                .unwrap_err()
                .message
                .contains("107 bytes")
        );
    }

    #[test]
    fn a_known_kind_makes_an_endpoint() {
        assert!(matches!("dev".parse(), Ok(TargetOrEndpoint::Target(_))));
        assert!(matches!("pty".parse(), Ok(TargetOrEndpoint::Target(_))));
        assert!(matches!("pty:/x".parse(), Ok(TargetOrEndpoint::Endpoint(_))));
        assert!(matches!("exec:cat -u".parse(), Ok(TargetOrEndpoint::Endpoint(_))));
        let error = "tpc:h:1".parse::<TargetOrEndpoint>().unwrap_err();
        assert!(error.to_string().contains("got `tpc`"), "{error}");
        let error = "-x y".parse::<TargetOrEndpoint>().unwrap_err();
        assert!(error.to_string().contains("no target name"), "{error}");
    }
}
