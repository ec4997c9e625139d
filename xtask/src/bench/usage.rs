//! CPU time and memory of a process, and which CPUs we run on.

use anyhow::{Context, Result, ensure};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// CPU time that all threads of a process have had, to the nanosecond (`/proc/PID/task/*/schedstat`).
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let mut total = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        total += text
            .split(' ')
            .next()
            .and_then(|word| word.parse::<u64>().ok())
            .unwrap_or(0);
    }
    Ok(Duration::from_nanos(total))
}

/// A process's memory now, in KiB.
pub fn resident_kib(pid: u32) -> Result<u64> {
    status_kib(pid, "VmRSS:")
}

/// The most memory that a process ever had, in KiB.
pub fn peak_kib(pid: u32) -> Result<u64> {
    status_kib(pid, "VmHWM:")
}

fn status_kib(pid: u32, field: &str) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    text.lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .with_context(|| format!("/proc/{pid}/status has no {field}"))
}

/// Puts all threads of this process on these CPUs.
pub fn pin_ourselves(cpus: &str) -> Result<()> {
    let status = Command::new("taskset")
        .args(["-acp", cpus, &std::process::id().to_string()])
        .stdout(Stdio::null())
        .status()
        .context("cannot run taskset")?;
    ensure!(status.success(), "taskset failed");
    Ok(())
}

/// Lets a process have so many open files, if the system allows it.
pub fn raise_open_files(pid: u32, count: usize) -> Result<()> {
    let status = Command::new("prlimit")
        .args([format!("--pid={pid}"), format!("--nofile={count}")])
        .status()
        .context("cannot run prlimit")?;
    ensure!(status.success(), "{count} open files are not allowed here");
    Ok(())
}

/// All CPUs of this machine, as `taskset` spells them.
pub fn all_cpus() -> String {
    // `-p` alone prints "pid 7's current affinity list: 0-3".
    format!(
        "0-{}",
        std::thread::available_parallelism().map_or(1, usize::from).max(2) - 1
    )
}

/// Lets this time pass, to measure what happens meanwhile.
pub fn rest(time: Duration) {
    let until = Instant::now() + time;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left);
    }
}
