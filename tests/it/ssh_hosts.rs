//! Targets on a host behind a real OpenSSH server: the login and its refusals, plan, apply and undo.

mod keys;
mod login;
mod undo;

use crate::bridge_rig::{accepted, in_use};
use crate::kit::{Ended, Sandbox, connect, is_fast, read_until};
use crate::sshd::{QUICK_SHELL, Sshd, missing};
use crate::terminal_rig::OnTerminal;
use libtest_mimic::{Completion, Failed, Trial};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The users' lines for a serial port, in a whole file of a Linux host.
const KGDB: &[u8] = include_bytes!("../data/vmx/workstation-kgdb.vmx");

/// Name and body of each trial.
const TRIALS: &[(&str, fn())] = &[
    ("plan_apply_and_undo_over_ssh", plan_apply_and_undo_over_ssh),
    ("by_the_systems_ssh", by_the_systems_ssh),
    ("the_bridge_goes_through_ssh_too", the_bridge_goes_through_ssh_too),
];

pub fn trials() -> Vec<Trial> {
    let left_out = || is_fast().then(|| "hosts behind SSH are left out (VMSERIAL_TEST_FAST=1)".to_owned());
    let reason = missing().or_else(left_out);
    let all = [TRIALS, keys::TRIALS, login::TRIALS, undo::TRIALS].concat();
    all.into_iter()
        .map(|(name, run)| {
            let reason = reason.clone();
            Trial::ignorable_test(format!("ssh_hosts::{name}"), move || match reason {
                Some(reason) => Ok(Completion::ignored_with(reason)),
                None => {
                    run();
                    Ok::<_, Failed>(Completion::Completed)
                }
            })
        })
        .collect()
}

/// A host with a VM whose `vmrun` is a stand-in, and this machine, which reaches it by SSH only.
struct Lab {
    sandbox: Sandbox,
    server: Sshd,
}

impl Lab {
    fn new() -> Self {
        Self::with("")
    }

    fn with(more: &str) -> Self {
        let sandbox = Sandbox::new();
        // The stand-in lies where only the other end of SSH looks for programs.
        sandbox.stand_in("vmrun");
        fs::create_dir(sandbox.path("far")).unwrap();
        for name in ["vmrun", "vmrun.state"] {
            let from = sandbox.path("bin").join(name);
            if from.exists() {
                fs::rename(from, sandbox.path("far").join(name)).unwrap();
            }
        }
        fs::write(sandbox.path("dev.vmx"), KGDB).unwrap();
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", sandbox.path("far").display());
        let server = Sshd::start_with(&sandbox, &format!("SetEnv PATH={path} {QUICK_SHELL}\n{more}"));
        Self { sandbox, server }
    }

    fn vmx(&self) -> Vec<u8> {
        fs::read(self.sandbox.path("dev.vmx")).unwrap()
    }

    fn setup(&self, more: &[&str]) -> Ended {
        let vm = self.sandbox.path("dev.vmx");
        let words = [
            "setup",
            "vmware",
            "--host",
            "lab",
            "--vm",
            vm.to_str().unwrap(),
            "--port",
            "1",
        ];
        let endpoint = self.sandbox.endpoint("listen:unix", "vm");
        let words = words
            .iter()
            .copied()
            .chain(["--endpoint", &endpoint, "--as", "console"]);
        self.sandbox.run(words.chain(more.iter().copied()))
    }

    fn known_hosts(&self) -> PathBuf {
        self.sandbox.path("ssh/known_hosts")
    }

    fn add_to_config(&self, text: &str) {
        let path = self.sandbox.path("ssh/config");
        let before = fs::read_to_string(&path).unwrap();
        // The first value holds.
        fs::write(&path, format!("{text}{before}")).unwrap();
    }

    fn set_key_file(&self, name: &str) {
        let path = self.sandbox.path("ssh/config");
        let config = fs::read_to_string(&path).unwrap();
        let key = self.sandbox.path("ssh/key").display().to_string();
        fs::write(
            &path,
            config.replace(&key, &self.sandbox.path(name).display().to_string()),
        )
        .unwrap();
    }
}

fn refused(ended: &Ended, code: i32, parts: &[&str]) {
    assert_eq!(ended.code, Some(code), "{ended:?}");
    for part in parts {
        assert!(ended.stderr.contains(part), "`{part}` in {ended:?}");
    }
}

fn round_trip(lab: &Lab) {
    let planned = lab.setup(&["--plan"]);
    assert_eq!(planned.code, Some(0), "{planned:?}");
    assert_eq!(lab.vmx(), KGDB);
    let applied = lab.setup(&["--yes", "--no-bridge"]);
    assert_eq!(applied.code, Some(0), "{applied:?}");
    let after = lab.vmx();
    assert!(
        String::from_utf8_lossy(&after).contains("serial0.fileName"),
        "{applied:?}"
    );
    let again = lab.setup(&["--yes", "--no-bridge"]);
    assert!(again.stderr.contains("Nothing to change."), "{again:?}");
    assert_eq!(lab.vmx(), after);
    let undone = lab.sandbox.run(["undo", "--yes"]);
    assert_eq!(undone.code, Some(0), "{undone:?}");
    assert_eq!(lab.vmx(), KGDB);
}

fn plan_apply_and_undo_over_ssh() {
    let lab = Lab::new();
    round_trip(&lab);
    assert_eq!(lab.server.logins(), 4, "each of the four commands logged in once");
}

fn by_the_systems_ssh() {
    let lab = Lab::new();
    let lab = Lab {
        sandbox: lab.sandbox.with("VMSERIAL_SSH_ENGINE", "system"),
        server: lab.server,
    };
    round_trip(&lab);
}

fn the_bridge_goes_through_ssh_too() {
    let lab = Lab::new();
    let listener = std::os::unix::net::UnixListener::bind(lab.sandbox.path("vm")).unwrap();
    let (vmx, vm, client) = (
        lab.sandbox.path("dev.vmx").display().to_string(),
        lab.sandbox.endpoint("listen:unix", "vm"),
        lab.sandbox.endpoint("listen:unix", "c"),
    );
    let words = [
        "-v", "setup", "vmware", "--host", "lab", "--vm", &vmx, "--port", "1", "--as", "console",
    ];
    let more = ["--endpoint", &vm, "--yes", "--serve", &client];
    let mut bridge = lab.sandbox.start(words.into_iter().chain(more));
    bridge.wait_line("ready");
    bridge.wait_line("target up");
    let mut client = connect(&lab.sandbox.path("c"));
    let mut vm = in_use(&mut client, || accepted(&listener));
    std::io::Write::write_all(&mut vm, b"login: ").unwrap();
    read_until(&mut client, b"login: ");
}

fn setup_words(lab: &Lab) -> Vec<String> {
    let vm = lab.sandbox.path("dev.vmx").display().to_string();
    [
        "setup", "vmware", "--host", "lab", "--vm", &vm, "--port", "1", "--plan",
    ]
    .map(str::to_owned)
    .into()
}

fn on_terminal(lab: &Lab) -> OnTerminal {
    let words = setup_words(lab);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    OnTerminal::start(&lab.sandbox, &words)
}

/// Makes a pair of keys; returns the public one.
fn key(lab: &Lab, name: &str, kind: &str, passphrase: &str) -> String {
    let path = lab.sandbox.path(name);
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", kind, "-N", passphrase, "-f"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(made.success());
    fs::read_to_string(path.with_extension("pub")).unwrap()
}
