//! `--allow-from` and its kin: a port of the host that others may reach, and what is left of it when the session ends.

use super::common::{CommonArgs, Site};
use crate::cli::error::Failure;
use crate::cli::quantity::parse_duration;
use crate::cli::ui::Ui;
use crate::model::{
    Address, Cancel, Deadline, FailureKind, FirewallSpec, FirewallWanted, HostRef, PortRange, Problem,
    Source, TargetSpec, Wait,
};
use crate::session::firewall::{look, told};
use crate::session::firewall_end::OpenPorts;
use crate::session::planning::observe;
use std::time::{Duration, Instant};

/// How long looking at a firewall, or closing it, may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Flags for a port that others may reach.
#[derive(Debug, Clone, clap::Args)]
pub struct FirewallArgs {
    /// Open the VM's TCP port in the host's firewall for these addresses, or `any` for everybody (can be repeated)
    #[arg(long, value_name = "CIDR|any", value_delimiter = ',')]
    allow_from: Vec<Source>,
    /// Open these TCP ports, the VM's among them [default: the VM's]
    #[arg(long, value_name = "FIRST:LAST", requires = "allow_from")]
    ports: Option<PortRange>,
    /// Close the port when this session ends
    #[arg(long, requires = "allow_from")]
    temporary: bool,
    /// How long the host waits for a new connection of ours before it restores its old rules
    #[arg(long, value_name = "T", value_parser = parse_duration, default_value = "30s")]
    confirm_within: Duration,
}

impl FirewallArgs {
    /// Writes into the target what its port wants of the host's firewall.
    ///
    /// # Errors
    ///
    /// Usage: there is no port that others can reach, or no session whose end closes it.
    pub fn wish(&self, common: &CommonArgs, target: &mut TargetSpec) -> Result<(), Failure> {
        let Some(port) = target.ports.first_mut() else {
            return Ok(());
        };
        if common.remove {
            port.firewall = Some(FirewallSpec {
                wanted: FirewallWanted::Closed,
                confirm_within: self.confirm_within,
            });
            return Ok(());
        }
        if self.allow_from.is_empty() {
            return Ok(());
        }
        if self.temporary && !common.plan && !common.ends_in_bridge() {
            let message = "`--temporary` closes the port when the session ends, and this ends in no session";
            return Err(Problem::new(FailureKind::Usage, message)
                .hint("Name whom the bridge serves: `--serve listen:tcp:127.0.0.1:0`.")
                .into());
        }
        let spec = FirewallSpec::open(port.attach.as_ref(), self.ports, self.allow_from.clone());
        let mut spec = spec.map_err(|error| Problem::new(FailureKind::Usage, error.to_string()))?;
        if let FirewallWanted::Open { temporary, .. } = &mut spec.wanted {
            *temporary = self.temporary;
        }
        spec.confirm_within = self.confirm_within;
        port.firewall = Some(spec);
        Ok(())
    }

    /// Tells how the firewall is for the ports, a sentence a line.
    ///
    /// # Errors
    ///
    /// The driver's. What cannot be seen is said to be so.
    pub fn shown(&self, site: &Site, target: &TargetSpec) -> Result<Vec<String>, Failure> {
        let wait = Wait::new(
            Deadline::after(Instant::now(), PATIENCE),
            Cancel::new(),
            "the host's firewall",
        );
        let seen = observe(site.hosts.as_ref(), std::slice::from_ref(target), &wait)?;
        let port = seen.iter().flat_map(|observed| &observed.ports).find_map(|port| {
            match port.endpoint.as_ref()?.address {
                Address::Tcp { port, .. } | Address::Telnet { port, .. } => Some(port),
                _ => None,
            }
        });
        let Some(ports) = self.ports.or(port.map(PortRange::one)) else {
            return Ok(Vec::new());
        };
        let runner = site.hosts.runner(&target.host)?;
        Ok(match look(runner.as_ref(), &wait) {
            Ok(observed) => told(&observed, ports),
            Err(problem) => vec![format!("cannot be seen: {}", problem.message)],
        })
    }

    /// At the session's end: closes what is temporary, else says what stays open and how it is closed.
    ///
    /// # Errors
    ///
    /// It could not be closed.
    pub fn end(&self, site: &Site, open: &OpenPorts, host: &HostRef, ui: &mut Ui) -> Result<(), Failure> {
        if self.temporary {
            open.close_new(site.hosts.as_ref(), ui)?;
        }
        if !self.allow_from.is_empty() {
            for line in open.told(host)? {
                ui.status(&line);
            }
        }
        Ok(())
    }
}
