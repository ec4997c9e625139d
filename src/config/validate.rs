//! From a profile as written to targets that cannot be wrong: all errors at once, with field paths and places.

use crate::config::node::{Issue, Node};
use crate::model::profile::{HostProfile, PortProfile, Profile, TargetProfile, TransportProfile, VmProfile};
use crate::model::{
    ClientPrefix, DebuggerSpec, EndpointError, GdbStubSpec, HostRef, HypervisorKind, Policy, PortSpec,
    StartSpec, TargetName, TargetSpec, VmRef,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Memory of a described VM that names none: enough for a distribution's installer kernel.
const DEFAULT_MEMORY_MIB: u32 = 256;

/// Bytes of history that a console gets unless the profile says otherwise.
const DEFAULT_REPLAY_BYTES: usize = 16 << 10;

/// What paths are relative to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The profile's folder.
    pub folder: PathBuf,
    /// The user's home folder, for `~`.
    pub home: Option<PathBuf>,
}

impl Base {
    /// Returns a path of the profile as an absolute one, or relative to where the profile was named.
    pub fn path(&self, path: &Path) -> PathBuf {
        match (path.strip_prefix("~"), &self.home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => self.folder.join(path),
        }
    }
}

/// Validates every target.
///
/// # Errors
///
/// Everything that is wrong.
pub fn validate(profile: &Profile, document: &Node, base: &Base) -> Result<Vec<TargetSpec>, Vec<Issue>> {
    let mut validator = Validator {
        profile,
        document,
        base,
        issues: Vec::new(),
    };
    let targets: Vec<Option<TargetSpec>> = profile
        .targets
        .iter()
        .map(|(name, target)| validator.target(name, target))
        .collect();
    validator.joins();
    if validator.issues.is_empty() {
        Ok(targets.into_iter().flatten().collect())
    } else {
        Err(validator.issues)
    }
}

struct Validator<'a> {
    profile: &'a Profile,
    document: &'a Node,
    base: &'a Base,
    issues: Vec<Issue>,
}

impl Validator<'_> {
    fn issue(&mut self, path: &[&str], message: impl Into<String>) {
        let mut text = String::new();
        for part in path {
            if part.bytes().all(|byte| byte.is_ascii_digit()) {
                text.push_str(&format!("[{part}]"));
            } else {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(part);
            }
        }
        self.issues.push(Issue {
            place: self.document.at(path).place,
            path: text,
            message: message.into(),
        });
    }

    fn target(&mut self, name: &TargetName, target: &TargetProfile) -> Option<TargetSpec> {
        let path = ["targets", name.as_str()];
        let (host, hypervisor, mut unserved) = self.host(name, &target.host)?;
        let mut ports: Vec<PortSpec> = Vec::new();
        let mut seen = BTreeSet::new();
        for (index, port) in target.ports.iter().enumerate() {
            let number = index.to_string();
            let path = [path[0], path[1], "ports", &number];
            if !seen.insert(port.port) {
                self.issue(&path, format!("port {} stands twice", port.port));
            }
            ports.extend(self.port(&path, port));
            if port.tunnel.is_some() {
                unserved.push(format!("ports[{index}].tunnel"));
            }
            if port.firewall.is_some() {
                unserved.push(format!("ports[{index}].firewall"));
            }
        }
        ports.sort_by_key(|port| port.port);
        if target.ports.iter().filter(|port| port.policy.is_debug()).count() > 1 {
            self.issue(
                &[path[0], path[1], "ports"],
                "two ports have a debug policy (kd, gdb, console+gdb), expected one at most",
            );
        }
        for (key, present) in [
            ("guest", target.guest.is_some()),
            ("host_sysrq", target.host_sysrq.is_some()),
            ("range", target.range.is_some()),
        ] {
            if present {
                unserved.push(key.to_owned());
            }
        }
        let (vm, start) = self.vm(&path, hypervisor, &target.vm);
        Some(TargetSpec {
            name: name.clone(),
            host,
            hypervisor,
            vm,
            restart: target.restart,
            ports,
            gdb_stub: target
                .transport
                .as_ref()
                .map(|TransportProfile::Gdbstub(stub)| GdbStubSpec {
                    port: stub.port,
                    stop_at_start: stub.stop_at_start,
                    hide_breakpoints: stub.hide_breakpoints,
                    allow_remote: stub.allow_remote,
                }),
            nested: target.nested,
            start,
            debugger: target.debugger.as_ref().map(|debugger| DebuggerSpec {
                kind: debugger.kind,
                program: debugger.program.clone(),
                vmlinux: debugger.vmlinux.as_deref().map(|path| self.base.path(path)),
                source: debugger
                    .source
                    .iter()
                    .map(|(from, to)| (from.clone(), self.base.path(to)))
                    .collect(),
                modules: debugger.modules.iter().map(|path| self.base.path(path)).collect(),
                break_in: debugger.break_in.clone(),
            }),
            unserved,
        })
    }

    fn host(&mut self, name: &TargetName, written: &str) -> Option<(HostRef, HypervisorKind, Vec<String>)> {
        if let Some(HostProfile { hypervisor, ssh, .. }) = self.profile.hosts.get(written) {
            let host = ssh
                .as_ref()
                .map_or(HostRef::Local, |destination| HostRef::Ssh(destination.clone()));
            return Some((host, *hypervisor, Vec::new()));
        }
        if let Ok(hypervisor) = written.parse::<HypervisorKind>() {
            return Some((HostRef::Local, hypervisor, Vec::new()));
        }
        let known: Vec<&str> = self.profile.hosts.keys().map(String::as_str).collect();
        let mut message = format!("the host `{written}` is not in `hosts` and is no hypervisor's name");
        if let Some(near) = crate::config::check::nearest(written, known.iter().copied()) {
            message.push_str(&format!("; did you mean `{near}`?"));
        } else if !known.is_empty() {
            message.push_str(&format!("; `hosts` has {}", known.join(", ")));
        }
        self.issue(&["targets", name.as_str(), "host"], message);
        None
    }

    fn vm(
        &mut self,
        path: &[&str; 2],
        hypervisor: HypervisorKind,
        vm: &VmProfile,
    ) -> (VmRef, Option<StartSpec>) {
        let here = [path[0], path[1], "vm"];
        match vm {
            VmProfile::Name(name) => {
                if name.trim().is_empty() {
                    self.issue(&here, "got an empty name, expected a VM's name, UUID or path");
                }
                // A path is relative to the profile, as all of its paths are; names and UUIDs have no slash.
                let is_path = name.contains('/') || name.ends_with(".vmx");
                let name = if is_path {
                    self.base.path(Path::new(name)).display().to_string()
                } else {
                    name.clone()
                };
                (VmRef::new(name), None)
            }
            VmProfile::Described(vm) => {
                if !hypervisor.starts_described_vms() {
                    self.issue(
                        &here,
                        format!("vmserial starts no VM of `{hypervisor}`: expected its name, UUID or path"),
                    );
                }
                let start = StartSpec {
                    keep: vm.keep,
                    kernel: vm.kernel.as_deref().map(|path| self.base.path(path)),
                    initrd: vm.initrd.as_deref().map(|path| self.base.path(path)),
                    append: vm.append.clone(),
                    memory_mib: vm.memory.map_or(DEFAULT_MEMORY_MIB, |memory| {
                        u32::try_from(memory.bytes() >> 20).unwrap_or(u32::MAX)
                    }),
                    disks: vm.disks.iter().map(|path| self.base.path(path)).collect(),
                    program: vm.program.clone(),
                    extra_arguments: vm.arguments.clone(),
                };
                if vm.start && vm.kernel.is_none() && vm.disks.is_empty() {
                    self.issue(&here, "a VM that is started needs a `kernel` or `disks`");
                }
                if vm.memory.is_some_and(|memory| memory.bytes() < 1 << 20) {
                    let here = [path[0], path[1], "vm", "memory"];
                    self.issue(&here, "expected at least 1MiB");
                }
                (VmRef::new(vm.name.clone()), vm.start.then_some(start))
            }
        }
    }

    fn port(&mut self, path: &[&str; 4], port: &PortProfile) -> Option<PortSpec> {
        let before = self.issues.len();
        let attach = port.attach.as_ref().and_then(|endpoint| {
            let resolved = endpoint.resolved(&self.base.folder, self.base.home.as_deref());
            // Written from the VM's side: what we then open is the other side.
            self.told(
                &[path[0], path[1], path[2], path[3], "attach"],
                resolved.and_then(|endpoint| endpoint.other_side().check_as_target().map(|()| endpoint)),
            )
        });
        let mut serve = Vec::new();
        for (index, client) in port.serve.iter().enumerate() {
            let number = index.to_string();
            let here = [path[0], path[1], path[2], path[3], "serve", &number];
            let resolved = client
                .endpoint
                .resolved(&self.base.folder, self.base.home.as_deref());
            let endpoint = self.told(
                &here,
                resolved.and_then(|endpoint| endpoint.check_as_client().map(|()| endpoint)),
            );
            if let Some(wanted) = client.prefix.filter(|prefix| !serves(port.policy, *prefix)) {
                self.issue(
                    &here,
                    format!("a `{}=` client contradicts `as: {}`", wanted.name(), port.policy),
                );
            }
            serve.extend(endpoint.map(|endpoint| crate::model::ClientSpec {
                prefix: client.prefix,
                endpoint,
            }));
        }
        let break_with = port.break_with.as_ref().and_then(|break_with| {
            let resolved = break_with.resolved(&self.base.folder, self.base.home.as_deref());
            self.told(&[path[0], path[1], path[2], path[3], "break_with"], resolved)
        });
        let bytes = |size: Option<crate::model::profile::MemorySize>, default: usize| {
            size.map_or(default, |size| {
                usize::try_from(size.bytes()).unwrap_or(usize::MAX)
            })
        };
        (self.issues.len() == before).then(|| PortSpec {
            port: port.port,
            policy: port.policy,
            attach,
            serve,
            log: port.log.as_deref().map(|path| self.base.path(path)),
            hold_bytes: bytes(port.hold, 0),
            replay_bytes: bytes(port.replay, DEFAULT_REPLAY_BYTES),
            break_with,
        })
    }

    fn told<T>(&mut self, path: &[&str], result: Result<T, EndpointError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.issue(path, error.to_string());
                None
            }
        }
    }

    fn joins(&mut self) {
        let ports: BTreeMap<&str, BTreeSet<String>> = self
            .profile
            .targets
            .iter()
            .map(|(name, target)| {
                (
                    name.as_str(),
                    target.ports.iter().map(|port| port.port.to_string()).collect(),
                )
            })
            .collect();
        for (index, join) in self.profile.joins.iter().enumerate() {
            for (key, end) in [("a", &join.a), ("b", &join.b)] {
                let known = end.rsplit_once('/').is_some_and(|(target, port)| {
                    ports.get(target).is_some_and(|ports| ports.contains(port))
                });
                if !known {
                    let number = index.to_string();
                    let message = format!("`{end}` is no port of a target here, expected `TARGET/PORT`");
                    self.issue(&["joins", &number, key], message);
                }
            }
        }
    }
}

fn serves(policy: Policy, prefix: ClientPrefix) -> bool {
    match prefix {
        ClientPrefix::Console | ClientPrefix::Ro => matches!(policy, Policy::Console | Policy::ConsoleGdb),
        ClientPrefix::Gdb => matches!(policy, Policy::Gdb | Policy::ConsoleGdb),
        ClientPrefix::Kd => policy == Policy::Kd,
    }
}
