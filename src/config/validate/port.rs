//! One port of a target: endpoints, clients, and the keys that only make sense together.

use super::{Home, Validator};
use crate::config::node::FieldPath;
use crate::model::log::DEFAULT_KEEP;
use crate::model::profile::{DEFAULT_HOLD, DEFAULT_REPLAY, MemorySize, PortProfile};
use crate::model::{
    Address, ClientPrefix, ClientSpec, EndpointError, EndpointSpec, FirewallSpec, FirewallWanted, HostRef,
    LogSpec, Policy, PortIndex, PortSpec, Role, Rotation, Source,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

impl Validator<'_> {
    /// Validates a port. `served` holds what the target's other ports serve.
    pub(super) fn port(
        &mut self,
        path: &FieldPath,
        port: &PortProfile,
        home: Option<&Home>,
        served: &mut BTreeSet<String>,
    ) -> Option<PortSpec> {
        let before = self.issues.len();
        // Where the host is not known its own error is told; the paths are then taken as this machine's.
        let is_here = home.is_none_or(Home::is_here);
        let attach = port
            .attach
            .as_ref()
            .and_then(|endpoint| self.attach(&path.key("attach"), endpoint, is_here));
        let serve = self.serve(&path.key("serve"), port, served);
        let break_with = port.break_with.as_ref().and_then(|way| {
            let resolved = if is_here {
                way.resolved(&self.base.folder, self.base.home.as_deref())
            } else {
                Ok(way.clone())
            };
            self.told(&path.key("break_with"), resolved)
        });
        if port.hold.is_some() && port.policy != Policy::Raw {
            let message = format!("`hold` is for `as: raw`, and the port has `as: {}`", port.policy);
            self.issue(&path.key("hold"), message);
        }
        if port.replay.is_some() && !has_history(port.policy) {
            let message = format!(
                "`replay` is for consoles (`as: console` or `console+gdb`), and the port has `as: {}`",
                port.policy
            );
            self.issue(&path.key("replay"), message);
        }
        if port.one_writer && !has_history(port.policy) {
            let message = format!(
                "`one_writer` is for consoles (`as: console` or `console+gdb`), and the port has `as: {}`",
                port.policy
            );
            self.issue(&path.key("one_writer"), message);
        }
        let log = self.logs(path, port);
        self.way_across(path, port, home);
        let firewall = self.firewall(path, port, attach.as_ref());
        (self.issues.len() == before).then(|| PortSpec {
            port: port.port,
            policy: port.policy,
            attach,
            serve,
            log,
            hold_bytes: bytes(port.hold.unwrap_or(DEFAULT_HOLD)),
            replay_bytes: bytes(port.replay.unwrap_or(DEFAULT_REPLAY)),
            one_writer: port.one_writer,
            tunnel: port.tunnel,
            break_with,
            firewall,
        })
    }

    /// A place that another port of the VM has: one stream has one port, and so has a log. `taken` knows whose each is.
    pub(super) fn once(
        &mut self,
        path: &FieldPath,
        spec: &PortSpec,
        taken: &mut BTreeMap<String, PortIndex>,
    ) {
        let attach = spec.attach.as_ref().and_then(EndpointSpec::stream_of_one);
        let log = |log: &Option<PathBuf>| log.as_ref().map(|path| format!("log `{}`", path.display()));
        let places = [
            ("attach", attach.map(|place| format!("endpoint `{place}`"))),
            ("log", log(&spec.log.raw)),
            ("log_json", log(&spec.log.json)),
        ];
        for (key, place) in places {
            let Some(place) = place else { continue };
            match taken.get(&place) {
                Some(other) if *other != spec.port => {
                    let message =
                        format!("port {other} of this VM has the {place} already: give each port its own");
                    self.issue(&path.key(key), message);
                }
                _ => {
                    taken.insert(place, spec.port);
                }
            }
        }
    }

    /// The port's logs, and when they make room.
    fn logs(&mut self, path: &FieldPath, port: &PortProfile) -> LogSpec {
        let log = |path: &Option<PathBuf>| path.as_deref().map(|path| self.base.path(path));
        let (raw, json) = (log(&port.log), log(&port.log_json));
        if raw.is_some() && raw == json {
            let message = "`log_json` names the same file as `log`".to_owned();
            self.issue(&path.key("log_json"), message);
        }
        if port.log_max.is_some() && raw.is_none() && json.is_none() {
            let message = "`log_max` is for a port with `log` or `log_json`".to_owned();
            self.issue(&path.key("log_max"), message);
        }
        if port.log_max.is_some_and(|size| size.bytes() == 0) {
            let message = "a log of `0B` holds nothing: expected a size as in `64MiB`".to_owned();
            self.issue(&path.key("log_max"), message);
        }
        if port.log_keep.is_some() && port.log_max.is_none() {
            let message = "`log_keep` needs `log_max`: the size at which a log is full".to_owned();
            self.issue(&path.key("log_keep"), message);
        }
        LogSpec {
            raw,
            json,
            rotation: port.log_max.map(|size| Rotation {
                max_bytes: size.bytes(),
                keep: port.log_keep.unwrap_or(DEFAULT_KEEP),
            }),
        }
    }

    /// The VM's end, with the VM's role. What we then open is the other side.
    fn attach(&mut self, path: &FieldPath, endpoint: &EndpointSpec, is_here: bool) -> Option<EndpointSpec> {
        let resolved = if is_here {
            endpoint.resolved(&self.base.folder, self.base.home.as_deref())
        } else {
            Ok(endpoint.clone())
        };
        let checked =
            resolved.and_then(|endpoint| endpoint.other_side().check_as_target().map(|()| endpoint));
        self.told(path, checked)
    }

    fn serve(
        &mut self,
        path: &FieldPath,
        port: &PortProfile,
        served: &mut BTreeSet<String>,
    ) -> Vec<ClientSpec> {
        let mut clients = Vec::new();
        for (index, client) in port.serve.iter().enumerate() {
            let here = path.index(index);
            let resolved = client
                .endpoint
                .resolved(&self.base.folder, self.base.home.as_deref())
                .and_then(|endpoint| endpoint.check_as_client().map(|()| endpoint));
            let Some(endpoint) = self.told(&here, resolved) else {
                continue;
            };
            if let Some(prefix) = client.prefix.filter(|prefix| !serves(port.policy, *prefix)) {
                let message = format!("a `{}=` client contradicts `as: {}`", prefix.name(), port.policy);
                self.issue(&here, message);
            }
            if let Some(taken) = endpoint.single_place()
                && !served.insert(taken)
            {
                self.issue(&here, format!("`{endpoint}` is served twice by this target"));
            }
            clients.push(ClientSpec {
                prefix: client.prefix,
                endpoint,
            });
        }
        clients
    }

    /// `tunnel` and `firewall`: how our side reaches a VM's end on another machine.
    fn way_across(&mut self, path: &FieldPath, port: &PortProfile, home: Option<&Home>) {
        if port.tunnel.is_some() && home.is_some_and(|home| home.host == HostRef::Local) {
            self.issue(
                &path.key("tunnel"),
                "a tunnel goes to a host with `ssh`, and the target's host is this machine",
            );
        }
        if let (Some(_), Some(endpoint)) = (port.tunnel, &port.attach)
            && let Some(message) = not_for_a_tunnel(endpoint)
        {
            self.issue(&path.key("attach"), message);
        }
        if port.tunnel.is_some() && port.firewall.is_some() {
            self.issue(
                &path.key("firewall"),
                "an open port instead of a tunnel: expected `firewall` or `tunnel`, got both",
            );
        }
    }

    /// What the port wants of its host's firewall.
    fn firewall(
        &mut self,
        path: &FieldPath,
        port: &PortProfile,
        attach: Option<&EndpointSpec>,
    ) -> Option<FirewallSpec> {
        let firewall = port.firewall.as_ref()?;
        let here = path.key("firewall");
        let allow_from = match Source::list(&firewall.allow_from) {
            Ok(allow_from) => allow_from,
            Err(error) => {
                self.issue(&here.key("allow_from"), error.to_string());
                return None;
            }
        };
        // An endpoint that is wrong was told already.
        if port.attach.is_some() && attach.is_none() {
            return None;
        }
        let spec = FirewallSpec::open(attach, firewall.ports, allow_from);
        let mut spec = spec.map_err(|error| self.issue(&here, error.to_string())).ok()?;
        if let FirewallWanted::Open { temporary, .. } = &mut spec.wanted {
            *temporary = firewall.temporary;
        }
        Some(spec)
    }

    fn told<T>(&mut self, path: &FieldPath, result: Result<T, EndpointError>) -> Option<T> {
        result.map_err(|error| self.issue(path, error.to_string())).ok()
    }
}

/// Why a VM's end cannot be reached through a tunnel, or need not be where it is.
fn not_for_a_tunnel(endpoint: &EndpointSpec) -> Option<String> {
    if endpoint.role == Some(Role::Connect) {
        return Some(format!(
            "through `tunnel: ssh` vmserial connects to the VM: got `{endpoint}`, expected `listen:…`"
        ));
    }
    if !endpoint.address.takes_via() {
        let kind = endpoint.address.kind();
        return Some(format!(
            "`tunnel: ssh` carries no `{kind}`: expected unix, tcp, pipe, pty or tty"
        ));
    }
    let is_open = matches!(endpoint.address, Address::Tcp { .. }) && !endpoint.address.is_local();
    is_open.then(|| {
        format!("with `tunnel: ssh` the port is the host's own: got `{endpoint}`, expected its loopback address as in `listen:tcp:127.0.0.1:7001`")
    })
}

fn bytes(size: MemorySize) -> usize {
    usize::try_from(size.bytes()).unwrap_or(usize::MAX)
}

fn has_history(policy: Policy) -> bool {
    matches!(policy, Policy::Console | Policy::ConsoleGdb)
}

fn serves(policy: Policy, prefix: ClientPrefix) -> bool {
    match prefix {
        ClientPrefix::Console | ClientPrefix::Ro => has_history(policy),
        ClientPrefix::Gdb => matches!(policy, Policy::Gdb | Policy::ConsoleGdb),
        ClientPrefix::Kd => policy == Policy::Kd,
    }
}
