//! Programs on the guest of a state folder: its file is read before and written after each that changes something.

use super::{Ended, Guest};
use serde_json::{Value, json};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Tells whether a program's line changes something.
fn changes(name: &str, words: &[&str]) -> bool {
    match name {
        "bcdedit" => !matches!(words, ["/enum", ..] | ["/dbgsettings"]),
        "manage-bde" => words.first() == Some(&"-protectors"),
        _ => false,
    }
}

/// Runs a program on the guest of a state folder.
///
/// # Errors
///
/// The state cannot be read or written.
pub fn run(line: &[String], state: &Path) -> io::Result<Ended> {
    let words: Vec<&str> = line.iter().map(String::as_str).collect();
    let Some((name, words)) = words.split_first() else {
        return Ok((9009, String::new()));
    };
    let mut guest = Guest::read(state)?;
    let ended = guest.program(name, words);
    if changes(name, words) {
        guest.write(state)?;
        let mut log = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(state.join("windows.log"))?;
        log.write_all(format!("{} = {}\n", line.join(" "), ended.0).as_bytes())?;
        hang(&line.join(" "), state);
    }
    Ok(ended)
}

/// Hangs after a program, as long as tests want it and somebody waits for its end.
fn hang(line: &str, state: &Path) {
    #[cfg(unix)]
    let parent = std::os::unix::process::parent_id();
    let wanted = || {
        Guest::read(state)
            .is_ok_and(|guest| !guest.hangs_after.is_empty() && line.starts_with(&guest.hangs_after))
    };
    while wanted() {
        #[cfg(unix)]
        if std::os::unix::process::parent_id() != parent {
            return;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
}

/// Does what `windows/run` does.
///
/// # Errors
///
/// The state cannot be read or written.
pub fn act(runs: &Value, state: &Path) -> io::Result<Value> {
    let mut answers = Vec::new();
    for line in runs.as_array().into_iter().flatten() {
        let words: Vec<String> = line
            .as_array()
            .into_iter()
            .flatten()
            .map(|word| word.as_str().unwrap_or_default().to_owned())
            .collect();
        let (status, said) = run(&words, state)?;
        answers.push(json!({ "status": status, "said": crate::hyperv::files::encode(said.as_bytes()) }));
    }
    Ok(json!({ "answers": answers }))
}
