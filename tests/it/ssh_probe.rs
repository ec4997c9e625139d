//! The runner of a host behind SSH, on a real OpenSSH server. Each trial calls this binary again: settings are a
//! process's own, and so are its connections.

mod files;
mod links;

use crate::kit::{Sandbox, is_fast};
use crate::sshd::{Sshd, missing};
use libtest_mimic::{Completion, Failed, Trial};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use vmserial::model::{Cancel, Deadline, FailureKind, HostLogin, HostPath, Invocation, Problem, Wait};
use vmserial::runner::ssh::SshRunner;
use vmserial::runner::ssh::options::{SshEngine, SshOptions, configure, set_login};
use vmserial::runner::{RunError, Runner, Status};

/// The word by which a trial calls this binary.
const CALL: &str = "ssh-probe";

type Probe = fn(&SshRunner);

const PROBES: [(&str, Probe); 10] = [
    ("commands_come_back_whole", commands_come_back_whole),
    ("a_signal_is_no_success", a_signal_is_no_success),
    (
        "files_are_replaced_in_one_go",
        files::files_are_replaced_in_one_go,
    ),
    ("processes_outlive_the_login", files::processes_outlive_the_login),
    (
        "a_deadline_ends_the_command_there",
        links::a_deadline_ends_the_command_there,
    ),
    ("twenty_commands_at_once", links::twenty_commands_at_once),
    ("streams_of_the_host_s_own", links::streams_of_the_host_s_own),
    (
        "sudo_with_and_without_a_password",
        sudo_with_and_without_a_password,
    ),
    // Below only the built-in engine: the other has no connection of its own.
    (
        "a_lost_connection_is_made_again",
        links::a_lost_connection_is_made_again,
    ),
    (
        "twenty_five_streams_share_it",
        links::twenty_five_streams_share_it,
    ),
];

/// How many of the probes both engines serve.
const FOR_BOTH: usize = 8;

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (index, (name, _)) in PROBES.into_iter().enumerate() {
        for engine in ["builtin", "system"] {
            if engine == "builtin" || index < FOR_BOTH {
                trials.push(trial(engine, name, "", name));
            }
        }
    }
    trials.push(trial(
        "builtin",
        "twenty_commands_at_once",
        "MaxSessions 2\n",
        "a_host_with_fewer_sessions_is_not_overrun",
    ));
    trials
}

fn trial(engine: &'static str, probe: &'static str, more: &'static str, name: &'static str) -> Trial {
    // A hundred logins take their time.
    let left_out = || is_fast().then(|| "the SSH runner is left out (VMSERIAL_TEST_FAST=1)".to_owned());
    let reason = missing().or_else(left_out);
    Trial::ignorable_test(format!("ssh_runner::{engine}::{name}"), move || {
        if let Some(reason) = reason {
            return Ok(Completion::ignored_with(reason));
        }
        let sandbox = Sandbox::new();
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", sandbox.path("far").display());
        std::fs::create_dir(sandbox.path("far")).unwrap();
        let server = Sshd::start_with(&sandbox, &format!("{more}SetEnv PATH={path}\n"));
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command
            .args([CALL, probe, engine])
            .env_clear()
            .env(
                "PATH",
                format!("{}:/usr/local/bin:/usr/bin:/bin", sandbox.path("bin").display()),
            )
            .env("HOME", sandbox.path(""))
            .env("XDG_RUNTIME_DIR", sandbox.path("run"))
            .env("DATA", sandbox.path("data"))
            .env("FAR", sandbox.path("far"))
            .current_dir(sandbox.path(""))
            .output()
            .unwrap();
        drop(server);
        if output.status.success() {
            return Ok(Completion::Completed);
        }
        Err(Failed::from(format!(
            "{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )))
    })
}

/// Runs a probe if this binary was called for one.
pub fn called(arguments: impl IntoIterator<Item = String>) -> Option<ExitCode> {
    let words: Vec<String> = arguments.into_iter().skip(1).collect();
    let [call, name, engine] = words.as_slice() else {
        return None;
    };
    if call != CALL {
        return None;
    }
    configure(SshOptions {
        engine: if engine == "system" {
            SshEngine::System
        } else {
            SshEngine::Builtin
        },
        accept_new_host_key: false,
        warn: |line| panic!("{line}"),
    });
    let (_, probe) = PROBES.into_iter().find(|(probe, _)| probe == name)?;
    std::fs::create_dir_all(data("")).unwrap();
    probe(&SshRunner::new("lab"));
    Some(ExitCode::SUCCESS)
}

fn data(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("DATA").unwrap()).join(name)
}

fn host_path(name: &str) -> HostPath {
    HostPath::new(data(name).to_str().unwrap())
}

fn within(patience: Duration) -> Wait {
    Wait::new(
        Deadline::after(Instant::now(), patience),
        Cancel::new(),
        "the probe",
    )
}

fn long() -> Wait {
    within(Duration::from_secs(60))
}

fn shell(text: &str) -> Invocation {
    Invocation::reads("sh", ["-c", text])
}

fn commands_come_back_whole(runner: &SshRunner) {
    let mut invocation = shell("cat; echo problem >&2; exit 3");
    invocation.stdin = Some("input".to_owned());
    let output = runner.run(&invocation, &long()).unwrap();
    assert_eq!(output.status, Status::Exited(3));
    assert_eq!(
        (output.stdout, output.stderr),
        (b"input".to_vec(), b"problem\n".to_vec())
    );

    let words = [
        "a b", "it's", "$(id)", "`id`", "\"", "\\", "*", "", "é\n!", "-n", "=x", "~",
    ];
    let output = runner
        .run(
            &Invocation::reads("printf", ["%s|"].into_iter().chain(words)),
            &long(),
        )
        .unwrap();
    let expected: String = words.iter().map(|word| format!("{word}|")).collect();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);

    let much = "head -c 4000000 /dev/zero >&2; head -c 3000000 /dev/zero";
    let output = runner.run(&shell(much), &long()).unwrap();
    assert_eq!((output.stdout.len(), output.stderr.len()), (3_000_000, 4_000_000));

    let error = runner
        .run(&Invocation::reads("no-such-program", ["x"]), &long())
        .unwrap_err();
    assert!(matches!(error, RunError::ProgramNotFound { .. }), "{error}");

    // A command that does not read its input is no failure.
    let mut unread = Invocation::reads("true", [""; 0]);
    unread.stdin = Some("x".repeat(3_000_000));
    assert!(runner.run(&unread, &long()).unwrap().success());
}

fn a_signal_is_no_success(runner: &SshRunner) {
    for (name, number) in [("KILL", 9), ("TERM", 15)] {
        let output = runner.run(&shell(&format!("kill -{name} $$")), &long()).unwrap();
        // `ssh` has one status for all signals.
        assert!(
            [Status::Signalled(number), Status::Exited(255)].contains(&output.status),
            "{:?}",
            output.status
        );
        if vmserial::runner::ssh::is_builtin() {
            assert_eq!(output.status, Status::Signalled(number));
        }
    }
}

/// Stands for `sudo`: wants a password unless the file `free` is there.
const SUDO: &str = r#"#!/bin/sh
free=$(dirname "$0")/free
case "$1" in
  -n) [ -e "$free" ] || { echo 'sudo: a password is required' >&2; exit 1; }; shift;;
  -S) if [ ! -e "$free" ]; then
        IFS= read -r password || { echo 'sudo: no password was provided' >&2; exit 1; }
        [ "$password" = "s3cret word" ] || { echo 'sudo: 1 incorrect password attempt' >&2; exit 1; }
      fi; shift 3;;
esac
[ "$1" = -- ] && shift
BECAME=root exec "$@"
"#;

fn sudo_with_and_without_a_password(runner: &SshRunner) {
    let far = PathBuf::from(std::env::var_os("FAR").unwrap());
    let sudo = far.join("sudo");
    std::fs::write(&sudo, SUDO).unwrap();
    std::fs::set_permissions(&sudo, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut who = shell("echo $BECAME; cat");
    who.stdin = Some("input".to_owned());
    let login = |password: Option<&str>| {
        set_login(
            "lab",
            HostLogin {
                user: None,
                password: password
                    .map(|text| vmserial::model::profile::Secret::Command(format!("printf %s '{text}'"))),
                sudo: true,
            },
        );
    };
    let as_root = || runner.run(&who, &long()).map(|output| output.stdout);
    login(None);
    let problem = Problem::from(as_root().unwrap_err());
    assert_eq!(problem.kind, FailureKind::Precondition);
    assert!(problem.message.contains("a password is required"), "{problem}");
    login(Some("wrong"));
    let problem = Problem::from(as_root().unwrap_err());
    assert!(problem.message.contains("incorrect password"), "{problem}");
    assert!(!problem.message.contains("wrong"), "{problem}");
    login(Some("s3cret word"));
    assert_eq!(as_root().unwrap(), b"root\ninput");
    // Nobody asks for the password now, and the command does not get it for input.
    std::fs::write(far.join("free"), "").unwrap();
    assert_eq!(as_root().unwrap(), b"root\ninput");
    login(None);
    assert_eq!(as_root().unwrap(), b"root\ninput");
    runner
        .replace(&host_path("rooted"), Some(&files::snapshot("x")), None, &long())
        .unwrap();
    assert_eq!(std::fs::read(data("rooted")).unwrap(), b"x");
}
