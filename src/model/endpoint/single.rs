//! Places of this machine that one stream can have at a time.

use super::{Address, EndpointSpec, Role};
use crate::model::{FailureKind, Problem};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

impl EndpointSpec {
    /// Returns the place that only one stream of this machine can have, spelled in one way: a listener's address, a file, a
    /// device, standard input and output. `None` where many can be: a free port, an unnamed PTY, a remote end.
    pub fn single_place(&self) -> Option<String> {
        let listens = self.role == Some(Role::Listen);
        match &self.address {
            Address::Stdio => Some("stdio".into()),
            Address::File(path) => Some(format!("file:{}", plain(path))),
            Address::Tty { device, .. } if self.via.is_empty() => {
                Some(format!("tty:{}", plain(Path::new(device))))
            }
            Address::Pty { link: Some(link) } if self.via.is_empty() => Some(format!("path:{}", plain(link))),
            Address::Unix(path) if listens && self.via.is_empty() => Some(format!("path:{}", plain(path))),
            Address::Pipe { name, .. } if listens && self.via.is_empty() => {
                Some(format!("pipe:{}", name.to_lowercase()))
            }
            Address::Tcp { host, port }
            | Address::Telnet { host, port }
            | Address::Rfc2217 { host, port, .. }
                if listens && self.via.is_empty() && *port != 0 =>
            {
                Some(format!("tcp:{host}:{port}"))
            }
            _ => None,
        }
    }

    /// Returns the stream in its canonical spelling if two ports cannot share it. Each end of a stream has one VM: role does not
    /// matter.
    pub fn stream_of_one(&self) -> Option<String> {
        let shareable = match &self.address {
            Address::Tcp { port, .. } | Address::Telnet { port, .. } | Address::Rfc2217 { port, .. } => {
                *port == 0
            }
            Address::Pty { link } => link.is_none(),
            Address::Stdio | Address::Exec(_) => true,
            Address::Unix(_) | Address::Pipe { .. } | Address::Tty { .. } | Address::File(_) => false,
        };
        let place = Self {
            role: None,
            ..self.clone()
        };
        (!shareable).then(|| match &place.address {
            // Names of Windows' pipes have no case.
            Address::Pipe { .. } => place.to_string().to_lowercase(),
            _ => place.to_string(),
        })
    }
}

/// A path without `.` in it.
fn plain(path: &Path) -> String {
    let parts: PathBuf = path
        .components()
        .filter(|part| !matches!(part, Component::CurDir))
        .collect();
    parts.to_string_lossy().into_owned()
}

/// Checks that no two endpoints of one bridge are at the same place.
///
/// # Errors
///
/// Usage.
pub fn check_places<'a>(endpoints: impl IntoIterator<Item = &'a EndpointSpec>) -> Result<(), Problem> {
    let mut places = BTreeSet::new();
    for endpoint in endpoints {
        let Some(place) = endpoint.single_place() else {
            continue;
        };
        if places.insert(place) {
            continue;
        }
        let problem = Problem::new(FailureKind::Usage, format!("`{endpoint}` is named twice"));
        return Err(match endpoint.address {
            Address::Stdio => Problem::new(
                FailureKind::Usage,
                "`stdio` is named twice, and there is one standard input",
            )
            .hint("Use `pty` or `listen:unix:/path` for the other end."),
            _ if endpoint.role == Some(Role::Listen) => {
                problem.hint("Each end of a bridge has a place of its own; `listen:tcp:0` takes a free port.")
            }
            _ => problem.hint("Each end of a bridge has a place of its own."),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn one_place_has_one_name() {
        let place = |text: &str| text.parse::<EndpointSpec>().unwrap().single_place();
        for (left, right, same) in [
            ("listen:unix:a", "listen:unix:./a", true),
            ("listen:unix:/run/a", "listen:unix:/run/./a", true),
            ("listen:unix:a", "pty:a", true),
            ("listen:unix:a", "listen:unix:b", false),
            ("listen:tcp:7001", "listen:tcp:127.0.0.1:7001", true),
            ("listen:tcp:7001", "listen:telnet:7001", true),
            ("listen:tcp:7001", "listen:tcp:10.0.0.1:7001", false),
            ("tty:/dev/ttyS0", "tty:/dev/ttyS0,baud=9600", true),
            ("file:/log", "file:/log", true),
            ("stdio", "stdio", true),
        ] {
            assert_eq!(place(left) == place(right), same, "{left} {right}");
            assert!(place(left).is_some(), "{left}");
        }
        for many in [
            "listen:tcp:0",
            "listen:telnet:0",
            "listen:rfc2217:0",
            "pty",
            "connect:unix:/run/a",
            "connect:tcp:h:1",
            "exec:cat",
            "tty:/dev/pts/1,via=h",
        ] {
            assert_eq!(place(many), None, "{many}");
        }
    }
}
