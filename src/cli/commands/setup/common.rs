//! What `vmserial setup` does for every hypervisor: common flags, plan and apply, the bridge at the end.

use crate::bridge::{BridgeSpec, choose_policy};
use crate::cli::commands::{bridge, console};
use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::port::{PortPlace, here, usage};
use crate::cli::ui::Ui;
use crate::model::endpoint::check_places;
use crate::model::{
    Address, BreakWith, Cancel, ClientSpec, Deadline, EndpointSpec, FailureKind, GdbStubSpec, HostRef,
    HypervisorKind, LogSpec, Policy, PortIndex, PortSpec, Problem, RestartPolicy, Role, TargetName,
    TargetSpec, VmRef, Wait,
};
use crate::session::apply::{Applied, ApplyOptions, Consent, plan_and_apply};
use crate::session::guest_stage::GuestLook;
use crate::session::interrupt::Interrupt;
use crate::session::planning::{Hosts, RealHosts};
use crate::session::target_port::target_port;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long looking at one VM may take.
pub(super) const LOOK: Duration = Duration::from_secs(30);

/// Flags of every `vmserial setup`.
#[derive(Debug, Clone, clap::Args)]
pub struct CommonArgs {
    /// The host that runs the VM [default: this machine]
    #[arg(long, value_name = "[USER@]HOST")]
    pub host: Option<String>,
    /// Which VM
    #[arg(long, value_name = "NAME|ID|PATH")]
    pub vm: Option<String>,
    /// Which port, from 1: COM1 and ttyS0 are 1 [default: 1]
    #[arg(long, value_name = "N")]
    pub port: Option<PortIndex>,
    /// Where the VM's end of the port shall be, with the VM's role: listen:unix:/run/vm1.serial
    #[arg(long, value_name = "ENDPOINT")]
    pub endpoint: Option<EndpointSpec>,
    /// How bytes flow through the bridge [default: as the clients' prefixes say, else console]
    #[arg(long = "as", value_name = "console|gdb|kd|console+gdb|raw")]
    pub policy: Option<Policy>,
    /// Who the bridge serves: [console=|gdb=|kd=|ro=]ENDPOINT (can be repeated)
    #[arg(long, value_name = "CLIENT")]
    pub serve: Vec<ClientSpec>,
    /// Append what the VM sends to this file
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Open the hypervisor's gdb stub on this TCP port
    #[arg(long, value_name = "TCP-PORT")]
    pub gdbstub: Option<u16>,
    /// Stop the VM at its first instruction, for the gdb stub
    #[arg(long, requires = "gdbstub")]
    pub stop_at_start: bool,
    /// Breakpoints of the gdb stub that the guest cannot see
    #[arg(long, requires = "gdbstub")]
    pub hide_breakpoints: bool,
    /// Let the gdb stub listen on all addresses: whoever reaches it controls the VM
    #[arg(long, requires = "gdbstub")]
    pub allow_remote: bool,
    /// How far to go when a change needs the VM powered off
    #[arg(long, value_name = "never|ask|graceful|hard", value_parser = restart_level, default_value = "ask")]
    pub restart: RestartPolicy,
    /// Only print the port as it is, whoever set it up
    #[arg(long, conflicts_with_all = ["remove", "plan", "yes"])]
    pub show: bool,
    /// Take the port away, also one that vmserial did not set up
    #[arg(long)]
    pub remove: bool,
    /// Only show what would be changed
    #[arg(long)]
    pub plan: bool,
    /// Apply the plan without asking
    #[arg(long)]
    pub yes: bool,
    /// Confirm a step that wants it by its own name, as the plan says (can be repeated)
    #[arg(long, value_name = "NAME")]
    pub confirm: Vec<String>,
    /// End after the set-up and print the line that starts the bridge
    #[arg(long)]
    pub no_bridge: bool,
}

/// Parses `--restart`.
///
/// # Errors
///
/// The words that there are.
pub fn restart_level(text: &str) -> Result<RestartPolicy, String> {
    match text {
        "never" => Ok(RestartPolicy::Never),
        "ask" => Ok(RestartPolicy::Ask),
        "graceful" => Ok(RestartPolicy::Graceful),
        "hard" => Ok(RestartPolicy::Hard),
        _ => Err("expected one of never, ask, graceful, hard".to_owned()),
    }
}

impl CommonArgs {
    /// Returns the port that is meant.
    pub fn port(&self) -> PortIndex {
        self.port.unwrap_or(PortIndex::FIRST)
    }

    /// Returns how bytes flow through the bridge: as `--as` says, else as the clients' prefixes ask for, else as a
    /// console.
    ///
    /// # Errors
    ///
    /// Usage, when a prefix contradicts `--as` or another prefix.
    pub fn policy(&self) -> Result<Policy, Problem> {
        let has_prefix = self.serve.iter().any(|client| client.prefix.is_some());
        let default = (!has_prefix).then_some(Policy::Console);
        choose_policy(self.policy.or(default), &self.serve)
    }

    /// Makes the target that the flags describe, with its one port.
    ///
    /// # Errors
    ///
    /// Usage: an endpoint that no VM can have.
    pub fn target(&self, hypervisor: HypervisorKind, vm: VmRef, name: &str) -> Result<TargetSpec, Problem> {
        let policy = self.policy()?;
        let attach = match &self.endpoint {
            Some(endpoint) => {
                let endpoint = here(endpoint).map_err(usage)?;
                endpoint.check_as_target().map_err(usage)?;
                Some(endpoint)
            }
            None => None,
        };
        let mut serve = self.serve.clone();
        for client in &mut serve {
            client.endpoint = here(&client.endpoint).map_err(usage)?;
            client.endpoint.check_as_client().map_err(usage)?;
        }
        check_places(serve.iter().map(|client| &client.endpoint))?;
        Ok(TargetSpec {
            name: target_name(name),
            host: match &self.host {
                Some(destination) => HostRef::Ssh(destination.clone()),
                None => HostRef::Local,
            },
            hypervisor,
            vm,
            restart: self.restart,
            ports: vec![PortSpec {
                port: self.port(),
                policy,
                attach,
                serve,
                log: LogSpec {
                    raw: self.log.clone(),
                    ..LogSpec::default()
                },
                hold_bytes: 0,
                replay_bytes: 0,
                one_writer: false,
                tunnel: None,
                break_with: None,
                firewall: None,
            }],
            gdb_stub: self.gdbstub.map(|port| GdbStubSpec {
                port,
                stop_at_start: self.stop_at_start,
                hide_breakpoints: self.hide_breakpoints,
                allow_remote: self.allow_remote,
            }),
            nested: false,
            secure_boot: Default::default(),
            guest: None,
            host_sysrq_off: false,
            start: None,
            debugger: None,
            unserved: Vec::new(),
        })
    }

    /// Tells whether the set-up ends in a bridge: asked for by `--serve`, or the console of this terminal.
    pub fn ends_in_bridge(&self) -> bool {
        !self.no_bridge && !self.remove && !self.plan && (!self.serve.is_empty() || on_terminal())
    }

    /// Tells whether the bridge's client is this terminal's console.
    fn is_own_console(&self, policy: Policy) -> bool {
        self.serve.is_empty() && policy == Policy::Console
    }

    /// Returns who the bridge serves: as wanted, else the default of the policy.
    fn clients(&self, target: &TargetSpec) -> Vec<ClientSpec> {
        match target.ports.first() {
            Some(port) if !port.serve.is_empty() => port.serve.clone(),
            Some(port) => vec![default_client(port.policy, &target.name)],
            None => Vec::new(),
        }
    }
}

fn on_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// KD's debuggers read a named pipe where there are any, everybody reads TCP.
fn default_client(policy: Policy, name: &TargetName) -> ClientSpec {
    let address = if policy == Policy::Kd && cfg!(windows) {
        Address::Pipe {
            host: None,
            name: name.as_str().to_owned(),
        }
    } else {
        Address::Tcp {
            host: "127.0.0.1".to_owned(),
            port: 0,
        }
    };
    ClientSpec {
        prefix: None,
        endpoint: EndpointSpec::new(Some(Role::Listen), address),
    }
}

/// Makes a target's name of a VM's: what no name can hold becomes `-`.
fn target_name(text: &str) -> TargetName {
    let clean: String = text
        .chars()
        .map(|character| match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => character,
            _ => '-',
        })
        .collect();
    let clean = clean.trim_start_matches(['.', '_', '-']);
    clean
        .parse()
        .or_else(|_| "vm".parse())
        .expect("`vm` is a target's name")
}

/// What a set-up works with.
#[derive(Clone)]
pub struct Site {
    /// Its hosts.
    pub hosts: Arc<dyn Hosts + Send + Sync>,
    /// How it is applied.
    pub options: ApplyOptions,
}

impl Site {
    /// Catches Ctrl-C and knows the state folder.
    ///
    /// # Errors
    ///
    /// The system's refusal to catch signals.
    pub fn new(args: &CommonArgs, start_vm: bool, context: &Context) -> Result<Self, Failure> {
        Ok(Self {
            hosts: Arc::new(RealHosts::new(&context.state)),
            options: ApplyOptions {
                consent: match (args.plan, args.yes) {
                    (true, _) => Consent::ShowOnly,
                    (false, true) => Consent::Given,
                    (false, false) => Consent::Ask,
                },
                confirmed: args.confirm.clone(),
                remove: args.remove,
                start_vm,
                guests: GuestLook::Leave,
                state: context.state.clone(),
                host_folder: context.host_folder(),
                interrupt: Interrupt::catch()?,
            },
        })
    }

    /// Shows and applies the plan.
    ///
    /// # Errors
    ///
    /// See [`plan_and_apply`].
    pub fn apply(&self, target: &TargetSpec, ui: &mut Ui) -> Result<Applied, Failure> {
        self.apply_all(std::slice::from_ref(target), ui)
    }

    /// Shows and applies the plan of several VMs.
    ///
    /// # Errors
    ///
    /// See [`plan_and_apply`].
    pub fn apply_all(&self, targets: &[TargetSpec], ui: &mut Ui) -> Result<Applied, Failure> {
        Ok(plan_and_apply(self.hosts.as_ref(), targets, &self.options, ui)?)
    }

    /// Writes into the target where its port is, so that nobody has to look it up again.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn settle(&self, target: &mut TargetSpec) -> Result<(), Failure> {
        let driver = self.hosts.driver(target.hypervisor)?;
        let runner = self.hosts.runner(&target.host)?;
        for index in 0..target.ports.len() {
            let port = target.ports[index].port;
            let wait = Wait::new(
                Deadline::after(Instant::now(), LOOK),
                Cancel::new(),
                format!("the place of port {port}"),
            );
            let place = driver.locate(runner.as_ref(), target, port, &wait)?;
            target.ports[index].attach = Some(place);
        }
        Ok(())
    }

    /// Prints the line that starts the bridge, and runs it when one is wanted.
    ///
    /// # Errors
    ///
    /// The port cannot be found, and the bridge's failures.
    pub fn bridge(
        &self,
        args: &CommonArgs,
        target: &TargetSpec,
        context: &Context,
        ui: &mut Ui,
    ) -> Result<ExitCode, Failure> {
        let Some(port) = target.ports.first() else {
            return Ok(ExitCode::SUCCESS);
        };
        let driver = self.hosts.driver(target.hypervisor)?;
        let wait = Wait::new(
            Deadline::after(Instant::now(), LOOK),
            Cancel::new(),
            format!("the place of port {}", port.port),
        );
        let runner = self.hosts.runner(&target.host)?;
        let place = match driver.locate(runner.as_ref(), target, port.port, &wait) {
            // It is a state: the port is there once the VM runs.
            Err(problem) if problem.kind == FailureKind::Precondition => {
                ui.status(&format!("The port is not there now: {}.", problem.message));
                None
            }
            located => Some(located?),
        };
        let ours = place
            .as_ref()
            .map(|theirs| theirs.our_side(&target.host, port.tunnel));
        let break_with = port
            .break_with
            .clone()
            .or_else(|| driver.break_with(target, port));
        let clients = args.clients(target);
        let line = ours
            .as_ref()
            .map(|ours| bridge_line(ours, &clients, port.policy, break_with.as_ref()));
        if let (Some(theirs), Some(ours)) = (&place, &ours) {
            ui.status(&format!("The VM's end is `{theirs}`, ours `{ours}`."));
        }
        if !args.ends_in_bridge() {
            match line {
                Some(line) => {
                    ui.status("Start the bridge with:");
                    ui.data(&line)?;
                }
                None => ui.status("Run this again with `--serve ENDPOINT`: that bridge waits for the VM."),
            }
            return Ok(ExitCode::SUCCESS);
        }
        let found = target_port(self.hosts.as_ref(), target, port)?;
        if args.is_own_console(port.policy) {
            let shown = match ours {
                Some(ours) => ours.to_string(),
                None => format!("port {} of {}", port.port, target.name),
            };
            return console::run_here(PortPlace::found(shown, found, port), context, ui);
        }
        if let Some(line) = line {
            ui.status(&format!("Running: {line}"));
        }
        let mut spec = BridgeSpec::new(found.source, clients, port.policy);
        spec.break_means = found.break_means;
        spec.log.clone_from(&port.log);
        // A VM that comes to us could not start before: now it can.
        let comes = place
            .as_ref()
            .is_some_and(|place| place.role == Some(Role::Connect));
        bridge::run_spec_then(spec, &found.keys, context, ui, |ui| {
            match comes && may_restart(target.restart) {
                true => self.apply(target, ui).map(drop),
                false => Ok(()),
            }
        })
    }
}

/// Tells whether somebody said that a VM may lose its power, or can say so.
pub fn may_restart(policy: RestartPolicy) -> bool {
    match policy {
        RestartPolicy::Never => false,
        RestartPolicy::Ask => on_terminal(),
        RestartPolicy::Graceful | RestartPolicy::Hard => true,
    }
}

/// Writes the command that opens the bridge, for a POSIX shell.
fn bridge_line(
    ours: &EndpointSpec,
    clients: &[ClientSpec],
    policy: Policy,
    break_with: Option<&BreakWith>,
) -> String {
    let mut words = vec!["vmserial".to_owned(), "bridge".to_owned(), ours.to_string()];
    words.extend(clients.iter().map(ToString::to_string));
    words.extend(["--as".to_owned(), policy.name().to_owned()]);
    if let Some(way) = break_with {
        words.extend(["--break-with".to_owned(), way.to_string()]);
    }
    let quoted: Vec<String> = words
        .iter()
        .map(|word| shlex::try_quote(word).map_or_else(|_| word.clone(), Into::into))
        .collect();
    quoted.join(" ")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_bridge_line_can_be_pasted() {
        let line = bridge_line(
            &"connect:unix:/run/my vm.sock".parse().unwrap(),
            &["gdb=listen:tcp:127.0.0.1:0".parse().unwrap()],
            Policy::Gdb,
            Some(&"qmp:/run/q,,1,id=ser1".parse().unwrap()),
        );
        assert_eq!(
            shlex::split(&line).unwrap(),
            [
                "vmserial",
                "bridge",
                "connect:unix:/run/my vm.sock",
                "gdb=listen:tcp:127.0.0.1:0",
                "--as",
                "gdb",
                "--break-with",
                "qmp:/run/q,,1,id=ser1"
            ]
        );
    }

    #[test]
    fn names_of_vms_become_names_of_targets() {
        for (vm, name) in [
            ("dev", "dev"),
            ("my vm/1", "my-vm-1"),
            (".hidden", "hidden"),
            ("é", "vm"),
            ("", "vm"),
        ] {
            assert_eq!(target_name(vm).as_str(), name);
        }
    }
}
