//! What a port is called among vmserial's processes: the same name from every command that means the same port.

use crate::model::{Address, Digest, EndpointSpec, PortIndex, TargetSpec, TtySettings};
use std::fmt;
use std::path::{Path, PathBuf};

/// The name of a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortKey(String);

impl PortKey {
    /// Names a port by its endpoint. The role does not matter: it is the same port from both sides. An endpoint that means
    /// another stream each time (`stdio`, a fresh pseudo terminal, a free TCP port) is named for this process alone.
    pub fn of_endpoint(endpoint: &EndpointSpec) -> Self {
        let mut endpoint = endpoint.clone();
        let mut own = false;
        let local = endpoint.via.is_empty();
        // With other settings it is the same port.
        if let Address::Rfc2217 { settings, .. } = &mut endpoint.address {
            *settings = TtySettings::default();
        }
        match &mut endpoint.address {
            Address::Unix(path) | Address::Pty { link: Some(path) } if local => *path = real(path),
            Address::Tty { device, settings } => {
                *settings = TtySettings::default();
                if local && device.contains('/') {
                    *device = real(Path::new(device.as_str())).to_string_lossy().into_owned();
                }
            }
            Address::Tcp { host, port }
            | Address::Telnet { host, port }
            | Address::Rfc2217 { host, port, .. } => {
                if host == "localhost" {
                    "127.0.0.1".clone_into(host);
                }
                own = *port == 0;
            }
            Address::Pty { link: None } | Address::Stdio => own = true,
            _ => {}
        }
        let text = endpoint.to_string();
        Self(if own {
            format!("{text} of pid {}", std::process::id())
        } else {
            text
        })
    }

    /// Names a port by its host, VM and number, which stay when its endpoint changes.
    pub fn of_target(target: &TargetSpec, port: PortIndex) -> Self {
        Self(format!(
            "port {port} of {} VM {} on {}",
            target.hypervisor, target.vm, target.host
        ))
    }

    /// Returns the short name of its files.
    pub fn id(&self) -> String {
        let text = without_role(&self.0);
        Digest::of(text.as_bytes()).as_str()[..16].to_owned()
    }
}

impl fmt::Display for PortKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn without_role(text: &str) -> &str {
    text.strip_prefix("listen:")
        .or_else(|| text.strip_prefix("connect:"))
        .unwrap_or(text)
}

/// Returns the path without links, as far as it exists: a VM that is off has no socket, but its folder is there.
fn real(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if let Ok(real) = absolute.canonicalize() {
        return real;
    }
    match (absolute.parent().map(Path::canonicalize), absolute.file_name()) {
        (Some(Ok(folder)), Some(name)) => folder.join(name),
        _ => absolute,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn key(text: &str) -> PortKey {
        PortKey::of_endpoint(&text.parse().unwrap())
    }

    #[test]
    fn the_same_port_has_one_name() {
        assert_eq!(
            key("connect:tcp:localhost:1").id(),
            key("listen:tcp:127.0.0.1:1").id()
        );
        assert_ne!(
            key("connect:tcp:localhost:1").id(),
            key("connect:tcp:localhost:2").id()
        );
        assert_ne!(key("connect:tcp:h:1").id(), key("connect:tcp:h:1,via=b").id());
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("real");
        std::fs::create_dir(&real).unwrap();
        let same = format!("connect:unix:{}/../real/s", real.display());
        assert_eq!(
            key(&same).id(),
            key(&format!("connect:unix:{}/s", real.display())).id()
        );
    }

    #[test]
    fn a_stream_of_our_own_is_nobody_elses_port() {
        for text in ["stdio", "pty", "listen:tcp:0"] {
            assert!(
                key(text)
                    .to_string()
                    .ends_with(&format!("pid {}", std::process::id())),
                "{text}"
            );
        }
    }
}
