//! The project's own tasks: `cargo xtask demo`, `test`, `guest`, `windows`, `bench`.
#![expect(
    clippy::disallowed_methods,
    reason = "a task starts tools; it is no part of the program"
)]

mod bench;
mod cached;
mod debian;
mod demo;
mod guest;
mod kernel;
mod openssl;
mod packages;
mod process;
mod suite;
mod windows;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The project's own tasks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Sets everything up and shows a breakpoint hit in a real kernel
    Demo(demo::DemoArgs),
    /// Runs every check and test
    Test(suite::TestArgs),
    /// Measures against the tools that vmserial replaces
    Bench(bench::BenchArgs),
    /// Builds the test guest, or tells where it is
    Guest(guest::GuestArgs),
    /// Builds the Windows program and the Wine that its tests run in
    Windows(windows::WindowsArgs),
    #[command(hide = true)]
    Openssl(openssl::OpensslArgs),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            process::say(&format!("error: {error:#}"));
            ExitCode::from(6)
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    match cli.task {
        Task::Bench(args) => bench::run(&args),
        Task::Demo(args) => demo::run(&args),
        Task::Test(args) => suite::run(&args),
        Task::Guest(args) => guest::run(&args),
        Task::Windows(args) => windows::run(&args),
        Task::Openssl(args) => openssl::run(&args),
    }
}
