//! Everything that a bridge is told before it starts.

use crate::bridge::dial::{BreakMeans, BreakPort, Opener, TargetSource};
use crate::bridge::mediator::Mediator;
use crate::model::{ClientPrefix, ClientSpec, EndpointSpec, FailureKind, LogSpec, Policy, Problem};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How often a local target is dialled while it is away: a tenth of a second is not seen by a user and costs nothing.
pub const DEFAULT_RECONNECT: Duration = Duration::from_millis(100);

/// How long `--once` waits for more bytes of the other side.
pub const DEFAULT_LINGER: Duration = Duration::from_secs(1);

/// A VM that is a client: its port is asked for before each dial, as the target's is.
#[derive(Debug, Clone)]
pub struct JoinedVm {
    /// Its port, for people: `port 1 of debugger-vm`.
    pub name: String,
    /// Where the port is, with our role.
    pub source: TargetSource,
}

/// A bridge as it is wanted.
pub struct BridgeSpec {
    /// The VM side, with our role.
    pub target: TargetSource,
    /// The client side; may be empty when clients come through [`BridgeHandle::attach`](crate::bridge::BridgeHandle::attach).
    pub clients: Vec<ClientSpec>,
    /// A second VM at the other end of the cable, after all clients.
    pub joined: Option<JoinedVm>,
    /// Flow policy.
    pub policy: Policy,
    /// The debug protocol; needed by `gdb`, unused by `raw` and `console`.
    pub mediator: Option<Box<dyn Mediator>>,
    /// Logs of what the target sends, appended to.
    pub log: LogSpec,
    /// `raw`: newest bytes kept for the next client while nobody is attached.
    pub hold_bytes: usize,
    /// `console`: bytes of history that a new client gets.
    pub replay_bytes: usize,
    /// A second client of a single-client policy replaces the first instead of being refused.
    pub take_over: bool,
    /// `console`: one client writes at a time, the others read and wait.
    pub one_writer: bool,
    /// Pause between two dials of a local target.
    pub reconnect_every: Duration,
    /// A target that did not come within this time ends the bridge.
    pub wait: Option<Duration>,
    /// The first end of a stream ends the bridge.
    pub once: bool,
    /// See [`DEFAULT_LINGER`].
    pub linger: Duration,
    /// A kernel that is stopped at the bridge's end stays stopped.
    pub leave_stopped: bool,
    /// A kernel whose debugger went away without a word is freed at once instead of at the bridge's end.
    pub free_when_debugger_dies: bool,
    /// Opens `exec:` and `via=`; `None` refuses them.
    pub opener: Option<Arc<dyn Opener>>,
    /// How BREAK reaches the guest.
    pub break_means: BreakMeans,
    /// Which stream takes the `g`.
    pub break_port: BreakPort,
}

impl BridgeSpec {
    /// Makes a bridge with the defaults of the command line.
    pub fn new(target: TargetSource, clients: Vec<ClientSpec>, policy: Policy) -> Self {
        Self {
            target,
            clients,
            joined: None,
            policy,
            mediator: None,
            log: LogSpec::default(),
            hold_bytes: 0,
            replay_bytes: 0,
            take_over: false,
            one_writer: false,
            reconnect_every: DEFAULT_RECONNECT,
            wait: None,
            once: false,
            linger: DEFAULT_LINGER,
            leave_stopped: false,
            free_when_debugger_dies: false,
            opener: None,
            break_means: BreakMeans::None,
            break_port: BreakPort::Target,
        }
    }

    /// Makes a bridge to a fixed endpoint.
    pub fn to(target: EndpointSpec, clients: Vec<ClientSpec>, policy: Policy) -> Self {
        Self::new(TargetSource::Fixed(target), clients, policy)
    }
}

impl fmt::Debug for BridgeSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("BridgeSpec")
            .field("target", &self.target)
            .field("clients", &self.clients)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// Chooses the policy: what `--as` says, else what the clients' prefixes and number ask for.
///
/// # Errors
///
/// Usage, when a prefix contradicts `--as` or another prefix.
pub fn choose_policy(wanted: Option<Policy>, clients: &[ClientSpec]) -> Result<Policy, Problem> {
    let has = |prefix| clients.iter().any(|client| client.prefix == Some(prefix));
    let console = has(ClientPrefix::Console) || has(ClientPrefix::Ro);
    let (gdb, kd) = (has(ClientPrefix::Gdb), has(ClientPrefix::Kd));
    let plain = clients.iter().filter(|client| client.prefix.is_none()).count();
    let asked = match (gdb, kd, console) {
        (true, true, _) | (_, true, true) => {
            return Err(Problem::new(
                FailureKind::Usage,
                "a `kd=` client cannot share its port with `gdb=`, `console=` or `ro=` clients",
            )
            .hint("Serve KD on a port of its own: one `vmserial bridge` per port."));
        }
        (true, false, true) => Some(Policy::ConsoleGdb),
        (true, false, false) if plain > 0 && wanted == Some(Policy::ConsoleGdb) => Some(Policy::ConsoleGdb),
        (true, false, false) => Some(Policy::Gdb),
        (false, true, false) => Some(Policy::Kd),
        (false, false, true) if wanted == Some(Policy::ConsoleGdb) => Some(Policy::ConsoleGdb),
        (false, false, true) => Some(Policy::Console),
        (false, false, false) => None,
    };
    match (wanted, asked) {
        (Some(wanted), Some(asked)) if wanted != asked => Err(Problem::new(
            FailureKind::Usage,
            format!("`--as {wanted}` contradicts the clients' prefixes, which ask for `{asked}`"),
        )
        .hint(format!(
            "Leave out `--as`, write `--as {asked}`, or change the prefix."
        ))),
        (Some(policy), _) | (None, Some(policy)) => Ok(policy),
        (None, None) if clients.len() > 1 => Ok(Policy::Console),
        (None, None) => Ok(Policy::Raw),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::model::Address;

    fn clients(prefixes: &[Option<ClientPrefix>]) -> Vec<ClientSpec> {
        prefixes
            .iter()
            .map(|&prefix| ClientSpec {
                prefix,
                endpoint: EndpointSpec {
                    role: None,
                    address: Address::Pty { link: None },
                    via: Vec::new(),
                },
            })
            .collect()
    }

    #[test]
    fn the_clients_decide_the_policy_unless_it_is_written() {
        use ClientPrefix::{Console, Gdb, Kd, Ro};
        type Case = (&'static [Option<ClientPrefix>], Option<Policy>, Policy);
        let cases: [Case; 9] = [
            (&[None], None, Policy::Raw),
            (&[None, None], None, Policy::Console),
            (&[Some(Gdb), Some(Console)], None, Policy::ConsoleGdb),
            (&[Some(Gdb), Some(Ro)], None, Policy::ConsoleGdb),
            (&[Some(Gdb)], None, Policy::Gdb),
            (&[Some(Kd)], None, Policy::Kd),
            (&[Some(Ro)], None, Policy::Console),
            (&[None], Some(Policy::Gdb), Policy::Gdb),
            (&[Some(Gdb)], Some(Policy::Gdb), Policy::Gdb),
        ];
        for (prefixes, wanted, expected) in cases {
            assert_eq!(
                choose_policy(wanted, &clients(prefixes)).unwrap(),
                expected,
                "{prefixes:?}"
            );
        }
    }

    #[test]
    fn a_prefix_that_contradicts_the_policy_is_wrong_usage() {
        use ClientPrefix::{Console, Gdb, Kd};
        for (prefixes, wanted) in [
            (&[Some(Gdb)][..], Some(Policy::Raw)),
            (&[Some(Kd)], Some(Policy::Console)),
            (&[Some(Kd), Some(Gdb)], None),
            (&[Some(Kd), Some(Console)], None),
        ] {
            let problem = choose_policy(wanted, &clients(prefixes)).unwrap_err();
            assert_eq!(problem.kind, FailureKind::Usage);
        }
    }
}
