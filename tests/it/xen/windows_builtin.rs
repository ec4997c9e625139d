//! The Windows program's own SSH, under Wine, where no program `ssh` is: to a Xen host behind this machine's real OpenSSH
//! server, with the keys and the known hosts of `%USERPROFILE%\.ssh`.

use super::windows::exchange;
use super::{Host, UUID, free_port};
use crate::kit::{Sandbox, wait_until};
use crate::ssh_users::{self, ADMIN, ONE_QUESTION, PASSWORD};
use crate::sshd;
use crate::wine::console::OnTerminal;
use crate::wine::place::{command, testkit, windows_path};
use crate::wine::rig::{Program, pipe_name, trial, wired};
use libtest_mimic::Trial;
use std::fs;
use std::io::Write as _;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

pub fn trials() -> Vec<Trial> {
    // Without a server there is nothing to go to.
    let there = sshd::missing().is_none();
    let with_users = there && ssh_users::missing().is_none();
    let all = [
        (
            there,
            trial(
                "kd_of_a_vm_of_xen_through_its_own_ssh_to_a_named_pipe",
                kd_of_a_vm_of_xen_through_its_own_ssh_to_a_named_pipe,
            ),
        ),
        (
            there,
            trial(
                "a_hosts_key_is_checked_by_its_own_ssh",
                a_hosts_key_is_checked_by_its_own_ssh,
            ),
        ),
        (
            there,
            trial(
                "the_agents_key_is_used_by_its_own_ssh",
                the_agents_key_is_used_by_its_own_ssh,
            ),
        ),
        (
            with_users,
            trial(
                "a_password_of_the_profile_opens_its_own_ssh",
                a_password_of_the_profile_opens_its_own_ssh,
            ),
        ),
        (
            with_users,
            trial(
                "a_password_is_typed_on_the_console",
                a_password_is_typed_on_the_console,
            ),
        ),
    ];
    all.into_iter()
        .filter(|(there, _)| *there)
        .map(|(_, trial)| trial)
        .collect()
}

/// What one writes for the server in place of a name that only a configuration knows.
fn destination(user: &str, host: &Host) -> String {
    format!("{user}@127.0.0.1:{}", host.server.as_ref().unwrap().port)
}

fn own_user() -> String {
    let user = Command::new("id").arg("-un").output().unwrap().stdout;
    String::from_utf8(user).unwrap().trim().to_owned()
}

/// Gives the user of Windows a key and the server's key.
fn give(host: &Host, key: Option<&str>, known: Option<&str>) {
    let folder = host.sandbox.path("home/.ssh");
    fs::create_dir_all(&folder).unwrap();
    for (from, to) in [(key, "id_ed25519"), (known, "known_hosts")] {
        if let Some(from) = from {
            fs::copy(host.sandbox.path("ssh").join(from), folder.join(to)).unwrap();
        }
    }
}

/// The Windows program, with the sandbox's folder for its user's.
fn at_home(sandbox: &Sandbox, words: &[&str]) -> Command {
    let home = windows_path(&sandbox.path("home"));
    let program = windows_path(&testkit().0.with_file_name("vmserial.exe"));
    let mut all = vec!["at-home", &home, &program];
    all.extend(words);
    command(sandbox, "testkit.exe", &all)
}

fn ended(command: &mut Command) -> (Option<i32>, String) {
    Program::start(command).end()
}

fn kd_of_a_vm_of_xen_through_its_own_ssh_to_a_named_pipe() {
    let host = Host::xapi().behind_ssh();
    give(&host, Some("key"), Some("known_hosts"));
    let destination = destination(&own_user(), &host);
    let (port, pipe) = (free_port(), pipe_name());
    let endpoint = format!("listen:tcp:127.0.0.1:{port}");
    let words = [
        "setup",
        "xen",
        "--host",
        &destination,
        "--vm",
        "win11-dev",
        "--as",
        "kd",
        "--endpoint",
        &endpoint,
    ];
    let with = |more: &[&str]| {
        let words: Vec<&str> = ["-v"].iter().chain(&words).chain(more).copied().collect();
        at_home(&host.sandbox, &words)
    };
    // There is no `ssh` that could do it.
    let (code, said) = ended(&mut with(&["--plan", "--ssh-engine", "system"]));
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("`ssh` was not found on this machine"), "{said}");
    // A host is asked, and nothing is changed.
    let before = host.changes();
    let (code, said) = ended(&mut with(&["--plan"]));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("platform:hvm_serial"), "{said}");
    assert_eq!(host.changes(), before);
    host.logins();
    let served = format!("listen:pipe:{pipe}");
    let mut setup = Program::start(&mut with(&["--yes", "--serve", &served]));
    setup.wait("ready");
    assert_eq!(
        host.key("platform", "hvm_serial"),
        Some(format!("tcp:127.0.0.1:{port},server,nodelay,nowait"))
    );
    let (_wire, mut client) = wired(&host.sandbox, "pipe-wire", &pipe);
    setup.wait("client 1 attached");
    for _ in 0..2 {
        host.must(&format!("xe vm-start uuid={UUID}"));
        setup.wait("target up");
        exchange(&mut client);
        host.must(&format!("xe vm-shutdown uuid={UUID} --force"));
        // The VM goes; the debugger on the pipe stays.
        setup.wait("target away");
    }
    assert!(
        host.logins() <= 2,
        "the set-up, the tunnel and all dials share a login, or two on a slow host"
    );
}

fn a_hosts_key_is_checked_by_its_own_ssh() {
    let host = Host::xapi().behind_ssh();
    give(&host, Some("key"), None);
    let known = host.sandbox.path("home/.ssh/known_hosts");
    let destination = destination(&own_user(), &host);
    let line = format!(
        "setup xen --host {destination} --vm win11-dev --as kd --endpoint listen:tcp:127.0.0.1:7001 --plan"
    );
    let run = |more: &[&str]| {
        let words: Vec<&str> = line.split(' ').chain(more.iter().copied()).collect();
        ended(&mut at_home(&host.sandbox, &words))
    };
    let (code, said) = run(&[]);
    assert_eq!(code, Some(5), "{said}");
    assert!(
        said.contains("is not known: ssh-ed25519 SHA256:") && !known.exists(),
        "{said}"
    );
    let (code, said) = run(&["--accept-new-host-key"]);
    assert_eq!(code, Some(0), "{said}");
    let port = host.server.as_ref().unwrap().port;
    let written = fs::read_to_string(&known).unwrap();
    assert!(
        written.starts_with(&format!("[127.0.0.1]:{port} ssh-ed25519 ")),
        "{written}"
    );
    // Another key than the one that is known now: the user's own, which is none of the server's.
    let other = fs::read_to_string(host.sandbox.path("ssh/key.pub")).unwrap();
    fs::write(&known, format!("[127.0.0.1]:{port} {other}")).unwrap();
    let (code, said) = run(&["--accept-new-host-key"]);
    assert_eq!(code, Some(5), "{said}");
    assert!(
        said.contains("is not the one in ") && said.contains("known_hosts:1"),
        "{said}"
    );
}

/// A real `ssh-agent` of this machine, behind a pipe as the one of Windows has it.
fn the_agents_key_is_used_by_its_own_ssh() {
    let host = Host::xapi().behind_ssh();
    give(&host, None, Some("known_hosts"));
    let socket = host.sandbox.path("agent");
    let _agent = Agent(
        Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    wait_until("the agent listens", || UnixStream::connect(&socket).ok());
    let added = Command::new("ssh-add")
        .arg("-q")
        .arg(host.sandbox.path("ssh/key"))
        .env("SSH_AUTH_SOCK", &socket)
        .status();
    assert!(added.unwrap().success());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            join(stream, UnixStream::connect(&socket).unwrap());
        }
    });
    let pipe = pipe_name();
    let target = format!("connect:tcp:127.0.0.1:{port}");
    let _pipe_of_the_agent = Program::bridge(&host.sandbox, &[&target, &format!("listen:pipe:{pipe}")]);
    let destination = destination(&own_user(), &host);
    let line = format!(
        "-vv setup xen --host {destination} --vm win11-dev --as kd --endpoint listen:tcp:127.0.0.1:7001 --plan"
    );
    let words: Vec<&str> = line.split(' ').collect();
    let (code, said) = ended(at_home(&host.sandbox, &words).env("SSH_AUTH_SOCK", r"\\.\pipe\nobody's"));
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("the agent, which does not answer"), "{said}");
    let place = format!(r"\\.\pipe\{pipe}");
    let (code, said) = ended(at_home(&host.sandbox, &words).env("SSH_AUTH_SOCK", place));
    assert_eq!(code, Some(0), "{said}");
}

struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        // Ended already is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn join(near: TcpStream, far: UnixStream) {
    let (mut from_near, mut to_near) = (near.try_clone().unwrap(), near);
    let (mut from_far, mut to_far) = (far.try_clone().unwrap(), far);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_near, &mut to_far);
        let _ = to_far.shutdown(Shutdown::Both);
    });
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_far, &mut to_near);
        let _ = to_near.shutdown(Shutdown::Both);
    });
}

/// A host whose users have nothing but a password.
fn with_passwords() -> Host {
    let mut host = Host::xapi();
    let far = host.sandbox.path("far");
    fs::rename(host.sandbox.path("bin"), &far).unwrap();
    host.state = far.join("xen.state");
    let ways = "PasswordAuthentication yes\nKbdInteractiveAuthentication no\nPubkeyAuthentication no\n";
    host.server = Some(ssh_users::start(&host.sandbox, ONE_QUESTION, ways));
    give(&host, None, Some("known_hosts"));
    host
}

fn a_password_is_typed_on_the_console() {
    let host = with_passwords();
    let destination = destination(ADMIN, &host);
    let line = format!(
        "setup xen --host {destination} --vm win11-dev --as kd --endpoint listen:tcp:127.0.0.1:7001 --plan"
    );
    let words: Vec<&str> = line.split(' ').collect();
    let mut command = at_home(&host.sandbox, &words);
    command.env("LC_ALL", "C.UTF-8");
    let mut console = OnTerminal::start(command);
    for typed in ["mistyped", PASSWORD] {
        console.shows(&format!("Password of {ADMIN} on {destination}:"));
        console.keys.write_all(format!("{typed}\r").as_bytes()).unwrap();
    }
    console.shows("hvm_serial");
    assert_eq!(console.end(), Some(0));
    assert!(!console.said().contains("mistyped"), "{}", console.said());
}

fn a_password_of_the_profile_opens_its_own_ssh() {
    let host = with_passwords();
    let destination = destination(ADMIN, &host);
    let profile = format!(
        "version: 1\nhosts: {{far: {{hypervisor: xen, ssh: \"{destination}\", password: {{env: LAB_PASSWORD}}}}}}\ntargets:\n  \
         dev: {{host: far, vm: win11-dev, ports: [{{port: 1, as: kd, attach: \"listen:tcp:127.0.0.1:7001\"}}]}}\n"
    );
    fs::write(host.sandbox.path("lab.yaml"), profile).unwrap();
    let run = |password: Option<&str>| {
        let mut command = at_home(&host.sandbox, &["-vv", "plan", "-p", "lab.yaml"]);
        // Wine takes the environment for text of this encoding.
        command.env("LC_ALL", "C.UTF-8");
        command.envs(password.map(|password| ("LAB_PASSWORD", password)));
        ended(&mut command)
    };
    let (code, said) = run(Some(PASSWORD));
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("platform:hvm_serial") && !said.contains(PASSWORD),
        "{said}"
    );
    let (code, said) = run(Some("something else"));
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("the profile's password"), "{said}");
    let (code, said) = run(None);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("`LAB_PASSWORD`"), "{said}");
}
