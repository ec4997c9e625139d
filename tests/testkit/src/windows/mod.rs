//! The Windows ends of the tests: Hyper-V's side of a named pipe, a pipe's client, what a pipe's access list says, and
//! a program's life in a console. They are spoken to by lines on standard input, and answer with lines.

mod access;
mod console;
mod home;
mod hyperv_pipe;
mod overlapped;
mod pipe_wire;
mod ssh;

use crate::StandIn;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;

/// The stand-ins that Windows has, by name.
pub const STAND_INS: &[(&str, StandIn)] = &[
    ("hyperv-pipe", hyperv_pipe::main),
    ("pipe-wire", pipe_wire::main),
    ("pipe-access", access::main),
    ("ssh", ssh::main),
    ("console-mode", console::console_mode),
    ("at-home", home::main),
];

/// Answers with a line.
fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    // Whoever asked is gone: nobody is left to be told.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// Calls `take` with each line of standard input until its end.
fn each_line(mut take: impl FnMut(&str)) {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        take(line.trim());
    }
}

/// Ends a stand-in by what came of it.
fn end(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Returns a text as Windows takes it.
fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

/// Returns the path of a pipe of this machine.
fn pipe_path(name: &str) -> Vec<u16> {
    wide(&format!(r"\\.\pipe\{name}"))
}
