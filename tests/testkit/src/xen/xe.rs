//! xapi's `xe`.

use super::{Refusal, State, names, refuse};
use std::fs;
use std::path::PathBuf;

const NOTHING: &str = "<not in database>";

pub(super) fn run(state: &State, words: &[&str]) -> Result<String, Refusal> {
    if state.fault("no-daemon") {
        return refuse("Failed to contact a running management agent.");
    }
    if state.fault("supporter") {
        return refuse(
            "You cannot make regular API calls directly on a supporter. Please pass API calls via the coordinator host.\ncoordinator IP address: 192.0.2.1",
        );
    }
    let Some((command, rest)) = words.split_first() else {
        return Ok(String::new());
    };
    let arguments = Arguments { words: rest };
    match *command {
        "vm-list" => list(state, "vms", &arguments),
        "host-list" => list(state, "hosts", &arguments),
        "vm-param-get" => get(state, &arguments),
        "vm-param-set" => set(state, &arguments),
        "vm-param-remove" => remove(state, &arguments),
        "vm-shutdown" => shut_down(state, &arguments),
        "vm-start" => start(state, &arguments),
        "vm-suspend" => suspend(state, &arguments),
        _ => refuse(format!("Unknown command: {command}")),
    }
}

struct Arguments<'a> {
    words: &'a [&'a str],
}

impl<'a> Arguments<'a> {
    fn value(&self, name: &str) -> Option<&'a str> {
        self.words
            .iter()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    fn has(&self, flag: &str) -> bool {
        self.words.contains(&flag)
    }
}

fn server_error<T>(message: &str) -> Result<T, Refusal> {
    refuse(format!(
        "The server failed to handle your request, due to an internal error. The given message may give details useful for debugging the problem.\nmessage: {message}"
    ))
}

fn vm(state: &State, arguments: &Arguments<'_>) -> Result<PathBuf, Refusal> {
    let uuid = arguments.value("uuid").unwrap_or_default();
    let folder = state.root.join("vms").join(uuid);
    if uuid.is_empty() || !folder.is_dir() {
        return refuse(format!(
            "The uuid you supplied was invalid.\ntype: VM\nuuid: {uuid}"
        ));
    }
    Ok(folder)
}

/// Prints the value of a parameter, as a listing and `vm-param-get` do.
fn shown(path: &std::path::Path) -> Option<String> {
    if path.is_dir() {
        let entries = names(path).into_iter().filter_map(|key| {
            let value = fs::read_to_string(path.join(&key)).ok()?;
            Some(format!("{key}: {value}"))
        });
        return Some(entries.collect::<Vec<_>>().join("; "));
    }
    fs::read_to_string(path).ok()
}

fn list(state: &State, class: &str, arguments: &Arguments<'_>) -> Result<String, Refusal> {
    let params: Vec<&str> = arguments
        .value("params")
        .unwrap_or("uuid,name-label")
        .split(',')
        .collect();
    let mut records = Vec::new();
    for uuid in names(&state.root.join(class)) {
        let folder = state.root.join(class).join(&uuid);
        let field = |name: &str| match name {
            "uuid" => Some(uuid.clone()),
            name => shown(&folder.join(name)),
        };
        let selected = ["uuid", "name-label"].into_iter().all(|name| {
            arguments
                .value(name)
                .is_none_or(|wanted| field(name).as_deref() == Some(wanted))
        });
        if selected {
            records.push(
                params
                    .iter()
                    .filter_map(|name| Some((*name, field(name)?)))
                    .collect::<Vec<_>>(),
            );
        }
    }
    if arguments.has("--minimal") {
        let firsts = records
            .iter()
            .filter_map(|record| record.first().map(|(_, value)| value.clone()));
        return Ok(format!("{}\n", firsts.collect::<Vec<_>>().join(",")));
    }
    let mut text = String::new();
    for record in records {
        let widest = record.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (index, (name, value)) in record.iter().enumerate() {
            let kind = if ["platform", "other-config", "HVM-boot-params"].contains(name) {
                "MRW"
            } else {
                " RO"
            };
            text.push_str(&match index {
                0 => format!(
                    "{:<width$}: {value}\n",
                    format!("{name} ({kind})"),
                    width = widest + 10
                ),
                _ => format!("{:>width$} ({kind}): {value}\n", name, width = widest + 4),
            });
        }
        text.push_str("\n\n");
    }
    Ok(text)
}

fn get(state: &State, arguments: &Arguments<'_>) -> Result<String, Refusal> {
    let folder = vm(state, arguments)?;
    let name = arguments.value("param-name").unwrap_or_default();
    let path = folder.join(name);
    let Some(key) = arguments.value("param-key") else {
        return match shown(&path) {
            Some(value) => Ok(format!("{value}\n")),
            None => refuse(format!("Unknown field: {name}")),
        };
    };
    match fs::read_to_string(path.join(key)) {
        Ok(value) => Ok(format!("{value}\n")),
        Err(_) => server_error(&format!("Failure: Key {key} not found in map")),
    }
}

fn set(state: &State, arguments: &Arguments<'_>) -> Result<String, Refusal> {
    let folder = vm(state, arguments)?;
    state.hang("hangs-before-set");
    for word in arguments.words {
        let Some((name, value)) = word.split_once('=').filter(|(name, _)| *name != "uuid") else {
            continue;
        };
        match name.split_once(':') {
            Some((map, key)) => {
                fs::create_dir_all(folder.join(map))?;
                fs::write(folder.join(map).join(key), value)?;
            }
            None if name == "affinity" && value.is_empty() => fs::write(folder.join(name), NOTHING)?,
            None => fs::write(folder.join(name), value)?,
        }
    }
    state.hang("hangs-after-set");
    Ok(String::new())
}

fn remove(state: &State, arguments: &Arguments<'_>) -> Result<String, Refusal> {
    let folder = vm(state, arguments)?;
    let name = arguments.value("param-name").unwrap_or_default();
    let key = arguments.value("param-key").unwrap_or_default();
    match fs::remove_file(folder.join(name).join(key)) {
        Ok(()) => Ok(String::new()),
        Err(_) => server_error(&format!("Failure: Key {key} is not in map")),
    }
}

fn expect_power(folder: &std::path::Path, expected: &[&str]) -> Result<String, Refusal> {
    let actual = shown(&folder.join("power-state")).unwrap_or_default();
    if expected.contains(&actual.as_str()) {
        return Ok(actual);
    }
    refuse(format!(
        "You attempted an operation on a VM that was not in an appropriate power state at the time; for example, you attempted to start a VM that was already running.  The parameters returned are the VM's handle, and the expected and actual VM state at the time of the call.\nvm: {}\nexpected: {}\nactual: {actual}",
        folder.file_name().unwrap_or_default().to_string_lossy(),
        expected.join(", ")
    ))
}

/// Ends the domain of a VM.
fn end(state: &State, folder: &std::path::Path, power: &str) -> Result<(), Refusal> {
    if let Some(id) = shown(&folder.join("dom-id")).and_then(|id| id.parse().ok()) {
        state.end(id);
    }
    fs::write(folder.join("dom-id"), "-1")?;
    fs::write(folder.join("resident-on"), NOTHING)?;
    fs::write(folder.join("power-state"), power)?;
    Ok(())
}

fn shut_down(state: &State, arguments: &Arguments<'_>) -> Result<String, Refusal> {
    let folder = vm(state, arguments)?;
    let force = arguments.has("--force");
    expect_power(
        &folder,
        if force {
            &["running", "paused", "suspended"]
        } else {
            &["running"]
        },
    )?;
    if !force && state.fault("no-tools") {
        return refuse(format!(
            "You attempted an operation which needs the cooperative shutdown feature on a VM which lacks it.\nvm: {}",
            folder.file_name().unwrap_or_default().to_string_lossy()
        ));
    }
    if !force {
        state.hang("shutdown-hangs");
    }
    end(state, &folder, "halted")?;
    Ok(String::new())
}

fn suspend(state: &State, arguments: &Arguments<'_>) -> Result<String, Refusal> {
    let folder = vm(state, arguments)?;
    expect_power(&folder, &["running"])?;
    end(state, &folder, "suspended")?;
    Ok(String::new())
}

fn start(state: &State, arguments: &Arguments<'_>) -> Result<String, Refusal> {
    let folder = vm(state, arguments)?;
    expect_power(&folder, &["halted"])?;
    let key = |map: &str| fs::read_to_string(folder.join(map).join("hvm_serial")).ok();
    // As `xapi_xenops.ml`: platform, else other-config, else `pty`.
    let device = key("platform")
        .or(key("other-config"))
        .unwrap_or_else(|| "pty".to_owned());
    let name = shown(&folder.join("name-label")).unwrap_or_default();
    let id = match state.start(&name, &[device]) {
        Ok(id) => id,
        Err(words) => return server_error(&format!("xenopsd internal error: QEMU exited: {words}")),
    };
    // xapi makes of `auto` what the pool's certificates say; the firmware's helper reads what comes of it.
    let certificates = state.root.join("certificates").exists();
    if let Ok(secure_boot) = fs::read_to_string(folder.join("platform/secureboot")) {
        let value = match secure_boot.as_str() {
            "auto" => certificates.to_string(),
            other => other.to_owned(),
        };
        let key = format!("%local%domain%{id}%platform%secureboot");
        fs::write(state.root.join("xenstore").join(key), value)?;
    }
    let host = arguments
        .value("on")
        .map(ToOwned::to_owned)
        .or_else(|| names(&state.root.join("hosts")).into_iter().next())
        .unwrap_or_else(|| NOTHING.to_owned());
    fs::write(folder.join("dom-id"), id.to_string())?;
    fs::write(folder.join("resident-on"), host)?;
    fs::write(folder.join("power-state"), "running")?;
    Ok(String::new())
}
