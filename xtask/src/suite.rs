//! `cargo xtask test`: every check and test, with one tally at the end.

use crate::debian;
use crate::guest;
use crate::packages::{self, Install};
use crate::process::{cargo, data, root, say, show};
use crate::windows;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// Runs every check and test.
#[derive(Debug, clap::Args)]
pub struct TestArgs {
    /// Leave out what needs QEMU or Wine, and cut short what repeats itself
    #[arg(long)]
    fast: bool,
    /// Install missing packages without asking (also with CI=true)
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Default)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: BTreeSet<(String, String)>,
    broken: Vec<String>,
}

/// Runs everything, however much fails, and prints the tally alone on the last line.
pub fn run(args: &TestArgs) -> Result<ExitCode> {
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    let mut tally = Tally::default();
    let mut wine = None;
    if !args.fast {
        let install = if args.yes || ci { Install::Yes } else { Install::No };
        packages::ensure(packages::ALL, install)?;
        guest::ensure()?;
        debian::ensure()?;
        match windows::ensure(install) {
            Ok(ready) => wine = Some(ready),
            // All else can still be tested; the trials that need it are skipped, which CI does not forgive.
            Err(error) => {
                say(&format!("== the Windows program: {error:#}"));
                tally.failed += 1;
                tally.broken.push("the Windows program".into());
            }
        }
    }
    check(
        &mut tally,
        "formatting",
        cargo().args(["fmt", "--all", "--check"]),
    );
    check(
        &mut tally,
        "lints",
        cargo().args([
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]),
    );
    check(
        &mut tally,
        "documentation",
        cargo()
            .args([
                "doc",
                "--quiet",
                "--workspace",
                "--no-deps",
                "--document-private-items",
            ])
            .env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links"),
    );
    let mut unit = cargo();
    unit.args(["test", "--workspace", "--lib", "--bins"]);
    if args.fast {
        // An eighth of each property's cases; properties with more or fewer of them scale with it.
        unit.env("PROPTEST_CASES", "32");
    }
    tests(&mut tally, "unit tests", &mut unit)?;
    tests(
        &mut tally,
        "architecture",
        cargo().args(["test", "--test", "architecture"]),
    )?;
    let mut integration = cargo();
    integration.args(["test", "--test", "it"]);
    integration.env("VMSERIAL_TEST_FAST", if args.fast { "1" } else { "" });
    if args.fast {
        // Half of what is left is waiting.
        let threads = 2 * std::thread::available_parallelism().map_or(1, usize::from);
        integration.args(["--", "--test-threads", &threads.to_string()]);
    }
    if let Some(wine) = &wine {
        wine.tell_tests(&mut integration);
    }
    tests(&mut tally, "integration tests", &mut integration)?;
    if let Some(wine) = &wine {
        tests(&mut tally, "Windows unit tests", &mut wine.unit_tests())?;
        wine.stop();
    }
    finish(tally, ci)
}

fn check(tally: &mut Tally, name: &str, command: &mut Command) {
    let started = Instant::now();
    say(&format!("== {name}: {}", show(command)));
    match command.status() {
        Ok(status) if status.success() => {
            say(&format!("== {name}: ok, {} s", started.elapsed().as_secs()));
            tally.passed += 1;
        }
        Ok(_) | Err(_) => {
            tally.failed += 1;
            tally.broken.push(name.to_owned());
        }
    }
}

fn tests(tally: &mut Tally, name: &str, command: &mut Command) -> Result<()> {
    let started = Instant::now();
    say(&format!("== {name}: {}", show(command)));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", show(command)))?;
    let (passed, failed) = (tally.passed, tally.failed);
    for line in BufReader::new(child.stdout.take().context("standard output is a pipe")?).lines() {
        let line = line?;
        if let Some(counts) = line.strip_prefix("test result: ") {
            for part in counts.split(['.', ';']) {
                let mut words = part.split_whitespace();
                if let (Some(Ok(number)), Some(word)) = (words.next().map(str::parse::<u64>), words.next()) {
                    match word {
                        "passed" => tally.passed += number,
                        "failed" => tally.failed += number,
                        _ => {}
                    }
                }
            }
        } else if let Some((test, reason)) = ignored(&line) {
            tally.skipped.insert((test.to_owned(), reason.to_owned()));
        }
        say(&line);
    }
    if !child.wait()?.success() {
        tally.broken.push(name.to_owned());
        if tally.failed == failed {
            tally.failed += 1;
        }
    }
    let (passed, failed) = (tally.passed - passed, tally.failed - failed);
    say(&format!(
        "== {name}: {passed} passed, {failed} failed, {} s",
        started.elapsed().as_secs()
    ));
    Ok(())
}

/// Reads `test NAME ... ignored (REASON)`.
fn ignored(line: &str) -> Option<(&str, &str)> {
    let (test, rest) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
    let reason = rest
        .trim()
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'));
    Some((test.trim(), reason.unwrap_or("no reason given")))
}

fn finish(mut tally: Tally, ci: bool) -> Result<ExitCode> {
    let allowed = fs::read_to_string(root().join("tests/allowed-skips.txt")).unwrap_or_default();
    let allowed: BTreeSet<(&str, &str)> = allowed
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(": "))
        .collect();
    for (test, reason) in &tally.skipped {
        say(&format!("skipped: {test}: {reason}"));
        if ci && !allowed.contains(&(test.as_str(), reason.as_str())) {
            say(&format!(
                "  {test} must not be skipped in CI: it is not in tests/allowed-skips.txt with this reason"
            ));
            tally.failed += 1;
            tally.broken.push(format!("skipped {test}"));
        }
    }
    for name in &tally.broken {
        say(&format!("failed: {name}"));
    }
    data(&format!(
        "{} passed, {} failed, {} skipped",
        tally.passed,
        tally.failed,
        tally.skipped.len()
    ));
    Ok(if tally.failed == 0 && tally.broken.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
