//! Bulk either way, and what it costs: CPU time and memory.

use super::contender::{Contender, start};
use super::goals::{Better, Goals};
use super::run::{Bench, SLICES, slices};
use super::usage::{cpu_time, peak_kib};
use crate::process::say;
use anyhow::{Result, bail, ensure};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

const CONTENDERS: [Contender; 3] = [
    Contender::Vmserial,
    Contender::Socat(8192),
    Contender::Socat(65_536),
];

/// Once a round, with less work: ser2net is slower by far. The divisor of the MiB.
const SLOW: [(Contender, usize); 2] = [(Contender::Ser2netTuned, 16), (Contender::Ser2net, 128)];

#[derive(Debug, Clone, Copy)]
enum Direction {
    FromVm,
    ToVm,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Self::FromVm => "from the VM",
            Self::ToVm => "to the VM  ",
        }
    }
}

/// What so many MiB took.
#[derive(Debug, Default, Clone, Copy)]
struct Cost {
    mebibytes: usize,
    time: Duration,
    cpu: Duration,
    peak_kib: u64,
}

impl Cost {
    fn add(&mut self, other: Self) {
        self.mebibytes += other.mebibytes;
        self.time += other.time;
        self.cpu += other.cpu;
        self.peak_kib = self.peak_kib.max(other.peak_kib);
    }

    fn speed(self) -> f64 {
        self.mebibytes as f64 / self.time.as_secs_f64()
    }
}

/// Ratios of the rounds so far, by direction.
#[derive(Debug, Default)]
pub struct Throughput {
    ratios: [Vec<f64>; 2],
}

impl Throughput {
    /// Measures one round, on all CPUs.
    pub fn round(&mut self, bench: &Bench, round: usize) -> Result<()> {
        for (number, direction) in [Direction::FromVm, Direction::ToVm].into_iter().enumerate() {
            let mut costs = [Cost::default(); CONTENDERS.len()];
            for index in slices(CONTENDERS.len()) {
                costs[index].add(transfer(
                    bench,
                    CONTENDERS[index],
                    direction,
                    bench.mebibytes / SLICES,
                )?);
            }
            for (contender, cost) in CONTENDERS.into_iter().zip(costs) {
                tell(round, contender, direction, cost);
            }
            for (contender, fraction) in SLOW.into_iter().filter(|_| bench.ser2net) {
                let cost = transfer(bench, contender, direction, (bench.mebibytes / fraction).max(1))?;
                tell(round, contender, direction, cost);
            }
            let best = costs[1].speed().max(costs[2].speed());
            self.ratios[number].push(costs[0].speed() / best);
        }
        Ok(())
    }

    /// Judges the rounds.
    pub fn finish(self, goals: &Goals) {
        let [from, to] = self.ratios;
        goals.judge_rounds(
            "throughput from the VM, vmserial / best socat",
            from,
            Better::Higher,
            1.1,
        );
        goals.judge_rounds(
            "throughput to the VM, vmserial / best socat",
            to,
            Better::Higher,
            1.4,
        );
    }
}

fn tell(round: usize, contender: Contender, direction: Direction, cost: Cost) {
    let gigabytes = (cost.mebibytes << 20) as f64 / 1e9;
    say(&format!(
        "round {round}: {:<13} {} {:>7.0} MiB/s, {:>6.2} CPU s/GB, at most {:>5.1} MB resident",
        contender.name(),
        direction.name(),
        cost.speed(),
        cost.cpu.as_secs_f64() / gigabytes,
        cost.peak_kib as f64 * 1024.0 / 1e6
    ));
}

/// Sends so many MiB through.
fn transfer(bench: &Bench, contender: Contender, direction: Direction, mebibytes: usize) -> Result<Cost> {
    let rig = start(&bench.program, contender, None)?;
    let (vm, client) = (rig.vm.try_clone()?, rig.client.try_clone()?);
    let pid = rig.child.id();
    let cpu = cpu_time(pid)?;
    let began = Instant::now();
    match direction {
        Direction::FromVm => send_through(vm, client, mebibytes << 20)?,
        Direction::ToVm => send_through(client, vm, mebibytes << 20)?,
    }
    Ok(Cost {
        mebibytes,
        time: began.elapsed(),
        cpu: cpu_time(pid)?.saturating_sub(cpu),
        peak_kib: peak_kib(pid)?,
    })
}

fn send_through(mut from: impl Write + Send + 'static, mut to: impl Read, count: usize) -> Result<()> {
    let writer = std::thread::spawn(move || -> std::io::Result<()> {
        let chunk = vec![0x5a; 64 << 10];
        let mut left = count;
        while left > 0 {
            let now = left.min(chunk.len());
            from.write_all(&chunk[..now])?;
            left -= now;
        }
        Ok(())
    });
    let mut buffer = vec![0; 256 << 10];
    let mut left = count;
    while left > 0 {
        let got = to.read(&mut buffer)?;
        ensure!(got > 0, "the stream ended {left} bytes early");
        left -= got;
    }
    match writer.join() {
        Ok(result) => Ok(result?),
        Err(_) => bail!("the writer panicked"),
    }
}
