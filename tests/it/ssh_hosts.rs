//! Targets on a host behind a real OpenSSH server: the login and its refusals, plan, apply and undo.

use crate::bridge_rig::{accepted, in_use};
use crate::kit::{Ended, Sandbox, connect, read_until};
use crate::sshd::{QUICK_SHELL, Sshd, missing};
use crate::terminal_rig::OnTerminal;
use libtest_mimic::{Completion, Failed, Trial};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The users' lines for a serial port, in a whole file of a Linux host.
const KGDB: &[u8] = include_bytes!("../data/vmx/workstation-kgdb.vmx");

pub fn trials() -> Vec<Trial> {
    let reason = missing();
    let all: [(&str, fn()); 15] = [
        ("plan_apply_and_undo_over_ssh", plan_apply_and_undo_over_ssh),
        ("by_the_systems_ssh", by_the_systems_ssh),
        ("the_bridge_goes_through_ssh_too", the_bridge_goes_through_ssh_too),
        (
            "an_unknown_key_is_not_taken_unasked",
            an_unknown_key_is_not_taken_unasked,
        ),
        (
            "an_unknown_key_is_asked_for_on_a_terminal",
            an_unknown_key_is_asked_for_on_a_terminal,
        ),
        ("a_changed_key_is_refused", a_changed_key_is_refused),
        ("a_revoked_key_is_refused", a_revoked_key_is_refused),
        ("a_broken_line_is_told", a_broken_line_is_told),
        ("nobody_let_in", nobody_let_in),
        ("a_dead_host_and_a_silent_one", a_dead_host_and_a_silent_one),
        ("an_agent_with_several_keys", an_agent_with_several_keys),
        ("a_key_with_a_passphrase", a_key_with_a_passphrase),
        ("a_jump_of_the_user_s_own", a_jump_of_the_user_s_own),
        (
            "a_proxy_command_needs_the_other_engine",
            a_proxy_command_needs_the_other_engine,
        ),
        (
            "only_the_known_type_of_key_is_asked_for",
            only_the_known_type_of_key_is_asked_for,
        ),
    ];
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

fn an_unknown_key_is_not_taken_unasked() {
    let lab = Lab::new();
    fs::write(lab.known_hosts(), "").unwrap();
    let ended = lab.setup(&["--plan"]);
    refused(
        &ended,
        5,
        &[
            "the key of `lab` is not known: ssh-ed25519 SHA256:",
            "--accept-new-host-key",
        ],
    );
    assert_eq!(fs::read_to_string(lab.known_hosts()).unwrap(), "");
    let taken = lab.setup(&["--plan", "--accept-new-host-key"]);
    assert_eq!(taken.code, Some(0), "{taken:?}");
    let line = fs::read_to_string(lab.known_hosts()).unwrap();
    assert!(
        line.starts_with(&format!("[127.0.0.1]:{} ssh-ed25519 ", lab.server.port)),
        "{line}"
    );
    assert_eq!(lab.setup(&["--plan"]).code, Some(0));
    assert_eq!(fs::read_to_string(lab.known_hosts()).unwrap(), line);
    // What we wrote is what OpenSSH wants too, also hashed.
    fs::remove_file(lab.known_hosts()).unwrap();
    lab.add_to_config("Host lab\n HashKnownHosts yes\n");
    let taken = lab.setup(&["--plan", "--accept-new-host-key"]);
    assert_eq!(taken.code, Some(0), "{taken:?}");
    assert!(fs::read_to_string(lab.known_hosts()).unwrap().starts_with("|1|"));
    let status = Command::new(lab.sandbox.path("bin/ssh"))
        .args([
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=yes",
            "lab",
            "true",
        ])
        .status()
        .unwrap();
    assert!(status.success());
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

fn an_unknown_key_is_asked_for_on_a_terminal() {
    for (answer, code) in [("n\n", 14), ("y\n", 0)] {
        let lab = Lab::new();
        fs::write(lab.known_hosts(), "").unwrap();
        let mut terminal = on_terminal(&lab);
        terminal.wait("SHA256:");
        terminal.wait("Take it? [y/N] ");
        terminal.press(answer.as_bytes());
        assert_eq!(terminal.end(), Some(code));
        let known = fs::read_to_string(lab.known_hosts()).unwrap();
        assert_eq!(!known.is_empty(), code == 0, "{known}");
    }
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

fn a_changed_key_is_refused() {
    let lab = Lab::new();
    let other = key(&lab, "other", "ed25519", "");
    let line = format!("# mine\n[127.0.0.1]:{} {other}", lab.server.port);
    fs::write(lab.known_hosts(), &line).unwrap();
    for more in [&["--plan"][..], &["--plan", "--accept-new-host-key"]] {
        let ended = lab.setup(more);
        refused(
            &ended,
            5,
            &[
                "the key of `lab` is not the one in ",
                "known_hosts:2: it shows ssh-ed25519 SHA256:",
                "ssh-keygen -R",
            ],
        );
    }
    assert_eq!(fs::read_to_string(lab.known_hosts()).unwrap(), line);
}

fn a_revoked_key_is_refused() {
    let lab = Lab::new();
    let known = fs::read_to_string(lab.known_hosts()).unwrap();
    let host_key = fs::read_to_string(lab.sandbox.path("ssh/host_key.pub")).unwrap();
    fs::write(lab.known_hosts(), format!("{known}@revoked * {host_key}")).unwrap();
    refused(
        &lab.setup(&["--plan", "--accept-new-host-key"]),
        5,
        &["the key of `lab` is marked as revoked in ", "known_hosts:2"],
    );
}

fn a_broken_line_is_told() {
    let lab = Lab::new();
    let known = fs::read_to_string(lab.known_hosts()).unwrap();
    fs::write(lab.known_hosts(), format!("half a line\n{known}")).unwrap();
    let ended = lab.setup(&["--plan"]);
    refused(&ended, 0, &["warning: ", "known_hosts:1: cannot be read"]);
}

fn nobody_let_in() {
    let lab = Lab::new();
    key(&lab, "stranger", "ed25519", "");
    lab.set_key_file("stranger");
    refused(
        &lab.setup(&["--plan"]),
        5,
        &[
            "`lab` does not let",
            "it offers publickey; tried `",
            "stranger`",
            "ssh-copy-id",
        ],
    );
}

fn a_dead_host_and_a_silent_one() {
    let lab = Lab::new();
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    lab.add_to_config(&format!(
        "Host dead\n HostName 127.0.0.1\n Port {closed}\nHost silent\n HostName 127.0.0.1\n Port {}\n",
        silent.local_addr().unwrap().port()
    ));
    let at = |host: &str| {
        let vm = lab.sandbox.path("dev.vmx");
        lab.sandbox.run([
            "setup",
            "vmware",
            "--host",
            host,
            "--vm",
            vm.to_str().unwrap(),
            "--port",
            "1",
            "--plan",
        ])
    };
    refused(
        &at("dead"),
        6,
        &["cannot reach `dead` (127.0.0.1:", "Connection refused"],
    );
    // It takes the connection and never says a word.
    refused(
        &at("silent"),
        7,
        &["`silent` did not answer for 15 s while waiting for its greeting"],
    );
    refused(
        &at("no-such-host.invalid"),
        6,
        &["cannot reach `no-such-host.invalid`"],
    );
}

/// An agent of the test's own.
struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Agent {
    fn start(socket: PathBuf) -> Self {
        let child = Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        crate::kit::wait_until("the agent listens", || socket.exists().then_some(()));
        Self { child, socket }
    }

    fn add(&self, key: &Path) {
        let status = Command::new("ssh-add")
            .arg("-q")
            .arg(key)
            .env("SSH_AUTH_SOCK", &self.socket)
            .status()
            .unwrap();
        assert!(status.success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn an_agent_with_several_keys() {
    let lab = Lab::new();
    let agent = Agent::start(lab.sandbox.path("agent"));
    for name in ["first", "second"] {
        key(&lab, name, "ed25519", "");
        agent.add(&lab.sandbox.path(name));
    }
    let rsa = key(&lab, "third", "rsa", "");
    agent.add(&lab.sandbox.path("third"));
    fs::write(lab.sandbox.path("ssh/authorized_keys"), rsa).unwrap();
    lab.add_to_config(&format!(
        "Host lab\n IdentitiesOnly no\n IdentityAgent {}\n IdentityFile none\n",
        agent.socket.display()
    ));
    let ended = lab.setup(&["--plan"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    fs::write(lab.sandbox.path("ssh/authorized_keys"), "").unwrap();
    refused(&lab.setup(&["--plan"]), 5, &["the agent's 3 keys"]);
}

fn a_key_with_a_passphrase() {
    let lab = Lab::new();
    let public = key(&lab, "locked", "ed25519", "open sesame");
    fs::write(lab.sandbox.path("ssh/authorized_keys"), public).unwrap();
    lab.set_key_file("locked");
    refused(
        &lab.setup(&["--plan"]),
        5,
        &["it has a passphrase and there is no terminal to ask on"],
    );
    let mut terminal = on_terminal(&lab);
    terminal.wait("locked`: ");
    terminal.forget();
    terminal.press(b"wrong\n");
    terminal.wait("locked`: ");
    terminal.press(b"open sesame\n");
    assert_eq!(terminal.end(), Some(0));
    let screen = terminal.shown();
    assert!(
        !screen.contains("sesame") && !screen.contains("wrong"),
        "{screen}"
    );
}

fn a_jump_of_the_user_s_own() {
    let lab = Lab::new();
    lab.add_to_config("Host inner\n HostName 127.0.0.1\n ProxyJump lab\n HostKeyAlias inner\n");
    let path = lab.sandbox.path("ssh/config");
    let config = fs::read_to_string(&path).unwrap();
    let port = format!(" Port {}\n", lab.server.port);
    fs::write(
        &path,
        config.replacen("HostKeyAlias inner\n", &format!("HostKeyAlias inner\n{port}"), 1),
    )
    .unwrap();
    let host_key = fs::read_to_string(lab.sandbox.path("ssh/host_key.pub")).unwrap();
    let known = fs::read_to_string(lab.known_hosts()).unwrap();
    fs::write(lab.known_hosts(), format!("{known}inner {host_key}")).unwrap();
    let vm = lab.sandbox.path("dev.vmx");
    let ended = lab.sandbox.run([
        "setup",
        "vmware",
        "--host",
        "inner",
        "--vm",
        vm.to_str().unwrap(),
        "--port",
        "1",
        "--plan",
    ]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(lab.server.logins(), 2, "at the jump and at the host");
}

fn a_proxy_command_needs_the_other_engine() {
    let lab = Lab::new();
    lab.add_to_config(&format!(
        "Host lab\n ProxyCommand nc 127.0.0.1 {}\n",
        lab.server.port
    ));
    refused(
        &lab.setup(&["--plan"]),
        5,
        &[
            "have ProxyCommand, which only the `ssh` program serves",
            "--ssh-engine system",
        ],
    );
    let ended = lab.setup(&["--plan", "--ssh-engine", "system"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

fn only_the_known_type_of_key_is_asked_for() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("keys")).unwrap();
    let ecdsa = sandbox.path("keys/ecdsa");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ecdsa", "-N", "", "-f"])
        .arg(&ecdsa)
        .status()
        .unwrap();
    assert!(made.success());
    let lab = Lab::with(&format!("HostKey {}\n", ecdsa.display()));
    let public = fs::read_to_string(sandbox.path("keys/ecdsa.pub")).unwrap();
    // The host has an ed25519 key too, of which nothing is known.
    fs::write(
        lab.known_hosts(),
        format!("[127.0.0.1]:{} {public}", lab.server.port),
    )
    .unwrap();
    let ended = lab.setup(&["--plan"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}
