//! From a profile as written to targets that cannot be wrong: all errors at once, with field paths and places.

mod join;
mod port;
#[cfg(test)]
mod tests;
mod word;

use crate::config::node::{FieldPath, Issue, Node};
use crate::model::near::nearest;
use crate::model::profile::{
    DEFAULT_MEMORY, DebuggerProfile, HostProfile, HostSysrq, Profile, Secret, SecureBoot, TargetProfile,
    TransportProfile, VmDescription, VmProfile,
};
use crate::model::{
    DebuggerSpec, GdbStubSpec, HostRef, HypervisorKind, PortSpec, StartSpec, TargetName, TargetSpec, VmRef,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

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
    validator.hosts();
    validator.joins();
    let mut targets = Vec::new();
    for (name, target) in &profile.targets {
        targets.extend(validator.target(name, target));
    }
    if validator.issues.is_empty() {
        Ok(targets)
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

/// Where a target's VM runs.
struct Home {
    host: HostRef,
    hypervisor: HypervisorKind,
    /// Keys of the host's entry that nothing acts on yet.
    unserved: Vec<String>,
}

impl Home {
    /// Paths of a host behind SSH are that host's own: nothing here says what they are relative to.
    fn is_here(&self) -> bool {
        self.host == HostRef::Local
    }
}

impl Validator<'_> {
    fn issue(&mut self, path: &FieldPath, message: impl Into<String>) {
        let place = self.document.at(path).place;
        self.issues.push(Issue::new(place, path.clone(), message));
    }

    fn hosts(&mut self) {
        for (name, host) in &self.profile.hosts {
            let path = FieldPath::default().key("hosts").key(name);
            if let Ok(kind) = name.parse::<HypervisorKind>()
                && kind != host.hypervisor
            {
                let message = format!(
                    "the host `{name}` runs `{}`, and `{name}` without an entry means this machine with {kind}: give it another name",
                    host.hypervisor
                );
                self.issue(&path, message);
            }
            if let Some(destination) = &host.ssh {
                self.ssh(&path.key("ssh"), destination);
            }
            self.secret(&path.key("password"), host.password.as_ref());
        }
    }

    fn ssh(&mut self, path: &FieldPath, destination: &str) {
        if let Err(message) = word::ssh_destination(destination) {
            self.issue(path, message);
        }
    }

    fn secret(&mut self, path: &FieldPath, secret: Option<&Secret>) {
        if let Some(Secret::Command(command)) = secret
            && command.trim().is_empty()
        {
            self.issue(
                &path.key("command"),
                "got an empty command, expected one that prints the secret",
            );
        }
    }

    fn target(&mut self, name: &TargetName, target: &TargetProfile) -> Option<TargetSpec> {
        let path = FieldPath::default().key("targets").key(name.as_str());
        let home = self.home(&path.key("host"), &target.host);
        let ports = self.ports(&path.key("ports"), &target.ports, home.as_ref());
        self.guest(&path.key("guest"), target);
        let gdb_stub = target
            .transport
            .as_ref()
            .map(|TransportProfile::Gdbstub(stub)| GdbStubSpec {
                port: stub.port,
                stop_at_start: stub.stop_at_start,
                hide_breakpoints: stub.hide_breakpoints,
                allow_remote: stub.allow_remote,
            });
        let home = home?;
        let (vm, start) = self.vm(&path.key("vm"), &home, &target.vm);
        let mut unserved = unserved_keys(target, home.hypervisor);
        unserved.extend(home.unserved);
        Some(TargetSpec {
            name: name.clone(),
            host: home.host,
            hypervisor: home.hypervisor,
            vm,
            restart: target.restart,
            ports,
            gdb_stub,
            nested: target.nested,
            secure_boot: target.secure_boot,
            guest: target.guest.clone(),
            host_sysrq_off: target.host_sysrq == Some(HostSysrq::Off),
            start,
            debugger: target.debugger.as_ref().map(|debugger| self.debugger(debugger)),
            unserved,
        })
    }

    fn ports(
        &mut self,
        path: &FieldPath,
        ports: &[crate::model::profile::PortProfile],
        home: Option<&Home>,
    ) -> Vec<PortSpec> {
        let mut specs: Vec<PortSpec> = Vec::new();
        let mut seen = BTreeSet::new();
        let mut served = BTreeSet::new();
        let mut taken = BTreeMap::new();
        for (index, port) in ports.iter().enumerate() {
            let here = path.index(index);
            if !seen.insert(port.port) {
                self.issue(&here.key("port"), format!("port {} stands twice", port.port));
            }
            let spec = self.port(&here, port, home, &mut served);
            if let Some(spec) = &spec {
                self.once(&here, spec, &mut taken);
            }
            specs.extend(spec);
        }
        specs.sort_by_key(|port| port.port);
        if ports.iter().filter(|port| port.policy.is_debug()).count() > 1 {
            self.issue(
                path,
                "two ports have a debug policy (kd, gdb, console+gdb), expected one at most",
            );
        }
        specs
    }

    fn home(&mut self, path: &FieldPath, written: &str) -> Option<Home> {
        if let Some(HostProfile {
            hypervisor,
            ssh,
            password,
            sudo,
        }) = self.profile.hosts.get(written)
        {
            // They are for the way to another host.
            let here = ssh.is_none();
            let keys = [("password", here && password.is_some()), ("sudo", here && *sudo)];
            return Some(Home {
                host: ssh
                    .as_ref()
                    .map_or(HostRef::Local, |destination| HostRef::Ssh(destination.clone())),
                hypervisor: *hypervisor,
                unserved: keys
                    .iter()
                    .filter(|(_, present)| *present)
                    .map(|(key, _)| {
                        FieldPath::default()
                            .key("hosts")
                            .key(written)
                            .key(key)
                            .to_string()
                    })
                    .collect(),
            });
        }
        if let Ok(hypervisor) = written.parse::<HypervisorKind>() {
            return Some(Home {
                host: HostRef::Local,
                hypervisor,
                unserved: Vec::new(),
            });
        }
        let known = self.profile.hosts.keys().map(String::as_str);
        let kinds = HypervisorKind::ALL.iter().map(|kind| kind.name());
        let mut message = format!("the host `{written}` is not in `hosts` and is no hypervisor's name");
        match nearest(written, known.clone().chain(kinds)) {
            Some(near) => message.push_str(&format!("; did you mean `{near}`?")),
            None if self.profile.hosts.is_empty() => {}
            None => message.push_str(&format!("; `hosts` has {}", known.collect::<Vec<_>>().join(", "))),
        }
        self.issue(path, message);
        None
    }

    fn vm(&mut self, path: &FieldPath, home: &Home, vm: &VmProfile) -> (VmRef, Option<StartSpec>) {
        match vm {
            VmProfile::Name(name) => {
                if name.trim().is_empty() {
                    self.issue(path, "got an empty name, expected a VM's name, UUID or path");
                }
                // A path is relative to the profile, as all of its paths are; names and UUIDs have no slash.
                let is_path = name.contains('/') || name.ends_with(".vmx");
                let name = if is_path && home.is_here() {
                    self.base.path(Path::new(name)).display().to_string()
                } else {
                    name.clone()
                };
                (VmRef::new(name), None)
            }
            VmProfile::Described(vm) => (VmRef::new(vm.name.clone()), self.described(path, home, vm)),
        }
    }

    fn described(&mut self, path: &FieldPath, home: &Home, vm: &VmDescription) -> Option<StartSpec> {
        let before = self.issues.len();
        if !home.hypervisor.starts_described_vms() {
            let message = format!(
                "vmserial starts no VM of `{}`: expected its name, UUID or path",
                home.hypervisor
            );
            self.issue(path, message);
        }
        if vm.name.trim().is_empty() {
            self.issue(&path.key("name"), "got an empty name, expected the VM's name");
        }
        if vm.start && vm.kernel.is_none() && vm.disks.is_empty() {
            self.issue(path, "a VM that is started needs a `kernel` or `disks`");
        }
        for (key, present) in [("initrd", vm.initrd.is_some()), ("append", vm.append.is_some())] {
            if present && vm.kernel.is_none() {
                let message = format!("`{key}` is for a `kernel`, and there is none");
                self.issue(&path.key(key), message);
            }
        }
        let bytes = vm.memory.unwrap_or(DEFAULT_MEMORY).bytes();
        let memory_mib = u32::try_from(bytes >> 20).ok();
        if bytes < 1 << 20 || !bytes.is_multiple_of(1 << 20) || memory_mib.is_none() {
            let message = "expected whole MiB, at least 1MiB, as in `512MiB`";
            self.issue(&path.key("memory"), message);
        }
        let host_path = |path: &PathBuf| {
            if home.is_here() {
                self.base.path(path)
            } else {
                path.clone()
            }
        };
        let start = StartSpec {
            keep: vm.keep,
            kernel: vm.kernel.as_ref().map(host_path),
            initrd: vm.initrd.as_ref().map(host_path),
            append: vm.append.clone(),
            memory_mib: memory_mib?,
            disks: vm.disks.iter().map(host_path).collect(),
            program: vm.program.clone(),
            extra_arguments: vm.arguments.clone(),
        };
        (vm.start && self.issues.len() == before).then_some(start)
    }

    fn guest(&mut self, path: &FieldPath, target: &TargetProfile) {
        let Some(guest) = &target.guest else {
            return;
        };
        if let Some(destination) = &guest.ssh {
            self.ssh(&path.key("ssh"), destination);
        }
        self.secret(&path.key("password"), guest.password.as_ref());
        let windows = guest.os == crate::model::profile::GuestOs::Windows;
        for (key, present, wants_windows) in [
            ("sudo", guest.sudo, false),
            ("console", guest.console.is_some(), false),
            ("autologin", guest.autologin, false),
            ("boot_entry", guest.boot_entry.is_some(), false),
            ("bitlocker", guest.bitlocker.is_some(), true),
            ("boot_debug", guest.boot_debug, true),
            ("ems", guest.ems.is_some(), true),
        ] {
            if present && windows != wants_windows {
                let (is, wants) = if windows {
                    ("windows", "linux")
                } else {
                    ("linux", "windows")
                };
                let message =
                    format!("`{key}` is for guests with `os: {wants}`, and this one has `os: {is}`");
                self.issue(&path.key(key), message);
            }
        }
    }

    fn debugger(&self, debugger: &DebuggerProfile) -> DebuggerSpec {
        DebuggerSpec {
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
        }
    }
}

/// The keys of a target, besides its ports', that ask for something that no driver or session does yet, by field path.
/// What only describes (`guest.os`) or asks for nothing (`console: off`) is not among them.
fn unserved_keys(target: &TargetProfile, hypervisor: HypervisorKind) -> Vec<String> {
    let debugger = target.debugger.as_ref();
    let is_glob = matches!(&target.vm, VmProfile::Name(name) if name.contains(['*', '?']));
    [
        ("vm", is_glob),
        // A guest's inside is `vmserial guest`'s.
        (
            "debugger.modules",
            debugger.is_some_and(|debugger| !debugger.modules.is_empty()),
        ),
        (
            "secure_boot",
            target.secure_boot == SecureBoot::Off && !hypervisor.has_secure_boot_switch(),
        ),
    ]
    .iter()
    .filter(|(_, present)| *present)
    .map(|(key, _)| (*key).to_owned())
    .collect()
}
