//! Files and processes of a host.

use super::{data, host_path, long, within};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};
use vmserial::model::{Digest, Invocation};
use vmserial::runner::ssh::SshRunner;
use vmserial::runner::{FileSnapshot, RunError, Runner};

pub fn snapshot(text: &str) -> FileSnapshot {
    FileSnapshot {
        bytes: text.into(),
        mode: None,
        owner: None,
    }
}

pub fn files_are_replaced_in_one_go(runner: &SshRunner) {
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

pub fn processes_outlive_the_login(runner: &SshRunner) {
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
