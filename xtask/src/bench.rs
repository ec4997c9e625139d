//! `cargo xtask bench bridge`: the bridge and socat side by side on the same work.
//!
//! The VM's end is a Unix socket, the client is TCP on loopback; both ends are played by this process. What is judged is
//! the ratio within each round, so that a busy machine slows both alike.

use crate::process::{self, must, say};
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// What is measured.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Round trips and throughput of `vmserial bridge` and socat
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
    /// Fail when a goal is missed
    #[arg(long)]
    judge: bool,
}

const GOALS: [(&str, Better, f64); 4] = [
    ("round trip p50", Better::Lower, 0.9),
    ("round trip p99", Better::Lower, 1.0),
    ("throughput from the VM", Better::Higher, 1.1),
    ("throughput to the VM", Better::Higher, 1.4),
];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Better {
    Lower,
    Higher,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Contender {
    Vmserial,
    Socat(usize),
}

const CONTENDERS: [Contender; 3] = [
    Contender::Vmserial,
    Contender::Socat(8192),
    Contender::Socat(65_536),
];

/// Each round's work is cut into so many slices, so that a disturbance of a second meets all contenders.
const SLICES: usize = 4;

/// The contenders' turns of one round: each slice begins with another one.
fn slices() -> impl Iterator<Item = usize> {
    (0..SLICES).flat_map(|slice| (0..CONTENDERS.len()).map(move |turn| (slice + turn) % CONTENDERS.len()))
}

impl Contender {
    fn name(self) -> String {
        match self {
            Self::Vmserial => "vmserial".into(),
            Self::Socat(buffer) => format!("socat -b{buffer}"),
        }
    }
}

/// Runs what was asked for.
pub fn run(args: &BenchArgs) -> Result<ExitCode> {
    let What::Bridge(args) = &args.what;
    bridge(args)
}

fn bridge(args: &BridgeArgs) -> Result<ExitCode> {
    for tool in ["socat", "taskset"] {
        Command::new(tool)
            .arg("-V")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .with_context(|| format!("`{tool}` is needed: apt-get install socat util-linux"))?;
    }
    must(process::cargo().args([
        "build",
        "--quiet",
        "--release",
        "--package",
        "vmserial",
        "--bin",
        "vmserial",
    ]))?;
    let program = target_folder().join("release/vmserial");
    let program = program.to_str().context("the target folder's path is UTF-8")?;
    say(&format!("load average: {}", load_average()));

    let mut ratios: [Vec<f64>; 4] = Default::default();
    for round in 1..=args.rounds {
        let mut trips: [Vec<Duration>; CONTENDERS.len()] = Default::default();
        for index in slices() {
            trips[index].extend(round_trips(program, CONTENDERS[index], args.trips / SLICES)?);
        }
        let trips = trips.map(|mut times| {
            times.sort_unstable();
            [times[times.len() / 2], times[times.len() * 99 / 100]]
        });
        for (contender, [p50, p99]) in CONTENDERS.iter().zip(trips) {
            say(&format!(
                "round {round}: {:<13} round trip p50 {:>7.2} us, p99 {:>7.2} us (CPU 0)",
                contender.name(),
                micros(p50),
                micros(p99)
            ));
        }
        // Round trips are judged against socat as it comes.
        for (which, ratios) in ratios.iter_mut().take(2).enumerate() {
            ratios.push(trips[0][which].as_secs_f64() / trips[1][which].as_secs_f64());
        }
        for (number, direction) in [Direction::FromVm, Direction::ToVm].into_iter().enumerate() {
            let mut took = [Duration::ZERO; CONTENDERS.len()];
            for index in slices() {
                took[index] += transfer(program, CONTENDERS[index], direction, args.mebibytes / SLICES)?;
            }
            let mebibytes = (args.mebibytes / SLICES * SLICES) as f64;
            let speeds = took.map(|took| mebibytes / took.as_secs_f64());
            for (contender, speed) in CONTENDERS.iter().zip(speeds) {
                say(&format!(
                    "round {round}: {:<13} {} {speed:>7.0} MiB/s",
                    contender.name(),
                    direction.name()
                ));
            }
            ratios[2 + number].push(speeds[0] / speeds[1].max(speeds[2]));
        }
    }
    let mut times = two_cpu_round_trips(program, args.trips)?;
    times.sort_unstable();
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    say(&format!(
        "not judged: vmserial on CPU 1, ends on CPU 0: p50 {:.2} us, p99 {:.2} us",
        micros(p50),
        micros(p99)
    ));
    report(&mut ratios, args.judge)
}

fn report(ratios: &mut [Vec<f64>; 4], judge: bool) -> Result<ExitCode> {
    let mut missed = false;
    say("vmserial / socat, median of the rounds' ratios:");
    for ((name, better, goal), ratios) in GOALS.into_iter().zip(ratios) {
        ratios.sort_by(f64::total_cmp);
        let median = ratios[ratios.len() / 2];
        let reached = match better {
            Better::Lower => median <= goal,
            Better::Higher => median >= goal,
        };
        missed |= !reached;
        say(&format!(
            "  {name:<24} {median:.2}  (goal {} {goal}; {:.2} to {:.2}) {}",
            if better == Better::Lower { "<=" } else { ">=" },
            ratios[0],
            ratios[ratios.len() - 1],
            if reached { "reached" } else { "MISSED" }
        ));
    }
    Ok(if missed && judge {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg").map_or_else(|_| "unknown".into(), |text| text.trim().to_owned())
}

fn target_folder() -> std::path::PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        std::path::PathBuf::from,
    )
}

/// A bridge that runs, with both its ends connected.
struct Rig {
    child: Child,
    vm: UnixStream,
    client: TcpStream,
    _folder: Folder,
}

impl Drop for Rig {
    fn drop(&mut self) {
        // It has nothing to save.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A private folder that goes with its value.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let output = Command::new("mktemp")
            .arg("-d")
            .output()
            .context("cannot run mktemp")?;
        ensure!(output.status.success(), "mktemp failed");
        Ok(Self(String::from_utf8(output.stdout)?.trim_end().into()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn start(program: &str, contender: Contender, cpu: Option<&str>) -> Result<Rig> {
    let folder = Folder::new()?;
    let socket = folder.0.join("vm");
    let listener = UnixListener::bind(&socket)?;
    let socket = socket.display().to_string();
    let mut words: Vec<String> = Vec::new();
    if let Some(cpu) = cpu {
        words.extend(["taskset", "-c", cpu].map(String::from));
    }
    let mut port = 0;
    match contender {
        Contender::Vmserial => {
            let state = folder.0.join("state").display().to_string();
            words.extend([program, "--state", &state, "bridge"].map(String::from));
            words.push(format!("connect:unix:{socket}"));
            words.push("listen:tcp:127.0.0.1:0".into());
        }
        Contender::Socat(buffer) => {
            port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            words.extend(["socat".into(), "-d".into(), "-d".into(), format!("-b{buffer}")]);
            words.push(format!("TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,nodelay"));
            words.push(format!("UNIX-CONNECT:{socket}"));
        }
    }
    let mut child = Command::new(&words[0])
        .args(&words[1..])
        .env("XDG_RUNTIME_DIR", &folder.0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", words[0]))?;
    // Both say on standard error when they listen.
    let mut lines = BufReader::new(child.stderr.take().context("standard error is piped")?);
    loop {
        let mut line = String::new();
        ensure!(
            lines.read_line(&mut line)? > 0,
            "{} ended before it was ready",
            contender.name()
        );
        if let Some((_, address)) = line
            .trim_end()
            .split_once("listening client 1 listen:tcp:127.0.0.1:")
        {
            port = address.parse()?;
        }
        if line.trim_end() == "ready" || line.contains("listening on") {
            break;
        }
    }
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    let client = TcpStream::connect(("127.0.0.1", port))?;
    client.set_nodelay(true)?;
    let (vm, _) = listener.accept()?;
    let mut rig = Rig {
        child,
        vm,
        client,
        _folder: folder,
    };
    // The first byte has gone through: everything is connected.
    rig.client.write_all(b"!")?;
    rig.vm.read_exact(&mut [0])?;
    Ok(rig)
}

/// Puts all threads of this process on these CPUs.
fn pin_ourselves(cpus: &str) -> Result<()> {
    let status = Command::new("taskset")
        .args(["-acp", cpus, &std::process::id().to_string()])
        .stdout(Stdio::null())
        .status()
        .context("cannot run taskset")?;
    ensure!(status.success(), "taskset failed");
    Ok(())
}

fn all_cpus() -> String {
    // `-p` alone prints "pid 7's current affinity list: 0-3".
    format!(
        "0-{}",
        std::thread::available_parallelism().map_or(1, usize::from).max(2) - 1
    )
}

fn round_trips(program: &str, contender: Contender, count: usize) -> Result<Vec<Duration>> {
    let cpus = all_cpus();
    let mut rig = start(program, contender, Some("0"))?;
    pin_ourselves("0")?;
    let result = ping(&mut rig, count);
    pin_ourselves(&cpus)?;
    result
}

fn two_cpu_round_trips(program: &str, count: usize) -> Result<Vec<Duration>> {
    let cpus = all_cpus();
    if cpus == "0-0" {
        bail!("two CPUs are needed");
    }
    let mut rig = start(program, Contender::Vmserial, Some("1"))?;
    pin_ourselves("0")?;
    let result = ping(&mut rig, count);
    pin_ourselves(&cpus)?;
    result
}

/// 64 bytes from the client to the VM and back, one at a time.
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

/// Sends so many MiB through.
fn transfer(program: &str, contender: Contender, direction: Direction, mebibytes: usize) -> Result<Duration> {
    let rig = start(program, contender, None)?;
    let (vm, client) = (rig.vm.try_clone()?, rig.client.try_clone()?);
    let began = Instant::now();
    match direction {
        Direction::FromVm => send_through(vm, client, mebibytes << 20)?,
        Direction::ToVm => send_through(client, vm, mebibytes << 20)?,
    }
    Ok(began.elapsed())
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
