//! On Windows itself: the trials that Linux runs under Wine, as a program of their own, because the other integration tests
//! need Unix sockets. Elsewhere it has none.
#![cfg_attr(
    windows,
    expect(
        clippy::disallowed_methods,
        reason = "a test starts the program and its peers"
    )
)]
#![cfg_attr(windows, expect(clippy::unwrap_used, reason = "a test fails by panicking"))]

#[cfg(windows)]
#[path = "../it/bytes.rs"]
mod bytes;
#[cfg(windows)]
mod kit;
#[cfg(windows)]
#[path = "../it/wine.rs"]
mod wine;

#[cfg(windows)]
fn main() -> std::process::ExitCode {
    let arguments = libtest_mimic::Arguments::from_args();
    libtest_mimic::run(&arguments, wine::trials()).exit_code()
}

#[cfg(not(windows))]
fn main() {}
