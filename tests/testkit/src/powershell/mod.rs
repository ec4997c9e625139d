//! A stand-in of PowerShell: `powershell.exe` (Windows PowerShell 5.1), `pwsh` and `pwsh.exe` (7).
//!
//! It takes its invocation apart as the real one does (about_PowerShell_exe, about_Pwsh): parameters in any case and cut
//! short, `-EncodedCommand` (base64 of UTF-16LE), `-File`, and `-Command -`, which runs standard input statement by
//! statement, goes on after an error and loses one that a blank line does not end. It knows vmserial's scripts by their
//! text and refuses any other; what a script does, [`crate::hyperv::act`] does.
//!
//! In its state folder: `log` (a JSON line for each call: `program`, `way`, `script`, `parameters`). Tests write `faults`,
//! one word a line: see [`manners::Manners`].

mod dates;
mod invocation;
mod known;
mod manners;

use crate::hyperv::act;
pub(crate) use invocation::base64;
use invocation::{Invocation, Source};
use known::Call;
use manners::Manners;
use serde_json::{Value, json};
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

/// Runs as `powershell.exe`.
pub fn windows_powershell(arguments: &[String], state: &Path) -> ExitCode {
    main("powershell", arguments, state)
}

/// Runs as the child of a script that hangs.
pub fn hang_for_ever(arguments: &[String], _state: &Path) -> ExitCode {
    let state = arguments.first().map(String::as_str).unwrap_or_default();
    // Nobody waits for it: a test sees its end at its port.
    manners::child(state).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

/// Runs as `pwsh`.
pub fn pwsh(arguments: &[String], state: &Path) -> ExitCode {
    main("pwsh", arguments, state)
}

fn main(program: &str, arguments: &[String], state: &Path) -> ExitCode {
    if let Some(("hang-for-ever", rest)) = arguments
        .split_first()
        .map(|(first, rest)| (first.as_str(), rest))
    {
        return hang_for_ever(rest, state);
    }
    let manners = Manners::read(state);
    let invocation = match Invocation::parse(arguments) {
        Ok(invocation) => invocation,
        Err(complaint) => {
            // 5.1 ends with 0xFFFD0000, of which Unix keeps nothing but the last byte; 7 with 64.
            let _ = writeln!(io::stderr(), "{complaint}");
            return ExitCode::from(64);
        }
    };
    // Nobody is left to be told when this fails: whoever asked is gone.
    run(program, &invocation, &manners, state).unwrap_or(ExitCode::FAILURE)
}

fn run(program: &str, invocation: &Invocation, manners: &Manners, state: &Path) -> io::Result<ExitCode> {
    manners.before_input(state)?;
    let (way, statements) = match &invocation.source {
        Source::Encoded(script) => ("encoded", vec![script.clone()]),
        Source::File(path) => {
            // Without its mark a file is read in the system's code page (5.1).
            let bytes = fs::read(path)?;
            let text = match bytes.strip_prefix(b"\xef\xbb\xbf") {
                Some(marked) => String::from_utf8_lossy(marked).into_owned(),
                None => manners::from_code_page(&bytes),
            };
            ("file", vec![text])
        }
        Source::Command(text) => ("command", vec![text.clone()]),
        Source::Input => {
            let mut bytes = Vec::new();
            io::stdin().read_to_end(&mut bytes)?;
            ("input", invocation::statements(&manners::from_code_page(&bytes)))
        }
    };
    let mut last = ExitCode::SUCCESS;
    for statement in statements {
        let Some(mut call) = known::recognize(&statement) else {
            let first = statement.lines().next().unwrap_or_default();
            manners.complain(
                invocation,
                &format!("The stand-in knows no such script: {first}\r\nÜbergangen."),
            )?;
            last = ExitCode::FAILURE;
            continue;
        };
        call.parameters
            .values_mut()
            .for_each(|value| bound(program, value));
        note(program, way, &call, state)?;
        manners.within(invocation, state)?;
        let done = manners
            .thrown()
            .map_or_else(|| act(&call.script, &call.parameters, state), Err);
        let (reply, code) = match done {
            Ok(result) => (json!({ "result": result }), 0),
            Err(refusal) => (
                json!({ "error": {
                    "message": refusal.message, "id": refusal.id, "category": refusal.category,
                } }),
                1,
            ),
        };
        manners.answer(&call.nonce, &ascii(&reply.to_string()))?;
        // The script's last line is `exit`: nothing behind it runs.
        return Ok(ExitCode::from(code));
    }
    Ok(last)
}

/// What a value is after `ConvertFrom-Json` and the envelope: 7 makes dates of texts that look like one, and a text that is
/// still one loses its mark.
fn bound(program: &str, value: &mut Value) {
    match value {
        Value::String(text) if program == "pwsh" && dates::is_date(text) => *text = dates::written(text),
        Value::String(text) => *text = text.chars().skip(1).collect(),
        Value::Array(list) => list.iter_mut().for_each(|one| bound(program, one)),
        Value::Object(map) => map.values_mut().for_each(|one| bound(program, one)),
        _ => {}
    }
}

fn note(program: &str, way: &str, call: &Call, state: &Path) -> io::Result<()> {
    fs::create_dir_all(state)?;
    let mut log = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(state.join("log"))?;
    let line =
        json!({ "program": program, "way": way, "script": call.script, "parameters": call.parameters });
    // In one go: who reads it meanwhile finds whole lines.
    log.write_all(format!("{line}\n").as_bytes())
}

/// What the script does to its JSON: everything but printable ASCII is escaped, each unit of UTF-16 by itself.
fn ascii(json: &str) -> String {
    let mut text = String::new();
    for unit in json.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte @ b' '..=b'~') => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\u{unit:04x}")),
        }
    }
    text
}
