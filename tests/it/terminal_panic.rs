//! A panic while a terminal is raw: the terminal is the shell's again before the panic is told.
//!
//! The shipped program has no way to panic on demand. The process here is the tests' own binary, called with an environment
//! variable: it makes the terminal raw by the code that `vmserial console` uses, and panics on another thread.

use crate::kit::Sandbox;
use crate::terminal_rig::OnTerminal;
use libtest_mimic::Trial;
use std::io::{Read, Write};
use std::process::{Command, ExitCode};
use vmserial::runner::sys::TerminalState;

/// Asks this binary to be the process that panics.
const ASKED: &str = "VMSERIAL_TEST_PANICS_ON_A_RAW_TERMINAL";

pub fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn()| {
        Trial::test(format!("terminal_panic::{name}"), move || {
            test();
            Ok(())
        })
    };
    vec![trial("gives_the_terminal_back", gives_the_terminal_back)]
}

/// Is the process that panics, if that was asked for.
pub fn child() -> Option<ExitCode> {
    std::env::var_os(ASKED)?;
    let raw = TerminalState::raw().expect("a terminal");
    let mut output = std::io::stdout();
    writeln!(output, "raw\r").unwrap();
    let key = || std::io::stdin().read(&mut [0]).is_ok();
    assert!(key());
    let panicked = std::thread::spawn(|| panic!("on purpose")).join().is_err();
    writeln!(output, "panicked: {panicked}").unwrap();
    // The terminal is looked at while we still have it: it is the hook that put it back, and not the end of `raw`.
    assert!(key());
    std::mem::forget(raw);
    Some(ExitCode::from(7))
}

fn gives_the_terminal_back() {
    let sandbox = Sandbox::new();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.current_dir(sandbox.path("")).env(ASKED, "1");
    let mut terminal = OnTerminal::start_command(command);
    terminal.cook();
    terminal.wait("raw");
    assert!(!terminal.is_cooked());
    terminal.press(b"x");
    terminal.wait("panicked: true");
    assert!(terminal.is_cooked(), "before its end");
    // On a terminal that was raw still, its lines would be a staircase.
    assert!(
        terminal.shown().contains("on purpose\r\n"),
        "{}",
        terminal.shown()
    );
    terminal.press(b"\n");
    assert_eq!(terminal.end(), Some(7));
}
