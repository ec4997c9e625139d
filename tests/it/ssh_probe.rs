//! The runner of a host behind SSH, on a real OpenSSH server. Each trial calls this binary again: settings are a
//! process's own, and so are its connections.

use crate::kit::{Sandbox, has_ended, is_fast};
use crate::sshd::{Sshd, missing};
use libtest_mimic::{Completion, Failed, Trial};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use vmserial::model::{
    Cancel, Deadline, Digest, FailureKind, HostLogin, HostPath, Invocation, Problem, SshHop, Wait,
};
use vmserial::runner::ssh::options::{SshEngine, SshOptions, configure, set_login};
use vmserial::runner::ssh::{Far, SshRunner, stream};
use vmserial::runner::{FileSnapshot, RunError, Runner, Status};

/// The word by which a trial calls this binary.
const CALL: &str = "ssh-probe";

type Probe = fn(&SshRunner);

const PROBES: [(&str, Probe); 10] = [
    ("commands_come_back_whole", commands_come_back_whole),
    ("a_signal_is_no_success", a_signal_is_no_success),
    ("files_are_replaced_in_one_go", files_are_replaced_in_one_go),
    ("processes_outlive_the_login", processes_outlive_the_login),
    (
        "a_deadline_ends_the_command_there",
        a_deadline_ends_the_command_there,
    ),
    ("twenty_commands_at_once", twenty_commands_at_once),
    ("streams_of_the_host_s_own", streams_of_the_host_s_own),
    (
        "sudo_with_and_without_a_password",
        sudo_with_and_without_a_password,
    ),
    // Below only the built-in engine: the other has no connection of its own.
    ("a_lost_connection_is_made_again", a_lost_connection_is_made_again),
    ("twenty_five_streams_share_it", twenty_five_streams_share_it),
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

fn snapshot(text: &str) -> FileSnapshot {
    FileSnapshot {
        bytes: text.into(),
        mode: None,
        owner: None,
    }
}

fn files_are_replaced_in_one_go(runner: &SshRunner) {
    let (file, wait) = (host_path("it's a file"), long());
    let one = Digest::of(b"one\n");
    assert_eq!(runner.read(&file, &wait).unwrap(), None);
    runner
        .replace(&file, Some(&snapshot("one\n")), None, &wait)
        .unwrap();
    let refused = runner.replace(&file, Some(&snapshot("two")), None, &wait);
    assert!(matches!(refused, Err(RunError::Changed { .. })), "{refused:?}");
    std::fs::set_permissions(file.as_local(), std::fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("it's a file", data("link")).unwrap();
    let before = std::fs::metadata(file.as_local()).unwrap().ino();
    let bytes = FileSnapshot {
        bytes: (0..=255).cycle().take(300_000).collect(),
        ..snapshot("")
    };
    runner
        .replace(&host_path("link"), Some(&bytes), Some(&one), &wait)
        .unwrap();
    let read = runner.read(&file, &wait).unwrap().unwrap();
    assert_eq!(read.bytes, bytes.bytes);
    assert_eq!(read.mode, Some(0o640));
    assert!(data("link").is_symlink());
    assert_ne!(std::fs::metadata(file.as_local()).unwrap().ino(), before);
    let owner = std::fs::metadata(file.as_local()).unwrap();
    assert_eq!(read.owner, Some((owner.uid(), owner.gid())));
    runner.replace(&file, None, Some(&bytes.digest()), &wait).unwrap();
    assert!(!runner.exists(&file, &wait).unwrap());
    let dangling = runner.replace(&host_path("link"), Some(&bytes), None, &wait);
    assert!(matches!(dangling, Err(RunError::Io { .. })), "{dangling:?}");
    let folder = host_path("x/y");
    runner.make_folder(&folder, &wait).unwrap();
    runner.make_folder(&folder, &wait).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&data("x")), mode(&data("x/y"))), (0o700, 0o700));
    assert_eq!(runner.list(&host_path(""), &wait).unwrap(), ["link", "x"]);
    assert_eq!(
        runner.list(&host_path("none"), &wait).unwrap(),
        Vec::<String>::new()
    );
    assert!(matches!(
        runner.read(&host_path("x"), &wait),
        Err(RunError::Io { .. })
    ));
}

fn processes_outlive_the_login(runner: &SshRunner) {
    let (log, wait) = (host_path("logs/vm.log"), long());
    let sleeping = Invocation::changes("sh", ["-c", "echo started; exec sleep 1000"]);
    let process = runner.start(&sleeping, &log, &wait).unwrap();
    assert!(runner.is_running(&process, &wait).unwrap());
    // The shell was the process before.
    while runner.find_started(&log, &wait).unwrap() != Some(process.clone()) {
        assert!(!wait.deadline.passed(Instant::now()));
    }
    while runner
        .read(&log, &wait)
        .unwrap()
        .is_none_or(|log| log.bytes != b"started\n")
    {
        assert!(!wait.deadline.passed(Instant::now()));
    }
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap();
    let session = stat
        .rsplit(") ")
        .next()
        .unwrap()
        .split(' ')
        .nth(3)
        .unwrap()
        .to_owned();
    assert_eq!(session, process.pid.to_string(), "a session of its own");
    runner.stop(&process, &wait).unwrap();
    assert!(!runner.is_running(&process, &wait).unwrap());
    runner.stop(&process, &wait).unwrap();
    let stubborn = Invocation::changes("sh", ["-c", "trap '' TERM; while :; do sleep 1; done"]);
    let process = runner.start(&stubborn, &log, &wait).unwrap();
    runner.stop(&process, &within(Duration::from_secs(1))).unwrap();
    assert!(!runner.is_running(&process, &wait).unwrap());
    let missing = runner.start(&Invocation::changes("no-such-program", [""; 0]), &log, &wait);
    assert!(
        matches!(missing, Err(RunError::ProgramNotFound { .. })),
        "{missing:?}"
    );
}

fn a_deadline_ends_the_command_there(runner: &SshRunner) {
    // The first command also logs in.
    runner.run(&shell("true"), &long()).unwrap();
    let pid = data("pid");
    let text = format!("echo $$ > '{}'; exec sleep 1000", pid.display());
    let error = runner
        .run(&shell(&text), &within(Duration::from_secs(8)))
        .unwrap_err();
    assert!(matches!(error, RunError::DeadlinePassed { .. }), "{error}");
    let pid: u32 = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    let limit = long();
    while !has_ended(pid) {
        assert!(!limit.deadline.passed(Instant::now()), "{pid} goes on");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let cancelled = long();
    cancelled.cancel.cancel();
    let error = runner.run(&shell("sleep 1000"), &cancelled).unwrap_err();
    assert!(matches!(error, RunError::Cancelled { .. }), "{error}");
}

fn twenty_commands_at_once(runner: &SshRunner) {
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..20)
            .map(|number| {
                scope.spawn(move || {
                    let output = runner.run(&shell(&format!("sleep 0.2; echo {number}")), &long());
                    assert_eq!(output.unwrap().stdout, format!("{number}\n").as_bytes());
                })
            })
            .collect();
        for running in running {
            running.join().unwrap();
        }
    });
}

fn streams_of_the_host_s_own(runner: &SshRunner) {
    let unix = std::os::unix::net::UnixListener::bind(data("vm.sock")).unwrap();
    let endpoint = format!("connect:unix:{}", data("vm.sock").display());
    let mut stream = runner.open(&endpoint.parse().unwrap(), &long()).unwrap();
    let (mut vm, _) = unix.accept().unwrap();
    stream.write_all(b"question").unwrap();
    let mut bytes = [0; 8];
    vm.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"question");
    vm.write_all(b"answer").unwrap();
    let mut bytes = [0; 6];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"answer");
    drop(vm);
    assert_eq!(stream.read(&mut bytes).unwrap(), 0);
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("connect:tcp:127.0.0.1:{}", tcp.local_addr().unwrap().port());
    let mut stream = runner
        .open(&endpoint.parse().unwrap(), &within(Duration::from_secs(5)))
        .unwrap();
    let _vm = tcp.accept().unwrap();
    let error = stream.read(&mut bytes).unwrap_err();
    assert!(
        matches!(
            error.kind(),
            std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock
        ),
        "{error}"
    );
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
        .replace(&host_path("rooted"), Some(&snapshot("x")), None, &long())
        .unwrap();
    assert_eq!(std::fs::read(data("rooted")).unwrap(), b"x");
}

fn a_lost_connection_is_made_again(runner: &SshRunner) {
    runner.run(&shell("true"), &long()).unwrap();
    // The shell's parent is sshd's process for this connection.
    let error = runner
        .run(&shell("kill -KILL $PPID; sleep 1000"), &long())
        .unwrap_err();
    let problem = Problem::from(error);
    assert_eq!(problem.kind, FailureKind::ConnectionLost, "{problem}");
    assert!(runner.run(&shell("true"), &long()).unwrap().success());
    // A connection that was lost while nobody used it is not noticed.
    let output = runner.run(&shell("echo $PPID"), &long()).unwrap();
    let session = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    Command::new("kill").args(["-KILL", &session]).status().unwrap();
    let output = runner.run(&shell("echo $PPID"), &long()).unwrap();
    assert_ne!(String::from_utf8(output.stdout).unwrap().trim(), session);
}

fn twenty_five_streams_share_it(runner: &SshRunner) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let connection = |runner: &SshRunner| {
        let output = runner.run(&shell("echo $PPID"), &long()).unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let before = connection(runner);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let echo = std::thread::spawn(move || {
        let echoes: Vec<_> = (0..25)
            .map(|_| {
                let (stream, _) = listener.accept().unwrap();
                std::thread::spawn(move || {
                    let (mut from, mut to) = (stream.try_clone().unwrap(), stream);
                    std::io::copy(&mut from, &mut to).unwrap();
                })
            })
            .collect();
        for echo in echoes {
            echo.join().unwrap();
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let hops = [SshHop("lab".to_owned())];
    let far = Far::Tcp("127.0.0.1".to_owned(), port);
    runtime.block_on(async {
        let mut streams = Vec::new();
        for _ in 0..25 {
            streams.push(stream::open(&hops, &far).await.unwrap());
        }
        // One that nobody reads does not hold the others.
        let stalled = streams.pop().unwrap();
        let (mut stalled_read, mut stalled_write) = tokio::io::split(stalled);
        let flood = tokio::spawn(async move {
            let _ = stalled_write.write_all(&vec![7; 8 << 20]).await;
            stalled_write
        });
        let busy = streams
            .into_iter()
            .enumerate()
            .map(|(number, stream)| async move {
                let sent: Vec<u8> = (0..1_000_000_u32)
                    .map(|at| (at as usize * (number + 3)) as u8)
                    .collect();
                let (mut read, mut write) = tokio::io::split(stream);
                let expected = sent.clone();
                let writing = async {
                    write.write_all(&sent).await.unwrap();
                    write.shutdown().await.unwrap();
                };
                let reading = async {
                    let mut back = Vec::new();
                    read.read_to_end(&mut back).await.unwrap();
                    assert!(back == expected, "stream {number}: {} bytes", back.len());
                };
                tokio::join!(writing, reading);
            });
        let mut all = Vec::new();
        for one in busy {
            all.push(tokio::spawn(one));
        }
        for one in all {
            tokio::time::timeout(Duration::from_secs(60), one)
                .await
                .unwrap()
                .unwrap();
        }
        let mut rest = Vec::new();
        let reading = tokio::spawn(async move {
            let _ = stalled_read.read_to_end(&mut rest).await;
            rest.len()
        });
        flood.await.unwrap().shutdown().await.unwrap();
        assert_eq!(reading.await.unwrap(), 8 << 20);
    });
    echo.join().unwrap();
    assert_eq!(connection(runner), before, "it was one connection all the time");
    // A command's input and output as a stream.
    runtime.block_on(async {
        let command = Far::Command("cat; echo said >&2; exit 4".to_owned());
        let stream = stream::open(&hops, &command).await.unwrap();
        let (mut read, mut write) = tokio::io::split(stream);
        write.write_all(b"through").await.unwrap();
        write.shutdown().await.unwrap();
        let mut back = Vec::new();
        let error = read.read_to_end(&mut back).await.unwrap_err();
        assert_eq!(back, b"through");
        assert_eq!(error.to_string(), "ended with 4: said");
    });
}
