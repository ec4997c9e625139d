//! Plain Xen's `xl`.

use super::{Refusal, State, refuse};
use std::fmt::Write as _;
use std::fs;

pub(super) fn run(state: &State, words: &[&str]) -> Result<String, Refusal> {
    match words {
        ["list"] => Ok(list(state)),
        ["domid", name] => match id_of(state, name) {
            Some(id) => Ok(format!("{id}\n")),
            None => refuse(format!("{name} is an invalid domain identifier (rc=-6)")),
        },
        ["create", path] => create(state, path),
        ["shutdown", options @ .., name] => shut_down(state, name, options),
        ["destroy", name] => match id_of(state, name) {
            Some(id) => {
                state.end(id);
                Ok(String::new())
            }
            None => refuse(format!("{name} is an invalid domain identifier (rc=-6)")),
        },
        _ => refuse("command not implemented"),
    }
}

fn id_of(state: &State, name: &str) -> Option<u32> {
    let all = state.domains();
    all.into_iter()
        .find_map(|(there, id)| (there == name).then_some(id))
}

fn list(state: &State) -> String {
    let mut text = format!(
        "{:<40}{:>6}{:>6}{:>6}\tState\tTime(s)\n",
        "Name", "ID", "Mem", "VCPUs"
    );
    let mut all = vec![("Domain-0".to_owned(), 0)];
    all.extend(state.domains());
    for (name, id) in all {
        let state = if id == 0 { "r-----" } else { "-b----" };
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            "{name:<40}{id:>6}{:>6}{:>6}     {state}{:>8.1}",
            2048, 2, 10.5
        );
    }
    text
}

fn create(state: &State, path: &str) -> Result<String, Refusal> {
    if !path.starts_with('/') {
        return refuse(format!(
            "xl: {path}: the configuration file has to be an absolute path"
        ));
    }
    let Ok(text) = fs::read_to_string(path) else {
        return refuse(format!(
            "Failed to read config file: {path}: No such file or directory"
        ));
    };
    let name = strings(&text, "name").pop().unwrap_or_default();
    if id_of(state, &name).is_some() {
        return refuse(format!(
            "Parsing config from {path}\nlibxl: error: libxl_create.c:1150:initiate_domain_create: Domain with name \"{name}\" already exists."
        ));
    }
    let started = state.start(&name, &strings(&text, "serial"));
    // Each start has a log of its own; the one before is kept beside it.
    let log = state.root.join(format!("qemu-dm-{name}.log"));
    if log.exists() {
        fs::rename(&log, log.with_extension("log.1"))?;
    }
    match started {
        Ok(_) => {
            fs::write(&log, "VNC server running on 127.0.0.1:5900\n")?;
            Ok(format!("Parsing config from {path}\n"))
        }
        Err(words) => {
            fs::write(&log, last_words(&words))?;
            refuse(format!(
                "Parsing config from {path}\nlibxl: error: libxl_dm.c:3131:device_model_spawn_outcome: Domain 7:domain 7 device model: spawn failed (rc=-3)\nlibxl: error: libxl_create.c:1920:domcreate_devmodel_started: Domain 7:device model did not start: -3"
            ))
        }
    }
}

/// What QEMU says of a device that it cannot open: the reason, then that there is none.
fn last_words(words: &str) -> String {
    let device = words.split(": ").nth(1).unwrap_or_default();
    let backend = device.strip_prefix("-serial ").unwrap_or_default();
    format!(
        "{words}\nqemu-system-i386: {device}: could not connect serial device to character backend '{backend}'\n"
    )
}

fn shut_down(state: &State, name: &str, options: &[&str]) -> Result<String, Refusal> {
    let Some(id) = id_of(state, name) else {
        return refuse(format!("{name} is an invalid domain identifier (rc=-6)"));
    };
    if state.fault("no-tools") && !options.contains(&"-F") {
        return refuse(format!(
            "Shutting down domain {id}\nPV control interface not available:\n external graceful shutdown not possible.\n Use \"-F\" to fallback to ACPI power event.\nshutdown failed (rc=-11)"
        ));
    }
    state.hang("shutdown-hangs");
    state.end(id);
    Ok(format!("Shutting down domain {id}\n"))
}

/// The strings in the value of the last statement with a key. Knows as much of the format as the tests' files have.
fn strings(text: &str, key: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(line) = rest.lines().next() {
        let after = rest.get(line.len() + 1..).unwrap_or_default();
        let statement = line.trim_start().strip_prefix(key).map(str::trim_start);
        if let Some(value) = statement.and_then(|words| words.strip_prefix('=')) {
            let whole = &rest[line.len() - value.len()..];
            let list = whole.trim_start().starts_with('[');
            found = in_quotes(whole, list);
        }
        rest = after;
    }
    found
}

/// The strings up to the end of the list, or of the line.
fn in_quotes(text: &str, list: bool) -> Vec<String> {
    let mut all = Vec::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            ']' if list => break,
            '\n' if !list => break,
            '#' => {
                let rest = characters.as_str();
                let end = rest.find('\n').unwrap_or(rest.len());
                characters = rest[end..].chars();
            }
            quote @ ('\'' | '"') => {
                let rest = characters.as_str();
                let end = rest.find(quote).unwrap_or(rest.len());
                all.push(rest[..end].to_owned());
                characters = rest.get(end + 1..).unwrap_or_default().chars();
            }
            _ => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_statement_counts() {
        let text = "name = 'dev'\nserial = 'a'\n  serial=[ \"b\", # 'x'\n 'c' ]\nserial_x = 'd'\n";
        assert_eq!(strings(text, "serial"), ["b", "c"]);
        assert_eq!(strings(text, "name"), ["dev"]);
    }
}
