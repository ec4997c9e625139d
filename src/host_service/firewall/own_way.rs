//! Nobody is locked out: what would cut the connection by which we came is refused.

use super::observed::SshWay;
use crate::model::{AddressRange, FailureKind, PortRange, Problem};
use crate::render::iptables::{Connection, Fate, RuleFile, State, fate};

/// Refuses rules that would end our own way into the host, or make it uncertain.
///
/// # Errors
///
/// Precondition, naming what would be cut.
pub fn check_own_way(way: Option<SshWay>, before: &RuleFile, after: &RuleFile) -> Result<(), Problem> {
    let Some(way) = way else {
        return Ok(());
    };
    for state in [State::New, State::Established] {
        let connection = Connection {
            source: AddressRange::one(way.from),
            destination: Some(AddressRange::one(way.to)),
            ports: PortRange::one(way.port),
            state,
        };
        let (before, after) = (fate(before, &connection), fate(after, &connection));
        if certainty(&after) < certainty(&before) {
            let what = match state {
                State::New => "new connections by SSH",
                State::Established => "this connection by SSH",
            };
            let message = format!(
                "this would lock us out: {what} from {} to port {} would be refused, or might be",
                way.from, way.port
            );
            return Err(Problem::new(FailureKind::Precondition, message)
                .hint("Change the host's firewall by hand, at its own console."));
        }
    }
    Ok(())
}

fn certainty(fate: &Fate) -> u8 {
    match (fate.open, fate.is_surely_open(), fate.is_surely_closed()) {
        (_, true, _) => 3,
        (true, ..) => 2,
        (false, _, false) => 1,
        (false, _, true) => 0,
    }
}
