//! Parses the command line, runs the command, returns its exit code.

fn main() -> std::process::ExitCode {
    vmserial::cli::run(std::env::args_os())
}
