//! Logging in: agents, keys, jumps, and hosts that do not answer.

use super::{Lab, key, on_terminal, refused};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Name and body of each trial.
pub const TRIALS: &[(&str, fn())] = &[
    ("nobody_let_in", nobody_let_in),
    ("a_dead_host_and_a_silent_one", a_dead_host_and_a_silent_one),
    ("an_agent_with_several_keys", an_agent_with_several_keys),
    ("a_key_with_a_passphrase", a_key_with_a_passphrase),
    ("a_jump_of_the_user_s_own", a_jump_of_the_user_s_own),
    (
        "a_proxy_command_needs_the_other_engine",
        a_proxy_command_needs_the_other_engine,
    ),
];

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
