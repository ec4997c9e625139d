//! 1,000 idle ports in one process: memory, CPU time while the VMs are up and silent, CPU time while all are down.
//!
//! No command serves many ports in one process yet, so this measures `vmserial-ports` (`xtask/ports`), which runs the
//! library's engines, with one client socket each, on one current-thread runtime per CPU.

use super::contender::Folder;
use super::goals::{Better, Goals};
use super::run::Bench;
use super::usage::{cpu_time, raise_open_files, resident_kib, rest};
use crate::process::say;
use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long CPU time is looked at.
const WATCHED: Duration = Duration::from_secs(3);

/// Each port has a listener and a connection here, and more than that in the process that serves it.
const FILES_PER_PORT: usize = 6;

/// Measures and judges.
pub fn run(bench: &Bench, goals: &Goals) -> Result<()> {
    let count = bench.ports;
    raise_open_files(std::process::id(), count * FILES_PER_PORT + 100)?;
    let folder = Folder::new()?;
    let path = |index: usize| folder.0.join(format!("vm{index}"));
    let vms = (0..count)
        .map(|index| UnixListener::bind(path(index)))
        .collect::<std::io::Result<Vec<_>>>()?;
    let program = bench.program_beside("vmserial-ports");
    let mut child = Command::new(&program)
        .arg(&folder.0)
        .arg(count.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{program}`"))?;
    let pid = child.id();
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("standard output is piped")?).read_line(&mut line)?;
    ensure!(
        line.trim_end() == "ready",
        "`{program}` ended before it was ready"
    );
    let streams = vms
        .iter()
        .map(|vm| vm.accept().map(|(stream, _)| stream))
        .collect::<std::io::Result<Vec<UnixStream>>>()?;
    rest(Duration::from_millis(500));
    let up = share(pid)?;
    let resident = resident_kib(pid)? as f64 * 1024.0 / 1e6;
    drop(streams);
    drop(vms);
    rest(Duration::from_millis(500));
    let down = share(pid)?;
    let resident_down = resident_kib(pid)? as f64 * 1024.0 / 1e6;
    // The end of its standard input ends it.
    drop(child.stdin.take());
    child.wait()?;
    say(&format!(
        "{count} ports in one process (the library's engines in `vmserial-ports`, a client socket each): {resident:.1} MB resident, \
         {up:.3} % of a core while up and silent; all down: {resident_down:.1} MB, {down:.2} % of a core (each dialled every 100 ms)"
    ));
    goals.judge(
        "idle ports in one process, MB resident",
        resident,
        Better::Lower,
        64.0,
        "",
    );
    goals.judge(
        "idle ports up and silent, % of a core",
        up,
        Better::Lower,
        0.1,
        ": not measurable",
    );
    goals.judge("idle ports all down, % of a core", down, Better::Lower, 5.0, "");
    Ok(())
}

/// A process's share of one core, in percent.
fn share(pid: u32) -> Result<f64> {
    let (before, began) = (cpu_time(pid)?, Instant::now());
    rest(WATCHED);
    let used = cpu_time(pid)?.saturating_sub(before);
    Ok(100.0 * used.as_secs_f64() / began.elapsed().as_secs_f64())
}

/// The time of `vmserial --help`, which a shell's completion waits for.
pub fn help(bench: &Bench, goals: &Goals) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..21 {
        let began = Instant::now();
        let output = Command::new(&bench.program).arg("--help").output()?;
        ensure!(output.status.success(), "`vmserial --help` failed");
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    say(&format!(
        "vmserial --help: median {:.2} ms of {}",
        times[times.len() / 2],
        times.len()
    ));
    goals.judge(
        "vmserial --help, ms",
        times[times.len() / 2],
        Better::Lower,
        10.0,
        "",
    );
    Ok(())
}
