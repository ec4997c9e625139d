//! Logins by password and by the server's questions, on a real OpenSSH server with PAM; a real `sudo` behind it.

use crate::kit::{Ended, Sandbox, is_fast};
use crate::ssh_users::{ADMIN, ONE_QUESTION, PASSWORD, TWO_QUESTIONS, USER, missing, start};
use crate::sshd::Sshd;
use crate::terminal_rig::OnTerminal;
use libtest_mimic::{Completion, Failed, Trial};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const KGDB: &[u8] = include_bytes!("../data/vmx/workstation-kgdb.vmx");

/// The two ways in which sshd takes a password.
const WAYS: [&str; 2] = [
    "PasswordAuthentication yes\nKbdInteractiveAuthentication no\nPubkeyAuthentication no\n",
    "PasswordAuthentication no\nKbdInteractiveAuthentication yes\nPubkeyAuthentication no\n",
];

pub fn trials() -> Vec<Trial> {
    let all: [(&str, fn()); 7] = [
        ("a_typed_password_is_never_shown", a_typed_password_is_never_shown),
        (
            "a_password_of_the_profile_is_nowhere_to_be_seen",
            a_password_of_the_profile_is_nowhere_to_be_seen,
        ),
        ("a_wrong_password_is_told", a_wrong_password_is_told),
        ("a_question_can_be_left", a_question_can_be_left),
        (
            "two_questions_one_after_the_other",
            two_questions_one_after_the_other,
        ),
        ("a_key_and_a_password", a_key_and_a_password),
        ("sudo_wants_its_password", sudo_wants_its_password),
    ];
    let trial = |(name, run): (&str, fn())| {
        Trial::ignorable_test(format!("ssh_passwords::{name}"), move || {
            let left_out = || is_fast().then(|| "its logins are left out (VMSERIAL_TEST_FAST=1)".to_owned());
            let reason = crate::sshd::missing().or_else(missing).or_else(left_out);
            if let Some(reason) = reason {
                return Ok(Completion::ignored_with(reason));
            }
            run();
            Ok::<_, Failed>(Completion::Completed)
        })
    };
    all.into_iter().map(trial).collect()
}

/// A host of VMware whose users have passwords.
struct Lab {
    sandbox: Sandbox,
    _server: Sshd,
}

impl Lab {
    fn new(auth: &str, more: &str) -> Self {
        let sandbox = Sandbox::new()
            .with("LAB_PASSWORD", PASSWORD)
            .with("WRONG_PASSWORD", "something else");
        sandbox.stand_in("vmrun");
        fs::rename(sandbox.path("bin"), sandbox.path("far")).unwrap();
        fs::write(sandbox.path("dev.vmx"), KGDB).unwrap();
        fs::write(sandbox.path("secret"), format!("{PASSWORD}\n")).unwrap();
        let server = start(&sandbox, auth, more);
        Self {
            sandbox,
            _server: server,
        }
    }

    /// The words of a plan whose host is named by `user@`.
    fn words(&self) -> Vec<String> {
        let vm = self.sandbox.path("dev.vmx").display().to_string();
        let host = format!("{ADMIN}@lab");
        let words = ["-vv", "setup", "vmware", "--host", &host, "--vm", &vm];
        let more = ["--port", "1", "--plan"];
        words.iter().chain(&more).map(|&word| word.to_owned()).collect()
    }

    /// The plan on a terminal that is its own, so that Ctrl-C there is a signal.
    fn on_terminal(&self) -> OnTerminal {
        let inner = self.sandbox.vmserial(self.words());
        let mut command = Command::new("setsid");
        command
            .arg("--ctty")
            .arg(inner.get_program())
            .args(inner.get_args());
        command.env_clear();
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(self.sandbox.path(""));
        OnTerminal::start_command(command)
    }

    /// Writes a profile whose host has these keys.
    fn profile(&self, host: &str) {
        let profile = format!(
            "version: 1\nhosts: {{far: {{hypervisor: vmware, {host}}}}}\ntargets:\n  dev: {{host: far, vm: {}, ports: [{{port: 1, as: console, attach: \"listen:unix:/tmp/vm\"}}]}}\n",
            self.sandbox.path("dev.vmx").display()
        );
        fs::write(self.sandbox.path("lab.yaml"), profile).unwrap();
    }

    /// Runs the profile with everything told that there is to tell.
    fn run(&self, words: &str) -> Ended {
        self.sandbox.run(["-vv"].into_iter().chain(words.split(' ')))
    }

    fn refused(&self, parts: &[&str]) {
        let ended = self.run("plan -p lab.yaml");
        assert_eq!(ended.code, Some(5), "{ended:?}");
        for part in parts {
            assert!(ended.stderr.contains(part), "`{part}` in {ended:?}");
        }
    }
}

/// Looks at the words of all processes until it is asked whether the password was among them.
struct Watch {
    over: Arc<AtomicBool>,
    seen: Option<JoinHandle<Vec<String>>>,
}

impl Watch {
    fn start() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let seen = std::thread::spawn(move || {
            let mut seen = Vec::new();
            while !until.load(Ordering::SeqCst) {
                for process in fs::read_dir("/proc").unwrap().flatten() {
                    // It may have ended meanwhile.
                    let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
                    if crate::kit::contains(&words, PASSWORD.as_bytes()) {
                        seen.push(String::from_utf8_lossy(&words).into_owned());
                    }
                }
                std::thread::park_timeout(Duration::from_millis(5));
            }
            seen
        });
        Self {
            over,
            seen: Some(seen),
        }
    }

    fn assert_nothing(mut self) {
        self.over.store(true, Ordering::SeqCst);
        let seen = self.seen.take().unwrap().join().unwrap();
        assert_eq!(seen, Vec::<String>::new(), "a password in the words of a process");
    }
}

/// No file below has the password.
fn assert_no_file_has_it(folder: &Path) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files += assert_no_file_has_it(&path);
        } else if let Ok(bytes) = fs::read(&path) {
            files += 1;
            assert!(
                !crate::kit::contains(&bytes, PASSWORD.as_bytes()),
                "{}",
                path.display()
            );
        }
    }
    files
}

fn a_typed_password_is_never_shown() {
    for (way, question) in WAYS.into_iter().zip(["Password of vsadmin", "Password: "]) {
        let lab = Lab::new(ONE_QUESTION, way);
        let watch = Watch::start();
        let mut terminal = lab.on_terminal();
        terminal.wait(question);
        terminal.forget();
        terminal.press(b"mistyped\n");
        terminal.wait(question);
        terminal.press(format!("{PASSWORD}\n").as_bytes());
        assert_eq!(terminal.end(), Some(0), "{}", terminal.shown());
        let screen = terminal.shown();
        assert!(
            !screen.contains("mistyped") && !screen.contains("w0rd"),
            "{screen}"
        );
        assert!(terminal.is_cooked());
        watch.assert_nothing();
    }
}

fn a_password_of_the_profile_is_nowhere_to_be_seen() {
    for (way, password) in WAYS
        .into_iter()
        .zip(["{env: LAB_PASSWORD}", "{command: cat secret}"])
    {
        let lab = Lab::new(ONE_QUESTION, way);
        lab.profile(&format!("ssh: {ADMIN}@lab, password: {password}"));
        let watch = Watch::start();
        for (words, part) in [
            ("apply -p lab.yaml --yes", ""),
            ("apply -p lab.yaml --yes", "Nothing to change."),
            ("journal", ""),
            ("undo --yes", ""),
        ] {
            let ended = lab.run(words);
            assert_eq!(ended.code, Some(0), "{words}: {ended:?}");
            assert!(ended.stderr.contains(part), "{words}: {ended:?}");
            for said in [&ended.stdout, &ended.stderr] {
                assert!(!said.contains("w0rd"), "{said}");
            }
            // Every command was told.
            let goes_there = words != "journal";
            assert_eq!(
                ended.stderr.contains("ran host="),
                goes_there,
                "{words}: {ended:?}"
            );
        }
        watch.assert_nothing();
        assert_eq!(fs::read(lab.sandbox.path("dev.vmx")).unwrap(), KGDB);
        assert!(assert_no_file_has_it(&lab.sandbox.path("state")) > 1);
    }
}

fn a_wrong_password_is_told() {
    for (way, tried) in WAYS.into_iter().zip(["password", "keyboard-interactive"]) {
        let lab = Lab::new(ONE_QUESTION, way);
        let offers = format!("does not let `{ADMIN}` in: it offers {tried}; tried ");
        lab.profile(&format!("ssh: {ADMIN}@lab, password: {{env: WRONG_PASSWORD}}"));
        lab.refused(&[&offers, "the profile's password"]);
        // Nobody is there to be asked.
        lab.profile(&format!("ssh: {ADMIN}@lab"));
        lab.refused(&[
            &offers,
            "the profile has none, and there is no terminal to ask on",
        ]);
        lab.profile(&format!("ssh: {ADMIN}@lab, password: {{env: NO_SUCH_VARIABLE}}"));
        lab.refused(&["the environment variable `NO_SUCH_VARIABLE` with the password is not set"]);
        lab.profile(&format!(
            "ssh: {ADMIN}@lab, password: {{command: \"cat nothing-there\"}}"
        ));
        lab.refused(&["the command `cat nothing-there` gave no password: exit status: 1"]);
        // Asked three times, as ssh does, and no more.
        let mut terminal = lab.on_terminal();
        for _ in 0..3 {
            terminal.wait("assword");
            terminal.wait(": ");
            terminal.forget();
            terminal.press(b"mistyped\n");
        }
        assert_eq!(terminal.end(), Some(5));
        terminal.wait("typed ");
        assert!(!terminal.shown().contains("mistyped"), "{}", terminal.shown());
    }
}

/// Ctrl-C and an empty line at the question: nothing more is asked, and the terminal echoes again.
fn a_question_can_be_left() {
    let lab = Lab::new(ONE_QUESTION, WAYS[0]);
    for (key, code) in [(&b"\n"[..], 5), (b"\x03", 130)] {
        let mut terminal = lab.on_terminal();
        terminal.wait("Password of vsadmin");
        terminal.forget();
        terminal.press(key);
        assert_eq!(terminal.end(), Some(code), "{}", terminal.shown());
        assert!(terminal.is_cooked());
        assert!(!terminal.shown().contains("Password of"), "{}", terminal.shown());
    }
}

fn two_questions_one_after_the_other() {
    let lab = Lab::new(TWO_QUESTIONS, WAYS[1]);
    let mut terminal = lab.on_terminal();
    terminal.wait("Guest login ok");
    terminal.press(b"me@lab\n");
    terminal.wait("Password: ");
    terminal.press(format!("{PASSWORD}\n").as_bytes());
    assert_eq!(terminal.end(), Some(0), "{}", terminal.shown());
    let screen = terminal.shown();
    assert!(!screen.contains("me@lab") && !screen.contains("w0rd"), "{screen}");
    // The profile's password is the answer to both.
    lab.profile(&format!("ssh: {ADMIN}@lab, password: {{env: LAB_PASSWORD}}"));
    let planned = lab.run("plan -p lab.yaml");
    assert_eq!(planned.code, Some(0), "{planned:?}");
}

/// A host that wants both offers the password when it has the key.
fn a_key_and_a_password() {
    for second in ["password", "keyboard-interactive"] {
        let lab = Lab::new(
            ONE_QUESTION,
            &format!(
                "AuthenticationMethods publickey,{second}\nPasswordAuthentication yes\nKbdInteractiveAuthentication yes\n"
            ),
        );
        lab.profile(&format!("ssh: {ADMIN}@lab, password: {{env: LAB_PASSWORD}}"));
        let planned = lab.run("plan -p lab.yaml");
        assert_eq!(planned.code, Some(0), "{planned:?}");
        lab.profile(&format!("ssh: {ADMIN}@lab, password: {{env: WRONG_PASSWORD}}"));
        lab.refused(&[&format!("it offers {second}; tried `"), "the profile's password"]);
    }
}

/// The VM's file is root's, and so is the tool: everything goes through a real `sudo`.
fn sudo_wants_its_password() {
    let lab = Lab::new(ONE_QUESTION, WAYS[0]);
    let (vmx, state) = (lab.sandbox.path("dev.vmx"), lab.sandbox.path("state"));
    fs::set_permissions(&vmx, fs::Permissions::from_mode(0o600)).unwrap();
    lab.profile(&format!("ssh: {USER}@lab, password: {{env: LAB_PASSWORD}}"));
    let unseen = lab.run("plan -p lab.yaml");
    assert_ne!(unseen.code, Some(0), "{unseen:?}");
    lab.profile(&format!(
        "ssh: {USER}@lab, sudo: true, password: {{env: LAB_PASSWORD}}"
    ));
    let watch = Watch::start();
    let applied = lab.run("apply -p lab.yaml --yes");
    assert_eq!(applied.code, Some(0), "{applied:?}");
    assert!(!applied.stderr.contains("w0rd"), "{applied:?}");
    let after = fs::read_to_string(&vmx).unwrap();
    assert!(after.contains("serial0.fileName"), "{after}");
    let undone = lab.run("undo --yes");
    assert_eq!(undone.code, Some(0), "{undone:?}");
    assert_eq!(fs::read(&vmx).unwrap(), KGDB);
    watch.assert_nothing();
    assert!(assert_no_file_has_it(&state) > 1);
    // One that does not let us in by key, and whose sudo wants what we do not have.
    fs::copy(
        lab.sandbox.path("ssh/key.pub"),
        lab.sandbox.path("ssh/authorized_keys"),
    )
    .unwrap();
    let sudoers = fs::read_to_string(lab.sandbox.path("etc/sudoers")).unwrap();
    let nothing = sudoers.replace("ALL=(ALL) ALL", "ALL=(nobody) ALL");
    fs::write(lab.sandbox.path("etc/sudoers"), nothing).unwrap();
    lab.refused(&["`sudo` on vsuser@lab refused", "is not allowed to execute"]);
}
