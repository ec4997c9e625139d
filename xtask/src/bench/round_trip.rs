//! 64 bytes from the client to the VM and back, one at a time.

use super::contender::{Contender, Rig, start};
use super::goals::{Better, Goals};
use super::run::{Bench, SLICES, slices};
use super::usage::{all_cpus, pin_ourselves};
use crate::process::say;
use anyhow::Result;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

/// In every slice; the ones that are judged.
const CONTENDERS: [Contender; 3] = [
    Contender::Vmserial,
    Contender::Socat(8192),
    Contender::Socat(65_536),
];

/// Once a round, with fewer trips: ser2net's own delay is 3 ms.
const SLOW: [(Contender, usize); 2] = [(Contender::Ser2netTuned, 10), (Contender::Ser2net, 100)];

/// Ratios of the rounds so far.
#[derive(Debug, Default)]
pub struct RoundTrips {
    ratios: [Vec<f64>; 2],
}

impl RoundTrips {
    /// Measures one round, everything on CPU 0.
    pub fn round(&mut self, bench: &Bench, round: usize) -> Result<()> {
        let mut trips: [Vec<Duration>; CONTENDERS.len()] = Default::default();
        for index in slices(CONTENDERS.len()) {
            trips[index].extend(pinned(bench, CONTENDERS[index], "0", bench.trips / SLICES)?);
        }
        let trips = trips.map(percentiles);
        for (contender, percentiles) in CONTENDERS.iter().zip(trips) {
            tell(round, *contender, percentiles);
        }
        for (contender, fraction) in SLOW.into_iter().filter(|_| bench.ser2net) {
            tell(
                round,
                contender,
                percentiles(pinned(bench, contender, "0", (bench.trips / fraction).max(20))?),
            );
        }
        // Judged against socat as it comes.
        for (which, ratios) in self.ratios.iter_mut().enumerate() {
            ratios.push(trips[0][which].as_secs_f64() / trips[1][which].as_secs_f64());
        }
        Ok(())
    }

    /// Judges the rounds, and prints the figures of two CPUs, which no peer is compared with.
    pub fn finish(self, bench: &Bench, goals: &Goals) -> Result<()> {
        if all_cpus() != "0-0" {
            let [p50, p99] = percentiles(pinned(bench, Contender::Vmserial, "1", bench.trips)?);
            say(&format!(
                "not judged: vmserial on CPU 1, ends on CPU 0: p50 {:.2} us, p99 {:.2} us",
                micros(p50),
                micros(p99)
            ));
        }
        let [p50, p99] = self.ratios;
        goals.judge_rounds("round trip p50, vmserial / socat", p50, Better::Lower, 0.9);
        goals.judge_rounds("round trip p99, vmserial / socat", p99, Better::Lower, 1.0);
        Ok(())
    }
}

fn tell(round: usize, contender: Contender, [p50, p99]: [Duration; 2]) {
    say(&format!(
        "round {round}: {:<13} round trip p50 {:>7.2} us, p99 {:>7.2} us (CPU 0)",
        contender.name(),
        micros(p50),
        micros(p99)
    ));
}

fn percentiles(mut times: Vec<Duration>) -> [Duration; 2] {
    times.sort_unstable();
    [times[times.len() / 2], times[times.len() * 99 / 100]]
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// The bridge on one CPU, both its ends on CPU 0.
fn pinned(bench: &Bench, contender: Contender, cpu: &str, count: usize) -> Result<Vec<Duration>> {
    let mut rig = start(&bench.program, contender, Some(cpu))?;
    pin_ourselves("0")?;
    let result = ping(&mut rig, count);
    pin_ourselves(&all_cpus())?;
    result
}

fn ping(rig: &mut Rig, count: usize) -> Result<Vec<Duration>> {
    let mut buffer = [7; 64];
    let mut times = Vec::with_capacity(count);
    for trip in 0..count + count / 10 {
        let began = Instant::now();
        rig.client.write_all(&buffer)?;
        rig.vm.read_exact(&mut buffer)?;
        rig.vm.write_all(&buffer)?;
        rig.client.read_exact(&mut buffer)?;
        // The first tenth warms up.
        if trip >= count / 10 {
            times.push(began.elapsed());
        }
    }
    Ok(times)
}
