//! A Hyper-V host for the stand-in of PowerShell: state in a file, and refusals with the texts and ids of the real one.
//!
//! `hyperv.json` in the state folder is the host: VMs with their COM ports and Secure Boot, who asks, what is broken. Tests
//! write it ([`host::Host`] says what of it), scripts read it and write it back. Without the file the host has no VM.
//! `C/` is its drive `C:` ([`files`]), `hyperv.log` has a line for each cmdlet that changed something.

pub mod files;
pub mod host;
mod refusal;

pub use refusal::Refusal;

use crate::windows_guest::{Guest, RECOVERY};
use host::{Host, Vm};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Does what one of our scripts does, by its name without `.ps1`, with the values that it was given, on the host whose
/// state is in this folder; returns the object that the script gives.
///
/// # Errors
///
/// What a cmdlet in it throws.
pub fn act(script: &str, parameters: &Map<String, Value>, state: &Path) -> Result<Value, Refusal> {
    if script == "host/versions" {
        return Ok(json!({
            "powershell": "5.1.20348.2849", "edition": "Desktop", "system": "Microsoft Windows NT 10.0.20348.0",
            "computer": "STANDIN", "user": "me", "echo": parameters.get("Echo").cloned().unwrap_or_else(|| json!("")),
        }));
    }
    if script == "windows/run" {
        let runs = parameters.get("runs").unwrap_or(&Value::Null);
        return Ok(crate::windows_guest::act(runs, state)?);
    }
    if script == "hyperv/run-in-guest" {
        return in_guest(parameters, state);
    }
    let done = files::act(script, parameters, state).unwrap_or_else(|| done(script, parameters, state));
    // A look changes nothing: it is not what somebody is killed in.
    if parameters.get("look") != Some(&json!(true)) {
        Host::hang(script.rsplit('/').next().unwrap_or_default(), state);
    }
    done
}

/// The one login of every guest here.
pub const GUEST_LOGIN: (&str, &str) = ("Administrator", "s3cret");

/// PowerShell Direct: the guest of a VM has its state in a folder of its VM's name.
fn in_guest(parameters: &Map<String, Value>, state: &Path) -> Result<Value, Refusal> {
    let text = |name: &str| parameters.get(name).and_then(Value::as_str).unwrap_or_default();
    let host = Host::read(state)?;
    host.may_use("GetVM")?;
    let wanted = text("vm");
    let found: Vec<&Vm> = host
        .vms
        .iter()
        .filter(|vm| vm.id.eq_ignore_ascii_case(wanted) || vm.name.eq_ignore_ascii_case(wanted))
        .collect();
    let [vm] = found.as_slice() else {
        return Err(Refusal::no_guest(format!(
            "there are {} VMs '{wanted}'",
            found.len()
        )));
    };
    if vm.state != "Running" {
        let message = format!(
            "the VM '{wanted}' is {}, and PowerShell Direct reaches only a guest that runs",
            vm.state
        );
        return Err(Refusal::no_guest(message));
    }
    if Guest::read(&state.join(&vm.name))?.bitlocker == RECOVERY {
        return Err(Refusal::no_guest(format!(
            "the VM '{wanted}' asks for its recovery key"
        )));
    }
    if (text("user"), text("password")) != GUEST_LOGIN {
        return Err(Refusal::credential());
    }
    let runs = parameters.get("runs").unwrap_or(&Value::Null);
    Ok(crate::windows_guest::act(runs, &state.join(&vm.name))?)
}

fn done(script: &str, parameters: &Map<String, Value>, state: &Path) -> Result<Value, Refusal> {
    let mut host = Host::read(state)?;
    let text = |name: &str| {
        parameters
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let look = parameters.get("look") == Some(&json!(true));
    match script {
        "hyperv/doctor" => Ok(host.doctor()),
        "hyperv/observe" => {
            host.may_use("GetVM")?;
            let wanted = parameters.get("vms").and_then(Value::as_array);
            Ok(host.observed(
                &wanted
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect::<Vec<_>>(),
            ))
        }
        "hyperv/power" => Ok(json!({ "state": host.by_id(&text("vm"))?.state })),
        "hyperv/set-com-port" => {
            let answer = set_com_port(&mut host, parameters, look)?;
            host.write(state)?;
            Ok(answer)
        }
        "hyperv/set-secure-boot" => {
            let answer = set_secure_boot(&mut host, parameters, look)?;
            host.write(state)?;
            Ok(answer)
        }
        "hyperv/stop-vm" => {
            let now = host.stop(&text("vm"), text("how") == "hard")?;
            host.write(state)?;
            Ok(json!({ "state": now }))
        }
        "hyperv/start-vm" => {
            let was_running = host.by_id(&text("vm"))?.state == "Running";
            let now = host.start(&text("vm"))?;
            host.write(state)?;
            if !was_running {
                boot(host.by_id(&text("vm"))?, state)?;
            }
            Ok(json!({ "state": now }))
        }
        unknown => Err(Refusal {
            message: format!("the stand-in has no part for the script {unknown}"),
            id: "StandIn".to_owned(),
            category: "NotImplemented".to_owned(),
        }),
    }
}

/// Boots the guest of a VM that has one, with the firmware's Secure Boot as it is now.
fn boot(vm: &Vm, state: &Path) -> Result<(), Refusal> {
    let folder = state.join(&vm.name);
    if folder.join(crate::windows_guest::FILE).exists() {
        let mut guest = Guest::read(&folder)?;
        guest.boot_with(vm.secure_boot.as_deref().map(|said| said == "On"));
        guest.write(&folder)?;
    }
    Ok(())
}

/// What is there against what was planned on: the scripts' own verdict, texts compared as PowerShell does.
fn verdict(now: &Value, from: &Value, to: &Value) -> &'static str {
    let same = |setting: &Value| {
        setting.as_object().into_iter().flatten().all(|(key, value)| {
            let there = now[key].as_str().unwrap_or_default();
            value
                .as_str()
                .is_none_or(|value| value.eq_ignore_ascii_case(there))
        })
    };
    match (same(to), same(from)) {
        (true, _) => "already",
        (_, true) => "ours",
        _ => "foreign",
    }
}

/// The object of a script that looked first; `None` if it goes on to change something.
fn looked(
    now: &Value,
    parameters: &Map<String, Value>,
    look: bool,
    changed: impl FnOnce() -> String,
) -> Result<Option<Value>, Refusal> {
    let (from, to) = (&parameters["from"], &parameters["to"]);
    let verdict = verdict(now, from, to);
    if verdict == "foreign" && !look {
        return Err(Refusal::changed(changed()));
    }
    let goes_on = verdict == "ours" && !look;
    Ok((!goes_on).then(|| json!({ "verdict": verdict, "now": now })))
}

fn set_com_port(host: &mut Host, parameters: &Map<String, Value>, look: bool) -> Result<Value, Refusal> {
    let id = parameters.get("vm").and_then(Value::as_str).unwrap_or_default();
    let number = parameters
        .get("number")
        .and_then(Value::as_u64)
        .unwrap_or_default();
    host.by_id(id)?;
    let vm = host.by_id_mut(id)?;
    let name = vm.name.clone();
    let com = vm.com(number)?;
    let now = json!({ "path": com.path, "debugger_mode": com.debugger_mode });
    let changed = || {
        format!(
            "COM {number} of the VM '{name}' is no longer as it was looked at: path '{}', debugger mode {}",
            com.path, com.debugger_mode
        )
    };
    if let Some(answer) = looked(&now, parameters, look, changed)? {
        return Ok(answer);
    }
    let to = &parameters["to"];
    let mut new = com.clone();
    if let Some(path) = to["path"].as_str() {
        path.clone_into(&mut new.path);
    }
    if let Some(mode) = to["debugger_mode"].as_str() {
        mode.clone_into(&mut new.debugger_mode);
    }
    vm.must_be_off("SetVMComPort")?;
    let line = format!(
        "Set-VMComPort {name} {number} '{}' {}",
        new.path, new.debugger_mode
    );
    *vm.com_mut(number)? = new;
    host.log(line);
    Ok(json!({ "verdict": "ours", "now": now }))
}

fn set_secure_boot(host: &mut Host, parameters: &Map<String, Value>, look: bool) -> Result<Value, Refusal> {
    let id = parameters.get("vm").and_then(Value::as_str).unwrap_or_default();
    host.by_id(id)?;
    let vm: &mut Vm = host.by_id_mut(id)?;
    let now = json!({ "secure_boot": vm.secure_boot, "template": vm.secure_boot_template });
    let mut plain = parameters.clone();
    // The script compares the template only on its way to the wanted setting.
    plain["from"]["template"] = Value::Null;
    let changed = || {
        format!(
            "Secure Boot of the VM '{}' is no longer as it was looked at: {now}",
            vm.name
        )
    };
    if let Some(answer) = looked(&now, &plain, look, changed)? {
        return Ok(answer);
    }
    vm.must_be_off("SetVMFirmware")?;
    let to = &parameters["to"];
    vm.secure_boot = to["secure_boot"].as_str().map(ToOwned::to_owned);
    if let Some(template) = to["template"].as_str() {
        vm.secure_boot_template = Some(template.to_owned());
    }
    let line = format!(
        "Set-VMFirmware {} {}",
        vm.name,
        vm.secure_boot.clone().unwrap_or_default()
    );
    host.log(line);
    Ok(json!({ "verdict": "ours", "now": now }))
}

#[cfg(test)]
mod tests;
