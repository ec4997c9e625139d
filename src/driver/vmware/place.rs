//! Between an endpoint of a VM's port and VMware's words for it.

use super::settings::FoundPort;
use crate::model::{Address, EndpointSpec, FailureKind, HostPath, PortIndex, Problem, Role};
use std::path::PathBuf;

/// `fileName` of a Windows pipe begins so; backslashes are literal in the file.
const PIPE: &str = r"\\.\pipe\";

/// Which streams VMware makes for a `pipe`, by the system that it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostStyle {
    /// Unix sockets.
    Unix,
    /// Named pipes.
    Windows,
    /// The file lies on a Windows drive under a Unix path (WSL): its VMware may be on either side.
    Mounted,
}

impl HostStyle {
    /// Tells it from the path of the VM's file.
    pub(super) fn of(path: &HostPath) -> Self {
        let text = path.as_str();
        let mut characters = text.chars();
        let drive = characters.next().is_some_and(|first| first.is_ascii_alphabetic())
            && characters.next() == Some(':');
        let mounted = text.strip_prefix("/mnt/").is_some_and(|rest| {
            rest.as_bytes().get(1) == Some(&b'/') && rest.as_bytes()[0].is_ascii_alphabetic()
        });
        match (drive || text.contains('\\'), mounted) {
            (true, _) => Self::Windows,
            (false, true) => Self::Mounted,
            (false, false) => Self::Unix,
        }
    }
}

/// VMware's words for where a port is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backing {
    /// `fileName`.
    pub file_name: String,
    /// `pipe.endPoint`.
    pub end_point: &'static str,
}

/// Puts an endpoint (with the VM's role) into VMware's words.
///
/// # Errors
///
/// VMware on this kind of host has no such stream.
pub(super) fn backing(endpoint: &EndpointSpec, path: &HostPath) -> Result<Backing, Problem> {
    let refuse = |reason: &str, hint: &str| {
        Err(Problem::new(
            FailureKind::Precondition,
            format!("VMware cannot attach a port to `{endpoint}`: {reason}"),
        )
        .hint(hint))
    };
    const UNIX: &str = "Write `--endpoint listen:unix:/path`; the bridge then serves it in any other way.";
    const WINDOWS: &str = "Write `--endpoint listen:pipe:NAME`; the bridge then serves it in any other way.";
    let style = HostStyle::of(path);
    let instead = if style == HostStyle::Windows {
        WINDOWS
    } else {
        UNIX
    };
    if !endpoint.via.is_empty() {
        return refuse("it opens streams of its own host only", instead);
    }
    let end_point = match endpoint.role {
        Some(Role::Connect) => "client",
        Some(Role::Listen) | None => "server",
    };
    let file_name = match &endpoint.address {
        Address::Unix(_) if style == HostStyle::Windows => {
            return refuse("on Windows its ports are named pipes", WINDOWS);
        }
        Address::Unix(socket) => {
            let text = socket.to_string_lossy();
            if !text.starts_with('/') {
                return refuse("the path must be absolute", UNIX);
            }
            text.into_owned()
        }
        Address::Pipe { .. } if style == HostStyle::Unix => {
            return refuse("named pipes are Windows's, here its ports are Unix sockets", UNIX);
        }
        Address::Pipe { host: Some(_), .. } => {
            return refuse("it opens pipes of its own host only", WINDOWS);
        }
        Address::Pipe { host: None, name } => format!("{PIPE}{name}"),
        Address::Tcp { .. } | Address::Telnet { .. } | Address::Rfc2217 { .. } => {
            return refuse("ports on the network are ESXi's", instead);
        }
        _ => return refuse("this driver serves pipes only", instead),
    };
    Ok(Backing { file_name, end_point })
}

/// Returns where a port is, with the VM's role, and whether the file says the role; `None` if it is no pipe.
pub(super) fn endpoint_of(port: &FoundPort) -> Option<(EndpointSpec, bool)> {
    if !port.present || !port.file_type.eq_ignore_ascii_case("pipe") {
        return None;
    }
    let name = port.file_name.as_deref()?;
    let address = match name.get(..PIPE.len()) {
        Some(start) if start.eq_ignore_ascii_case(PIPE) => Address::Pipe {
            host: None,
            name: name[PIPE.len()..].to_owned(),
        },
        _ if name.starts_with('/') => Address::Unix(PathBuf::from(name)),
        _ => return None,
    };
    let role = match port.end_point.as_deref().map(str::to_ascii_lowercase).as_deref() {
        Some("server") => Some(Role::Listen),
        Some("client") => Some(Role::Connect),
        _ => None,
    };
    let endpoint = EndpointSpec::new(Some(role.unwrap_or(Role::Listen)), address);
    Some((endpoint, role.is_some()))
}

/// Returns where a port is attached if nobody says where: beside the VM's file, the VM listens.
///
/// # Errors
///
/// The path of the socket would be too long.
pub(super) fn default_endpoint(path: &HostPath, port: PortIndex) -> Result<EndpointSpec, Problem> {
    let text = path.as_str();
    let (folder, file) = text
        .rfind(['/', '\\'])
        .map_or(("", text), |at| text.split_at(at + 1));
    let stem = file
        .strip_suffix(".vmx")
        .or_else(|| file.strip_suffix(".VMX"))
        .unwrap_or(file);
    let name = format!("{stem}-com{port}");
    let endpoint = match HostStyle::of(path) {
        HostStyle::Windows => EndpointSpec::new(Some(Role::Listen), Address::Pipe { host: None, name }),
        HostStyle::Unix | HostStyle::Mounted => EndpointSpec::new(
            Some(Role::Listen),
            Address::Unix(PathBuf::from(format!("{folder}{name}.sock"))),
        ),
    };
    // Parsing checks the length.
    endpoint.to_string().parse().map_err(|error| {
        Problem::new(
            FailureKind::Precondition,
            format!("port {port} of `{path}` has no place beside it: {error}"),
        )
        .hint("Name one with `--endpoint listen:unix:/path`.")
    })
}
