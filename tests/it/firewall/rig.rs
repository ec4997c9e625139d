//! Two network namespaces with a cable between them: a Xen host with real iptables and a real sshd, and whoever sets it up.

use crate::kit::{Ended, Running, Sandbox, finish, has_ended, kill, wait_until};
use crate::namespace::{Way, command};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

pub const HOST: &str = "10.99.0.1";
pub const UUID: &str = "0c6b1a52-8f37-4d5e-9a7b-2c1d3e4f5a6b";
pub const CHAIN: &str = "RH-Firewall-1-INPUT";
/// The rules of XenServer's package.
pub const RULES: &str = include_str!("../../data/iptables/xenserver");
/// Where the host's own file of them is, in its namespace.
const FILE: &str = "/etc/sysconfig/iptables";

const NEEDED: [&str; 6] = [
    "/usr/sbin/sshd",
    "/usr/bin/ssh-keygen",
    "/usr/bin/ssh",
    "/usr/sbin/iptables",
    "/usr/bin/nsenter",
    "/usr/bin/nc",
];

/// Why there can be no such host here; `None` if there can.
pub fn missing() -> Option<String> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    let look = || {
        if let Some(program) = NEEDED.into_iter().find(|program| !Path::new(program).exists()) {
            return Some(format!(
                "`{program}` is not there (Debian: openssh-server, iptables, util-linux, netcat-openbsd)"
            ));
        }
        let script = "mount -t tmpfs tmpfs /run && ip link add v0 type veth peer name v1 && iptables -N x && iptables-save >/dev/null";
        let tried = finish(Way::Root.unshare().args(["--net", "sh", "-c", script]), b"");
        (tried.code != Some(0))
            .then(|| "this user may not make a network namespace with rules of its own".to_owned())
    };
    MISSING.get_or_init(look).clone()
}

/// A namespace, as long as it is held.
struct Space {
    holder: Child,
    with_mounts: bool,
}

impl Space {
    /// Makes a namespace; `script` prepares it.
    fn new(with_mounts: bool, script: &str) -> Self {
        let mut unshare = match with_mounts {
            true => Way::Root.unshare(),
            false => Command::new("unshare"),
        };
        // It goes when its standard input ends, also with a test that was killed.
        let holder = unshare
            .arg("--net")
            .args(["sh", "-ec", &format!("{script}\necho ready\nread end")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut space = Self { holder, with_mounts };
        let mut lines = std::io::BufReader::new(space.holder.stdout.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut lines, &mut line).unwrap();
        assert_eq!(line, "ready\n", "the namespace");
        space
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let pid = self.holder.id();
        let mut command = match self.with_mounts {
            true => command(&Way::Root.enter(pid)),
            false => command(&format!("nsenter --target {pid}")),
        };
        command.arg("--net").arg("--").arg(program);
        command
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A Xen host with a VM `win11-dev`, known as `lab` to the sandbox's `ssh`.
pub struct Lab {
    pub sandbox: Sandbox,
    host: Space,
    admin: Space,
    server: Child,
}

impl Lab {
    pub fn new() -> Self {
        Self::with(RULES)
    }

    /// The same with other rules, in the file and in force.
    pub fn with(rules: &str) -> Self {
        let sandbox = Sandbox::new();
        let far = sandbox.path("far");
        for name in ["xe", "xenstore-read", "service", "firewall-port", "firewall-cmd"] {
            sandbox.stand_in(name);
        }
        fs::create_dir(sandbox.path("bin/xen.state")).unwrap();
        // Only the other end of SSH finds them.
        fs::rename(sandbox.path("bin"), &far).unwrap();
        // No firewalld, and no helper, unless a test wants one.
        fs::create_dir(sandbox.path("spare")).unwrap();
        for name in ["firewall-port", "firewall-cmd"] {
            fs::rename(far.join(name), sandbox.path("spare").join(name)).unwrap();
        }
        vm(&far.join("xen.state"));
        fs::write(sandbox.path("rules"), rules).unwrap();
        let script = format!(
            "ip link set lo up; mount -t tmpfs tmpfs /run; mkdir /run/sshd; mount -t tmpfs tmpfs /var/lib
             cp -a /etc {etc}; mkdir {home}; sed -i 's|^\\(root:[^:]*:[^:]*:[^:]*:[^:]*\\):[^:]*:|\\1:{home}:|' {etc}/passwd; mount --bind {etc} /etc; mkdir -p /etc/sysconfig /etc/xapi.d/plugins; rm -f /etc/iptables/rules.v4
             cp {rules} {FILE}; chmod 600 {FILE}; iptables-restore {FILE}",
            etc = sandbox.path("etc").display(),
            // The host's root has a home of its own; the machine's may hold the project.
            home = sandbox.path("home-of-root").display(),
            rules = sandbox.path("rules").display(),
        );
        let host = Space::new(true, &script);
        let admin = Space::new(false, "ip link set lo up");
        for (space, script) in [
            (
                &host,
                format!(
                    "ip link add v0 type veth peer name v1 netns {} && ip addr add {HOST}/24 dev v0 && ip link set v0 up",
                    admin.holder.id()
                ),
            ),
            (
                &admin,
                "ip addr add 10.99.0.2/24 dev v1 && ip link set v1 up".to_owned(),
            ),
        ] {
            let ended = finish(space.command("sh").args(["-c", &script]), b"");
            assert_eq!(ended.code, Some(0), "{ended:?}");
        }
        let server = sshd(&sandbox, &host, &far);
        let mut lab = Self {
            sandbox,
            host,
            admin,
            server,
        };
        wait_until("sshd listens", || {
            assert!(lab.server.try_wait().unwrap().is_none(), "sshd has ended");
            lab.can_connect(22).then_some(())
        });
        lab
    }

    /// Runs a line of a shell on the host, as its admin would at its own console.
    pub fn on_host(&self, line: &str) -> Ended {
        let far = self.sandbox.path("far");
        let path = format!(
            "{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            far.display()
        );
        finish(self.host.command("sh").args(["-c", line]).env("PATH", path), b"")
    }

    pub fn must(&self, line: &str) -> String {
        let ended = self.on_host(line);
        assert_eq!(ended.code, Some(0), "{line}: {ended:?}");
        ended.stdout
    }

    /// Gives the host a program that tests hold back, at a place of the host's.
    pub fn give(&self, name: &str, place: &str) {
        let spare = self.sandbox.path("spare").join(name);
        // The stand-in finds its state beside itself: it is called by its own place.
        fs::rename(&spare, self.sandbox.path("far").join(name)).unwrap();
        if place.starts_with('/') {
            let own = self.sandbox.path("far").join(name);
            self.must(&format!(
                "printf '#!/bin/sh\\nexec {} \"$@\"\\n' > {place}; chmod 755 {place}",
                own.display()
            ));
        }
    }

    /// Puts a script before a program of the host; `"$real"` is the program.
    pub fn in_front_of(&self, program: &str, script: &str) {
        let path = self.sandbox.path("far").join(program);
        fs::write(
            &path,
            format!("#!/bin/sh\nreal=/usr/sbin/{program}\n{script}\nexec \"$real\" \"$@\"\n"),
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The rules in force of a chain.
    pub fn live(&self, chain: &str) -> Vec<String> {
        let text = self.must(&format!("iptables -w -S {chain}"));
        text.lines().map(ToOwned::to_owned).collect()
    }

    /// All rules in force, without what counts and tells the time.
    pub fn all_live(&self) -> String {
        let text = self.must("iptables-save -t filter");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.split(" [").next().unwrap().to_owned() + "\n")
            .collect()
    }

    pub fn file(&self) -> String {
        fs::read_to_string(self.sandbox.path("etc/sysconfig/iptables")).unwrap()
    }

    /// Tells whether a connection from the admin's machine comes to the host: something listens there, or nothing refuses.
    pub fn can_connect(&self, port: u16) -> bool {
        let port = port.to_string();
        let ended = finish(self.admin.command("nc").args(["-z", "-w", "1", HOST, &port]), b"");
        ended.code == Some(0)
    }

    /// Listens on a port of the host for ever.
    pub fn listen(&self, port: u16) -> Running {
        let mut command = self.host.command("nc");
        let running = Running::start(command.args(["-l", "-k", &port.to_string()]));
        wait_until("the host listens", || {
            self.on_host(&format!("nc -z -w 1 127.0.0.1 {port}"))
                .code
                .filter(|code| *code == 0)
        });
        running
    }

    fn command(&self, line: &str) -> Command {
        let words = shlex::split(line).unwrap();
        let own = self.sandbox.vmserial(words);
        let mut command = self.admin.command(own.get_program());
        command
            .args(own.get_args())
            .env_clear()
            .current_dir(self.sandbox.path(""));
        for (name, value) in own.get_envs() {
            command.env(name, value.unwrap());
        }
        command
    }

    /// Runs vmserial on the admin's machine.
    pub fn run(&self, line: &str) -> Ended {
        finish(&mut self.command(line), b"")
    }

    pub fn start(&self, line: &str) -> Running {
        Running::start(&mut self.command(line))
    }

    /// Runs `vmserial setup xen` for the VM with these words behind.
    pub fn setup(&self, words: &str) -> Ended {
        self.run(&setup_line(words))
    }

    pub fn must_setup(&self, words: &str) -> Ended {
        let ended = self.setup(words);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended
    }

    pub fn must_undo(&self) -> Ended {
        let ended = self.run("undo --yes");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended
    }

    /// Lets the sandbox's `ssh` reach the host by another port.
    pub fn reach_by(&self, port: u16) {
        let path = self.sandbox.path("ssh/config");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text.replace("Port 22\n", &format!("Port {port}\n"))).unwrap();
    }

    /// What the guard leaves on the host: nothing.
    pub fn assert_nothing_left(&self) {
        assert_eq!(self.must("ls -d /run/vmserial* 2>/dev/null || true"), "");
        wait_until("the host's timer ends", || {
            let own = self.must("ls -l /proc/self/ns/net | sed 's/.*-> //'");
            let line = format!(
                "for p in /proc/[0-9]*; do case \"$(ls -l $p/ns/net 2>/dev/null)\" in *'{}') tr '\\0' ' ' < $p/cmdline | grep 'sh watch';; esac; done; true",
                own.trim()
            );
            self.must(&line)
                .lines()
                .all(|line| line.contains("/proc/"))
                .then_some(())
        });
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let pid = self.server.id();
        let _ = self.server.kill();
        let _ = self.server.wait();
        assert!(has_ended(pid) || std::thread::panicking());
        // Sessions of it, and a timer that a failed test leaves, have no network any more and end by themselves.
    }
}

pub fn setup_line(words: &str) -> String {
    format!("setup xen --host lab --vm win11-dev --endpoint listen:tcp:0.0.0.0:7001 --as kd {words}")
}

fn vm(state: &Path) {
    fs::create_dir_all(state.join("hosts/aaaa")).unwrap();
    fs::write(state.join("hosts/aaaa/name-label"), "xcp1").unwrap();
    let folder = state.join("vms").join(UUID);
    for map in ["platform", "other-config"] {
        fs::create_dir_all(folder.join(map)).unwrap();
    }
    for (parameter, value) in [
        ("name-label", "win11-dev"),
        ("power-state", "halted"),
        ("is-control-domain", "false"),
        ("resident-on", "<not in database>"),
        ("affinity", "<not in database>"),
        ("dom-id", "-1"),
        ("HVM-boot-policy", "BIOS order"),
    ] {
        fs::write(folder.join(parameter), value).unwrap();
    }
}

/// Starts the host's sshd, on its usual port and on 7005, and makes the sandbox's `ssh` know it.
fn sshd(sandbox: &Sandbox, host: &Space, far: &Path) -> Child {
    let folder: PathBuf = sandbox.path("ssh");
    fs::create_dir(&folder).unwrap();
    let here = folder.display();
    for key in ["host_key", "key"] {
        let made = finish(
            Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(folder.join(key)),
            b"",
        );
        assert_eq!(made.code, Some(0), "{made:?}");
    }
    fs::copy(folder.join("key.pub"), folder.join("authorized_keys")).unwrap();
    let host_key = fs::read_to_string(folder.join("host_key.pub")).unwrap();
    fs::write(
        folder.join("known_hosts"),
        format!("{HOST} {host_key}[{HOST}]:7005 {host_key}"),
    )
    .unwrap();
    fs::write(
        folder.join("sshd_config"),
        format!(
            "SetEnv PATH={}:/usr/local/bin:/usr/bin:/bin\nPort 22\nPort 7005\nListenAddress {HOST}\nHostKey {here}/host_key\n\
             AuthorizedKeysFile {here}/authorized_keys\nPidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n",
            far.display()
        ),
    )
    .unwrap();
    fs::write(
        folder.join("config"),
        format!(
            "Host lab\n HostName {HOST}\n Port 22\n ConnectTimeout 2\nHost *\n User root\n IdentityFile {here}/key\n IdentitiesOnly yes\n \
             IdentityAgent none\n UserKnownHostsFile {here}/known_hosts\n GlobalKnownHostsFile /dev/null\n"
        ),
    )
    .unwrap();
    fs::create_dir(sandbox.path("bin")).unwrap();
    let ssh = sandbox.path("bin/ssh");
    fs::write(
        &ssh,
        format!("#!/bin/sh\nexec /usr/bin/ssh -F {here}/config \"$@\"\n"),
    )
    .unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    let mut server = host.command("/usr/sbin/sshd");
    server.args(["-D", "-e", "-f"]).arg(folder.join("sshd_config"));
    server
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    server.spawn().unwrap()
}

/// Kills a program of ours at once.
pub fn kill_at_once(running: &mut Running) {
    kill(running.pid(), "KILL");
    running.wait_end();
}
