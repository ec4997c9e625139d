//! `vmserial setup xen` against stand-ins of `xe`, `xl` and `xenstore-read` that keep state: their VMs open real ports.

mod joined;
mod pool;
mod secure_boot;
mod ssh;
mod tunnel;
mod windows;
mod windows_builtin;
mod xapi;
mod xl;
mod xl_create;

use crate::kit::{Ended, PATIENCE, Sandbox, wait_until};
use crate::sshd::{QUICK_SHELL, Sshd};
use libtest_mimic::Trial;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;

pub fn trials() -> Vec<Trial> {
    let mut trials = xapi::trials();
    trials.extend(xl::trials());
    trials.extend(xl_create::trials());
    trials.extend(ssh::trials());
    trials.extend(joined::trials());
    trials.extend(pool::trials());
    trials.extend(secure_boot::trials());
    trials.extend(windows::trials());
    trials.extend(windows_builtin::trials());
    trials.extend(tunnel::trials());
    trials.push(trial(
        "a_host_without_a_toolstack_is_named",
        a_host_without_a_toolstack_is_named,
    ));
    trials.push(trial(
        "the_shipped_profiles_are_planned_on_the_host_itself",
        the_shipped_profiles_are_planned_on_the_host_itself,
    ));
    trials
}

fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(format!("xen::{name}"), move || {
        test();
        Ok(())
    })
}

/// A Xen host in a sandbox.
struct Host {
    sandbox: Sandbox,
    /// What the stand-ins know.
    state: PathBuf,
    /// The way to it, if it is another machine: `lab`.
    server: Option<Sshd>,
}

const UUID: &str = "0c6b1a52-8f37-4d5e-9a7b-2c1d3e4f5a6b";
const OTHER: &str = "1d7c2b63-9048-4e6f-8b8c-3d2e4f5a6b7c";
const NOTHING: &str = "<not in database>";

impl Host {
    fn new(toolstack: &str) -> Self {
        let sandbox = Sandbox::new();
        sandbox.stand_in(toolstack);
        sandbox.stand_in("xenstore-read");
        let state = sandbox.path("bin/xen.state");
        fs::create_dir_all(state.join("hosts/aaaa")).unwrap();
        fs::write(state.join("hosts/aaaa/name-label"), "xcp1").unwrap();
        Self {
            sandbox,
            state,
            server: None,
        }
    }

    /// The same host behind SSH: its programs are found at the other end only.
    fn behind_ssh(mut self) -> Self {
        let far = self.sandbox.path("far");
        fs::rename(self.sandbox.path("bin"), &far).unwrap();
        self.state = far.join("xen.state");
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", far.display());
        let environment = format!("SetEnv PATH={path} {QUICK_SHELL}\n");
        self.server = Some(Sshd::start_with(&self.sandbox, &environment));
        self
    }

    fn logins(&self) -> usize {
        self.server.as_ref().unwrap().logins()
    }

    /// A host of XenServer with the VM `win11-dev`, which is off.
    fn xapi() -> Self {
        let host = Self::new("xe");
        host.vm(UUID, "win11-dev");
        host
    }

    fn vm(&self, uuid: &str, name: &str) {
        let folder = self.state.join("vms").join(uuid);
        for map in ["platform", "other-config"] {
            fs::create_dir_all(folder.join(map)).unwrap();
        }
        fs::write(folder.join("platform/acpi"), "1").unwrap();
        for (parameter, value) in [
            ("name-label", name),
            ("power-state", "halted"),
            ("is-control-domain", "false"),
            ("resident-on", NOTHING),
            ("affinity", NOTHING),
            ("dom-id", "-1"),
            ("HVM-boot-policy", "BIOS order"),
        ] {
            fs::write(folder.join(parameter), value).unwrap();
        }
    }

    /// The value of a key of a VM's map.
    fn key(&self, map: &str, key: &str) -> Option<String> {
        fs::read_to_string(self.state.join("vms").join(UUID).join(map).join(key)).ok()
    }

    fn set(&self, uuid: &str, parameter: &str, value: &str) {
        fs::write(self.state.join("vms").join(uuid).join(parameter), value).unwrap();
    }

    /// Runs a stand-in as the host's admin would.
    fn tool(&self, line: &str) -> Ended {
        let mut words = line.split_whitespace();
        let program = self.state.with_file_name(words.next().unwrap());
        crate::kit::finish(std::process::Command::new(program).args(words), b"")
    }

    fn must(&self, line: &str) {
        let ended = self.tool(line);
        assert_eq!(ended.code, Some(0), "{line}: {ended:?}");
    }

    /// Runs `vmserial setup xen` with these words behind.
    fn setup(&self, words: &str) -> Ended {
        let host = if self.server.is_some() { "--host lab " } else { "" };
        let line = format!("setup xen {host}{words}");
        self.sandbox.run(line.split_whitespace())
    }

    fn undo(&self) -> Ended {
        self.sandbox.run(["undo", "--yes"])
    }

    fn fault(&self, name: &str) {
        fs::write(self.state.join("faults"), name).unwrap();
    }

    /// What changed the host, in order.
    fn changes(&self) -> Vec<String> {
        let log = fs::read_to_string(self.state.join("log")).unwrap_or_default();
        let reads = ["-list", "-get", "xenstore-read", "xl list", "xl domid"];
        let changes = log
            .lines()
            .filter(|line| !reads.iter().any(|word| line.contains(word)));
        changes.map(ToOwned::to_owned).collect()
    }

    fn shown(&self, ended: &Ended, port: u16) -> String {
        let text = ended.shown(&self.sandbox).replace(&port.to_string(), "[PORT]");
        super::setup_vmware::redact_entries(&text)
    }
}

impl Drop for Host {
    /// Ends the domains, whose processes hold ports.
    fn drop(&mut self) {
        // A test that failed early has none.
        let _ = fs::remove_dir_all(self.state.join("domains"));
    }
}

/// A TCP port that nobody has.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Waits until a VM's port greets, and returns the number of its domain.
fn greeting(port: u16) -> String {
    let mut stream = wait_until("the VM's port answers", || {
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let all = crate::kit::read_until(&mut stream, b"\r\n");
    String::from_utf8(all).unwrap().trim().to_owned()
}

fn a_host_without_a_toolstack_is_named() {
    let sandbox = Sandbox::new();
    let ended = sandbox.run(["setup", "xen", "--vm", "dev", "--plan"]);
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(
        ended.stderr.contains("neither `xe` nor `xl` was found") && ended.stderr.contains("--host root@HOST"),
        "{ended:?}"
    );
}

/// The shipped profiles without their way to the host: the host is this machine.
fn the_shipped_profiles_are_planned_on_the_host_itself() {
    let host = Host::xapi();
    let profile = include_str!("../../profiles/xcpng-windows-windbg.yaml");
    let profile = profile
        .replace(", ssh: root@xcp1.lab", "")
        .replace(", tunnel: ssh", "");
    fs::write(host.sandbox.path("lab.yaml"), profile).unwrap();
    let planned = host.sandbox.run(["plan", "-p", "lab.yaml"]);
    assert_eq!(planned.code, Some(0), "{planned:?}");
    assert!(
        planned
            .stdout
            .contains("platform:hvm_serial=tcp:127.0.0.1:7001,server,nodelay,nowait"),
        "{planned:?}"
    );
    let host = Host::new("xl");
    let profile = include_str!("../../profiles/xl-two-vms.yaml");
    let mut profile = profile.replace(", ssh: root@xl1.lab", "");
    for (vm, cfg) in [
        ("debugger", include_str!("../data/xen/debugger.cfg")),
        ("debuggee", include_str!("../data/xen/debuggee.cfg")),
    ] {
        let path = host.sandbox.path(&format!("{vm}.cfg"));
        fs::write(&path, cfg).unwrap();
        profile = profile.replace(&format!("vm: {vm},"), &format!("vm: {},", path.display()));
    }
    fs::write(host.sandbox.path("lab.yaml"), profile).unwrap();
    let planned = host.sandbox.run(["plan", "-p", "lab.yaml"]);
    assert_eq!(planned.code, Some(0), "{planned:?}");
    // The debuggee has its port, as the seed wrote it; the other one gets one.
    let added = planned.stdout.matches("+serial = [ \"pty\" ]").count();
    assert_eq!(added, 1, "{planned:?}");
}
