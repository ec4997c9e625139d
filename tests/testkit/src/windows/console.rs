//! A program's life in a console: `console-mode PROGRAM ARGUMENT…` runs it on the console that it has, and says the
//! console's modes before, while they differ, and after; then `ended CODE`.

use super::{end, say};
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};
use windows_sys::Win32::System::Console::{
    GetConsoleCP, GetConsoleMode, GetConsoleOutputCP, GetStdHandle, STD_INPUT_HANDLE, STD_OUTPUT_HANDLE,
};

/// How long the modes may take to change.
const PATIENCE: Duration = Duration::from_secs(30);

fn say_end(child: &mut Child) -> io::Result<()> {
    let status = child.wait()?;
    say(&format!("ended {}", status.code().unwrap_or(-1)));
    Ok(())
}

/// The modes of input and output, and the code pages.
fn modes() -> Option<[u32; 4]> {
    let mode = |which| {
        let mut mode = 0;
        // SAFETY: `mode` is a valid place for the result.
        unsafe { GetConsoleMode(GetStdHandle(which), &raw mut mode) != 0 }.then_some(mode)
    };
    // SAFETY: no pointers.
    let pages = unsafe { [GetConsoleCP(), GetConsoleOutputCP()] };
    Some([
        mode(STD_INPUT_HANDLE)?,
        mode(STD_OUTPUT_HANDLE)?,
        pages[0],
        pages[1],
    ])
}

fn say_modes(when: &str, modes: [u32; 4]) {
    let [input, output, input_page, output_page] = modes;
    say(&format!(
        "{when} {input:#x} {output:#x} {input_page} {output_page}"
    ));
}

/// Runs a program on our console and tells the console's modes.
pub fn console_mode(arguments: &[String], _state: &Path) -> ExitCode {
    let [program, rest @ ..] = arguments else {
        return ExitCode::from(64);
    };
    end(watch(program, rest))
}

fn watch(program: &str, arguments: &[String]) -> io::Result<()> {
    let no_console = || io::Error::other("standard input or output is no console");
    let before = modes().ok_or_else(no_console)?;
    say_modes("before", before);
    #[expect(clippy::disallowed_methods, reason = "the test kit starts what is tested")]
    let mut child = Command::new(program).args(arguments).spawn()?;
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until && child.try_wait()?.is_none() {
        let now = modes().ok_or_else(no_console)?;
        if now != before {
            say_modes("during", now);
            break;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    child.wait()?;
    say_modes("after", modes().ok_or_else(no_console)?);
    say_end(&mut child)
}
