//! A real OpenSSH server on loopback, with a key, a configuration and a list of known hosts of the test's own.

use crate::kit::{Sandbox, wait_until};
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

const SSHD: &str = "/usr/sbin/sshd";

/// A `bash` that is not the first one does not read its user's `.bashrc`, which may take a second for each command.
pub const QUICK_SHELL: &str = "SHLVL=2";

/// A server, with the sandbox's `ssh` knowing it as `lab`.
pub struct Sshd {
    child: Child,
    log: Receiver<String>,
    pub port: u16,
    config: PathBuf,
    /// What the server is started by.
    around: Vec<String>,
}

/// Why there can be no server here; `None` if there can.
pub fn missing() -> Option<String> {
    [SSHD, "/usr/bin/ssh-keygen", "/usr/bin/ssh"]
        .into_iter()
        .find(|program| !Path::new(program).exists())
        .map(|program| format!("`{program}` is not there (Debian: openssh-server, openssh-client)"))
}

fn keygen(path: &Path) {
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(path)
        .status()
        .unwrap();
    assert!(status.success());
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

impl Sshd {
    /// Starts a server and puts an `ssh` on the sandbox's PATH that has the configuration of the test instead of the
    /// user's own. (`ssh` takes its home from the system's list of users, whatever HOME says.)
    pub fn start(sandbox: &Sandbox) -> Self {
        Self::start_with(sandbox, "MaxSessions 0\n")
    }

    /// The same with further lines of `sshd_config`, which come first and so hold.
    pub fn start_with(sandbox: &Sandbox, more: &str) -> Self {
        Self::start_by(sandbox, more, Vec::new())
    }

    /// The same, started by a command that becomes the one behind it.
    pub fn start_by(sandbox: &Sandbox, more: &str, around: Vec<String>) -> Self {
        let folder = sandbox.path("ssh");
        std::fs::create_dir(&folder).unwrap();
        for key in ["host_key", "key"] {
            keygen(&folder.join(key));
        }
        let public = std::fs::read_to_string(folder.join("key.pub")).unwrap();
        write(&folder.join("authorized_keys"), &public);
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let here = folder.display();
        // Copies of the journal go where only this test looks. Of several `SetEnv` the first holds.
        let own = format!(
            "SetEnv {QUICK_SHELL} VMSERIAL_HOST_FOLDER={} ",
            sandbox.path("far-host").display()
        );
        let more = match more.contains("SetEnv ") {
            true => more.replacen("SetEnv ", &own, 1),
            false => format!("{more}{own}\n"),
        };
        let config = folder.join("sshd_config");
        write(
            &config,
            &format!(
                "{more}ListenAddress 127.0.0.1\nPort {port}\nHostKey {here}/host_key\nAuthorizedKeysFile {here}/authorized_keys\n\
                 PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
                 LogLevel VERBOSE\nMaxStartups 100\n"
            ),
        );
        let host_key = std::fs::read_to_string(folder.join("host_key.pub")).unwrap();
        write(
            &folder.join("known_hosts"),
            &format!("[127.0.0.1]:{port} {host_key}"),
        );
        let user = Command::new("id").arg("-un").output().unwrap().stdout;
        let user = String::from_utf8(user).unwrap();
        write(
            &folder.join("config"),
            &format!(
                "Host lab\n HostName 127.0.0.1\n Port {port}\nHost *\n User {}\n IdentityFile {here}/key\n IdentitiesOnly yes\n \
                 IdentityAgent none\n UserKnownHostsFile {here}/known_hosts\n GlobalKnownHostsFile /dev/null\n",
                user.trim()
            ),
        );
        let bin = sandbox.path("bin");
        std::fs::create_dir_all(&bin).unwrap();
        let ssh = bin.join("ssh");
        write(
            &ssh,
            &format!("#!/bin/sh\nexec /usr/bin/ssh -F {here}/config \"$@\"\n"),
        );
        std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).unwrap();
        // A server that root starts drops its rights in this folder.
        let _ = std::fs::create_dir("/run/sshd");
        let (child, log) = Self::spawn(&config, &around);
        let mut server = Self {
            child,
            log,
            port,
            config,
            around,
        };
        server.wait_until_it_listens();
        server
    }

    fn spawn(config: &Path, around: &[String]) -> (Child, Receiver<String>) {
        let mut words = around.iter().map(String::as_str).chain([SSHD, "-D", "-e", "-f"]);
        let mut child = Command::new(words.next().unwrap())
            .args(words)
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, log) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        (child, log)
    }

    fn wait_until_it_listens(&mut self) {
        let port = self.port;
        wait_until("sshd listens", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!(
                    "sshd ended with {status}: {:?}",
                    self.log.try_iter().collect::<Vec<_>>()
                );
            }
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
    }

    /// Ends the server and every connection that it has.
    pub fn stop(&mut self) {
        for session in sessions_of(self.child.id()) {
            kill_if_there(session);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again at the same port.
    pub fn restart(&mut self) {
        self.stop();
        (self.child, self.log) = Self::spawn(&self.config, &self.around);
        self.wait_until_it_listens();
    }

    /// Ends the connections, and leaves the server.
    pub fn drop_connections(&self) {
        for session in sessions_of(self.child.id()) {
            kill_if_there(session);
        }
    }

    /// How many logins it has seen since the last look.
    pub fn logins(&self) -> usize {
        self.log
            .try_iter()
            .filter(|line| line.starts_with("Accepted publickey"))
            .count()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The processes of a server's connections, the innermost first.
fn sessions_of(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut all = Vec::new();
    for child in children.split_whitespace().filter_map(|word| word.parse().ok()) {
        all.extend(sessions_of(child));
        all.push(child);
    }
    all
}

/// The end of one connection's process ends the others of it.
fn kill_if_there(pid: u32) {
    let _ = Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .stderr(Stdio::null())
        .status();
}
