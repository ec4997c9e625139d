//! The helper's end, with the streams of this machine: what a bridge opens by itself, it opens too.

use crate::bridge::open::{self, Side};
use crate::model::{Address, EndpointSpec, FailureKind, Problem, Role};
use crate::runner::helper::server::{Means, serve};

/// Opens streams for one client on standard input and output, until its standard input ends.
///
/// # Errors
///
/// See [`serve`]; host: the system has no threads left.
pub fn run() -> Result<(), Problem> {
    let cannot = |error: std::io::Error| Problem::new(FailureKind::Host, format!("cannot start: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(cannot)?;
    let result = runtime.block_on(async {
        let stdio = EndpointSpec::new(None, Address::Stdio);
        let (input, output) = tokio::io::split(open::dial(&stdio).await.map_err(cannot)?);
        let means = Means {
            check,
            open: |endpoint| Box::pin(async move { open::dial(&endpoint).await }),
            reason: open::away_reason,
        };
        serve(input, output, means).await
    });
    // A thread that waits for standard input, or for a pipe to be read, must not keep us: the VM's slot is to be free.
    runtime.shutdown_background();
    result
}

/// Refuses what a client may not want of us: a helper goes to endpoints of its machine, and starts nothing.
fn check(endpoint: &EndpointSpec) -> Result<(), Problem> {
    let is_ours = matches!(
        endpoint.address,
        Address::Pipe { .. }
            | Address::Unix(_)
            | Address::Tcp { .. }
            | Address::Telnet { .. }
            | Address::Rfc2217 { .. }
            | Address::Tty { .. }
    );
    if !is_ours || endpoint.role == Some(Role::Listen) || !endpoint.via.is_empty() {
        return Err(Problem::new(
            FailureKind::Precondition,
            format!("a helper does not open `{endpoint}`"),
        ));
    }
    open::check_served(endpoint, Side::Target)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn it_goes_to_streams_and_starts_nothing() {
        for (endpoint, opens) in [
            ("connect:tcp:127.0.0.1:7001", true),
            ("connect:telnet:127.0.0.1:7001", true),
            ("exec:cat", false),
            ("stdio", false),
            ("pty", false),
            ("file:/x", false),
            ("listen:tcp:127.0.0.1:0", false),
            ("connect:tcp:h:1,via=other", false),
        ] {
            let endpoint: EndpointSpec = endpoint.parse().unwrap();
            assert_eq!(check(&endpoint).is_ok(), opens, "{endpoint}");
        }
    }
}
