//! Integration tests: one binary, so that linking is paid once. Each file registers its trials.

fn main() -> std::process::ExitCode {
    let arguments = libtest_mimic::Arguments::from_args();
    libtest_mimic::run(&arguments, Vec::new()).exit_code()
}
