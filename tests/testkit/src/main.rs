//! The stand-ins as a program of their own.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Called wrongly: 64 is EX_USAGE, which no stand-in ends with.
    vmserial_testkit::multi_call(std::env::args_os()).unwrap_or(ExitCode::from(64))
}
