//! The command: what is measured, in which order, and what it ends with.

use super::fan_out;
use super::goals::Goals;
use super::ports;
use super::reconnect;
use super::round_trip::RoundTrips;
use super::throughput::Throughput;
use crate::process::{self, must, say};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// What is measured.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// `vmserial bridge` beside socat and ser2net
    Bridge(BridgeArgs),
}

/// How much is measured.
#[derive(Debug, clap::Args)]
struct BridgeArgs {
    /// Interleaved rounds; medians are taken over them
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Round trips of 64 bytes per bridge and round
    #[arg(long, default_value_t = 20_000)]
    trips: usize,
    /// MiB per bridge, direction and round
    #[arg(long, default_value_t = 512)]
    mebibytes: usize,
    /// Idle ports in one process
    #[arg(long, default_value_t = 1000)]
    ports: usize,
    /// Sections to run [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Section>,
    /// Fail when a goal is missed
    #[arg(long)]
    judge: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, clap::ValueEnum)]
enum Section {
    RoundTrip,
    Throughput,
    FanOut,
    Reconnect,
    Ports,
    Help,
}

/// What every section needs.
#[derive(Debug)]
pub struct Bench {
    pub program: String,
    pub rounds: usize,
    pub trips: usize,
    pub mebibytes: usize,
    pub ports: usize,
    /// ser2net is installed.
    pub ser2net: bool,
}

impl Bench {
    /// A program that was built beside ours.
    pub fn program_beside(&self, name: &str) -> String {
        Path::new(&self.program)
            .with_file_name(name)
            .display()
            .to_string()
    }
}

/// Each round's work is cut into so many slices, so that a disturbance of a second meets all contenders.
pub const SLICES: usize = 4;

/// The contenders' turns of one round: each slice begins with another one.
pub fn slices(contenders: usize) -> impl Iterator<Item = usize> {
    (0..SLICES).flat_map(move |slice| (0..contenders).map(move |turn| (slice + turn) % contenders))
}

/// Runs what was asked for.
pub fn run(args: &BenchArgs) -> Result<ExitCode> {
    let What::Bridge(args) = &args.what;
    for tool in ["socat", "taskset", "prlimit"] {
        runs(tool).with_context(|| format!("`{tool}` is needed: apt-get install socat util-linux"))?;
    }
    let ser2net = runs("ser2net").is_ok();
    if !ser2net {
        say("ser2net is not installed and is left out: apt-get install ser2net");
    }
    must(process::cargo().args([
        "build",
        "--quiet",
        "--release",
        "--package",
        "vmserial",
        "--package",
        "vmserial-ports",
        "--bins",
    ]))?;
    let program = target_folder().join("release/vmserial");
    let bench = Bench {
        program: program
            .to_str()
            .context("the target folder's path is UTF-8")?
            .to_owned(),
        rounds: args.rounds.max(1),
        trips: args.trips,
        mebibytes: args.mebibytes,
        ports: args.ports,
        ser2net,
    };
    let wanted = |section| args.only.is_empty() || args.only.contains(&section);
    say(&format!("load average: {}", load_average()));

    let goals = Goals::default();
    let (mut round_trips, mut throughput) = (RoundTrips::default(), Throughput::default());
    for round in 1..=bench.rounds {
        if wanted(Section::RoundTrip) {
            round_trips.round(&bench, round)?;
        }
        if wanted(Section::Throughput) {
            throughput.round(&bench, round)?;
        }
    }
    if wanted(Section::RoundTrip) {
        round_trips.finish(&bench, &goals)?;
    }
    if wanted(Section::Throughput) {
        throughput.finish(&goals);
    }
    if wanted(Section::FanOut) {
        fan_out::run(&bench, &goals)?;
    }
    if wanted(Section::Reconnect) {
        reconnect::run(&bench, &goals)?;
    }
    if wanted(Section::Ports) {
        ports::run(&bench, &goals)?;
    }
    if wanted(Section::Help) {
        ports::help(&bench, &goals)?;
    }
    let missed = goals.report();
    say(&format!("load average: {}", load_average()));
    Ok(if missed && args.judge {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn runs(tool: &str) -> std::io::Result<()> {
    let version = if tool == "ser2net" { "-v" } else { "-V" };
    Command::new(tool)
        .arg(version)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map(|_| ())
}

fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg").map_or_else(|_| "unknown".into(), |text| text.trim().to_owned())
}

fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    )
}
