//! Two clients on one port, one of which never reads: what is left of the other's speed, and what it costs in memory.

use super::contender::{Contender, Rig, connect, start};
use super::goals::{Better, Goals};
use super::run::Bench;
use super::usage::resident_kib;
use crate::process::say;
use anyhow::{Result, bail};
use std::io::{ErrorKind, Read, Write};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

/// One measurement.
const TIME: Duration = Duration::from_millis(700);

/// Pairs of measurements per round: three processes on a few CPUs are as fast as the scheduler places them.
const PAIRS: usize = 2;

/// The VM sends so much at a time, and is so many pieces ahead of the client that reads.
const PIECE: usize = 64 << 10;
const AHEAD: usize = 8;

/// A stalled client's memory may grow by this much after the first quarter of the time, when every buffer is full.
const FLAT_KIB: f64 = 1024.0;

struct Measured {
    mebibytes_per_second: f64,
    /// After each quarter.
    resident_kib: Vec<u64>,
}

/// Measures and judges.
pub fn run(bench: &Bench, goals: &Goals) -> Result<()> {
    let mut shares = Vec::new();
    let mut growth = Vec::new();
    for round in 1..=bench.rounds {
        let (mut alone, mut beside) = (0.0, 0.0);
        for turn in 0..PAIRS {
            let (solo, stalled) = pair(bench, Contender::VmserialConsole, round, turn % 2 == 0)?;
            alone += solo.mebibytes_per_second;
            beside += stalled.mebibytes_per_second;
            if let [first, .., last] = stalled.resident_kib[..] {
                growth.push(last.saturating_sub(first) as f64);
            }
        }
        shares.push(100.0 * beside / alone);
    }
    if bench.ser2net {
        pair(bench, Contender::Ser2netTuned, 1, true)?;
    }
    goals.judge_rounds(
        "share of solo speed beside a stalled client, %",
        shares,
        Better::Higher,
        95.0,
    );
    goals.judge_rounds(
        "growth beside a stalled client, KiB",
        growth,
        Better::Lower,
        FLAT_KIB,
    );
    Ok(())
}

fn pair(bench: &Bench, contender: Contender, round: usize, solo_first: bool) -> Result<(Measured, Measured)> {
    let (solo, stalled);
    // By turns the first one, so that a machine that changes its pace favours none.
    if solo_first {
        solo = flow(bench, contender, false)?;
        stalled = flow(bench, contender, true)?;
    } else {
        stalled = flow(bench, contender, true)?;
        solo = flow(bench, contender, false)?;
    }
    say(&format!(
        "round {round}: {:<16} one client {:>6.0} MiB/s; beside a stalled one {:>6.0} MiB/s, resident KiB over the time {:?}",
        contender.name(),
        solo.mebibytes_per_second,
        stalled.mebibytes_per_second,
        stalled.resident_kib
    ));
    Ok((solo, stalled))
}

/// The VM keeps a window ahead of the client that reads, so that this one alone sets the pace.
fn flow(bench: &Bench, contender: Contender, with_stalled: bool) -> Result<Measured> {
    let mut rig = start(&bench.program, contender, None)?;
    let stalled = with_stalled.then(|| connect(rig.port)).transpose()?;
    if let Some(mut stalled) = stalled.as_ref() {
        // It is attached once what it types arrives.
        stalled.write_all(b"!")?;
        rig.vm.read_exact(&mut [0])?;
    }
    let (permits, wanted) = sync_channel::<()>(AHEAD);
    for _ in 0..AHEAD {
        permits.send(())?;
    }
    let mut vm = rig.vm.try_clone()?;
    // A bridge that stalls must not keep the writer for ever.
    vm.set_write_timeout(Some(TIME))?;
    let writer = std::thread::spawn(move || {
        let piece = vec![b'.'; PIECE];
        while wanted.recv().is_ok() && vm.write_all(&piece).is_ok() {}
    });
    let result = read(&mut rig, &permits);
    drop(permits);
    // Whatever it still waits for ends with the bridge.
    drop(rig);
    drop(stalled);
    if writer.join().is_err() {
        bail!("the writer panicked");
    }
    result
}

fn read(rig: &mut Rig, permits: &std::sync::mpsc::SyncSender<()>) -> Result<Measured> {
    let pid = rig.child.id();
    let began = Instant::now();
    let mut buffer = vec![0; 256 << 10];
    let (mut bytes, mut pieces) = (0, 0);
    let mut resident = Vec::new();
    rig.client.set_read_timeout(Some(TIME / 8))?;
    while began.elapsed() < TIME {
        match rig.client.read(&mut buffer) {
            Ok(0) => bail!("the client was detached"),
            Ok(count) => bytes += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
        while pieces < bytes / PIECE {
            pieces += 1;
            // The writer may have given up.
            let _ = permits.try_send(());
        }
        if began.elapsed() >= TIME / 4 * (resident.len() as u32 + 1) {
            resident.push(resident_kib(pid)?);
        }
    }
    Ok(Measured {
        mebibytes_per_second: bytes as f64 / f64::from(1 << 20) / began.elapsed().as_secs_f64(),
        resident_kib: resident,
    })
}
