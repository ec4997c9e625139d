//! The VM's socket goes and comes back: how long until the client, which stayed, gets the first byte of the new boot.

use super::contender::{Contender, Rig, start};
use super::goals::{Better, Goals};
use super::run::Bench;
use super::usage::rest;
use crate::process::say;
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

/// Reboots per round; each is away for another time, so that every phase of the dialling is met.
const REBOOTS: usize = 10;

/// How long a peer may take to dial again before it counts as never.
const NEVER: Duration = Duration::from_secs(4);

/// Measures and judges.
pub fn run(bench: &Bench, goals: &Goals) -> Result<()> {
    let mut times = Vec::new();
    let mut rig = start(&bench.program, Contender::Vmserial, None)?;
    for reboot in 0..REBOOTS * bench.rounds.min(3) {
        let away = Duration::from_millis(150 + (reboot as u64 * 37) % 100);
        times.push(reboot_once(&mut rig, away)?.as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    say(&format!(
        "vmserial: first byte after the socket is back: median {:.1} ms, longest {:.1} ms of {} reboots",
        times[times.len() / 2],
        times[times.len() - 1],
        times.len()
    ));
    for contender in [Contender::Socat(8192), Contender::Ser2netTuned] {
        if bench.ser2net || contender != Contender::Ser2netTuned {
            say(&format!("{}: {}", contender.name(), peer(bench, contender)?));
        }
    }
    goals.judge(
        "reconnect, longest, ms",
        times[times.len() - 1],
        Better::Lower,
        100.0,
        "",
    );
    Ok(())
}

/// As when a VM is killed and started again: the connection ends, the socket refuses, then there is a new one.
fn reboot_once(rig: &mut Rig, away: Duration) -> Result<Duration> {
    let path = rig.folder.0.join("vm");
    rig.listener = None;
    rig.vm.shutdown(std::net::Shutdown::Both)?;
    rest(away);
    std::fs::remove_file(&path)?;
    let listener = UnixListener::bind(&path)?;
    let back = Instant::now();
    let (mut vm, _) = listener.accept()?;
    vm.write_all(b"b")?;
    rig.client
        .read_exact(&mut [0])
        .context("the client was not kept")?;
    let took = back.elapsed();
    rig.vm = vm;
    rig.listener = Some(listener);
    Ok(took)
}

/// What a peer does about it.
fn peer(bench: &Bench, contender: Contender) -> Result<String> {
    let mut rig = start(&bench.program, contender, None)?;
    let path = rig.folder.0.join("vm");
    rig.listener = None;
    rig.vm.shutdown(std::net::Shutdown::Both)?;
    rest(Duration::from_millis(200));
    std::fs::remove_file(&path)?;
    let listener = UnixListener::bind(&path)?;
    listener.set_nonblocking(true)?;
    let until = Instant::now() + NEVER;
    let dialled = loop {
        match listener.accept() {
            Ok(_) => break true,
            Err(_) if Instant::now() < until => rest(Duration::from_millis(5)),
            Err(_) => break false,
        }
    };
    rig.client.set_read_timeout(Some(Duration::from_millis(200)))?;
    let client = match rig.client.read(&mut [0]) {
        Ok(0) => "dropped its client",
        Ok(_) => "sent its client something",
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => "dropped its client",
        Err(_) => "kept its client",
    };
    let process = match rig.child.try_wait()? {
        Some(_) => "it ended",
        None => "it goes on running",
    };
    let again = if dialled {
        "dialled again"
    } else {
        "did not dial again within 4 s"
    };
    Ok(format!("{client}, {again}; {process}"))
}
